"""Tests of koe5_integrations.training.mining: negatives that are near and are no answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, DatasetError, InputError
from koe5_integrations.training import mine_negatives
from koe5_integrations.training.data import read_triplets
from koe5_integrations.training.mining.near import NearDuplicates

pytest.importorskip("datasets")
pytest.importorskip("sentence_transformers")
pq = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")

THINGS = ["파이썬 리스트", "헌법 재판", "김치 담그기", "서울 지하철", "전세 계약", "여권 발급"]
ASPECTS = ["비용", "준비물", "역사", "기간", "주의할 점"]
PAIRS = [
    (f"{thing}의 {aspect}은 무엇인가요?", f"{thing}: {aspect}에 대해서는 제{i}조에서 정한다.")
    for i, (thing, aspect) in enumerate((t, a) for t in THINGS for a in ASPECTS)
]


def write_pairs(path: Path, pairs: list[tuple[str, str]] = PAIRS) -> Path:
    columns = {"query": [query for query, _ in pairs], "positive": [p for _, p in pairs]}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.parquet")


@pytest.fixture(scope="module")
def encoder() -> KoE5Encoder:
    return KoE5Encoder("koe5-mini", embedding_cache_size=10_000)


def rows(file: Path) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return read


@pytest.mark.parametrize("use_faiss", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"relative_margin": None},
        {"relative_margin": 0.1},
        {"relative_margin": None, "absolute_margin": 0.15},
        {"relative_margin": None, "max_score": 0.6, "min_score": 0.3},
        {"relative_margin": None, "range_min": 4},
    ],
)
def test_finds_what_looking_at_all_finds(
    tmp_path: Path,
    pairs: Path,
    encoder: KoE5Encoder,
    settings: dict[str, Any],
    use_faiss: bool,
) -> None:
    """Negatives are the prefixed passages nearest to the prefixed question within the limits."""
    if use_faiss:
        pytest.importorskip("faiss")
    mined = mine_negatives(
        pairs,
        tmp_path / "mined.parquet",
        encoder=encoder,
        num_negatives=3,
        near_duplicate=None,
        use_faiss=use_faiss,
        **settings,
    )
    passages = [passage for _, passage in PAIRS]
    scores = encoder.encode_queries([q for q, _ in PAIRS]) @ encoder.encode_passages(passages).T
    expected = {}
    for number, (query, positive) in enumerate(PAIRS):
        own = scores[number, number]
        highest = min(
            settings.get("max_score", np.inf),
            own - settings["absolute_margin"] if "absolute_margin" in settings else np.inf,
            own - settings["relative_margin"] * abs(own) if settings["relative_margin"] else np.inf,
        )
        nearest = [
            int(passage)
            for passage in np.argsort(-scores[number], kind="stable")
            if passage != number
            and settings.get("min_score", -1) <= scores[number, passage] <= highest
        ]
        if found := nearest[settings.get("range_min", 0) :][:3]:
            expected[query, positive] = {passages[passage] for passage in found}
    got = {(row["query"], row["positive"]): set(row["negatives"]) for row in rows(mined.file)}
    assert got == expected
    assert mined.triplets == len(expected)
    assert mined.without == len(PAIRS) - len(expected)
    assert mined.fewer == sum(len(found) < 3 for found in expected.values())


def test_the_file_is_read_as_triplets_and_says_how_it_was_made(
    tmp_path: Path, pairs: Path, encoder: KoE5Encoder
) -> None:
    """One negative is a column of text, which the recipes read; the metadata say the rest."""
    mined = mine_negatives(pairs, tmp_path / "mined.parquet", encoder=encoder, seed=5)
    triplets = read_triplets(mined.file)
    assert triplets.data.column_names == ["query", "positive", "negative"]
    assert len(triplets.data) == mined.triplets > len(PAIRS) // 2
    assert mined.pairs == mined.queries == mined.passages == len(PAIRS)
    said = json.loads(pq.read_schema(mined.file).metadata[b"koe5_integrations"])
    assert said["encoder"]["query_prompt"] == "query: "
    assert said["settings"]["seed"] == 5
    assert said["files"][0]["rows"] == len(PAIRS)


def test_a_positive_of_the_question_is_never_its_negative(
    tmp_path: Path, encoder: KoE5Encoder
) -> None:
    """Nor of the question in another spelling, nor a passage that differs in signs alone."""
    positives = [f"{PAIRS[0][1]} {detail}" for detail in ("서류가 든다.", "수수료를 낸다.")]
    pairs = [
        ("여권 비용은?", positives[0]),
        ("여권  비용은", positives[1]),
        ("지하철 역사는?", positives[0].replace(".", "!")),
        *PAIRS,
    ]
    mined = mine_negatives(
        write_pairs(tmp_path / "pairs.parquet", pairs),
        tmp_path / "mined.parquet",
        encoder=encoder,
        num_negatives=len(pairs),
        relative_margin=None,
        near_duplicate=None,
    )
    found = {row["query"]: row for row in rows(mined.file)}
    assert set(found) == {"여권 비용은?", "지하철 역사는?", *(query for query, _ in PAIRS)}
    assert not set(positives) & set(found["여권 비용은?"]["negatives"])
    assert positives[0] not in found["지하철 역사는?"]["negatives"]
    assert positives[1] in found["지하철 역사는?"]["negatives"]
    assert (mined.pairs, mined.queries) == (len(pairs), len(pairs) - 1)
    assert mined.passages == len(pairs) - 1


def test_near_duplicates_are_passed_over(tmp_path: Path, encoder: KoE5Encoder) -> None:
    """A passage cut short is no negative of the whole one, and two alike are not taken both."""
    long = "여권을 발급받으려면 신분증과 사진 한 장을 가지고 구청에 가서 신청서를 써야 합니다."
    other = "여권이 없으면 비행기를 탈 수 없으니 여권은 석 달 전에는 발급받는 것이 좋다고 한다."
    unlike = [pair for pair in PAIRS if "여권" not in pair[0]]
    pairs = write_pairs(tmp_path / "pairs.parquet", [("여권은 어떻게 발급받나요?", long), *unlike])
    corpus = tmp_path / "corpus.jsonl"
    texts = [long[:40], other, other.replace("석 달", "넉 달")]
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def negatives(near_duplicate: float | None) -> tuple[list[str], int]:
        mined = mine_negatives(
            pairs,
            tmp_path / "mined.parquet",
            encoder=encoder,
            num_negatives=3,
            relative_margin=None,
            near_duplicate=near_duplicate,
            corpus=corpus,
            replace=True,
        )
        assert mined.passages == len(unlike) + 4
        return rows(mined.file)[0]["negatives"], mined.near_duplicates

    found, passed_over = negatives(None)
    assert set(found) == set(texts)
    assert passed_over == 0
    found, passed_over = negatives(0.8)
    assert len(set(found) & set(texts[1:])) == 1
    assert long[:40] not in found
    assert len(found) == 3
    assert passed_over >= 2


def test_nearness_is_a_share_of_letters() -> None:
    """It is judged by the shorter text, without spaces and signs, and up to the share asked for."""
    texts = ["가나다라마바사아", "가나다라, 마바 사아!", "가나다라마바", "가나다라카타파하", "?"]
    near = NearDuplicates(texts, 0.5)
    assert [near.is_near(0, [other]) for other in range(5)] == [True, True, True, False, False]
    assert not NearDuplicates(texts, None).is_near(0, [0])
    assert NearDuplicates(texts, 0.2).is_near(0, [4, 3])


def test_the_same_call_writes_the_same_file(
    tmp_path: Path, pairs: Path, encoder: KoE5Encoder
) -> None:
    """Sampling at random is by the seed, among the candidates up to range_max."""

    def mined(name: str, seed: int, sampling: Any = "random") -> Path:
        out = tmp_path / f"{name}.parquet"
        return mine_negatives(
            pairs,
            out,
            encoder=encoder,
            num_negatives=2,
            range_max=8,
            relative_margin=None,
            near_duplicate=None,
            sampling=sampling,
            seed=seed,
        ).file

    first = mined("first", 1)
    assert first.read_bytes() == mined("again", 1).read_bytes()
    assert rows(first) != rows(mined("other", 2))
    nearest = mine_negatives(
        pairs,
        tmp_path / "all.parquet",
        encoder=encoder,
        num_negatives=8,
        relative_margin=None,
        near_duplicate=None,
    ).file
    places = [
        [there["negatives"].index(text) for text in drawn["negatives"]]
        for drawn, there in zip(rows(first), rows(nearest), strict=True)
    ]
    assert all(place == sorted(place) for place in places)
    assert {place for pair in places for place in pair} == set(range(8))


def test_vectors_are_kept_by_the_encoder(tmp_path: Path, pairs: Path) -> None:
    """With a cache on disk, a second run with other settings embeds nothing."""
    for computed, settings in ((2 * len(PAIRS), {}), (0, {"range_min": 3})):
        encoder = KoE5Encoder("koe5-mini", embedding_cache=tmp_path / "cache")
        out = tmp_path / f"{computed}.parquet"
        mine_negatives(pairs, out, encoder=encoder, **settings)
        assert encoder.computed == computed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_negatives": 0}, "num_negatives=0 must be at least 1"),
        ({"range_min": -1}, "range_min=-1 must be 0 or more"),
        ({"range_min": 5, "range_max": 6, "num_negatives": 2}, "range_max=6 leaves fewer"),
        ({"max_score": 80.0}, r"max_score=80\.0 is no cosine"),
        ({"min_score": 0.5, "max_score": 0.5}, r"min_score=0\.5 must be below max_score=0\.5"),
        ({"relative_margin": -0.1}, r"relative_margin=-0\.1 must be from 0"),
        ({"absolute_margin": float("nan")}, "absolute_margin=nan must be from 0"),
        ({"sampling": "best"}, "sampling='best' must be 'top' or 'random'"),
        ({"near_duplicate": 0.0}, r"near_duplicate=0\.0 must be a share"),
        ({"seed": -1}, "seed=-1 must be 0 or more"),
        ({"out": "mined.csv"}, r"name it \*\.parquet"),
        ({"out": "no/mined.parquet"}, "there is no folder"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str
) -> None:
    """The error names the value, although the data are not even there."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        mine_negatives(
            **{"data": "nowhere.parquet", "out": "mined.parquet", "encoder": KoE5Encoder()}
            | settings
        )


def test_a_file_that_is_there_is_kept(tmp_path: Path, pairs: Path, encoder: KoE5Encoder) -> None:
    """It is refused without replace, and replaced by a complete one only."""
    out = tmp_path / "mined.parquet"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="is there already; choose another, or replace=True"):
        mine_negatives(pairs, out, encoder=encoder)
    refusing = KoE5Encoder("koe5-mini", max_seq_length=2, on_truncation="error")
    with pytest.raises(InputError):
        mine_negatives(pairs, out, encoder=refusing, replace=True)
    assert out.read_text() == "mine"
    mine_negatives(pairs, out, encoder=encoder, replace=True)
    assert len(rows(out)) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mined.parquet", "pairs.parquet"]


def test_nothing_to_choose_from_is_said(tmp_path: Path, encoder: KoE5Encoder) -> None:
    """A single passage, or limits that leave none, are errors rather than an empty file."""
    one = write_pairs(tmp_path / "one.parquet", PAIRS[:1])
    with pytest.raises(DatasetError, match="holds a single passage"):
        mine_negatives(one, tmp_path / "mined.parquet", encoder=encoder)
    many = write_pairs(tmp_path / "many.parquet")
    with pytest.raises(DatasetError, match=r"no question of .* has a negative.*loosen"):
        mine_negatives(many, tmp_path / "mined.parquet", encoder=encoder, max_score=-0.9)
    assert not (tmp_path / "mined.parquet").exists()
