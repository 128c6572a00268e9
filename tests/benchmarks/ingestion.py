"""What ingestion takes in time and memory: ``python tests/benchmarks/ingestion.py``.

- ``speed``: short Korean passages with koe5-mini into shards and Chroma, against LangChain's
  ``Chroma.from_documents`` with the same embeddings, which keeps no shards. Each run in a process
  of its own, in turns; figures are medians. The vectors of both are compared.
- ``memory``: the most memory by the number of passages, with Chroma, whose index is in memory and
  grows, and without.
- ``resume``: how many texts are embedded by a second run, and by one that follows a kill half-way.
- ``stream``: a JSONL file of a gigabyte read and split, and a smaller one ingested.
- ``elsewhere``: documents into shards with a model that works on another device, which is made of
  koe5-mini by a wait for each passage: how much of the work beside it the wait hides.

All of it takes two hours on two cores; ``--only`` and the sizes make it less. ``--json`` writes the
figures to a file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ingestion_runs import sentences
from rich.console import Console
from rich.table import Table

PARTS = ("speed", "memory", "resume", "stream", "elsewhere")
EVERY_S = 0.05
MB = 1e6
DIM = 1024  # of koe5-mini
TENTHS = 10
SENTENCES_IN_DOCUMENT = 40


@dataclass
class Ran:
    """A finished run.

    Attributes:
        figures: what it said.
        peak: bytes of memory at most, of its child processes too.
        tenths: bytes at most in each tenth of its time.
    """

    figures: dict[str, Any]
    peak: int
    tenths: list[int]


def run(*arguments: str | Path, kill_when: Callable[[dict[str, Any]], bool] | None = None) -> Ran:
    """Do one run in a process of its own, and watch its memory.

    Args:
        arguments: of ``ingestion_runs.py``.
        kill_when: told each line the run writes; the process is killed once it returns True.
    """
    worker = Path(__file__).with_name("ingestion_runs.py")
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "ANONYMIZED_TELEMETRY": "False"}
    process = subprocess.Popen(
        [sys.executable, worker, *map(str, arguments)], stdout=subprocess.PIPE, env=environment
    )
    memory: list[int] = []

    def watch() -> None:
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                watched = psutil.Process(process.pid)
                family = [watched, *watched.children(recursive=True)]
                memory.append(sum(each.memory_info().rss for each in family))
            time.sleep(EVERY_S)

    watching = threading.Thread(target=watch)
    watching.start()
    figures: dict[str, Any] = {}
    killed = False
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            figures = json.loads(line)
            if not killed and kill_when is not None and kill_when(figures):
                process.kill()
                killed = True
    if process.wait() and not killed:
        raise SystemExit(f"{arguments[0]} failed; see above")
    watching.join()
    parts = [
        memory[len(memory) * i // TENTHS : len(memory) * (i + 1) // TENTHS] for i in range(TENTHS)
    ]
    return Ran(figures, max(memory, default=0), [max(part, default=0) for part in parts])


def write_passages(file: Path, count: int) -> None:
    """Write short passages, a sentence each."""
    with file.open("w", encoding="utf-8") as lines:
        for number, text in zip(range(count), sentences(), strict=False):
            row = {"id": f"passage-{number}", "text": text, "topic": f"주제 {number % 50}"}
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_documents(file: Path, size: float) -> None:
    """Write documents of 40 sentences each until the file has ``size`` bytes."""
    written = number = 0
    texts = sentences()
    with file.open("wb") as lines:
        while written < size:
            text = " ".join(next(texts) for _ in range(SENTENCES_IN_DOCUMENT))
            row = {"id": f"document-{number}", "text": text, "topic": f"주제 {number % 50}"}
            written += lines.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            number += 1


@contextmanager
def passages(parent: str | None, count: int) -> Iterator[tuple[Path, Path]]:
    """Return a file of passages and an empty folder, gone afterwards."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        file = Path(folder) / "passages.jsonl"
        write_passages(file, count)
        yield file, Path(folder)


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time both, in turns."""
    runs: dict[str, list[Ran]] = {"ours": [], "langchain": []}
    compared: dict[str, Any] = {}
    with passages(arguments.folder, arguments.passages) as (file, folder):
        for turn in range(arguments.runs):
            order = ("ours", "langchain") if turn % 2 == 0 else ("langchain", "ours")
            for side in order:
                ran = run(side, file, folder)
                assert ran.figures["stored"] == arguments.passages, ran.figures
                runs[side].append(ran)
            compared = run("compare", folder).figures
            for leftover in ("ours", "ours.shards", "langchain"):
                shutil.rmtree(folder / leftover)

    def medians(figure: Callable[[Ran], float]) -> dict[str, float]:
        return {side: statistics.median(map(figure, each)) for side, each in runs.items()}

    seconds = {side: [ran.figures["seconds"] for ran in each] for side, each in runs.items()}
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["langchain"], strict=True)]
    return {
        "passages": arguments.passages,
        "all_seconds": seconds,
        "ratio": statistics.median(ratios),
        "seconds": medians(lambda ran: ran.figures["seconds"]),
        "passages_per_second": medians(lambda ran: arguments.passages / ran.figures["seconds"]),
        "processor_seconds": medians(lambda ran: ran.figures["processor_seconds"]),
        "peak_mb": medians(lambda ran: ran.peak / MB),
        "vectors_apart": compared["apart"],
    }


def memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the most memory at several sizes."""
    rows = []
    for count in arguments.sizes:
        row: dict[str, Any] = {"passages": count, "vectors_mb": count * DIM * 4 / MB}
        for side in ("shards", "ours", "langchain"):
            with passages(arguments.folder, count) as (file, folder):
                ran = run(side, file, folder)
            row[side] = {"peak_mb": ran.peak / MB, "tenths_mb": [t / MB for t in ran.tenths]}
        rows.append(row)
    return {"sizes": rows}


def resume(arguments: argparse.Namespace) -> dict[str, Any]:
    """Count what is embedded again."""
    total = arguments.passages
    with passages(arguments.folder, total) as (file, folder):
        first = run("ours", file, folder).figures
        second = run("ours", file, folder).figures
    with passages(arguments.folder, total) as (file, folder):
        killed = run("ours", file, folder, kill_when=lambda told: told["embedded"] >= total / 2)
        kept = run("kept", folder).figures["kept"]
        rest = run("ours", file, folder).figures
        after = run("kept", folder).figures["kept"]
    assert second["embedded"] == 0, second
    assert kept + rest["embedded"] == total == after, (kept, rest, after)
    return {
        "passages": total,
        "first_embedded": first["embedded"],
        "second_embedded": second["embedded"],
        "second_seconds": second["seconds"],
        "before_the_kill": killed.figures["embedded"],
        "kept": kept,
        "after_the_kill": rest["embedded"],
    }


def stream(arguments: argparse.Namespace) -> dict[str, Any]:
    """Stream a large file through reading and splitting, and a smaller one through all of it."""
    figures = {}
    for name, side, megabytes in (
        ("read and split", "read", arguments.megabytes),
        ("read and split, a tenth", "read", arguments.megabytes / 10),
        ("ingested", "ours", arguments.ingest_megabytes),
        ("ingested, shards alone", "shards", arguments.ingest_megabytes),
    ):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            file = Path(folder) / "documents.jsonl"
            write_documents(file, megabytes * MB)
            ran = run(side, file, *([] if side == "read" else [folder]))
        figures[name] = {
            "megabytes": megabytes,
            "peak_mb": ran.peak / MB,
            "tenths_mb": [t / MB for t in ran.tenths],
            "megabytes_per_second": megabytes / ran.figures["seconds"],
            **ran.figures,
        }
    return figures


def elsewhere(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ingest with a model that takes no time of this machine's, and with one that takes none."""
    figures = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        file = Path(folder) / "documents.jsonl"
        write_documents(file, arguments.elsewhere_megabytes * MB)
        for rate in (arguments.rate, math.inf):
            target = Path(folder) / str(rate)
            figures[str(rate)] = run("elsewhere", file, target, rate).figures
    return figures


def table(title: str, columns: list[str], rows: list[list[object]]) -> Table:
    drawn = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        drawn.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        drawn.add_row(*(f"{each:,.2f}" if isinstance(each, float) else str(each) for each in row))
    return drawn


def tables(results: dict[str, Any]) -> Iterator[Table]:
    """Draw what was measured."""
    if "speed" in results:
        found = results["speed"]
        columns = ["seconds", "passages_per_second", "processor_seconds", "peak_mb"]
        yield table(
            f"{found['passages']:,} passages; vectors at most {found['vectors_apart']:.1e} apart; "
            f"ours takes {found['ratio']:.2f} of LangChain's time",
            ["", "seconds", "passages/s", "processor s", "peak MB"],
            [[side, *(found[key][side] for key in columns)] for side in ("ours", "langchain")],
        )
    if "memory" in results:
        yield table(
            "most memory, MB",
            ["passages", "shards alone", "with Chroma", "LangChain's", "the vectors"],
            [
                [f"{row['passages']:,}"]
                + [row[side]["peak_mb"] for side in ("shards", "ours", "langchain")]
                + [row["vectors_mb"]]
                for row in results["memory"]["sizes"]
            ],
        )
    if "resume" in results:
        names = {
            "first_embedded": "embedded by the first run",
            "second_embedded": "embedded by the second",
            "before_the_kill": "embedded before the kill -9, as told",
            "kept": "kept by the shards",
            "after_the_kill": "embedded by the run after it",
        }
        found = results["resume"]
        yield table("nothing twice", ["", "texts"], [[n, found[k]] for k, n in names.items()])
    if "stream" in results:
        columns = ["megabytes", "peak_mb", "seconds", "megabytes_per_second"]
        yield table(
            "streamed JSONL",
            ["", "MB", "peak MB", "seconds", "MB/s"],
            [[n, *(float(row[c]) for c in columns)] for n, row in results["stream"].items()],
        )
    if "elsewhere" in results:
        yield table(
            "a model on another device",
            ["passages/s of the model", "passages", "seconds", "of them the model's"],
            [
                [rate, row["stored"], row["seconds"], row["model_seconds"]]
                for rate, row in results["elsewhere"].items()
            ],
        )


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--passages", type=int, default=100_000, help="of speed and resume")
    parser.add_argument("--runs", type=int, default=3, help="of each side, of speed")
    parser.add_argument("--sizes", type=int, nargs="+", default=[25_000, 50_000, 100_000])
    parser.add_argument("--megabytes", type=float, default=1000, help="read and split, of stream")
    parser.add_argument("--ingest-megabytes", type=float, default=100, help="ingested, of stream")
    parser.add_argument("--elsewhere-megabytes", type=float, default=50, help="of elsewhere")
    parser.add_argument("--rate", type=float, default=1500, help="passages/s of the model there")
    parser.add_argument("--folder", help="where to work; the system's temporary folder")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    measure = {
        "speed": speed,
        "memory": memory,
        "resume": resume,
        "stream": stream,
        "elsewhere": elsewhere,
    }
    results = {}
    console = Console()
    for part in arguments.only:
        results[part] = measure[part](arguments)
        for drawn in tables({part: results[part]}):
            console.print(drawn)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
