"""What splitting gains and costs: ``python tests/benchmarks/splitting.py [--data FOLDER]``.

Documents are the answers of the shipped Python FAQ and, with ``--data`` (a folder that holds
``autorag_ko``), the pages of the AutoRAG corpus, several in a row joined to one document each.
All tokens are those of ``--model``, and all times are of the processor.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from langchain_text_splitters import RecursiveCharacterTextSplitter
from llama_index.core.node_parser import SentenceSplitter

from koe5_integrations import KoE5Encoder
from koe5_integrations.evaluation.datasets import RetrievalDataset, load_dataset
from koe5_integrations.evaluation.metrics import ndcg
from koe5_integrations.splitting import TokenSplitter
from koe5_integrations.splitting.sentences import find_sentences

JOINED = {"python_faq_ko": 10, "autorag": 6}
LIMIT = 512
SIZES = (64, 128, 256, 384, 512, 1024)


def documents_of(dataset: RetrievalDataset) -> tuple[list[str], dict[str, int]]:
    """Return long documents, and in which of them each of the set's own lies."""
    ids = list(dataset.corpus)
    joined = JOINED[dataset.name]
    place = {id_: number // joined for number, id_ in enumerate(ids)}
    texts = [
        "\n\n".join(dataset.corpus[id_] for id_ in ids[start : start + joined])
        for start in range(0, len(ids), joined)
    ]
    return texts, place


def show_truncated(encoder: KoE5Encoder, name: str, texts: list[str]) -> None:
    """Print how many of each splitter's chunks have more tokens than a model of 512 reads."""
    ours = TokenSplitter(encoder, chunk_tokens=LIMIT)
    splitters: dict[str, Callable[[str], list[str]]] = {
        "none": lambda text: [text],
        "LangChain RecursiveCharacterTextSplitter(chunk_size=1024)": (
            RecursiveCharacterTextSplitter(chunk_size=1024, chunk_overlap=0).split_text
        ),
        "LangChain RecursiveCharacterTextSplitter(), 4000 characters": (
            RecursiveCharacterTextSplitter().split_text
        ),
        "LlamaIndex SentenceSplitter(), 1024 tiktoken tokens": SentenceSplitter().split_text,
        "LlamaIndex SentenceSplitter(chunk_size=512)": (
            SentenceSplitter(chunk_size=512, chunk_overlap=0).split_text
        ),
        "TokenSplitter": lambda text: [chunk.text for chunk in ours.split(text)],
    }
    say(f"\n{name}: {len(texts)} documents, chunks of more than {LIMIT} tokens")
    for splitter, split in splitters.items():
        chunks = [chunk for text in texts for chunk in split(text)]
        tokens = np.array(encoder.count_tokens(chunks, "passage"))
        lost = np.maximum(tokens - LIMIT, 0).sum() / tokens.sum()
        say(
            f"  {splitter:60s} {len(chunks):5d} chunks, {np.mean(tokens > LIMIT):6.1%} cut, "
            f"{lost:6.1%} of the tokens not embedded, {tokens.mean():5.0f} tokens a chunk"
        )


def show_quality(
    encoder: KoE5Encoder, dataset: RetrievalDataset, texts: list[str], place: dict[str, int]
) -> None:
    """Print nDCG@10 of documents found by their best chunk, by the size of chunks."""
    asked = [query for query in dataset.queries if query in dataset.qrels]
    questions = encoder.encode_queries([dataset.queries[query] for query in asked])
    relevant = [{str(place[d]): 1 for d, r in dataset.qrels[q].items() if r > 0} for q in asked]
    say(f"\n{dataset.name}: nDCG@10 of {len(texts)} documents by tokens of a chunk")
    splittings: dict[str, list[list[str]]] = {"whole": [[text] for text in texts]}
    for size in SIZES:
        for sentences, overlap in (("rule", 0), ("rule", size // 5), ("kiwi", 0)):
            if sentences == "kiwi" and size not in (128, 256):
                continue
            splitter = TokenSplitter(
                encoder, chunk_tokens=size, overlap_tokens=overlap, sentences=sentences
            )
            label = f"{size}, {sentences}, overlap {overlap}"
            splittings[label] = [[c.text for c in of] for of in splitter.split_many(texts)]
    for label, split in splittings.items():
        owners = np.repeat(np.arange(len(texts)), [len(chunks) for chunks in split])
        vectors = encoder.encode_passages([chunk for chunks in split for chunk in chunks])
        found = []
        for products, right in zip(questions @ vectors.T, relevant, strict=True):
            best = np.full(len(texts), -np.inf)
            np.maximum.at(best, owners, products)
            found.append(ndcg([str(i) for i in np.argsort(-best, kind="stable")], right, 10))
        say(f"  {label:24s} {len(vectors):6d} chunks {np.mean(found):.4f}")


def show_sentences(name: str, texts: list[str]) -> None:
    """Print how fast both ways of finding sentences are, and how often they agree."""
    paragraphs = [p for text in texts for p in text.split("\n\n") if p.strip()]
    characters = sum(map(len, paragraphs))
    rule, kiwi = find_sentences("rule")[0], find_sentences("kiwi")[0]
    list(kiwi(["첫 번은 느리다."]))
    seconds: dict[str, list[float]] = {"rule": [], "kiwi": []}
    found: dict[str, list[set[int]]] = {}
    for _ in range(3):
        for rule_name, find in (("rule", rule), ("kiwi", kiwi)):
            began = time.process_time()
            found[rule_name] = [set(starts) for starts in find(paragraphs)]
            seconds[rule_name].append(time.process_time() - began)
    both = sum(len(a & b) for a, b in zip(found["rule"], found["kiwi"], strict=True))
    say(f"\n{name}: sentences")
    for rule_name, runs in seconds.items():
        number = sum(map(len, found[rule_name]))
        say(
            f"  {rule_name}: {characters / statistics.median(runs):12,.0f} characters a second, "
            f"{number} boundaries, {both / number:.1%} of them the other's, too"
        )


def show_costs(encoder: KoE5Encoder, texts: list[str], megabytes: list[int]) -> None:
    """Print what splitting costs beside tokenising the same text once."""
    splitter = TokenSplitter(encoder)
    short = [f"{n}번 문서는 리스트와 튜플이 어떻게 다른지 설명합니다." for n in range(10_000)]
    ratios = []
    for _ in range(9):
        ratios.append(seconds(splitter.split_many, short) / seconds(count, encoder, short))
    say(f"\n10,000 short texts: {statistics.median(ratios):.2f} x tokenising them")
    size = sum(len(text.encode()) for text in texts)
    for million in megabytes:
        wanted = len(texts) * million * 1_000_000 // size
        pages = [texts[number % len(texts)] for number in range(wanted)]
        text = "\n\n".join(f"## {number}\n\n{page}" for number, page in enumerate(pages))
        took = seconds(splitter.split, text)
        once = seconds(count, encoder, pages)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        say(
            f"  one text of {len(text.encode()) / 1e6:5.1f} MB: {len(text) / took:9,.0f} "
            f"characters a second, {took / once:.1f} x tokenising it, peak memory {peak:,.0f} MB"
        )


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def count(encoder: KoE5Encoder, texts: list[str]) -> None:
    """Tokenise texts once."""
    encoder.count_tokens(texts, "passage")


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """Return the processor time of a call, which others on the machine hardly change."""
    began = time.process_time()
    work(*arguments)
    return time.process_time() - began


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="koe5-mini")
    parser.add_argument("--data", type=Path, help="folder that holds autorag_ko")
    parser.add_argument("--megabytes", type=int, nargs="*", default=[1, 4, 16])
    arguments = parser.parse_args()
    # Splitting and measuring what would be cut is the point here.
    warnings.simplefilter("ignore")
    encoder = KoE5Encoder(arguments.model, on_truncation="ignore")
    encoder.load()
    sets = [load_dataset("python_faq_ko")]
    if arguments.data is not None:
        sets.append(load_dataset("autorag", data_dir=arguments.data))
    # First, for what others leave behind (threads, memory) would count as its own.
    show_costs(encoder, documents_of(sets[-1])[0], arguments.megabytes)
    for dataset in sets:
        texts, place = documents_of(dataset)
        show_truncated(encoder, dataset.name, texts)
        show_quality(encoder, dataset, texts, place)
    for dataset in (*sets, load_dataset("belebele_ko")):
        show_sentences(dataset.name, list(dataset.corpus.values()))


if __name__ == "__main__":
    main()
