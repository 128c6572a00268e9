"""Results as mteb keeps them, so that its own tools can read them; mteb is not needed here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from koe5_integrations.evaluation.names import slug
from koe5_integrations.evaluation.results import EvalResult, SystemResult

__all__ = ["mteb_files"]

_NAMES = {"success": "hit_rate"}
_MEASURES = ("ndcg", "map", "recall", "precision", "mrr", "success")
_UNKNOWN = (
    "release_date",
    "n_parameters",
    "memory_usage_mb",
    "max_tokens",
    "embed_dim",
    "license",
    "open_weights",
    "public_training_code",
    "public_training_data",
    "similarity_fn_name",
    "use_instructions",
    "training_datasets",
    "loader",
)
_NO_REVISION = "no_revision_available"


def mteb_files(result: EvalResult, system: SystemResult) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the files in which mteb keeps a model's result, for `mteb.ResultCache(OUT / "mteb")`.

    Layout and fields: mteb's results/task_result.py and cache/result_cache.py.
    """
    scores: dict[str, Any] = {}
    for name, measured in system.measures.items():
        kind, _, k = name.partition("@")
        if kind in _MEASURES:
            scores[f"{_NAMES.get(kind, kind)}_at_{k}"] = measured.value
    if not scores:
        return
    task = re.sub(r"[^\w.-]+", "_", result.dataset)
    model = f"koe5-integrations/{slug(system.spec)}"
    revision = re.sub(r"[^\w.-]+", "-", str(system.facts.get("fingerprint") or _NO_REVISION))
    folder = f"mteb/results/{model.replace('/', '__')}/{revision}"
    main = scores.get("ndcg_at_10", next(iter(scores.values())))
    place = {"hf_subset": "default", "languages": ["kor-Hang"]}
    yield (
        f"{folder}/{task}.json",
        {
            "dataset_revision": result.manifest["data"]["sha256"],
            "task_name": task,
            "mteb_version": None,
            "scores": {"test": [scores | {"main_score": main} | place]},
            "evaluation_time": system.index.seconds,
            "kg_co2_emissions": None,
        },
    )
    known = {"name": model, "revision": revision, "languages": ["kor-Hang"], "framework": []}
    yield f"{folder}/model_meta.json", known | dict.fromkeys(_UNKNOWN)
