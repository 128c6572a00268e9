"""KoE5's shape on a GPU: ``python tests/benchmarks/gpu.py``, with langchain-huggingface installed.

Passages a second against LangChain's ``HuggingFaceEmbeddings`` as it comes, interleaved, medians of
turns; useful operations a second (of real tokens, padding not counted) against what the same device
reaches in a large matrix product of the same precision; how far the vectors are from fp32; one
question, and 64 callers at once; and a batch that does not fit into memory, which must give the
same vectors in halves.

Without ``--model``, it makes a model of KoE5's shape with random weights. ``--device cpu --layers 1
--passages 40`` tries the program where there is no GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import numpy as np
import torch
from langchain_huggingface import HuggingFaceEmbeddings
from rich.console import Console
from rich.table import Table
from texts import load_texts
from true_shape import make_true_shape

from koe5_integrations import KoE5Encoder, release_models
from koe5_integrations.langchain import KoE5Embeddings

PEER = "HuggingFaceEmbeddings"
OURS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    # While one replica waits for its vectors, the other has its batch ready.
    "bf16, two replicas": {"precision": "bf16", "replicas": 2},
    "bf16, compiled": {"precision": "bf16", "compile": True},
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPARED = 256
QUESTIONS = 30
CALLERS = 64


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations a second of a large square product of random matrices."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(13):
        wait_for(device)
        began = time.perf_counter()
        a @ b
        wait_for(device)
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / statistics.median(seconds[3:])


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def operations(model: Path, lengths: Sequence[int]) -> float:
    """Count the multiplications and additions that texts of these many tokens need."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    dim, wide = config["hidden_size"], config["intermediate_size"]
    a_token = 2 * (4 * dim**2 + 2 * dim * wide)
    # Each token is compared with each of its text, and their values are summed.
    attention = sum(4 * dim * length**2 for length in lengths)
    return float(config["num_hidden_layers"] * (a_token * sum(lengths) + attention))


def enough(texts: Sequence[str], count: int) -> list[str]:
    """Repeat texts until there are so many, each time with another number, for none is equal."""
    return [f"{i // len(texts)} {texts[i % len(texts)]}" for i in range(count)]


def ours(model: Path, device: str, precision: str, replicas: int = 1, **options: Any) -> Any:
    return KoE5Embeddings(
        model=str(model),
        on_truncation="ignore",
        device=",".join([device] * replicas),
        precision=precision,
        **options,
    )


def bulk(arguments: argparse.Namespace, model: Path, texts: list[str]) -> dict[str, list[float]]:
    """Return the seconds each takes for all texts, in turns."""
    prefixed = [f"passage: {text}" for text in texts]
    peer = HuggingFaceEmbeddings(
        model_name=str(model), model_kwargs={"device": str(arguments.device)}
    )
    runs: dict[str, Callable[[], object]] = {PEER: lambda: peer.embed_documents(prefixed)}
    for name in arguments.only:
        embeddings = ours(model, str(arguments.device), **OURS[name])
        runs[name] = lambda embeddings=embeddings: embeddings.embed_documents(texts)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(arguments.turns + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    return seconds


def nearness(model: Path, device: str, options: dict[str, Any], texts: list[str]) -> float:
    """Return the smallest cosine to fp32 of some texts."""
    exact = ours(model, device, "fp32").encoder.encode_passages(texts[:COMPARED])
    vectors = ours(model, device, **options).encoder.encode_passages(texts[:COMPARED])
    return float((exact * vectors).sum(axis=1).min())


def waits(model: Path, device: str, options: dict[str, Any], questions: list[str]) -> list[float]:
    """Return the median seconds of one question, and questions a second of many callers at once."""
    embeddings = ours(model, device, **options)
    embeddings.embed_query(questions[0])
    seconds = []
    for question in questions[:QUESTIONS]:
        began = time.perf_counter()
        embeddings.embed_query(question)
        seconds.append(time.perf_counter() - began)

    async def together() -> None:
        asked = enough(questions, CALLERS * 4)
        await asyncio.gather(*map(embeddings.aembed_query, asked))

    began = time.perf_counter()
    asyncio.run(together())
    return [statistics.median(seconds), CALLERS * 4 / (time.perf_counter() - began)]


def halves(model: Path, device: torch.device, texts: list[str]) -> str:
    """Have a bulk job meet the end of the device's memory; say what came of it."""
    if device.type != "cuda":
        return "not tried: no CUDA device"
    release_models()
    gc.collect()
    torch.cuda.empty_cache()
    some = texts[:2000]
    expected = KoE5Encoder(model, device=str(device), precision="bf16").encode_passages(some)
    used = torch.cuda.memory_allocated(device)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((used + 4 * 2**30) / total, device)
    try:
        greedy = KoE5Encoder(
            model, device=str(device), precision="bf16", batch_tokens=1_000_000
        ).encode_passages(some)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    return (
        f"{len(some)} texts with 4 GB, smallest cosine {(expected * greedy).sum(axis=1).min():.6f}"
    )


def main() -> None:
    """Run everything and print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a folder")
    parser.add_argument("--layers", type=int, default=24, help="of the model that is made")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--passages", type=int, default=8000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=OURS, default=list(OURS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if arguments.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here; --device cpu tries the program")
    with tempfile.TemporaryDirectory() as temporary:
        model = arguments.model or make_true_shape(Path(temporary), layers=arguments.layers)
        measure(arguments, model)


def measure(arguments: argparse.Namespace, model: Path) -> None:
    """Measure one model."""
    device = arguments.device
    passages, questions = load_texts()
    texts = enough(passages.all, arguments.passages)
    encoder = KoE5Encoder(model, device="cpu", on_truncation="ignore")
    encoder.count_tokens(texts[:1], role="passage")  # reads the tokenizer
    began = time.perf_counter()
    lengths = encoder.count_tokens(texts, role="passage")
    tokenizing = time.perf_counter() - began
    lengths = np.minimum(lengths, encoder.max_seq_length).tolist()
    work = operations(model, lengths)
    ceilings = {name: ceiling(device, dtype) for name, dtype in DTYPES.items()}
    seconds = bulk(arguments, model, texts)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "torch": torch.__version__,
        "passages": len(texts),
        "tokens": sum(lengths),
        "tokenizing_seconds": tokenizing,
        "ceilings_tflops": {name: value / 1e12 for name, value in ceilings.items()},
        "seconds": seconds,
        "out_of_memory": halves(model, device, texts),
    }
    table = Table()
    for column in (
        *("", "passages/s", f"of {PEER}", "useful TFLOP/s", "of the ceiling"),
        *("cosine to fp32, least", "one question, ms", f"{CALLERS} callers, questions/s"),
    ):
        table.add_column(column, justify="left" if not column else "right")
    for name, taken in medians.items():
        options = OURS.get(name, {})
        top = ceilings[options.get("precision", "fp32")]
        row = {
            "passages_per_second": len(texts) / taken,
            "ratio": medians[PEER] / taken,
            "tflops": work / taken / 1e12,
            "of_ceiling": work / taken / top,
        }
        if options:
            row["cosine"] = nearness(model, str(device), options, texts)
            row["question"], row["callers"] = waits(model, str(device), options, questions.all)
        figures[name] = row
        table.add_row(
            name,
            f"{row['passages_per_second']:,.1f}",
            f"{row['ratio']:.2f}x",
            f"{row['tflops']:.2f}",
            f"{row['of_ceiling']:.1%}",
            f"{row['cosine']:.5f}" if options else "",
            f"{row['question'] * 1000:.1f}" if options else "",
            f"{row['callers']:,.0f}" if options else "",
        )
    console = Console(width=140)
    console.print(table)
    console.print(
        f"{figures['device']}, torch {torch.__version__}; {len(texts):,} passages of "
        f"{sum(lengths) / len(lengths):.0f} tokens, tokenised alone in {tokenizing:.2f} s; "
        + ", ".join(f"{name} {value / 1e12:.1f}" for name, value in ceilings.items())
        + f" TFLOP/s in products; out of memory: {figures['out_of_memory']}"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
