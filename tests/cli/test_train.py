"""``koe5 train``: flags, files and defaults, what a run shows, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from recipe_data import write_kornlu
from typer.testing import Result

import koe5_integrations.training as training
from koe5_integrations import KoE5Encoder
from koe5_integrations.cli import app
from koe5_integrations.cli import train as command_line
from koe5_integrations.training import read_config

for needed in ("yaml", "pyarrow", "accelerate", "datasets", "sentence_transformers"):
    pytest.importorskip(needed)

Invoke = Callable[..., Result]
Koe5 = Callable[..., "subprocess.CompletedProcess[str]"]

CONFIGS = {
    "koe5": "KoE5Config",
    "kor-nli": "KorNliConfig",
    "kor-sts": "KorStsConfig",
    "kor-multitask": "KorMultitaskConfig",
    "distill": "DistillConfig",
}
# What has no default: what to train on, and where to write.
NEEDED = {
    "koe5": ["--out", "run"],
    "kor-nli": ["--out", "run", "--data-dir", "KorNLUDatasets"],
    "kor-sts": ["--out", "run", "--data-dir", "KorNLUDatasets"],
    "kor-multitask": ["--out", "run", "--data-dir", "KorNLUDatasets"],
    "distill": ["--out", "run", "--data", "texts.jsonl"],
}
TOPICS = ["문자열", "부동 소수점", "제빵사", "헌법", "서울의 겨울", "파이썬", "기본권", "밀가루"]


def commands() -> Iterator[tuple[str, Any]]:
    group: Any = typer.main.get_command(app)
    recipes = group.commands["train"]
    for name in recipes.list_commands(None):
        yield name, recipes.get_command(None, name)


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixteen questions with their answers; the folder of the test is the current one."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "question": f"{topic} {asked}",
            "answer": f"{topic}에 대한 답은 {number}번 문서에 있습니다.",
        }
        for number, topic in enumerate(TOPICS)
        for asked in ("무엇입니까?", "왜 그렇습니까?")
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "pairs.jsonl"


@pytest.fixture
def short_run(pairs: Path, xlm_roberta: Path) -> list[str | Path]:
    """A run of six updates, with an evaluation and a checkpoint after every second."""
    return [
        *("train", "koe5", "--data", "pairs.jsonl", "--model", xlm_roberta, "--out", "run"),
        *("--max-seq-length", "32", "--batch-size", "4", "--max-steps", "6", "--dev-size", "4"),
        *("--eval-steps", "2", "--learning-rate", "1e-3"),
    ]


def test_every_setting_is_a_flag_with_help() -> None:
    """Each field of each recipe's configuration can be typed, and is explained with its default."""
    for name, command in commands():
        assert [p.name for p in command.params if len(p.help or "") < 6] == []
        if name not in CONFIGS:
            continue
        shown = {p.name: p for p in command.params}
        for field in fields(getattr(training, CONFIGS[name])):
            parameter = shown[field.name]
            assert f"--{field.name.replace('_', '-')}" in parameter.opts
            assert parameter.default is None
            if isinstance(field.default, int | float) and not isinstance(field.default, bool):
                assert parameter.show_default == str(field.default)


def test_help_groups_the_settings(invoke: Invoke) -> None:
    """The recipes are listed, and a recipe's settings stand under headings."""
    listed = invoke("train", "--help").stdout
    assert all(name in listed for name in (*CONFIGS, "mine-negatives"))
    shown = invoke("train", "koe5", "--help").stdout
    headings = ("The recipe", "The updates", "Memory and speed", "Dev set and checkpoints")
    assert all(heading in shown for heading in headings)


def test_help_loads_no_model_library() -> None:
    """The flags are known without torch, pyarrow or a model library."""
    code = (
        "import atexit, sys\n"
        "from koe5_integrations.cli import main\n"
        "heavy = ['torch', 'transformers', 'sentence_transformers', 'pyarrow', 'datasets']\n"
        "atexit.register(lambda: print('LOADED', [m for m in heavy if m in sys.modules]))\n"
        "sys.argv[1:] = ['train', 'koe5', '--help']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("LOADED []\n")


@pytest.mark.parametrize("name", CONFIGS)
def test_print_config_is_every_setting(invoke: Invoke, name: str, tmp_path: Path) -> None:
    """What is printed is the configuration of the defaults, and can be given back."""
    done = invoke("train", name, *NEEDED[name], "--print-config")
    assert done.exit_code == 0, done.stderr
    file = tmp_path / "config.yaml"
    file.write_text(done.stdout, encoding="utf-8")
    config = read_config(file, getattr(training, CONFIGS[name]))
    assert [f.name for f in fields(config) if f"\n{f.name}:" not in done.stdout] == []
    assert config.out == Path("run")
    assert invoke("train", name, "--config", file, "--print-config").stdout == done.stdout


def test_flags_go_before_the_file_and_the_file_before_defaults(
    invoke: Invoke, tmp_path: Path
) -> None:
    """Each setting comes from the nearest place that has it."""
    file = tmp_path / "mine.yaml"
    file.write_text("out: from-file\nbatch_size: 32\nmatryoshka_dims: [64, 32]\n")
    done = invoke(
        *("train", "koe5", "--config", file, "--batch-size", "16", "--data", "a.parquet"),
        *("--data", "b.jsonl", "--skip-bad-rows", "--print-config"),
    )
    config = tmp_path / "merged.yaml"
    config.write_text(done.stdout)
    merged = read_config(config, training.KoE5Config)
    assert (merged.out, merged.batch_size, merged.epochs) == (Path("from-file"), 16, 1)
    assert (merged.data, merged.skip_bad_rows) == (("a.parquet", "b.jsonl"), True)
    assert merged.matryoshka_dims == (64, 32)
    done = invoke(*("train", "koe5", "--config", file, "--matryoshka-dims", "", "--print-config"))
    assert "matryoshka_dims: []" in done.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "--out is missing"),
        (["--out", "run", "--batch-size", "0"], "--batch-size 0 must be at least"),
        (["--out", "run", "--matryoshka-dims", "64,x"], "--matryoshka-dims"),
        (["--out", "run", "--scheduler", "steep"], "steep"),
        (["--config", "typo.yaml"], "did you mean batch_size"),
        (["--out", "run", "--data", "nowhere.parquet"], "nowhere.parquet"),
    ],
)
def test_mistakes_end_with_2_before_a_run_begins(
    invoke: Invoke, pairs: Path, given: list[str], said: str
) -> None:
    """What can't be trained is one message, in the words of the command line."""
    Path("typo.yaml").write_text("out: run\nbatchsize: 3\n")
    done = invoke("train", "koe5", *given)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert not Path("run/config.yaml").exists()


def test_a_mistyped_recipe_finds_its_name(invoke: Invoke) -> None:
    """The nearest recipe is suggested."""
    done = invoke("train", "kor-nil")
    assert done.exit_code == 2
    assert "kor-nli" in done.stderr


def test_a_missing_extra_is_named(koe5: Koe5) -> None:
    """Without what trains, the message is what to install."""
    done = koe5("train", "koe5", "--out", "run", "--print-config", without=("yaml",))
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "koe5-integrations[train]"' in done.stderr


def test_a_run_from_interruption_to_result(
    invoke: Invoke, short_run: list[str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C says what goes on; the same command goes on; a finished run only shows its results."""
    rows: list[int] = []
    told = command_line._Told.row

    def interrupt_at_4(self: Any, row: Any) -> None:
        told(self, row)
        rows.append(row["step"])
        if "primary" in row and row["step"] == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(command_line._Told, "row", interrupt_at_4)
        done = invoke(*short_run)
        assert (done.exit_code, done.stdout) == (130, "")
        assert "run the same command again to go on from the last checkpoint" in done.stderr
        assert "update 2 (epoch 0.67), loss " in done.stderr
        assert not Path("run/model").exists()
        rows.clear()
        patched.setattr(command_line._Told, "row", lambda self, row: rows.append(row["step"]))
        done = invoke(*short_run)
    assert done.exit_code == 0, done.stderr
    assert min(rows) > 2  # nothing is trained again that is in a checkpoint
    assert "dev set, primary metric" in done.stdout
    assert f"the model is {Path('run/model')}" in done.stderr

    done = invoke(*short_run, "--json", "--quiet")
    found = json.loads(done.stdout)
    assert (found["steps"], found["out"], found["model_dir"]) == (6, "run", "run/model")
    assert set(found["metrics"]) == set(found["before"])
    vectors = KoE5Encoder("run/model").encode_queries(["파이썬 무엇입니까?"])
    assert vectors.shape == (1, 32)

    done = invoke(*short_run, "--seed", "1")
    assert done.exit_code == 2
    assert "seed was 777 and is 1" in done.stderr


def test_several_processes_train_one_model(
    tmp_path: Path, xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a launcher a batch is divided, one process writes and one speaks: the seed's table."""
    monkeypatch.chdir(write_kornlu(tmp_path))
    launched = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = ["koe5_integrations", "train", "kor-sts", "--data-dir", ".", "--out", "run"]
    settings = ["--model", str(xlm_roberta), "--max-seq-length", "32", "--max-steps", "2"]
    done = subprocess.run(
        [*launched, "--standalone", "-m", *command, *settings, "--matryoshka-dims", "32,8"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("written to run") == 1
    assert done.stdout.count("dev set, primary metric") == 1
    table = done.stdout[done.stdout.index("cosine_pearson") :].splitlines()
    assert [line[: line.index("dim")].strip() for line in table[1:]] == [
        "KorSTS test, 32",
        "KorSTS test, 8",
    ]
    (session,) = json.loads(Path("run/environment.json").read_text())["sessions"]
    assert session["processes"] == 2


def test_hard_negatives_are_mined(invoke: Invoke, pairs: Path, static_model: Path) -> None:
    """Pairs become triplets as the recipe reads them; counts on stdout, steps on stderr."""
    import pyarrow.parquet as parquet

    command = ["train", "mine-negatives", "--data", "pairs.jsonl", "--out", "triplets.parquet"]
    # Random vectors: nothing is known of how near the right answer is.
    options = ["--model", static_model, "--relative-margin", "0"]
    done = invoke(*command, *options)
    assert done.exit_code == 0, done.stderr
    assert "16, of 16 questions" in done.stdout
    assert "embedding 8 passages and 16 questions" in done.stderr
    rows = parquet.read_table("triplets.parquet").to_pylist()
    assert len(rows) == 16
    answers = {row["positive"] for row in rows}
    assert all(row["negative"] in answers - {row["positive"]} for row in rows)

    done = invoke(*command, *options)
    assert done.exit_code == 2
    assert "triplets.parquet" in done.stderr
    done = invoke(*command, *options, "--replace", "--num-negatives", "2", "--json", "--quiet")
    counts = json.loads(done.stdout)
    assert (counts["pairs"], counts["passages"]) == (16, 8)
    assert done.stderr == ""
    assert parquet.read_schema("triplets.parquet").names == ["query", "positive", "negatives"]
