"""The public data sets this package knows: where each is, at which revision, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["KNOWN", "KnownDataset"]


@dataclass(frozen=True)
class KnownDataset:
    """A public data set, pinned.

    Attributes:
        name: as :func:`load_dataset` (or, for sentence pairs, ``load_sts``) takes it.
        host: ``shipped`` with this package, or fetched from ``hub`` (Hugging Face) or ``github``.
        repo: owner and name there.
        revision: commit id; empty if it is not known.
        files: sha256 by path in the repository; None where only the revision pins it. For a hub
            repository the paths may be patterns.
        split: which part of it is used.
        licence: SPDX expression, or what there is instead.
        queries: number of judged questions; for sentence pairs, of pairs.
        documents: number of documents; 0 for sentence pairs.
        folders: names under which a data folder may hold it, besides ``name``.
        note: what a user must know.
    """

    name: str
    host: Literal["shipped", "hub", "github"]
    repo: str
    revision: str
    files: Mapping[str, str | None]
    split: str
    licence: str
    queries: int
    documents: int
    folders: tuple[str, ...] = ()
    note: str = ""

    @property
    def source(self) -> str:
        """Where it comes from, with the revision and the part."""
        at = f" @ {self.revision}" if self.revision else ""
        return f"{self._site}{self.repo}{at}, {self.split}"

    @property
    def urls(self) -> tuple[str, ...]:
        """Web addresses at which its files can be had by hand."""
        if self.host == "hub":
            return (f"{self._site}{self.repo}/tree/{self.revision}",)
        return tuple(
            f"https://raw.githubusercontent.com/{self.repo}/{self.revision}/{path}"
            for path in self.files
        )

    @property
    def _site(self) -> str:
        return "https://huggingface.co/datasets/" if self.host == "hub" else "https://github.com/"


_ALL = (
    KnownDataset(
        name="python_faq_ko",
        host="shipped",
        repo="python/python-docs-ko",
        revision="d0c58403",
        files={},
        split="faq/*.po",
        licence="PSF-2.0",
        queries=135,
        documents=136,
    ),
    KnownDataset(
        name="belebele_ko",
        host="shipped",
        repo="facebookresearch/belebele",
        revision="",
        files={},
        split="kor_Hang",
        licence="CC-BY-SA-4.0",
        queries=900,
        documents=488,
        note="its authors ask that it is not trained on",
    ),
    KnownDataset(
        name="ko-strategyqa",
        host="hub",
        repo="taeminlee/Ko-StrategyQA",
        revision="d243889a3eb6654029dbd7e7f9319ae31d58f97c",
        files={"corpus.jsonl": None, "queries.jsonl": None, "qrels/dev.jsonl": None},
        split="dev",
        licence="CC-BY-4.0",
        queries=592,
        documents=9251,
        folders=("Ko-StrategyQA", "ko_strategyqa"),
    ),
    KnownDataset(
        name="autorag",
        host="github",
        repo="Marker-Inc-Korea/AutoRAG-example-korean-embedding-benchmark",
        revision="9a0ba3c3607b39a4d9e2141d72fbe2c93602932d",
        files={
            "data/ocr_corpus_v3.parquet": (
                "aabf2a1fcfd173a17564ed760e5ce55d122cfd6036636549ed3b9fb9711df743"
            ),
            "data/qa_v4.parquet": (
                "a1e7ff5ca1a68818e52277e70cdf8caacd3f31f0f61b2ba33d0570d25a4b6787"
            ),
        },
        split="test",
        licence="none stated",
        queries=114,
        documents=720,
        folders=("autorag_ko",),
        note="no licence file: for measuring only",
    ),
    KnownDataset(
        name="autorag-hub",
        host="hub",
        repo="yjoonjang/markers_bm",
        revision="fd7df84ac089bbec763b1c6bb1b56e985df5cc5c",
        files={
            "corpus/corpus-*.parquet": None,
            "queries/queries-*.parquet": None,
            "data/test-*.parquet": None,
        },
        split="test",
        licence="none stated",
        queries=114,
        documents=720,
        folders=("markers_bm",),
        note="MTEB's copy of autorag, with its own ids",
    ),
    KnownDataset(
        name="publichealthqa",
        host="hub",
        repo="xhluca/publichealth-qa",
        revision="1074afe90566e34f88ee5889a1a2627f9922fb1e",
        files={"data/korean.csv": None},
        split="test",
        licence="CC-BY-NC-SA-3.0",
        queries=77,
        documents=77,
        folders=("publichealth-qa", "PublicHealthQA"),
        note="not for commercial use",
    ),
    KnownDataset(
        name="korsts",
        host="github",
        repo="kakaobrain/KorNLUDatasets",
        revision="0df0fe7d496eb61b092e022e238c2230b29f1cbc",
        files={
            "KorSTS/sts-test.tsv": (
                "13f83a3440d9db52d134eb40303ce021b03264aa338fbf2871c8786ce04d2105"
            )
        },
        split="test",
        licence="CC-BY-SA-4.0",
        queries=1379,
        documents=0,
        folders=("KorSTS",),
    ),
    KnownDataset(
        name="klue-sts",
        host="github",
        repo="KLUE-benchmark/KLUE",
        revision="3efd98708a40ff49251fddde35453f8fbb11f536",
        files={
            "klue_benchmark/klue-sts-v1.1/klue-sts-v1.1_dev.json": (
                "b6a0ae0c370e21687f7eef0fdea872a328bb2ecbdb020c546cb870d28606bf80"
            )
        },
        split="dev",
        licence="CC-BY-SA-4.0",
        queries=519,
        documents=0,
        folders=("klue-sts-v1.1", "klue_sts", "KLUE-STS"),
    ),
)

KNOWN: Mapping[str, KnownDataset] = {known.name: known for known in _ALL}
"""By name."""
