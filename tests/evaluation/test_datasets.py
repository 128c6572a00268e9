from pathlib import Path

import pytest

from koe5_integrations.evaluation.datasets import (
    DatasetError,
    load_dataset,
    read_autorag,
    read_beir,
)

CORPUS = '{"_id": "d1", "title": "제목", "text": "본문"}\n{"_id": "d2", "text": "다른 글"}\n'
QUERIES = '{"_id": "q1", "text": "무엇인가?"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n"


def write(folder: Path, **changed: str) -> Path:
    files = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels.tsv": QRELS}
    files |= {name.replace("_", "."): content for name, content in changed.items()}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_reads_a_beir_folder(tmp_path):
    """Titles go before texts, and judgements keep their values."""
    dataset = read_beir(write(tmp_path))
    assert dataset.name == tmp_path.name
    assert dataset.corpus == {"d1": "제목 본문", "d2": "다른 글"}
    assert dataset.queries == {"q1": "무엇인가?"}
    assert dataset.qrels == {"q1": {"d1": 2, "d2": 0}}


def test_line_separators_inside_a_text_do_not_break_its_line(tmp_path):
    """A U+2028 inside a JSON string stays part of the text."""
    folder = write(tmp_path, corpus_jsonl=CORPUS.replace("본문", "본\u2028문"))
    assert read_beir(folder).corpus["d1"] == "제목 본\u2028문"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("corpus_jsonl", CORPUS + "{oops\n", r"corpus\.jsonl, line 3: not JSON"),
        ("corpus_jsonl", '{"_id": 1, "text": "a"}\n', r'line 1: needs the strings "_id"'),
        ("corpus_jsonl", CORPUS + CORPUS, r"line 3: the id 'd1' is repeated"),
        ("queries_jsonl", "\n", r"queries\.jsonl is empty"),
        ("qrels_tsv", "query-id\tcorpus-id\tscore\nq1 d1 1\n", r"qrels\.tsv, line 2: expected"),
        ("qrels_tsv", "h\nq1\td1\tx\n", r"line 2: expected"),
        ("qrels_tsv", "h\nq9\td1\t1\n", r"line 2: unknown query 'q9'"),
        ("qrels_tsv", "h\nq1\td9\t1\n", r"line 2: unknown document 'd9'"),
        ("qrels_tsv", "query-id\tcorpus-id\tscore\n", r"judges nothing"),
    ],
)
def test_bad_beir_file_is_named_with_its_line(tmp_path, file, content, message):
    """A malformed file raises an error naming file, line and what is wrong."""
    with pytest.raises(DatasetError, match=message):
        read_beir(write(tmp_path, **{file: content}))


def test_missing_file_is_named(tmp_path):
    """A folder without qrels raises an error naming the file that is missing."""
    (write(tmp_path) / "qrels.tsv").unlink()
    with pytest.raises(DatasetError, match=r"qrels\.tsv does not exist"):
        read_beir(tmp_path)


def test_wrong_encoding_is_named_with_its_line(tmp_path):
    """A file that isn't UTF-8 raises an error naming the first bad line."""
    (write(tmp_path) / "corpus.jsonl").write_bytes(CORPUS.encode() + "본문".encode("cp949"))
    with pytest.raises(DatasetError, match=r"corpus\.jsonl, line 3: not UTF-8"):
        read_beir(tmp_path)


def write_autorag(folder: Path, *, relevant: str = "a.pdf - 1", column: str = "contents") -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading Parquet needs pyarrow")
    corpus = pyarrow.table({"doc_id": ["a.pdf - 1", "a.pdf - 2"], column: ["하나", "둘"]})
    questions = pyarrow.table(
        {"qid": ["q0"], "query": ["무엇?"], "retrieval_gt": [[[relevant], ["a.pdf - 2"]]]}
    )
    parquet.write_table(corpus, folder / "ocr_corpus_v3.parquet")
    parquet.write_table(questions, folder / "qa_v4.parquet")
    return folder


def test_reads_the_autorag_layout(tmp_path):
    """Every document of a question's groups is relevant."""
    dataset = read_autorag(write_autorag(tmp_path))
    assert dataset.corpus == {"a.pdf - 1": "하나", "a.pdf - 2": "둘"}
    assert dataset.qrels == {"q0": {"a.pdf - 1": 1, "a.pdf - 2": 1}}


def test_autorag_unknown_document_is_named(tmp_path):
    """A question that names a document the corpus lacks raises with row and id."""
    with pytest.raises(DatasetError, match=r"row 1: query 'q0' names the document 'b - 1'"):
        read_autorag(write_autorag(tmp_path, relevant="b - 1"))


def test_autorag_missing_column_is_named(tmp_path):
    """A Parquet file without a column raises an error naming it."""
    with pytest.raises(DatasetError, match="no column 'contents'"):
        read_autorag(write_autorag(tmp_path, column="text"))


def test_autorag_missing_file_is_named(tmp_path):
    """An empty folder raises an error naming the first file missing."""
    with pytest.raises(DatasetError, match=r"ocr_corpus_v3\.parquet does not exist"):
        read_autorag(tmp_path)


def test_shipped_set_is_whole():
    """The shipped Python FAQ has its 135 questions and 136 answers."""
    dataset = load_dataset("python_faq_ko")
    assert (len(dataset.queries), len(dataset.corpus), len(dataset.qrels)) == (135, 136, 135)


def test_unknown_shipped_set_lists_those_there_are():
    """An unknown name raises an error that lists the shipped sets."""
    with pytest.raises(ValueError, match=r"'nope'; there is python_faq_ko"):
        load_dataset("nope")
