"""Tests of the public data sets: shipped, in a local folder, in the hub's cache, or fetched."""

import csv
import functools
import hashlib
import http.server
import json
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import koe5_integrations
from koe5_integrations.evaluation.datasets import (
    KNOWN,
    SHIPPED_NAMES,
    STS_NAMES,
    DatasetError,
    KnownDataset,
    load_dataset,
)
from koe5_integrations.evaluation.datasets.fetch import find_files
from koe5_integrations.evaluation.datasets.public import read_known

SHIPPED = Path(koe5_integrations.__file__).parent / "evaluation" / "data"


def ko_strategyqa(base: Path, *, documents: int = 9251, judged: int = 592) -> Path:
    """Write what the hub's repository holds, in its size, with questions nobody judged."""
    (base / "qrels").mkdir(parents=True)
    rows = {
        "corpus.jsonl": [
            {"_id": f"d{n}", "title": f"제목 {n}", "text": f"본문 {n}"} for n in range(documents)
        ],
        "queries.jsonl": [{"_id": f"q{n}", "text": f"질문 {n}?"} for n in range(judged + 100)],
        "qrels/dev.jsonl": [
            {"query-id": f"q{n}", "corpus-id": f"d{(n + i) % documents}", "score": 1.0}
            for n in range(judged)
            for i in range(1 + n % 3)
        ],
    }
    for name, content in rows.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (base / name).write_text("".join(lines), encoding="utf-8")
    return base


def publichealthqa(base: Path, pairs: int = 77) -> Path:
    """Write the hub's CSV: answers of several lines, a repeated question, a row without answer."""
    (base / "data").mkdir(parents=True)
    with (base / "data" / "korean.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "answer", "url"])
        for n in range(pairs):
            writer.writerow([f"질문 {n}?", f'답 {n}, "첫 줄"\n\n둘째 줄', "https://example.org"])
        writer.writerow(["질문 0?", '답 0, "첫 줄"\n\n둘째 줄', ""])
        writer.writerow(["답이 없는 질문?", "", ""])
    return base


def markers_bm(base: Path) -> Path:
    """Write the hub's three Parquet tables, the corpus in two parts."""
    pyarrow = pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading Parquet needs pyarrow")
    for name in ("corpus", "queries", "data"):
        (base / name).mkdir(parents=True)
    for part, numbers in enumerate((range(400), range(400, 720))):
        table = {
            "_id": [f"law - {n}.pdf" for n in numbers],
            "text": [f"본문 {n}" for n in numbers],
            "title": ["" if n % 2 else None for n in numbers],
        }
        file = base / "corpus" / f"corpus-0000{part}-of-00002.parquet"
        parquet.write_table(pyarrow.table(table), file)
    queries = {"_id": [f"q{n}" for n in range(114)], "text": [f"질문 {n}?" for n in range(114)]}
    one = "00000-of-00001.parquet"
    parquet.write_table(pyarrow.table(queries), base / "queries" / f"queries-{one}")
    qrels = {
        "query-id": queries["_id"],
        "corpus-id": [f"law - {n}.pdf" for n in range(114)],
        "score": [1.0] * 114,
    }
    parquet.write_table(pyarrow.table(qrels), base / "data" / f"test-{one}")
    return base


@pytest.mark.parametrize(
    ("name", "sizes", "licence"),
    [("python_faq_ko", (135, 136), "PSF-2.0"), ("belebele_ko", (900, 488), "CC-BY-SA-4.0")],
)
def test_a_shipped_set_is_whole_and_carries_its_licence(name, sizes, licence):
    """Questions, documents, source and licence are there, and a notice stands beside the files."""
    dataset = load_dataset(name)
    assert (len(dataset.queries), len(dataset.corpus)) == sizes
    assert dataset.qrels.keys() == dataset.queries.keys()
    assert (dataset.name, dataset.licence) == (name, licence)
    assert KNOWN[name].repo in str(dataset.source)
    assert "Changes made" in (SHIPPED / name / "NOTICE").read_text(encoding="utf-8")


def test_belebele_ships_with_the_text_of_its_licence():
    """CC BY-SA asks for the licence, and its authors ask not to train on it."""
    licence = (SHIPPED / "belebele_ko" / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("Attribution-ShareAlike 4.0 International")
    notice = (SHIPPED / "belebele_ko" / "NOTICE").read_text(encoding="utf-8")
    assert "not to train" in notice


def test_what_may_not_ship_does_not():
    """The package holds the two shipped sets and nothing of the others."""
    assert SHIPPED_NAMES == ("python_faq_ko", "belebele_ko")
    assert {folder.name for folder in SHIPPED.iterdir() if folder.is_dir()} == set(SHIPPED_NAMES)


@pytest.mark.parametrize("known", [k for k in KNOWN.values() if k.host != "shipped"])
def test_what_is_fetched_is_pinned(known):
    """Every set outside the package has a full commit, and files of GitHub a sha256."""
    assert len(known.revision) == 40
    assert int(known.revision, 16)
    if known.host == "github":
        assert all(digest and len(digest) == 64 for digest in known.files.values())
    assert all(known.revision in url for url in known.urls)


@pytest.mark.parametrize("place", ["", "ko-strategyqa", "Ko-StrategyQA"])
def test_ko_strategyqa_is_read_from_a_local_folder(tmp_path, place):
    """Titles go before texts, and only the judged questions of the dev part are asked."""
    ko_strategyqa(tmp_path / place)
    dataset = load_dataset("Ko-StrategyQA", data_dir=tmp_path)
    assert (dataset.name, dataset.licence) == ("ko-strategyqa", "CC-BY-4.0")
    assert (len(dataset.queries), len(dataset.corpus)) == (592, 9251)
    assert dataset.corpus["d5"] == "제목 5 본문 5"
    assert dataset.qrels["q2"] == {"d2": 1, "d3": 1, "d4": 1}


def test_publichealthqa_is_read_from_a_local_folder(tmp_path):
    """Answers keep their lines, equal questions are one, and a row without answer is left out."""
    dataset = load_dataset("publichealthqa", data_dir=publichealthqa(tmp_path))
    assert (len(dataset.queries), len(dataset.corpus)) == (77, 77)
    assert dataset.corpus["D3"] == '답 3, "첫 줄"\n\n둘째 줄'
    assert dataset.qrels["Q3"] == {"D3": 1}


def test_the_hubs_copy_of_autorag_is_read_from_a_local_folder(tmp_path):
    """The tables in several parts, and titles that are empty or missing."""
    dataset = load_dataset("autorag-hub", data_dir=markers_bm(tmp_path / "markers_bm").parent)
    assert (len(dataset.queries), len(dataset.corpus)) == (114, 720)
    assert dataset.corpus["law - 401.pdf"] == "본문 401"
    assert dataset.qrels["q7"] == {"law - 7.pdf": 1}


def test_autorag_is_read_from_the_repositorys_files(shared_data):
    """The two Parquet files are those of the pinned commit, by their sha256."""
    dataset = load_dataset("autorag", data_dir=shared_data)
    assert (dataset.name, len(dataset.queries), len(dataset.corpus)) == ("autorag", 114, 720)
    assert dataset.sha256 == load_dataset(shared_data / "autorag_ko").sha256
    assert all(list(judged.values()) == [1] for judged in dataset.qrels.values())


def test_another_revision_is_not_taken_for_the_known_one(tmp_path):
    """A folder of another size raises, saying both sizes and how to measure on it as it is."""
    with pytest.raises(DatasetError, match=r"592 judged queries and 9,251 .* but 592 and 50 were"):
        load_dataset("ko-strategyqa", data_dir=ko_strategyqa(tmp_path, documents=50))


def test_another_sha256_is_refused(tmp_path):
    """Files that are not the pinned ones raise with both digests."""
    for name in ("ocr_corpus_v3.parquet", "qa_v4.parquet"):
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(DatasetError, match=r"has the sha256 [0-9a-f]{64}, not aabf2a1f"):
        load_dataset("autorag", data_dir=tmp_path)


def test_a_folder_that_lacks_files_says_which_and_where_they_are(tmp_path):
    """The message names what is missing, where it was looked for, and where it can be had."""
    (ko_strategyqa(tmp_path) / "qrels" / "dev.jsonl").unlink()
    with pytest.raises(DatasetError, match=r"qrels/dev\.jsonl not found .*huggingface\.co") as e:
        load_dataset("ko-strategyqa", data_dir=tmp_path)
    assert "corpus.jsonl" not in str(e.value)
    with pytest.raises(DatasetError, match="does not exist"):
        load_dataset("ko-strategyqa", data_dir=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q,a\n1,2\n", r"korean\.csv, line 1: needs the columns question and answer"),
        ('question,answer\n"열린 따옴표,답\n', r"korean\.csv, line 2: not CSV"),
        ("question,answer\n,\n", "judges nothing"),
    ],
)
def test_a_bad_csv_is_named(tmp_path, content, message):
    """Other columns, an open quotation mark, or no pair at all raise with the place."""
    (tmp_path / "korean.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        load_dataset("publichealthqa", data_dir=tmp_path)


def test_a_set_in_the_hubs_cache_needs_no_network(tmp_path, monkeypatch):
    """What the hub's client has at the pinned revision is used, offline."""
    from huggingface_hub import constants

    known = KNOWN["publichealthqa"]
    folder = tmp_path / f"datasets--{known.repo.replace('/', '--')}" / "snapshots" / known.revision
    publichealthqa(folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert load_dataset("publichealthqa").name == "publichealthqa"


def test_a_set_that_cannot_be_had_names_the_ways_on(tmp_path, monkeypatch):
    """Without network and cache one error names the address, data_dir and the shipped sets."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DatasetError, match=r"can't be fetched .*data_dir=.*HF_ENDPOINT.*shipped"):
        load_dataset("ko-strategyqa")


@dataclass(frozen=True)
class Nearby(KnownDataset):
    """A known set whose repository is served by this machine."""

    port: int = 0

    @property
    def urls(self):
        return tuple(f"http://127.0.0.1:{self.port}/{path}" for path in self.files)


@pytest.fixture
def nearby(tmp_path, monkeypatch):
    """AutoRAG's repository in small, served over HTTP, and an empty cache."""
    pyarrow = pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading Parquet needs pyarrow")
    served = tmp_path / "served"
    (served / "data").mkdir(parents=True)
    corpus = {"doc_id": ["a.pdf - 1"], "contents": ["본문"]}
    questions = {"qid": ["q0"], "query": ["무엇?"], "retrieval_gt": [[["a.pdf - 1"]]]}
    names = ["data/ocr_corpus_v3.parquet", "data/qa_v4.parquet"]
    for name, table in zip(names, (corpus, questions), strict=True):
        parquet.write_table(pyarrow.table(table), served / name)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        digests = {n: hashlib.sha256((served / n).read_bytes()).hexdigest() for n in names}
        yield Nearby(
            name="autorag",
            host="github",
            repo="someone/something",
            revision="0" * 40,
            files=digests,
            split="test",
            licence="none stated",
            queries=1,
            documents=1,
            port=server.server_port,
        )
        server.shutdown()


def test_files_are_fetched_once_into_the_cache(nearby, tmp_path):
    """The first call downloads, and the next needs no server."""
    assert read_known(nearby, None).corpus == {"a.pdf - 1": "본문"}
    assert read_known(replace(nearby, port=9), None).queries == {"q0": "무엇?"}
    kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert {file.name for file in kept} == {"ocr_corpus_v3.parquet", "qa_v4.parquet"}


def test_a_download_with_another_sha256_is_not_kept(nearby, tmp_path):
    """What was fetched and is not what was asked for leaves nothing in the cache."""
    wrong = replace(nearby, files=dict.fromkeys(nearby.files, "0" * 64))
    with pytest.raises(DatasetError, match=f"not {'0' * 64}"):
        find_files(wrong, None)
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file()] == []


def test_a_file_the_server_lacks_names_the_ways_on(nearby):
    """A 404 is an error of the data set, with the address and where to put the file."""
    with pytest.raises(DatasetError, match=r"HTTPError.*404.*data_dir=.*put the files into"):
        find_files(replace(nearby, files={"data/nothing.parquet": None}), None)


def test_a_download_that_breaks_off_is_not_kept(nearby, tmp_path, monkeypatch):
    """Fewer bytes than were announced are an error of the data set, and leave nothing."""

    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"half")

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "do_GET", half)
    with pytest.raises(DatasetError, match=r"IncompleteRead.*data_dir="):
        find_files(nearby, None)
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file()] == []


def test_sentence_pairs_are_not_a_retrieval_set():
    """The name of an STS set says how to read it."""
    for name in STS_NAMES:
        with pytest.raises(DatasetError, match="read it with load_sts"):
            load_dataset(name)
