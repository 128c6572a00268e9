"""Which texts are embedded, and how much padding each way of batching adds to them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from koe5_integrations.evaluation.datasets import load_dataset
from koe5_integrations.passes import plan_batches

_AUTORAG = Path(__file__).resolve().parents[4] / "shared" / "data" / "autorag_ko"
_BLOCK = 32  # sentence-transformers' batch


@dataclass(frozen=True)
class Texts:
    """A set of texts, in the order their set has them."""

    name: str
    all: list[str]

    def sample(self, count: int, turn: int) -> list[str]:
        """Return texts whose batches are padded much as those of the whole set are.

        A few texts out of many differ more in length than neighbours in the sorted whole, and
        would make sorting look worse than it is. So whole batches of sentence-transformers are
        drawn, evenly from the longest to the shortest, the next ones each turn, and shuffled for
        those who don't sort.
        """
        by_length = sorted(self.all, key=len, reverse=True)
        blocks = [by_length[at : at + _BLOCK] for at in range(0, len(by_length), _BLOCK)]
        wanted = count // _BLOCK
        drawn: list[str] = []
        for number in range(wanted):
            middle = int((number + 0.5) / wanted * len(blocks))
            drawn += blocks[(middle + turn) % len(blocks)]
        random.Random(turn).shuffle(drawn)
        return drawn


def load_texts() -> tuple[Texts, Texts]:
    """Return the passages (AutoRAG's if they are beside the checkout) and the short sentences."""
    shipped = [load_dataset("belebele_ko"), load_dataset("python_faq_ko")]
    questions = [text for data in shipped for text in data.queries.values()]
    name = "autorag_ko" if _AUTORAG.is_dir() else "belebele_ko"
    passages = (load_dataset(_AUTORAG) if _AUTORAG.is_dir() else shipped[0]).corpus
    return Texts(name, list(passages.values())), Texts("questions", questions)


def padding(texts: Sequence[str], model: Path) -> dict[str, float]:
    """Return padded over real tokens of each way of batching texts of the set's order."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    encoded = tokenizer.encode_batch([f"passage: {text}" for text in texts])
    lengths = [len(tokens.ids) for tokens in encoded]
    by_characters = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    batchings: dict[str, Callable[[], Sequence[Sequence[int]]]] = {
        "one at a time": lambda: _cut(range(len(texts)), 1),
        "koe5_integrations: sorted by tokens, 2048 a batch": lambda: [
            batch.tolist() for batch in plan_batches(lengths, 2048, pass_tokens=64)
        ],
        "sentence-transformers, HuggingFaceEmbeddings, Chroma: sorted by characters, 32": lambda: (
            _cut(by_characters, 32)
        ),
        "LlamaIndex: in the order given, 10": lambda: _cut(range(len(texts)), 10),
        "fastembed: in the order given, 256": lambda: _cut(range(len(texts)), 256),
    }
    return {
        name: sum(len(batch) * max(lengths[i] for i in batch) for batch in cut()) / sum(lengths)
        for name, cut in batchings.items()
    }


def _cut(order: Sequence[int], size: int) -> list[Sequence[int]]:
    return [order[at : at + size] for at in range(0, len(order), size)]
