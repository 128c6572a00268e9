from pathlib import Path

import numpy as np
import pytest

import koe5_integrations
from koe5_integrations.evaluation.datasets import DatasetError
from koe5_integrations.training.score import main, spearman
from koe5_integrations.training.testsets import korsts_test, protected_texts, read_korsts

MODEL = Path(koe5_integrations.__file__).parent / "models" / "koe5-mini"
HEADER = "genre\tfilename\tyear\tid\tscore\tsentence1\tsentence2\n"


def write_korsts(data_dir, *lines):
    (data_dir / "korsts").mkdir()
    file = data_dir / "korsts" / "sts-test.tsv"
    file.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_spearman_by_hand():
    """Without ties it is 1 - 6 sum(d^2) / (n (n^2 - 1)); a reversed order gives -1."""
    assert spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_spearman_of_ties_uses_mean_ranks():
    """Tied values share their mean rank, as scipy's do."""
    assert spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(np.sqrt(3) / 2)


def test_quotation_marks_in_korsts_mean_nothing(tmp_path):
    """A sentence that opens a quotation without closing it is one field of one line."""
    file = write_korsts(tmp_path, 'g\tf\ty\t1\t4.5\t"안녕\t하세요', "g\tf\ty\t2\t0\t가\t나")
    assert read_korsts(file).first == ['"안녕', "가"]
    assert korsts_test(tmp_path).scores == [4.5, 0]


@pytest.mark.parametrize("line", ["g\tf\ty\t1\t4.5\t가", "g\tf\ty\t1\tx\t가\t나"])
def test_bad_korsts_line_is_named(tmp_path, line):
    """A line without a number or a second sentence raises with file and line."""
    with pytest.raises(DatasetError, match=r"sts-test\.tsv, line 2"):
        read_korsts(write_korsts(tmp_path, line))


def test_absent_sets_are_passed_over(tmp_path):
    """A folder without test sets leaves the shipped one, and no KorSTS."""
    assert korsts_test(tmp_path) is None
    assert protected_texts(tmp_path) == protected_texts(None)


def test_protected_texts_hold_every_sentence(tmp_path):
    """KorSTS's sentences are protected beside the shipped set's questions and answers."""
    write_korsts(tmp_path, "g\tf\ty\t1\t4.5\t가\t나")
    assert protected_texts(tmp_path) - protected_texts(None) == {"가", "나"}


def test_the_command_prints_a_table(tmp_path, capsys):
    """The command prints the shipped set's scores and KorSTS with and without the prefix."""
    write_korsts(tmp_path, *(f"g\tf\ty\t{n}\t{n}\t나무 {n}\t나무 {9 - n}" for n in range(5)))
    main([str(MODEL), f"--data-dir={tmp_path}"])
    out = capsys.readouterr().out
    assert "| python_faq_ko | 0." in out
    assert "| no prefix |" in out
    assert "| `query: ` on both sides |" in out
