"""Tests of koe5_integrations.training.config."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from koe5_integrations.errors import ConfigError
from koe5_integrations.training import TrainingConfig, read_config


@dataclass(frozen=True, kw_only=True)
class NotesConfig(TrainingConfig):
    recipe: ClassVar[str] = "notes"

    data: tuple[str, ...]
    dev_size: float = 1000
    cache: Path | None = None
    negative: Literal["passage: ", "document: "] = "document: "
    dims: tuple[int, ...] = field(default_factory=tuple)


def config(**values: Any) -> NotesConfig:
    return NotesConfig(**{"out": "run", "model": "base", "data": "a.jsonl", **values})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("epochs", 0, "must be above 0"),
        ("epochs", float("nan"), "must be above 0"),
        ("epochs", "many", "must be a number"),
        ("max_steps", 0, "must be at least 1"),
        ("batch_size", 0, "must be at least 1"),
        ("batch_size", 1.5, "must be a whole number"),
        ("batch_size", True, "must be a whole number"),
        ("mini_batch_size", -1, "must be at least 1"),
        ("mini_batch_size", "8", "must be a whole number or nothing"),
        ("learning_rate", 0, "must be above 0"),
        ("learning_rate", float("inf"), "must be above 0"),
        ("warmup_ratio", 1.1, "must be from 0 to 1"),
        ("scheduler", "wavy", "must be one of 'linear', 'cosine', 'constant'"),
        ("weight_decay", -0.1, "must be 0 or above"),
        ("max_grad_norm", 0, "must be above 0"),
        ("max_seq_length", 0, "must be at least 1"),
        ("matryoshka_dims", (64, 128), "the largest first"),
        ("matryoshka_dims", (64, 64), "different sizes"),
        ("matryoshka_dims", (64, 0), "at least 1"),
        ("matryoshka_weights", (1.0,), "must be as many as matryoshka_dims"),
        ("precision", "int8", "must be one of"),
        ("gradient_checkpointing", 1, "must be true or false"),
        ("eval_steps", 0, "must be at least 1"),
        ("save_steps", 0, "must be at least 1"),
        ("keep_checkpoints", 0, "must be at least 1"),
        ("seed", -1, "must be from 0"),
        ("seed", 2**32, "must be from 0"),
        ("model", "", "must be a name of the hub or a folder"),
        ("model", 7, "must be text"),
        ("out", "", "must be a path"),
        ("data", [1], "must be a list, each text"),
        ("negative", "answer: ", "must be one of 'passage: ', 'document: '"),
    ],
)
def test_impossible_values_are_refused(name: str, value: Any, said: str) -> None:
    """Each is named with its value and what it must be."""
    with pytest.raises(ConfigError) as refused:
        config(**{name: value})
    assert str(refused.value).startswith(f"{name}={value!r}")
    assert said in str(refused.value)


def test_weights_of_matryoshka_sizes_are_positive() -> None:
    """A size whose loss counts nothing, or less, is refused."""
    with pytest.raises(ConfigError, match="must each be above 0"):
        config(matryoshka_dims=(32, 16), matryoshka_weights=(1, 0))


def test_values_take_the_types_of_their_fields() -> None:
    """Text becomes a path, one value or a list a tuple, a whole number a float."""
    made = config(out="~/run", data="a.jsonl", cache="vectors", matryoshka_dims=[64, 32], epochs=2)
    assert made.out == Path.home() / "run"
    assert made.cache == Path("vectors")
    assert made.data == ("a.jsonl",)
    assert made.matryoshka_dims == (64, 32)
    assert isinstance(made.epochs, float)


def test_yaml_gives_back_what_was_written(tmp_path: Path) -> None:
    """A configuration survives the file, with every field and the recipe's name in it."""
    made = config(learning_rate=1e-5, cache=Path("벡터"), matryoshka_dims=(64, 32), max_steps=7)
    file = tmp_path / "config.yaml"
    file.write_text(made.to_yaml(), encoding="utf-8")
    assert made.to_yaml().startswith("recipe: notes\n")
    assert read_config(file, NotesConfig) == made


def test_numbers_may_be_written_as_in_python(tmp_path: Path) -> None:
    """YAML takes 1e-5 for text; it is the number all the same."""
    file = tmp_path / "config.yaml"
    file.write_text("learning_rate: 1e-5\nout: run\nmodel: base\ndata: a.jsonl\n")
    assert read_config(file, NotesConfig).learning_rate == 1e-5


def test_what_is_given_beside_the_file_wins(tmp_path: Path) -> None:
    """Overrides go before the file, and the file before the defaults."""
    file = tmp_path / "config.yaml"
    file.write_text("batch_size: 16\nseed: 1\nmodel: base\n")
    read = read_config(file, NotesConfig, out="run", data="a.jsonl", seed=2)
    assert (read.batch_size, read.seed, read.epochs) == (16, 2, 1)
    assert read_config(None, NotesConfig, out="run", data="a.jsonl", model="base").batch_size == 64


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lerning_rate: 1", "lerning_rate= is no setting of notes; did you mean learning_rate?"),
        ("zzz: 1", "zzz= is no setting of notes; there are batch_size, "),
        ("recipe: other", "recipe='other' is another recipe than 'notes'"),
        ("- a list", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("seed: 1", "out= is missing"),
        ("out: run\nmodel: base\ndata: null", "data= is missing"),
        ("out: run\nmodel: base\ndata: a\nseed: x", "seed='x' must be a whole number"),
    ],
)
def test_a_file_that_can_not_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The message names the file, the setting and what is meant."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_config(file, NotesConfig)
    assert str(file) in str(refused.value)
    assert said in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file is a ConfigError, not a traceback of the system's."""
    with pytest.raises(ConfigError, match=r"nothing\.yaml can't be read"):
        read_config(tmp_path / "nothing.yaml", NotesConfig)


def test_unknown_overrides_are_refused() -> None:
    """A setting given beside the file is checked as one in it is."""
    with pytest.raises(ConfigError, match="did you mean batch_size"):
        read_config(None, NotesConfig, batchsize=3)


def test_configurations_load_no_model_library() -> None:
    """Reading a configuration, and importing what trains with it, loads no torch and no pyarrow."""
    code = """
import json, sys
from koe5_integrations.training import TrainingConfig, read_config, train
read_config(None, TrainingConfig, out="run", model="base")
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    heavy = {"torch", "transformers", "sentence_transformers", "pyarrow", "accelerate", "datasets"}
    assert not loaded & heavy
