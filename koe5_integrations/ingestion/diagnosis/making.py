"""What a comparison says of how vectors were made, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.ingestion.diagnosis.comparing import Comparison
from koe5_integrations.ingestion.diagnosis.findings import EXAMPLES, MIGRATE, Finding, Severity
from koe5_integrations.ingestion.diagnosis.sampling import Row

__all__ = ["about_making"]

_PREFIXES: dict[str, tuple[str, Severity, str]] = {
    "no prefix": (
        "no_prefix",
        "fault",
        "were embedded without the prefix {passage!r} that the model was trained with",
    ),
    "query prefix": (
        "query_prefix",
        "fault",
        "were embedded as questions ({query!r}), not as texts to be found ({passage!r})",
    ),
    "document prefix": (
        "document_prefix",
        "fault",
        "were embedded with 'document: ', which is not the model's prefix ({passage!r})",
    ),
    "doubled prefix": (
        "doubled_prefix",
        "fault",
        "were embedded with two prefixes, as when one is added to text that has one or by a "
        "server that adds its own",
    ),
    "foreign prefix": (
        "foreign_prefix",
        "fault",
        "were embedded with a prefix that is another model's; this one wants {passage!r}",
    ),
}
_FORMS: dict[str, tuple[str, Severity, str, str]] = {
    "newlines": (
        "newlines_as_spaces",
        "note",
        "were embedded with their line breaks made spaces, as LangChain's HuggingFaceEmbeddings "
        "does; the model tells them apart",
        "",
    ),
    "as_stored": (
        "text_not_nfc",
        "note",
        "were embedded as they are stored, with Hangul in pieces (not NFC)",
        "",
    ),
    "decomposed": (
        "text_not_nfc",
        "warning",
        "were embedded with Hangul in pieces (NFD), though their texts are not stored so",
        MIGRATE,
    ),
    "with_metadata": (
        "with_metadata",
        "note",
        "were embedded with their metadata in front, as LlamaIndex does unless told otherwise",
        "koe5 migrate would embed the texts alone; to keep the metadata in, index the nodes "
        "again with KoE5Embedding",
    ),
}


def about_making(
    rows: Sequence[Row], comparison: Comparison, encoder: KoE5Encoder
) -> Iterator[Finding]:
    """Say how the vectors were made.

    Args:
        rows: that were compared.
        comparison: of them.
        encoder: they were compared with.
    """
    profile = encoder.profile

    def found(
        kind: str, severity: Severity, sentence: str, remedy: str, places: Sequence[int]
    ) -> Finding:
        examples = [rows[i].id for i in places[:EXAMPLES]]
        return Finding(kind, severity, sentence, remedy, len(places), len(rows), examples)

    made = comparison.made | {
        "unknown prefix": comparison.unknown_prefix,
        "another model": comparison.of_other_model,
        "another text or model": comparison.unclear,
    }
    counts = {name: len(places) for name, places in made.items() if places}
    if len(counts) > 1:
        listed = sorted(counts.items(), key=lambda count: -count[1])
        yield found(
            "mixed",
            "fault",
            "are not like the rest, so that scores can't be compared: "
            + ", ".join(f"{n} {name}" for name, n in listed),
            MIGRATE,
            sorted({i for name, places in made.items() if name != listed[0][0] for i in places}),
        )
    for name, places in comparison.made.items():
        if name != "right":
            kind, severity, sentence = _PREFIXES[name]
            prompts = {"passage": profile.passage_prompt, "query": profile.query_prompt}
            yield found(kind, severity, sentence.format(**prompts), MIGRATE, places)
    if comparison.unknown_prefix:
        yield found(
            "unknown_prefix",
            "warning",
            "are near what the model makes of their texts, but all moved in the same direction: "
            "something unknown stood in front of them, or the model ran in a far lower precision",
            MIGRATE,
            comparison.unknown_prefix,
        )
    if comparison.of_other_text:
        yield found(
            "stale",
            "fault",
            "have a vector of another text than theirs, as when a text was changed and its vector "
            "was not, or an id was added twice",
            MIGRATE,
            comparison.of_other_text,
        )
    if comparison.unclear:
        yield found(
            "unfit",
            "fault",
            "have a vector that does not fit their text, while others do: of an older text, or of "
            "another model",
            MIGRATE,
            comparison.unclear,
        )
    if comparison.of_other_model:
        akin = len(set(comparison.akin) & set(comparison.of_other_model))
        related = akin > len(comparison.of_other_model) / 2
        yield found(
            "wrong_model",
            "fault",
            f"have vectors that {encoder.model} makes of their texts in no known way"
            + (
                ", though they are nearer to their own texts than to others: a model akin to it, "
                "other pooling, or something put in front of the text (a title, another prefix)"
                if related
                else "; they are another model's"
            ),
            "say with --model which model made them, if it is not this one; otherwise " + MIGRATE,
            comparison.of_other_model,
        )
    if comparison.untold:
        yield found(
            "cannot_tell",
            "note",
            "fit the model, but whether with or without its prefix can't be told: it changes "
            "their vectors too little (in long texts it may), or they are rounded too much",
            "",
            comparison.untold,
        )
    for form, places in comparison.forms.items():
        yield found(*_FORMS[form], places)
    for tokens, places in comparison.read_less.items():
        yield found(
            "read_less",
            "warning",
            f"were cut at {tokens} tokens, though the model reads "
            f"{encoder.max_seq_length or 'all of them'}: the rest of them can't be found",
            MIGRATE,
            places,
        )
    if comparison.shifted:
        middle = float(np.median(comparison.distances))
        yield Finding(
            "shifted",
            "warning",
            f"vectors are near what they should be (cosine {1 - middle:.4f}), but all moved in the "
            "same direction: something else stood in front of the texts, or the model ran in "
            "another precision",
            "compare how they were made with what encode_passages does; if in doubt, " + MIGRATE,
        )
