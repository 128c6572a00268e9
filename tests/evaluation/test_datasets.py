from pathlib import Path

import numpy as np
import pytest

from koe5_integrations.errors import KoE5Error
from koe5_integrations.evaluation.datasets import (
    DatasetError,
    load_dataset,
    read_autorag,
    read_beir,
)
from koe5_integrations.evaluation.metrics import recall

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
    """The document of each of a question's groups is relevant."""
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


@pytest.mark.parametrize(
    "qrels",
    [
        "q1\td1\t2\nq1\td2\t0\n",
        "q1\td1\t2.0\r\nq1\td2\t0\r\n\r\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td1\t2\nq1\td2\t0\n",
        "\ufeffquery_id\tdoc_id\trelevance\nq1\td1\t2\nq1\td2\t0",
    ],
)
def test_a_header_line_is_optional(tmp_path, qrels):
    """With or without a header, Windows line ends and whole decimals: the same judgements."""
    assert read_beir(write(tmp_path, qrels_tsv=qrels)).qrels == {"q1": {"d1": 2, "d2": 0}}


def test_a_malformed_first_judgement_is_no_header(tmp_path):
    """A first line that names a query is a broken judgement, and not passed over."""
    with pytest.raises(DatasetError, match=r"qrels\.tsv, line 1: expected query id"):
        read_beir(write(tmp_path, qrels_tsv="q1 d1 1\nq1\td2\t1\n"))


def test_qrels_of_a_split(tmp_path):
    """Without qrels.tsv, qrels/test.tsv is read, or the split asked for, as JSON Lines too."""
    (write(tmp_path) / "qrels.tsv").unlink()
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "dev.jsonl").write_text(
        '{"query-id": "q1", "corpus-id": "d2", "score": 1.0}\n', encoding="utf-8"
    )
    assert read_beir(tmp_path).qrels == {"q1": {"d2": 1}}
    (tmp_path / "qrels" / "test.tsv").write_text(QRELS, encoding="utf-8")
    assert read_beir(tmp_path).qrels == {"q1": {"d1": 2, "d2": 0}}
    assert read_beir(tmp_path, split="dev").qrels == {"q1": {"d2": 1}}
    with pytest.raises(DatasetError, match=r"no train\.tsv .*has dev\.jsonl, test\.tsv"):
        read_beir(tmp_path, split="train")
    (tmp_path / "qrels" / "test.tsv").rename(tmp_path / "qrels" / "train.tsv")
    with pytest.raises(DatasetError, match=r"dev\.jsonl, train\.tsv; say which with split="):
        read_beir(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "corpus_jsonl",
            '{"_id": "d1", "text": " \u3000"}\n',
            r"line 1: the text of 'd1' is blank",
        ),
        ("corpus_jsonl", '{"_id": " ", "text": "a"}\n', r"line 1 has the blank id ' '"),
        ("corpus_jsonl", '{"_id": "d1", "text": "a\\ud800"}\n', r"line 1: .* lone surrogate"),
        ("corpus_jsonl", "[" * 100_000 + "\n", r"corpus\.jsonl, line 1: not JSON"),
        ("corpus_jsonl", '["d1", "a"]\n', r'line 1: needs the strings "_id" and "text"'),
        ("qrels_tsv", "q1\td1\t-1\n", r"line 1: expected .* 0 or more"),
        ("qrels_tsv", "q1\td1\t0.5\n", r"line 1: expected"),
        ("qrels_tsv", "q1\td1\t1\nq1\td1\t0\n", r"line 2: .* judged 1 before and are judged 0"),
        ("qrels_tsv", "q1\td1\t0\n", r"qrels\.tsv calls nothing relevant"),
    ],
)
def test_what_cannot_be_measured_is_named_with_its_line(tmp_path, file, content, message):
    """Blank texts and ids, invalid Unicode, contradictions and qrels without an answer raise."""
    with pytest.raises(DatasetError, match=message):
        read_beir(write(tmp_path, **{file: content}))


def test_a_dataset_error_is_caught_as_the_packages_and_as_pythons():
    """It has the package's root and is a ValueError."""
    assert issubclass(DatasetError, KoE5Error)
    assert issubclass(DatasetError, ValueError)


def autorag(folder: Path, truth, *, corpus_name="corpus.parquet", qa_name="qa.parquet") -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading Parquet needs pyarrow")
    ids = ["a", "b", "c"]
    parquet.write_table(
        pyarrow.table({"doc_id": ids, "contents": ["하나", "둘", "셋"]}), folder / corpus_name
    )
    parquet.write_table(
        pyarrow.table({"qid": ["q"], "query": ["무엇?"], "retrieval_gt": [truth]}),
        folder / qa_name,
    )
    return folder


def test_autorags_groups_of_alternatives_are_one_thing_to_find(tmp_path):
    """Of [[a, b], [c]], b and c are a full answer, and a and b half of one."""
    judged = read_autorag(autorag(tmp_path, [["a", "b"], ["c"]])).qrels["q"]
    assert judged == {"a": 1, "b": 1, "c": 1}
    assert recall(["b", "c"], judged, 2) == 1
    assert recall(["a", "b"], judged, 2) == 0.5


def test_a_flat_list_is_one_group_of_alternatives(tmp_path):
    """AutoRAG reads ["a", "b"] as [["a", "b"]], and so is it read here."""
    assert recall(["b"], read_autorag(autorag(tmp_path, ["a", "b"])).qrels["q"], 1) == 1


def test_single_documents_make_plain_qrels(tmp_path):
    """Without alternatives nothing but a dict is left."""
    assert type(read_autorag(autorag(tmp_path, [["a"], ["c"]])).qrels["q"]) is dict


@pytest.mark.parametrize("truth", [[], [[]], [["a"], []]])
def test_a_question_without_an_answer_is_named(tmp_path, truth):
    """An empty retrieval_gt, or an empty group, can't be found by any system."""
    pyarrow = pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    autorag(tmp_path, [["a"]])
    kind = pyarrow.list_(pyarrow.list_(pyarrow.string()))
    table = {"qid": ["q"], "query": ["?"], "retrieval_gt": pyarrow.array([truth], kind)}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "qa.parquet")
    with pytest.raises(DatasetError, match=r"qa\.parquet, row 1: query 'q' has the retrieval_gt"):
        read_autorag(tmp_path)


def test_a_damaged_parquet_file_is_named(tmp_path):
    """A file that is cut off, or is none at all, raises with its name."""
    autorag(tmp_path, [["a"]])
    whole = (tmp_path / "corpus.parquet").read_bytes()
    for damaged in (whole[:-20], b"", b"PAR1 not really"):
        (tmp_path / "corpus.parquet").write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"corpus\.parquet is no Parquet file or is damaged"):
            read_autorag(tmp_path)


@pytest.mark.parametrize("layout", ["beir", "autorag"])
def test_any_damage_is_an_error_of_the_data_set_or_none(tmp_path, layout):
    """Bytes changed or lost at random places raise a DatasetError, or nothing, but no other."""
    random = np.random.default_rng(8)
    if layout == "beir":
        write(tmp_path)
    else:
        autorag(tmp_path, [["a", "b"], ["c"]])
    originals = {file: file.read_bytes() for file in tmp_path.iterdir()}
    outcomes = set()
    for _ in range(250):
        for file, content in originals.items():
            damaged = bytearray(content)
            for place in random.integers(0, len(content), size=random.integers(0, 4)):
                damaged[place : place + random.integers(0, 3)] = random.bytes(1)
            file.write_bytes(damaged)
        try:
            load_dataset(tmp_path)
            outcomes.add("read")
        except DatasetError:
            outcomes.add("refused")
    assert "refused" in outcomes


def test_a_parquet_text_that_is_not_utf8_is_named(tmp_path):
    """Arrow does not look whether a string is UTF-8, so the reader must."""
    pyarrow = pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    autorag(tmp_path, [["a"]])
    raw = pyarrow.array(["하나".encode("cp949")]).view(pyarrow.string())
    table = pyarrow.table({"doc_id": ["a"], "contents": raw})
    pyarrow.parquet.write_table(table, tmp_path / "corpus.parquet")
    with pytest.raises(DatasetError, match=r"corpus\.parquet is no Parquet file or is damaged"):
        read_autorag(tmp_path)


def test_the_folder_says_which_layout_it_is(tmp_path):
    """A path is read as AutoRAG's, TREC's or BEIR's layout by the files in it."""
    for name in ("autorag", "autorag-repository/data", "beir", "trec"):
        (tmp_path / name).mkdir(parents=True)
    autorag(tmp_path / "autorag", [["a"]])
    autorag(
        tmp_path / "autorag-repository" / "data",
        [["a"]],
        corpus_name="ocr_corpus_v3.parquet",
        qa_name="qa_v4.parquet",
    )
    write(tmp_path / "beir")
    write(tmp_path / "trec", qrels_txt="q1 0 d1 1\n")
    for name, relevant in {
        "autorag": {"q": {"a": 1}},
        "autorag-repository": {"q": {"a": 1}},
        "beir": {"q1": {"d1": 2, "d2": 0}},
        "trec": {"q1": {"d1": 1}},
    }.items():
        assert load_dataset(tmp_path / name).qrels == relevant
    with pytest.raises(DatasetError, match="is a file; name the folder"):
        load_dataset(tmp_path / "beir" / "corpus.jsonl")


def test_a_folder_named_by_a_dot_has_its_own_name(tmp_path, monkeypatch):
    """Reports call the data set by the folder's name, not by the dot."""
    monkeypatch.chdir(write(tmp_path))
    assert read_beir(".").name == tmp_path.name
