"""The steps of a diagnosis: draw, read, compare, say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from koe5_integrations.chroma import stored_fingerprint
from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.ingestion.diagnosis.comparing import Comparison, compare
from koe5_integrations.ingestion.diagnosis.findings import Diagnosis, Severity
from koe5_integrations.ingestion.diagnosis.making import about_making
from koe5_integrations.ingestion.diagnosis.reporting import (
    about_dimensions,
    about_fewer_dimensions,
    about_length,
    about_record,
    about_rows,
    about_scan,
    about_space,
)
from koe5_integrations.ingestion.diagnosis.sampling import (
    Row,
    chance_of_seeing,
    has_text,
    read_rows,
    scan,
)
from koe5_integrations.ingestion.diagnosis.variants import bare_text

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection

__all__ = ["diagnose"]

_SAMPLE = 200
# Reading all texts of as many takes a minute or two.
_MOST_TO_SCAN = 1_000_000
_TWENTIETH = 0.05
_WORST_FIRST: dict[Severity, int] = {"fault": 0, "warning": 1, "note": 2}


def diagnose(
    collection: Collection,
    encoder: KoE5Encoder,
    *,
    sample: int = _SAMPLE,
    seed: int = 0,
    read_all: bool | None = None,
    on_progress: Callable[[str, int], None] = lambda step, n: None,
) -> Diagnosis:
    """Find out how a collection's vectors were made, whoever made it. Nothing is written.

    Args:
        collection: opened with ``embedding_function=None``, which is all that is needed: it is read
            with ``count`` and ``get``.
        encoder: of the model that its vectors should be of.
        sample: rows to look at.
        seed: of their drawing.
        read_all: read all texts to count what is missing and repeated; None does so up to a million
            rows.
        on_progress: told the step (``reading`` or ``embedding``) and how many rows or texts of it
            are done.

    Raises:
        ModelLoadError: the model can't be had.
    """
    configuration: Any = collection.configuration_json
    space = (configuration.get("hnsw") or configuration.get("spann") or {}).get("space") or "l2"
    result = Diagnosis(
        collection=collection.name,
        rows=collection.count(),
        dim=None,
        space=space,
        made_by=_made_by(configuration.get("embedding_function")),
        recorded=stored_fingerprint(collection)[0],
        model=encoder.model,
        fingerprint=encoder.fingerprint.digest,
    )
    result.scanned = result.rows <= _MOST_TO_SCAN if read_all is None else read_all
    scanned = scan(
        collection,
        sample=sample,
        seed=seed,
        texts=result.scanned,
        on_progress=lambda n: on_progress("reading", n),
    )
    findings = [*about_record(result.recorded, encoder), *about_scan(scanned)]
    rows = read_rows(collection, scanned.sampled)
    result.sampled = len(rows)
    if rows:
        result.dim = len(rows[0].vector)
        findings += about_rows(rows, encoder, space)
        norms = np.array([np.linalg.norm(row.vector) for row in rows])
        findings += about_space(space, bool((np.abs(norms - 1) < 1e-2).all()))
        sound = [row for row in rows if has_text(row.text) and _has_direction(row)]
        if result.dim > encoder.dim:
            findings.append(about_dimensions(result.dim, encoder))
        elif sound:
            comparison = compare(
                sound, encoder, seed=seed, on_progress=lambda n: on_progress("embedding", n)
            )
            if result.dim < encoder.dim and not comparison.fitting:
                findings.append(about_dimensions(result.dim, encoder))
            else:
                if result.dim < encoder.dim:
                    findings.append(about_fewer_dimensions(result.dim, encoder))
                findings += about_making(sound, comparison, encoder)
                result.compared = len(sound)
                result.made = _counts(comparison)
                if encoder.max_seq_length is not None:
                    profile = encoder.profile
                    texts = [bare_text(row.text or "", profile) for row in sound]
                    tokens = encoder.count_tokens(texts, "passage")
                    findings += about_length(sound, tokens, encoder.max_seq_length)
    result.seen = chance_of_seeing(_TWENTIETH, result.compared, result.rows)
    result.findings = sorted(findings, key=lambda found: _WORST_FIRST[found.severity])
    return result


def _made_by(function: Any) -> str | None:
    """Name a stored embedding function; it is never built from what is stored."""
    if not isinstance(function, dict) or not function.get("name"):
        return None
    config = function.get("config")
    config = config if isinstance(config, dict) else {}
    model = config.get("model") or config.get("model_name")
    return f"{function['name']} ({model})" if model else str(function["name"])


def _has_direction(row: Row) -> bool:
    return bool(np.isfinite(row.vector).all()) and bool(row.vector.any())


def _counts(comparison: Comparison) -> dict[str, int]:
    groups = comparison.made | {
        "unknown prefix": comparison.unknown_prefix,
        "can't tell": comparison.untold,
        "another text": comparison.of_other_text,
        "another model": comparison.of_other_model,
        "another text or model": comparison.unclear,
    }
    return {name: len(places) for name, places in groups.items() if places}
