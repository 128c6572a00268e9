"""What a collection's settings, rows and texts show by themselves, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.ingestion.diagnosis.findings import EXAMPLES, MIGRATE, Finding, Severity
from koe5_integrations.ingestion.diagnosis.sampling import Row, Scan
from koe5_integrations.profiles import PROFILES

__all__ = [
    "about_dimensions",
    "about_fewer_dimensions",
    "about_length",
    "about_record",
    "about_rows",
    "about_scan",
    "about_space",
]

_UNIT = 1e-2


def about_rows(rows: Sequence[Row], encoder: KoE5Encoder, space: str) -> Iterator[Finding]:
    """Say what the sampled rows show by themselves.

    Args:
        rows: all that were sampled.
        encoder: they are compared with.
        space: the collection's.
    """
    norms = np.array([np.linalg.norm(row.vector.astype(np.float64)) for row in rows])

    def found(
        kind: str, severity: Severity, sentence: str, remedy: str, is_so: Sequence[bool]
    ) -> Iterator[Finding]:
        places = [i for i, so in enumerate(is_so) if so]
        if places:
            examples = [rows[i].id for i in places[:EXAMPLES]]
            yield Finding(kind, severity, sentence, remedy, len(places), len(rows), examples)

    yield from found(
        "not_finite",
        "fault",
        "have a vector with NaN or infinity in it",
        MIGRATE,
        (~np.isfinite(norms)).tolist(),
    )
    yield from found(
        "zero_vector",
        "fault",
        "have a vector of zeros, which is as far from every question",
        MIGRATE,
        (norms == 0).tolist(),
    )
    if encoder.fingerprint.normalize:
        with np.errstate(invalid="ignore"):
            long_or_short = (np.abs(norms - 1) > _UNIT) & (norms > 0) & np.isfinite(norms)
        yield from found(
            "not_unit_length",
            "note" if space == "cosine" else "fault",
            "have a vector that is not of unit length"
            + (
                "; cosine does not mind, other measures would"
                if space == "cosine"
                else f", by which {space!r} ranks as much as by what it says"
            ),
            MIGRATE,
            long_or_short.tolist(),
        )
    prefixes = tuple({"query: ", "passage: ", *filter(None, _prompts(encoder))})
    yield from found(
        "prefix_in_text",
        "note",
        "have a text that begins with a prefix, which readers will see",
        "store bare texts, and leave the prefix to the encoder",
        [(row.text or "").startswith(prefixes) for row in rows],
    )


def _prompts(encoder: KoE5Encoder) -> tuple[str, str]:
    return encoder.profile.query_prompt, encoder.profile.passage_prompt


def about_length(rows: Sequence[Row], tokens: Sequence[int], limit: int) -> Iterator[Finding]:
    """Say how many texts are longer than the model reads.

    Args:
        rows: that were compared.
        tokens: of each of them, with prefix and special tokens.
        limit: what the model reads.
    """
    places = [i for i, n in enumerate(tokens) if n > limit]
    if places:
        cut = sum(tokens[i] - limit for i in places)
        yield Finding(
            "too_long",
            "warning",
            f"are longer than the {limit} tokens the model reads: {cut / sum(tokens):.1%} of all "
            "tokens are in no vector and can't be found",
            "split the documents into shorter passages: ingest them from their source with "
            "koe5 ingest; koe5 migrate keeps rows whole",
            len(places),
            len(rows),
            [rows[i].id for i in places[:EXAMPLES]],
        )


def about_scan(scan: Scan) -> Iterator[Finding]:
    """Say what reading all texts showed."""
    missing = scan.without_text + scan.blank
    if missing:
        yield Finding(
            "no_text",
            "warning",
            f"have no text ({scan.without_text:,} none at all, {scan.blank:,} nothing visible): "
            "what their vectors were made of can't be checked, nor embedded again",
            "koe5 migrate leaves them out if told to with --allow-loss; ingest them from their "
            "source to keep them",
            missing,
            scan.rows,
            scan.examples,
        )
    repeated = scan.repeated
    if repeated is not None and repeated.superfluous:
        yield Finding(
            "duplicates",
            "warning",
            "have a text that another row has, too: they take each other's places among the best",
            "delete one of each two, or ingest the documents anew with koe5 ingest, whose ids "
            "stay the same from run to run",
            repeated.superfluous,
            repeated.counted,
            [f"{first} = {other}" for first, other in repeated.examples],
        )


def about_space(space: str, all_unit: bool) -> Iterator[Finding]:
    """Say what it means that the collection doesn't measure by cosine."""
    if space == "cosine":
        return
    name = "squared Euclidean distance" if space == "l2" else "the inner product"
    yield Finding(
        "wrong_space",
        "warning" if all_unit else "fault",
        f"the collection measures by {space!r} ({name}), which Chroma can't change. "
        + (
            "Its vectors have unit length, so the best are the same, but "
            + (
                "a distance is twice what cosine says, and scores made from it are not cosines"
                if space == "l2"
                else "open_collection() takes only collections in cosine space"
            )
            if all_unit
            else "Its vectors are not all of unit length, so it finds other texts than cosine would"
        ),
        MIGRATE,
    )


def about_dimensions(dim: int, encoder: KoE5Encoder) -> Finding:
    """Say that the vectors can't be this model's."""
    known = [name for name, profile in PROFILES.items() if profile.dim == dim]
    hint = f"; models of that length: {', '.join(known)}" if known else ""
    if dim == 384:
        hint += "; and Chroma's default, all-MiniLM-L6-v2, which reads English"
    return Finding(
        "wrong_dimension",
        "fault",
        f"the vectors have {dim} dimensions, and {encoder.model} makes {encoder.dim}{hint}",
        "say with --model which model made them, or " + MIGRATE,
    )


def about_fewer_dimensions(dim: int, encoder: KoE5Encoder) -> Finding:
    """Say that the vectors are the first dimensions of this model's."""
    trained = dim in encoder.profile.matryoshka
    return Finding(
        "fewer_dimensions",
        "note" if trained else "warning",
        f"the vectors are the first {dim} of {encoder.model}'s {encoder.dim} dimensions"
        + ("" if trained else ", which it is not known to be trained for"),
        "" if trained else "ask with truncate_dim as well, or " + MIGRATE,
    )


def about_record(recorded: str | None, encoder: KoE5Encoder) -> Iterator[Finding]:
    """Say whether the collection records how its vectors were made, and what.

    Args:
        recorded: digest of the fingerprint in its metadata.
        encoder: it is compared with.
    """
    if recorded is None:
        yield Finding(
            "no_fingerprint",
            "note",
            "the collection doesn't record which model and prefix its vectors were made with, so "
            "nothing keeps others out",
            "collections made by koe5 ingest, koe5 migrate or open_collection() do",
        )
    elif recorded != encoder.fingerprint.digest:
        yield Finding(
            "other_fingerprint",
            "warning",
            f"the collection records the fingerprint {recorded}, and {encoder.model} has "
            f"{encoder.fingerprint.digest}",
            "open it with the settings it was made with",
        )
