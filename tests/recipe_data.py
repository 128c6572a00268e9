"""Small Korean training data that a random model can learn: words, and other words for them."""

from __future__ import annotations

import json
import random
from pathlib import Path

WORDS = {
    "파이썬": "불변인",
    "문자열": "무엇",
    "이유는": "부동",
    "소수점": "왜",
    "계산이": "그렇게",
    "밀가루": "제빵사는",
    "소금으로": "빵을",
    "국민의": "헌법은",
    "국가의": "조직을",
    "서울의": "춥고",
    "겨울은": "건조하며",
    "여름은": "덥고",
}
"""What queries call a thing -> what passages call it; both are in the tiny models' vocabulary."""


def other_words(text: str) -> str:
    return " ".join(WORDS[word] for word in text.split())


def texts(number: int, *, words: int = 3, seed: int = 0) -> list[str]:
    """Different texts of a few words each."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < number:
        found[" ".join(draw.sample(list(WORDS), words))] = None
    return list(found)


def triplet_rows(number: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Rows of query, positive (the same in other words) and negative (nearly the same)."""
    draw = random.Random(seed)
    rows = []
    for query in texts(number, seed=seed):
        *kept, _ = query.split()
        wrong = draw.choice([word for word in WORDS if word not in query])
        negative = other_words(" ".join([*kept, wrong]))
        rows.append({"query": query, "positive": other_words(query), "negative": negative})
    return rows


def write_jsonl(file: Path, rows: list[dict[str, str]]) -> Path:
    file.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return file


def write_korsts(folder: Path, split: str, number: int, *, seed: int) -> Path:
    """Write a file of KorSTS: the score is the share of words that mean the same, times 5."""
    draw = random.Random(seed)
    lines = ["genre\tfilename\tyear\tid\tscore\tsentence1\tsentence2"]
    for at, first in enumerate(texts(number, words=4, seed=seed)):
        same = draw.randint(0, 4)
        rest = [word for word in WORDS if word not in first]
        words = first.split()[:same] + draw.sample(rest, 4 - same)
        score = f"{5 * same / 4:.3f}"
        lines.append(f"g\tf\t2012\t{at}\t{score}\t{first}\t{other_words(' '.join(words))}")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"sts-{split}.tsv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_kornli(folder: Path, number: int, *, seed: int = 0) -> Path:
    """Write a file of KorNLI: each premise with an entailment, a neutral, a contradiction."""
    lines = ["sentence1\tsentence2\tgold_label"]
    for row in triplet_rows(number, seed=seed):
        lines.append(f"{row['query']}\t{row['positive']}\tentailment")
        lines.append(f'{row["query"]}\t"인용" {row["query"]}\tneutral')
        lines.append(f"{row['query']}\t{row['negative']}\tcontradiction")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "small.train.ko.tsv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_kornlu(folder: Path, *, nested: bool = True) -> Path:
    """Write a small KorNLUDatasets, laid out as published or all in one folder."""
    sts = folder / "KorSTS" if nested else folder
    write_kornli(folder / "KorNLI" if nested else folder, 200)
    for seed, (split, number) in enumerate([("train", 300), ("dev", 100), ("test", 100)]):
        write_korsts(sts, split, number, seed=seed)
    return folder
