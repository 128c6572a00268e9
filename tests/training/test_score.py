from pathlib import Path

import pytest

import koe5_integrations
from koe5_integrations.errors import DatasetError
from koe5_integrations.training.score import main
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


def test_the_command_prints_a_table(tmp_path, capsys):
    """The command prints the shipped set's scores and KorSTS with and without the prefix."""
    write_korsts(tmp_path, *(f"g\tf\ty\t{n}\t{n}\t나무 {n}\t나무 {9 - n}" for n in range(5)))
    main([str(MODEL), f"--data-dir={tmp_path}"])
    out = capsys.readouterr().out
    assert "| python_faq_ko | 0." in out
    assert "| no prefix |" in out
    assert "| `query: ` on both sides |" in out


def test_a_mistyped_data_folder_is_refused(tmp_path):
    """A folder that isn't there raises, rather than leaving its test sets unprotected."""
    with pytest.raises(DatasetError, match="nope is not a folder"):
        protected_texts(tmp_path / "nope")
