"""A model's export from its name to a folder that is complete, proven, or not there at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from koe5_integrations.backends.files import read_json
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.pick import EngineChoice
from koe5_integrations.errors import ConfigError, ExportError, MissingExtraError
from koe5_integrations.exporting.fidelity import Fidelity, embed_samples, judge, take_samples
from koe5_integrations.exporting.place import check_room, put_in_place, staged, target_folder
from koe5_integrations.exports import Engine, Export, ExportPrecision
from koe5_integrations.handle import ModelHandle
from koe5_integrations.options import EncoderOptions, check_options, model_argument
from koe5_integrations.profiles import BUNDLED_MODEL, DEFAULT_MODEL, profile_for

__all__ = ["FLOOR", "Exported", "export_model"]

FLOOR: dict[ExportPrecision, float] = {"fp32": 0.9999, "int8": 0.99}
"""Least cosine to fp32 that an export is kept with: of every text, in int8 of the mean."""

_REPORT = "fidelity.json"


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Attributes:
        folder: where it lies; ``KoE5Encoder(folder)`` opens it.
        export: its manifest.
        fidelity: what its vectors lost.
    """

    folder: Path
    export: Export
    fidelity: Fidelity


def export_model(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    to: Engine,
    int8: bool = False,
    output: str | os.PathLike[str] | None = None,
    min_cosine: float | None = None,
    keep_anyway: bool = False,
    sample: int = 64,
    revision: str | None = None,
    profile: str | None = None,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
    on_step: Callable[[str], None] = lambda step: None,
    on_fidelity: Callable[[Fidelity], None] = lambda fidelity: None,
    show_progress: bool = False,
) -> Exported:
    """Write a model as a graph that runs without torch, and measure what its vectors lost.

    The folder appears when all is done; whatever goes wrong before leaves nothing of it.

    Args:
        model: as for :class:`~koe5_integrations.KoE5Encoder`; any transformer of
            sentence-transformers that runs on transformers' own code.
        to: ``onnx`` or ``openvino``.
        int8: weights in 8 bits, for CPUs: smaller, faster, not exact.
        output: a folder that is empty or not there; None is a place where encoders of the model
            find it.
        min_cosine: least cosine to fp32, of the mean in int8 and of every text in fp32, that the
            export is kept with; None is 0.99 in int8 and 0.9999 in fp32.
        keep_anyway: keep it whatever it lost.
        sample: questions of each shipped set on which that is measured, with their passages.
        revision: as the encoder's.
        profile: as the encoder's.
        query_prompt: as the encoder's.
        passage_prompt: as the encoder's.
        cache_folder: as the encoder's.
        local_files_only: as the encoder's.
        on_step: told what is done next.
        on_fidelity: told what was measured, before it is decided whether the export is kept.
        show_progress: draw progress bars on stderr.

    Raises:
        ConfigError: an argument has an impossible value.
        UnknownModelError: a hub name whose prompts are not known and not given.
        MissingExtraError: what exports, or the engine, is not installed.
        ModelLoadError: the model can't be had or loaded.
        ExportError: it can't be exported, there is no room for it, or it lost too much.
    """
    if to not in get_args(Engine):
        raise ConfigError(f"to={to!r} must be one of {', '.join(map(repr, get_args(Engine)))}")
    if sample < 1:
        raise ConfigError(f"sample={sample!r} must be at least 1")
    precision: ExportPrecision = "int8" if int8 else "fp32"
    floor = FLOOR[precision] if min_cosine is None else min_cosine
    if math.isnan(floor):
        raise ConfigError("min_cosine=nan can't be compared with; give a number such as 0.99")
    options = EncoderOptions(
        revision=revision,
        cache_folder=cache_folder,
        local_files_only=local_files_only,
        max_seq_length=None,
        truncate_dim=None,
    )
    check_options(options)
    name, is_folder = model_argument(model)
    used_as = profile_for(
        name,
        is_folder=is_folder,
        profile=profile,
        query_prompt=query_prompt,
        passage_prompt=passage_prompt,
    )
    if name == BUNDLED_MODEL:
        raise ExportError(f"{BUNDLED_MODEL} needs no export: it runs without torch as it is")
    _check_engine(to)
    # Needs the extra; what is wrong with the arguments was said without it.
    from koe5_integrations.exporting.write import write_export

    source = ModelHandle(name, is_folder, used_as, options).folder
    _check_source(source)
    target = target_folder(output, source, to, precision)
    check_room(target, source, to, precision)
    samples = take_samples(sample)
    # A bare folder is exported with the profile's pooling, and then says so itself.
    pooled = replace(source, pooling=source.pooling or used_as.pooling)
    with staged(target) as staging:
        on_step("embedding a sample with torch in fp32")
        expected = embed_samples(
            samples,
            pooled,
            EngineChoice("torch", "fp32", "cpu"),
            profile=used_as,
            show_progress=show_progress,
        )
        on_step(f"exporting to {to} in {precision}")
        export = write_export(
            source, staging, engine=to, precision=precision, model=name, profile=used_as
        )
        on_step(f"embedding the sample with {to} in {precision}")
        choice = EngineChoice(to, precision, "cpu", staging / export.graph)
        got = embed_samples(samples, pooled, choice, profile=used_as, show_progress=show_progress)
        fidelity = judge(samples, expected, got)
        on_fidelity(fidelity)
        _check_fidelity(fidelity, precision, floor, keep_anyway)
        export = replace(export, fidelity=fidelity.as_floats())
        report = json.dumps({**export.fidelity, "sample": sample, "floor": floor}, indent=2)
        (staging / _REPORT).write_text(report + "\n", encoding="utf-8")
        export.write(staging)
        put_in_place(staging, target, export)
    return Exported(target, export, fidelity)


def _check_engine(engine: Engine) -> None:
    try:
        if engine == "openvino":
            import openvino  # noqa: F401 - is it there?
        else:
            import onnxruntime  # noqa: F401 - is it there?
    except ImportError as error:
        raise MissingExtraError(f"to={engine!r}", engine) from error


def _check_source(source: ModelFolder) -> None:
    if source.export is not None:
        raise ExportError(
            f"{source.path} is an export already; export {source.export.model!r}, which it was "
            "made from"
        )
    if source.kind == "static":
        raise ExportError(
            f"{source.path} needs no export: static embeddings run without torch as they are"
        )
    from transformers import CONFIG_MAPPING

    config = read_json(source.folders[0] / "config.json")
    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING:
        own = " (its own code, which is never run)" if "auto_map" in config else ""
        raise ExportError(
            f"{source.path} is a {kind!r}, which transformers doesn't know{own}: export a copy "
            "converted to an architecture that it has"
        )


def _check_fidelity(
    fidelity: Fidelity, precision: ExportPrecision, floor: float, keep_anyway: bool
) -> None:
    which = "mean" if precision == "int8" else "min"
    reached = fidelity.mean_cosine if precision == "int8" else fidelity.min_cosine
    # Written so that NaN is refused.
    if not reached >= floor and not keep_anyway:
        raise ExportError(
            f"the {which} cosine to fp32 is {reached:.6f}, below the floor of {floor:g}, so the "
            "export was not kept: lower it with min_cosine=, or choose keep_anyway="
        )
