import builtins

import numpy as np
import pytest

from koe5_integrations.errors import DatasetError
from koe5_integrations.training.pairs import Pairs, overlapping, read_pairs

parquet = pytest.importorskip("pyarrow.parquet", reason="training pairs are Parquet")
pyarrow = pytest.importorskip("pyarrow", reason="training pairs are Parquet")


def test_reads_pairs_and_ignores_other_columns(tmp_path):
    """The three columns are read, in order, and others are left alone."""
    columns = {"source": ["s"], "query": ["무엇?"], "passage": ["이것."], "negative": [None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "pairs.parquet")
    assert read_pairs(tmp_path / "pairs.parquet") == Pairs(["s"], ["무엇?"], ["이것."])


def test_missing_file_names_the_option(tmp_path):
    """A file that isn't there raises an error naming it and the option."""
    with pytest.raises(DatasetError, match=r"nope\.parquet.*--pairs"):
        read_pairs(tmp_path / "nope.parquet")


def test_a_file_of_another_kind_is_refused(tmp_path):
    """A file that is no Parquet raises an error naming it."""
    (tmp_path / "p.parquet").write_text("query,passage")
    with pytest.raises(DatasetError, match=r"p\.parquet is not a Parquet file"):
        read_pairs(tmp_path / "p.parquet")


def test_missing_column_is_named(tmp_path):
    """A file without a column raises an error naming it."""
    parquet.write_table(pyarrow.table({"query": ["a"], "text": ["b"]}), tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="no column 'source', 'passage'"):
        read_pairs(tmp_path / "p.parquet")


def test_file_without_pairs_is_refused(tmp_path):
    """A file with columns and no rows raises instead of training on nothing."""
    empty = pyarrow.table({name: pyarrow.array([], "string") for name in Pairs.__annotations__})
    empty = empty.rename_columns(["source", "query", "passage"])
    parquet.write_table(empty, tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="holds no pairs"):
        read_pairs(tmp_path / "p.parquet")


def test_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    """Without pyarrow the error holds the line that installs it."""
    real = builtins.__import__

    def without_pyarrow(name, *rest, **named):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **named)

    (tmp_path / "p.parquet").write_bytes(b"")
    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(ImportError, match=r'pip install "koe5-integrations\[train\]"'):
        read_pairs(tmp_path / "p.parquet")


def test_overlap_is_judged_by_letters_and_digits():
    """Case, width, spaces and punctuation don't hide that a test set holds a text."""
    pairs = Pairs(["s"] * 4, ["ＡＢＣ 무엇?", "둘", "셋", "?!"], ["가", "나 다!", "라", "마"])
    np.testing.assert_array_equal(overlapping(pairs, ["abc무엇", "나다", "..."]), [0, 1])
