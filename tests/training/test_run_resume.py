"""Tests of koe5_integrations.training.run: a run that is stopped, and goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("datasets")

from small_recipes import RECIPE, Killing, PairsConfig, small_config

from koe5_integrations.errors import LockedError, TrainingError
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.training import train

RESULT = ("metrics.jsonl", "curves.png", "results.json", "model/model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def killing() -> Iterator[Killing]:
    with Killing() as server:
        yield server


@pytest.fixture(scope="module")
def uninterrupted(folder: Path, killing: Killing) -> dict[str, bytes]:
    config = small_config(folder, out=folder / "uninterrupted")
    assert killing.run(config)
    return result(config)


def result(config: PairsConfig) -> dict[str, bytes]:
    return {name: (config.out / name).read_bytes() for name in RESULT}


def sessions(config: PairsConfig) -> list[int]:
    read = json.loads((config.out / "environment.json").read_text(encoding="utf-8"))
    return [session["after_step"] for session in read["sessions"]]


@pytest.mark.parametrize(
    ("point", "nth", "moment", "after"),
    [
        ("update", 12, "after", 9),  # gradients added, weights not yet changed
        ("saving", 5, "before", 3),  # a checkpoint with weights, without the optimizer
        ("rename", 3, "after", 6),  # in its place, older ones not yet removed
        ("card", 1, "after", 16),  # model written, not yet in its place
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    folder: Path,
    killing: Killing,
    uninterrupted: dict[str, bytes],
    point: str,
    nth: int,
    moment: str,
    after: int,
) -> None:
    """After SIGKILL anywhere, weights, metrics, curves and results are the same, bit for bit."""
    config = small_config(folder, out=folder / f"{point}-{nth}")
    assert not killing.run(config, point=point, nth=nth, moment=moment)
    assert not (config.out / "model").exists()
    assert killing.run(config)
    assert sessions(config) == [0, after]
    assert result(config) == uninterrupted


def test_processes_divide_a_batch_and_one_of_them_writes(folder: Path, killing: Killing) -> None:
    """Two as a launcher starts them do what one does, but for rounding, also after a kill."""
    one, two = (
        small_config(
            folder,
            out=folder / f"of-{processes}",
            ranked=False,
            dropout=0,
            batch_size=6,
            max_steps=8,
        )
        for processes in (1, 2)
    )
    assert killing.run(one)
    assert not killing.run(two, point="complete", nth=2, processes=2)
    assert killing.run(two, processes=2)
    assert sessions(two) == [0, 3]
    expected, found = (
        [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
        for config in (one, two)
    )
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for name in ("step", "loss", "grad_norm", "primary"):
        values = [row[name] for row in found if name in row]
        assert values == pytest.approx([row[name] for row in expected if name in row], rel=1e-3)


class Stop(Exception):
    """Ends a run from outside, as Ctrl-C does."""


def stop(config: PairsConfig, after: int) -> None:
    """Run until an update's row is written."""

    def on_log(row: Mapping[str, Any]) -> None:
        if row["step"] == after and "loss" in row:
            raise Stop

    with pytest.raises(Stop):
        train(config, recipe=RECIPE, on_log=on_log)


@pytest.fixture(scope="module")
def learnt(folder: Path) -> dict[str, bytes]:
    config = small_config(folder, out=folder / "learnt", max_steps=8, learnt_scale=True)
    train(config, recipe=RECIPE)
    return result(config)


@pytest.mark.parametrize(("damaged", "after"), [(False, 6), (True, 4)])
def test_a_stopped_run_goes_on_from_the_last_checkpoint_that_is_whole(
    folder: Path, learnt: dict[str, bytes], damaged: bool, after: int
) -> None:
    """A damaged one is passed over; what the loss itself has learnt is in them too."""
    config = small_config(folder, out=folder / f"stopped-{after}", max_steps=8, learnt_scale=True)
    stop(config, after=7)
    if damaged:
        file = config.out / "checkpoints/checkpoint-6/optimizer.pt"
        file.write_bytes(file.read_bytes()[:-1])
    train(config, recipe=RECIPE)
    assert sessions(config) == [0, after]
    assert result(config) == learnt


@pytest.fixture(scope="module")
def unfinished(folder: Path) -> PairsConfig:
    config = small_config(folder, out=folder / "unfinished", max_steps=8)
    stop(config, after=5)
    return config


def test_other_settings_are_refused(unfinished: PairsConfig) -> None:
    """Each difference is named, and what can be done; what only says how much is kept is none."""
    with pytest.raises(TrainingError) as refused:
        train(replace(unfinished, seed=1, learning_rate=0.5, keep_checkpoints=9), recipe=RECIPE)
    message = str(refused.value)
    assert "learning_rate was 0.003 and is 0.5; seed was 777 and is 1." in message
    assert "keep_checkpoints" not in message
    assert 'resume="never"' in message


def test_other_data_are_refused_before_a_model_is_loaded(unfinished: PairsConfig) -> None:
    """A file that has changed since is named."""
    before = unfinished.data.read_bytes()
    unfinished.data.write_bytes(before + "새\t것\n".encode())
    try:
        with pytest.raises(TrainingError, match=r"pairs\.tsv has changed since"):
            train(unfinished, recipe=_Unloadable())
    finally:
        unfinished.data.write_bytes(before)


def test_data_that_are_read_otherwise_are_refused(unfinished: PairsConfig) -> None:
    """The same files that give other examples are other data."""

    class Fewer(type(RECIPE)):
        def prepare(self, config: Any, model: Any) -> Any:
            prepared = super().prepare(config, model)
            return replace(prepared, files=(replace(prepared.files[0], rows=24),))

    with pytest.raises(TrainingError, match=r"begun with other data: .*'rows': 25.*'rows': 24"):
        train(unfinished, recipe=Fewer())


def test_a_second_process_is_refused(unfinished: PairsConfig) -> None:
    """One at a time trains in a folder."""
    with FolderLock(unfinished.out, "koe5 train"), pytest.raises(LockedError, match="koe5 train"):
        train(unfinished, recipe=RECIPE)


def test_a_run_is_begun_anew_on_demand_but_never_over_a_finished_one(
    folder: Path, tmp_path: Path
) -> None:
    """`resume="never"` replaces what is unfinished, other settings or not."""
    config = small_config(folder, out=tmp_path / "run", max_steps=4)
    stop(config, after=4)
    other = replace(config, seed=1)
    train(other, recipe=RECIPE, resume="never")
    assert sessions(other) == [0]
    with pytest.raises(TrainingError, match="holds a finished run, which is not replaced"):
        train(other, recipe=RECIPE, resume="never")
    with pytest.raises(TrainingError, match="seed was 1 and is 777") as refused:
        train(config, recipe=RECIPE)
    assert "never" not in str(refused.value)


def test_settings_may_change_until_there_is_something_to_lose(folder: Path, tmp_path: Path) -> None:
    """A run without a checkpoint is begun anew without a word."""
    config = small_config(folder, out=tmp_path / "run", max_steps=4)
    stop(config, after=1)
    train(replace(config, batch_size=4), recipe=RECIPE)
    assert sessions(config) == [0]


def test_a_folder_of_something_else_is_left_alone(folder: Path, tmp_path: Path) -> None:
    """Names that a run would write are not overwritten where no run is."""
    (tmp_path / "model").mkdir()
    with pytest.raises(TrainingError, match=r"holds model, but no config\.yaml"):
        train(small_config(folder, out=tmp_path), recipe=_Unloadable())


class _Unloadable:
    name = "pairs"

    def load(self, config: Any) -> Any:
        raise AssertionError("nothing is loaded")

    prepare = load
