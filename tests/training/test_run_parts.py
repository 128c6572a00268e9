"""Tests of koe5_integrations.training.run: its parts by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate")

import torch
from small_recipes import PairsConfig

from koe5_integrations.errors import ConfigError, TrainingError
from koe5_integrations.training import Prepared, Task
from koe5_integrations.training.run.arguments import Schedule, training_arguments
from koe5_integrations.training.run.batches import batches_per_epoch, part_sizes
from koe5_integrations.training.run.checkpoints import Checkpoints
from koe5_integrations.training.run.curves import draw_curves
from koe5_integrations.training.run.order import TaskOrder, TurnsSampler


def config(**values: Any) -> PairsConfig:
    return PairsConfig(**{"out": "run", "model": "base", "data": "pairs.tsv", **values})


def task(rows: int, loss: Any = None, **values: Any) -> Task:
    data: Any = range(rows)
    return Task(data, loss or torch.nn.Identity(), **values)


def order(rows: int, size: int) -> TaskOrder:
    def draw(epoch: int) -> Iterator[list[int]]:
        numbers = [(row + epoch) % rows for row in range(rows)]
        return iter([numbers[start : start + size] for start in range(0, rows, size)])

    return TaskOrder(rows, -(-rows // size), draw)


def test_tasks_take_turns_until_the_shortest_ends() -> None:
    """Rows are numbered on from task to task, and an epoch has as many batches as is said."""
    sampler = TurnsSampler([order(5, 2), order(100, 3)])
    batches = list(sampler)
    assert batches == [[0, 1], [5, 6, 7], [2, 3], [8, 9, 10], [4], [11, 12, 13]]
    assert len(sampler) == len(batches)
    sampler.set_epoch(1)
    assert next(iter(sampler)) == [1, 2]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_each_batch(processes: int) -> None:
    """They have equal parts, no row twice, and each has one of the shortest batch too."""
    whole = list(TurnsSampler([order(7, 6)]))
    shares = [
        list(TurnsSampler([order(7, 6)], process=i, processes=processes)) for i in range(processes)
    ]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert {row for part in parts for row in part} <= set(batch)
        assert {len(part) for part in parts} == {max(1, len(batch) // processes)}
        if len(batch) >= processes:
            assert len({row for part in parts for row in part}) == sum(map(len, parts))


def test_only_batches_without_negatives_may_be_incomplete() -> None:
    """Where others in the batch are the negatives, what is left over is left out."""
    assert batches_per_epoch(task(10), 4) == 3
    assert batches_per_epoch(task(10, no_duplicates=True), 4) == 2
    assert batches_per_epoch(task(3, no_duplicates=True), 4) == 1


def test_a_device_takes_what_fits() -> None:
    """Mini-batches are of the configuration, unless the loss has its own; a task has its batch."""

    class Cached(torch.nn.Module):
        mini_batch_size = 2

    tasks = {
        "plain": task(9),
        "small": task(9, batch_size=4),
        "cached": task(9, Cached()),
        "matryoshka": task(9, torch.nn.Sequential(Cached())),
    }
    assert part_sizes(config(batch_size=32, mini_batch_size=8), tasks, devices=2) == {
        "plain": 8,
        "small": 2,
        "cached": 16,
        "matryoshka": 16,
    }
    assert part_sizes(config(batch_size=32), {"plain": tasks["plain"]}, devices=1) == {"plain": 32}


@pytest.mark.parametrize(
    ("values", "devices", "said"),
    [
        ({"batch_size": 10}, 4, "batch_size=10 of pairs can't .* among 4 devices: choose 8 or 12"),
        ({"batch_size": 2}, 4, "choose 4$"),
        ({"batch_size": 10, "mini_batch_size": 4}, 1, "on 1 device: choose batch_size 8 or 12"),
        ({"batch_size": 12, "mini_batch_size": 4}, 2, "on 2 devices: choose batch_size 8 or 16"),
    ],
)
def test_a_batch_that_can_not_be_divided_is_refused(
    values: dict[str, int], devices: int, said: str
) -> None:
    """The nearest sizes that can are named."""
    with pytest.raises(ConfigError, match=said):
        part_sizes(config(**values), {"pairs": task(99)}, devices)


@pytest.mark.parametrize(
    ("rows", "values", "expected"),
    [
        # updates an epoch, of the run, of warm-up, between evaluations, checkpoints and rows
        (640, {"batch_size": 64}, (10, 10, 1, 1, 1, 1)),
        (640, {"batch_size": 64, "epochs": 2.5}, (10, 25, 3, 3, 3, 1)),
        (640, {"batch_size": 64, "max_steps": 7}, (10, 7, 1, 1, 1, 1)),
        (700_000, {"batch_size": 64}, (10938, 10938, 1094, 1000, 1000, 10)),
        (700_000, {"batch_size": 64, "save_steps": 35}, (10938, 10938, 1094, 1000, 35, 5)),
        (700_000, {"batch_size": 64, "warmup_ratio": 0}, (10938, 10938, 0, 1000, 1000, 10)),
    ],
)
def test_the_schedule(rows: int, values: dict[str, Any], expected: tuple[int, ...]) -> None:
    """An evaluation every 1,000 updates or a tenth; rows that end where checkpoints are."""
    made = Schedule.of(config(**values), Prepared({"pairs": task(rows)}), {"pairs": 64})
    found = (made.per_epoch, made.total, made.warmup, made.evaluate, made.save, made.log)
    assert found == expected


def test_nothing_is_reported_to_anyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No integration starts that would send a run's figures elsewhere, and nothing is uploaded."""
    monkeypatch.setenv("WANDB_PROJECT", "elsewhere")
    prepared = Prepared({"pairs": task(64)})
    schedule = Schedule.of(config(), prepared, {"pairs": 8})
    made = training_arguments(config(), prepared, schedule, tmp_path, fresh=True)
    assert made.report_to == []
    assert made.push_to_hub is False


def test_checkpoints_appear_whole_and_old_ones_go(tmp_path: Path) -> None:
    """The latest are kept and the best; one with a file missing or cut short is passed over."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert checkpoints.latest() is None
    for step in (3, 6, 9, 12):
        written = checkpoints.written(step)
        (written / "part").mkdir(parents=True)
        (written / "part" / "weights").write_bytes(b"12345")
        (written / "trainer_state.json").write_text(json.dumps({"best_global_step": 3}))
        checkpoints.complete(step)
    assert checkpoints.steps() == [3, 9, 12]
    assert checkpoints.latest() == 12
    assert checkpoints.best(12) == 3
    (checkpoints.path(12) / "part" / "weights").write_bytes(b"1234")
    assert checkpoints.latest() == 9
    (checkpoints.path(9) / "part" / "weights").unlink()
    assert checkpoints.latest() == 3
    checkpoints.written(15).mkdir()
    checkpoints.clear_after(3)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["checkpoint-3"]
    (checkpoints.path(3) / "part" / "weights").unlink()
    with pytest.raises(TrainingError, match="checkpoint-3, the best of the run, is damaged"):
        checkpoints.best(3)


def test_the_same_rows_give_the_same_picture(tmp_path: Path) -> None:
    """With several tasks and a dev set, or without one."""
    training = [
        {"step": step, "loss": 1 / step, "losses": {"one" if step % 2 else "other": 1 / step}}
        for step in range(1, 9)
    ]
    measured = [{"step": step, "primary": step / 9, "dev": {}} for step in (0, 4, 8)]
    pictures = []
    for rows in (training + measured, training + measured, training):
        draw_curves(rows, tmp_path / "curves.png")
        pictures.append((tmp_path / "curves.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
