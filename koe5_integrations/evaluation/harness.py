"""One evaluation from end to end: index, search, score, compare, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.datasets import DatasetError, RetrievalDataset, load_dataset
from koe5_integrations.evaluation.files import check_folder, write_files
from koe5_integrations.evaluation.manifest import make_manifest, system_key
from koe5_integrations.evaluation.measures import MEASURES, parse_measure
from koe5_integrations.evaluation.metrics import per_query
from koe5_integrations.evaluation.results import Comparison, EvalResult, System, SystemResult
from koe5_integrations.evaluation.running import Measurement, run_system, with_truncation
from koe5_integrations.evaluation.significance import compare, holm, score, smallest_gaps
from koe5_integrations.evaluation.unfinished import Unfinished
from koe5_integrations.evaluation.verdict import headlines, variant_of

__all__ = ["LEXICAL_FLOOR", "evaluate"]

LEXICAL_FLOOR = "bm25:bigram"
"""The system every report has, unless told otherwise: what no embedding may fall below."""

TRUNCATION = "truncation"
"""The ablation that runs nothing: it counts what the model would not read of each text."""


def evaluate(
    dataset: str | PathLike[str] | RetrievalDataset,
    systems: str | System | Any | Sequence[str | System | Any] | Mapping[str, Any],
    *,
    measures: Sequence[str] | None = None,
    top_k: int = 100,
    lexical_floor: bool = True,
    ablations: str | Sequence[str] = (),
    out: str | PathLike[str] | None = None,
    data_dir: str | PathLike[str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    encoder_options: Mapping[str, Any] | None = None,
    latency_queries: int = 50,
    progress: bool = False,
    command: str | None = None,
) -> EvalResult:
    """Measure retrieval systems on a data set, and what their differences can bear.

    Args:
        dataset: a name, a folder, or a RetrievalDataset (see
            :mod:`koe5_integrations.evaluation.datasets`).
        systems: one or several of: a spec (``bm25:bigram``, ``dense:koe5-mini``,
            ``hybrid:bm25:bigram+dense:koe5-mini``, ``python:module:attribute``), a KoE5Encoder, a
            LangChain or LlamaIndex retriever, a System. Or a mapping of them by a name of your
            own.
        measures: such as ``ndcg@10``; None is all of :data:`MEASURES` that ``top_k`` allows.
        top_k: documents retrieved per query.
        lexical_floor: measure :data:`LEXICAL_FLOOR` too.
        ablations: names of :data:`~koe5_integrations.evaluation.ablations.ABLATIONS`, which run
            each system again under a change, or ``truncation``, which counts what its model
            would not read. Every variant is compared with its own system.
        out: folder for the results (see :mod:`koe5_integrations.evaluation.files`); None writes
            nothing. An interrupted evaluation into the same folder goes on where it was.
        data_dir: folder of data sets that are not shipped.
        cache_dir: folder of vectors kept between evaluations; None keeps none.
        encoder_options: arguments of every KoE5Encoder made from a spec, such as ``device``.
        latency_queries: how many queries are asked alone to time them; 0 for none.
        progress: draw progress bars on stderr.
        command: the command line, for the manifest.

    Raises:
        DatasetError: the data can't be read, or don't fit together.
        ConfigError: a spec, measure or option is impossible; raised before anything is run.
        MissingExtraError: a system needs a package that is not installed.
    """
    folder = Path(out) if out is not None else None
    if folder is not None:
        check_folder(folder)
    chosen = _chosen_measures(measures, top_k)
    if latency_queries < 0:
        raise ConfigError(f"latency_queries={latency_queries!r} must be 0 or more")
    ablations = [ablations] if isinstance(ablations, str) else list(ablations)
    options = dict(encoder_options or {}) | {"cache_dir": cache_dir, "show_progress": progress}
    plan = _planned(_ready(systems, lexical_floor, options), ablations)
    data = _data(dataset, data_dir)
    settings = {
        "measures": list(chosen),
        "top_k": top_k,
        "lexical_floor": lexical_floor,
        "ablations": list(ablations),
        "latency_queries": latency_queries,
    }
    manifest = make_manifest(data, settings, command)
    unfinished = Unfinished(folder)
    results = {}
    for system, timed in plan:
        asked = [top_k, latency_queries if timed else None, TRUNCATION in ablations]
        key = system_key(manifest, system.spec, dict(system.facts()), asked)
        measured = unfinished.find(key)
        if measured is None:
            count = latency_queries if timed else None
            measured = run_system(system, data, top_k, count, progress=progress)
            if timed and TRUNCATION in ablations:
                measured = with_truncation(measured, system, data)
            unfinished.keep(key, measured)
        results[system.spec] = _score(system.spec, measured, data, chosen)
    compared = [name for name in headlines(chosen) if parse_measure(name).is_mean]
    mains = {system.spec: results[system.spec] for system, timed in plan if timed}
    result = EvalResult(
        dataset=data.name,
        systems=results,
        comparisons=[*compare(mains, compared), *_variants_compared(results, compared)],
        smallest_gap=smallest_gaps(mains, compared),
        manifest=manifest
        | {"systems": {spec: dict(found.facts) for spec, found in results.items()}},
    )
    if folder is not None:
        write_files(result, data, folder)
        unfinished.forget()
    return result


def _data(
    dataset: str | PathLike[str] | RetrievalDataset, data_dir: str | PathLike[str] | None
) -> RetrievalDataset:
    if not isinstance(dataset, RetrievalDataset):
        name = dataset if isinstance(dataset, str) else Path(dataset)
        return load_dataset(name, data_dir=None if data_dir is None else Path(data_dir))
    if not dataset.qrels:
        raise DatasetError(f"{dataset.name} judges nothing: its qrels are empty")
    unasked = [query_id for query_id in dataset.qrels if query_id not in dataset.queries]
    if unasked:
        raise DatasetError(
            f"{dataset.name}: qrels[{unasked[0]!r}] judges a query that queries has not; "
            "RetrievalDataset.from_dicts checks a data set as it is made"
        )
    return dataset


def _ready(systems: Any, lexical_floor: bool, options: Mapping[str, Any]) -> list[System]:
    from koe5_integrations.evaluation.systems.specs import as_system

    ready: list[System] = []
    if isinstance(systems, Mapping):
        for spec, thing in systems.items():
            ready.append(as_system(thing, **options))
            ready[-1].spec = spec
    else:
        several = isinstance(systems, Sequence) and not isinstance(systems, str)
        ready = [as_system(thing, **options) for thing in (systems if several else [systems])]
    specs = [system.spec for system in ready]
    for spec in specs:
        if specs.count(spec) > 1:
            raise ConfigError(
                f"two systems are called {spec!r}; give a dict of systems by a name of your own"
            )
    if lexical_floor and LEXICAL_FLOOR not in specs:
        ready.append(as_system(LEXICAL_FLOOR))
    if not ready:
        raise ConfigError("systems=[] evaluates nothing; give one, such as 'dense:koe5-mini'")
    return ready


def _planned(systems: Sequence[System], ablations: Sequence[str]) -> list[tuple[System, bool]]:
    """Return what to run, each system before its variants, and whether it is to be timed."""
    from koe5_integrations.evaluation.ablations import ABLATIONS, ablate

    for name in ablations:
        if name not in (*ABLATIONS, TRUNCATION):
            known = ", ".join((*ABLATIONS, TRUNCATION))
            raise ConfigError(f"ablation {name!r} is unknown; there is {known}")
    plan: list[tuple[System, bool]] = []
    for system in systems:
        variants = ablate(system, [name for name in ablations if name != TRUNCATION])
        plan += [(system, True), *((variant, False) for variant in variants)]
    return plan


def _chosen_measures(measures: Sequence[str] | None, top_k: int) -> tuple[str, ...]:
    if top_k < 1:
        raise ConfigError(f"top_k={top_k!r} must be at least 1")
    if measures is None:
        return tuple(name for name in MEASURES if parse_measure(name).k <= top_k)
    if isinstance(measures, str):
        measures = [measures]
    chosen = [parse_measure(name) for name in measures]
    if not chosen:
        raise ConfigError("measures=() measures nothing; name some, such as 'ndcg@10'")
    deepest = max(chosen, key=lambda measure: measure.k)
    if deepest.k > top_k:
        raise ConfigError(
            f"measure {str(deepest)!r} looks at {deepest.k} documents, but top_k={top_k!r} "
            "retrieves fewer: retrieve more, or measure less"
        )
    return tuple(dict.fromkeys(map(str, chosen)))


def _score(
    spec: str, measured: Measurement, data: RetrievalDataset, measures: Sequence[str]
) -> SystemResult:
    ranked = {query_id: [hit.doc_id for hit in hits] for query_id, hits in measured.run.items()}
    return SystemResult(
        spec=spec,
        measures=score(data.qrels, measured.run, measures),
        per_query=per_query(data.qrels, ranked, measures),
        run=measured.run,
        index=measured.index,
        latencies=measured.latencies,
        queries_per_second=measured.queries_per_second,
        facts=measured.facts,
        warnings=measured.warnings,
    )


def _variants_compared(
    results: Mapping[str, SystemResult], measures: Sequence[str]
) -> list[Comparison]:
    """Hold each variant against its own system only; Holm's correction over these, per measure."""
    found: list[Comparison] = []
    for measure in measures:
        pairs = [
            compare([results[base], results[spec]], [measure])[0]
            for spec in results
            if (base := variant_of(spec, results)) is not None
        ]
        corrected = holm([pair.p_value for pair in pairs])
        found += [replace(pair, p_holm=p) for pair, p in zip(pairs, corrected, strict=True)]
    return found
