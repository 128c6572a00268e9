from pathlib import Path

import pytest

import koe5_integrations
from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, DatasetError, EncodingError
from koe5_integrations.evaluation import evaluate
from koe5_integrations.evaluation.datasets import load_dataset
from koe5_integrations.evaluation.systems.bm25 import BM25System
from koe5_integrations.evaluation.systems.dense import DenseSystem
from koe5_integrations.evaluation.systems.hybrid import HybridSystem
from koe5_integrations.training.score import main, score_retrieval
from koe5_integrations.training.speed import measure_speed
from koe5_integrations.training.testsets import korsts_test, protected_texts

MODEL = Path(koe5_integrations.__file__).parent / "models" / "koe5-mini"
HEADER = "genre\tfilename\tyear\tid\tscore\tsentence1\tsentence2\n"


def write_korsts(data_dir, *lines):
    (data_dir / "korsts").mkdir()
    file = data_dir / "korsts" / "sts-test.tsv"
    file.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_absent_sets_are_passed_over(tmp_path):
    """A folder without test sets leaves the shipped one, and no KorSTS."""
    assert korsts_test(tmp_path) is None
    assert protected_texts(tmp_path) == protected_texts(None)


def test_protected_texts_hold_every_sentence(tmp_path):
    """KorSTS's sentences are protected beside the shipped set's questions and answers."""
    write_korsts(tmp_path, "g\tf\ty\t1\t4.5\t가\t나")
    assert protected_texts(tmp_path) - protected_texts(None) == {"가", "나"}


def rows(markdown):
    """Return the cells of each row by its first cell; of rows that begin alike, all cells."""
    found = {}
    for line in markdown.splitlines():
        if line.startswith("| "):
            key, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found.setdefault(key, []).extend(cells)
    return found


def test_the_command_prints_tables(tmp_path, capsys):
    """The command prints the shipped sets' scores and KorSTS with and without the prefix."""
    pytest.importorskip("bm25s", reason="the model is compared with BM25")
    write_korsts(tmp_path, *(f"g\tf\ty\t{n}\t{n}\t나무 {n}\t나무 {9 - n}" for n in range(5)))
    main([str(MODEL), f"--data-dir={tmp_path}", "--speed-runs=0"])
    found = rows(capsys.readouterr().out)
    assert found["set"][1] == "koe5-mini nDCG@10"
    for name, questions in (("python_faq_ko", 135), ("belebele_ko", 900), ("all questions", 1035)):
        n, dense, _, lexical, _, hybrid, _, over_dense, over_lexical = found[name]
        assert int(n) == questions
        for other, less in ((dense, over_dense), (lexical, over_lexical)):
            difference, p = less.rstrip(")").split(" (")
            assert float(difference) == pytest.approx(float(hybrid) - float(other), abs=2e-4)
            assert 0 < float(p) <= 1
    assert {"no prefix", "`query: ` on both sides"} <= set(found)
    dense = score_retrieval(KoE5Encoder(MODEL), load_dataset("python_faq_ko"))
    assert found["python_faq_ko"][1:3] == [f"{dense.ndcg_at_10:.4f}", f"{dense.recall_at_10:.4f}"]


def test_bm25_and_the_hybrid_are_those_of_an_evaluation(tmp_path, capsys):
    """The columns beside the model's are what the evaluation measures of the same systems."""
    pytest.importorskip("bm25s", reason="the model is compared with BM25")
    main([str(MODEL), "--speed-runs=0"])
    found = rows(capsys.readouterr().out)["python_faq_ko"]
    lexical = BM25System()
    hybrid = HybridSystem([lexical, DenseSystem(KoE5Encoder(MODEL))], depth=50)
    result = evaluate("python_faq_ko", [lexical, hybrid], top_k=10, latency_queries=0)
    for system, cell in ((lexical, found[3]), (hybrid, found[5])):
        measured = result.systems[system.spec].measures["ndcg@10"].value
        assert cell == f"{measured:.4f}"


def test_speed_is_that_of_processes_of_their_own():
    """A process says how long it took to load, and how many short and long passages it embeds."""
    speed = measure_speed(str(MODEL), 1)
    assert speed.load_s > 0
    short, long = sorted(speed.passages_per_s)
    assert 40 <= short < 60 < 600 < long < 800
    assert speed.passages_per_s[short] > speed.passages_per_s[long] > 0
    with pytest.raises(EncodingError, match="nowhere"):
        measure_speed("/nowhere", 1)


def test_an_impossible_number_of_runs_is_refused():
    """A negative number of processes is refused before anything is loaded."""
    with pytest.raises(ConfigError, match="speed_runs=-1"):
        main(["/nowhere", "--speed-runs=-1"])


def test_a_mistyped_data_folder_is_refused(tmp_path):
    """A folder that isn't there raises, rather than leaving its test sets unprotected."""
    with pytest.raises(DatasetError, match="nope is not a folder"):
        protected_texts(tmp_path / "nope")
