"""A benchmark as a whole, on small models: structure and plausibility, never speed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import psutil
import pytest
from exports import exported

from koe5_integrations.bench import BenchResult, Configuration, Waits, run_bench
from koe5_integrations.bench.steps import Plan
from koe5_integrations.bench.turns import Turns
from koe5_integrations.errors import ConfigError, UnknownModelError

SMALL: dict[str, Any] = {
    "lengths": (16, 64),
    "batch_tokens": (256,),
    "callers": (1, 3),
    "seconds": 0.02,
    "rounds": 2,
}


@pytest.fixture(scope="module")
def result(static_model: Path) -> BenchResult:
    """One configuration that runs and one that can't."""
    return run_bench(static_model, backends=["onnx", "static", "static"], **SMALL)


def test_every_measurement_is_there(result: BenchResult) -> None:
    """Each length in each batch, each number of callers, as often as there are rounds."""
    (each,) = result.measured
    assert each.configuration == Configuration("static")
    points = [(point.length, point.batch_tokens) for point in each.throughput]
    assert points == [(16, None), (16, 256), (64, None), (64, 256)]
    assert [point.callers for point in each.callers] == [1, 3]
    assert {len(point.rounds) for point in (*each.throughput, *each.callers)} == {2}
    assert len(each.query.rounds) == len(each.query_during_bulk.rounds) == 2


def test_figures_are_plausible(result: BenchResult) -> None:
    """Positive, finite, percentiles in order, more memory at the peak than before."""
    (each,) = result.measured
    rates = [rate for point in (*each.throughput, *each.callers) for rate in point.rounds]
    assert all(rate > 0 and math.isfinite(rate) for rate in rates)
    for waits in (each.query, each.query_during_bulk):
        assert 0 < waits.p50 <= waits.p95 <= waits.p99
    assert all(0 < point.p50 <= point.p95 for point in each.callers)
    assert each.query.calls >= 10
    assert 0 < each.memory.resident <= each.memory.peak
    assert each.memory.device_peak is None
    assert (each.device, each.batch_tokens) == ("cpu", 8192)
    assert each.load_seconds > 0
    assert each.first_query_seconds > 0
    for point in each.throughput:
        assert 0.8 * point.length < point.tokens <= point.length
        assert point.tokens_per_second == pytest.approx(point.texts_per_second * point.tokens)


def test_fp32_is_its_own_reference(result: BenchResult) -> None:
    """The vectors that others are held against have cosine 1 with themselves."""
    fidelity = result.measured[0].fidelity
    assert fidelity is not None
    assert fidelity.min == pytest.approx(1, abs=1e-6)
    assert (fidelity.texts, fidelity.reference) == (100, "static")


def test_a_configuration_that_fails_does_not_stop_the_rest(result: BenchResult) -> None:
    """It is reported with the reason its user can act on."""
    (failed,) = result.failed
    assert failed.configuration == Configuration("onnx")
    assert "use backend='static'" in failed.reason
    assert result.recommendation.bulk is not None
    assert result.recommendation.bulk.configuration == Configuration("static")


def test_what_was_measured_is_written_down(result: BenchResult, static_model: Path) -> None:
    """Model, machine, versions and settings are those of this run."""
    assert result.model["model"] == str(static_model)
    assert len(result.model["fingerprint"]) == 32
    assert result.machine["cores"] >= 1
    assert result.machine["memory"] > 0
    assert {"python", "numpy", "tokenizers", "koe5-integrations"} <= set(result.versions)
    assert result.settings["rounds"] == 2
    assert result.settings["lengths"] == (16, 64)


def test_no_process_is_left(result: BenchResult) -> None:
    """All that was started has ended."""
    assert result.measured
    assert psutil.Process().children(recursive=True) == []


def test_reduced_precision_is_held_against_fp32(
    xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without fp32 among those asked for, it is run for its vectors; lengths fit the model."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so small a model gains nothing from more
    result = run_bench(
        xlm_roberta,
        backends=["torch:bf16"],
        lengths=(32, 512),
        callers=(2,),
        seconds=0.01,
        rounds=1,
        quick=True,
        encoder_options={"device": "cpu"},
    )
    (each,) = result.measured
    assert each.fidelity is not None
    assert each.fidelity.reference == "torch fp32"
    assert 0.99 < each.fidelity.mean < 1
    assert each.fidelity.min <= each.fidelity.mean
    assert [point.length for point in each.throughput] == [32, 64]
    assert any("reads 64 tokens at most" in note for note in result.notes)


def test_an_export_is_measured_on_its_own() -> None:
    """A folder written by ``koe5 export`` needs no torch and has its engine recommended."""
    pytest.importorskip("onnxruntime")
    result = run_bench(
        exported("onnx"), lengths=(32,), callers=(2,), seconds=0.01, rounds=1, quick=True
    )
    assert [each.configuration.name for each in result.measured] == ["onnx fp32"]
    assert result.recommendation.query is not None
    assert "backend='onnx'" in result.recommendation.query.code


def turns(static_model: Path, folder: Path) -> Turns:
    return Turns({"model": str(static_model)}, Plan((16,), (), (1,), 0.01, 1), folder)


def test_short_memory_means_one_after_another(static_model: Path, tmp_path: Path) -> None:
    """Models that don't fit together run alone, and the reader is told."""
    half = psutil.virtual_memory().available // 2
    sizes = {Configuration("static"): half, Configuration("auto"): half}
    groups = turns(static_model, tmp_path)._groups(sizes)
    assert groups == [[Configuration("static")], [Configuration("auto")]]
    assert turns(static_model, tmp_path)._groups(dict.fromkeys(sizes, 1)) == [list(sizes)]


def test_what_can_not_fit_is_not_tried(static_model: Path, tmp_path: Path) -> None:
    """Weights larger than the free memory are refused before the system has to kill anything."""
    run = turns(static_model, tmp_path)
    assert run.run({Configuration("static"): 10**15}) == []
    assert "weights alone are 1000000.0 GB" in run.failed[0].reason


def test_percentiles_are_of_all_rounds() -> None:
    """A slow round is part of the tail, not averaged away."""
    waits = Waits(((1.0,) * 90, (5.0,) * 10))
    assert (waits.calls, waits.p50, waits.p95, waits.p99) == (100, 1.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"lengths": ()}, "lengths="),
        ({"lengths": (0,)}, "lengths=0"),
        ({"callers": (True,)}, "callers=True"),
        ({"batch_tokens": (-1,)}, "batch_tokens=-1"),
        ({"seconds": 0}, "seconds=0"),
        ({"rounds": 0}, "rounds=0"),
        ({"backends": ["jax"]}, "'jax'"),
        ({"encoder_options": {"precision": "bf16"}}, "precision= can't be given"),
        ({"encoder_options": {"no_such": 1}}, "no_such= is no option"),
    ],
)
def test_impossible_arguments_are_refused(wrong: dict[str, Any], named: str) -> None:
    """What can't be measured is named before anything is loaded."""
    with pytest.raises(ConfigError, match=named):
        run_bench("koe5-mini", **wrong)


def test_an_unknown_model_is_the_encoders_error() -> None:
    """A name without a profile is refused as the encoder refuses it."""
    with pytest.raises(UnknownModelError, match="no/such-model"):
        run_bench("no/such-model")
