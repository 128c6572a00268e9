"""What is known of each model before any file of it is read, as data.

A profile says how a model must be used: which prompt goes in front of a question, which in front of
a text to be found, how its token vectors are pooled. An unknown model has no profile, and its
prompts are never guessed.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from koe5_integrations.errors import ConfigError, UnknownModelError
from koe5_integrations.exports import Export
from koe5_integrations.types import Role

__all__ = ["BUNDLED_MODEL", "DEFAULT_MODEL", "PROFILES", "ModelProfile", "profile_for"]

Pooling: TypeAlias = Literal["mean", "cls"]

DEFAULT_MODEL = "nlpai-lab/KoE5"
BUNDLED_MODEL = "koe5-mini"


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """How one model must be used.

    Attributes:
        name: hub name, or the name of the bundled model.
        query_prompt: put in front of a question; may be empty.
        passage_prompt: put in front of a text to be found; may be empty.
        revision: hub commit that is loaded unless another is asked for; None is the newest.
        dim: length of a vector; None until the model's files are read.
        max_seq_length: tokens the model reads, prompt and special tokens included; None leaves it
            to the model's files.
        pooling: how token vectors become one; None leaves it to the model's files.
        normalize: vectors are scaled to unit length; None leaves it to the model's files.
        matryoshka: dimensions the model was trained to be cut to.
        license: SPDX identifier of the weights, None where the authors state none.
        note: what a user should know before choosing it.
    """

    name: str
    query_prompt: str
    passage_prompt: str
    revision: str | None = None
    dim: int | None = None
    max_seq_length: int | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    matryoshka: tuple[int, ...] = ()
    license: str | None = None
    note: str = ""

    def prompt(self, role: Role) -> str:
        """Return the prompt that goes in front of a text of this role."""
        return self.query_prompt if role == "query" else self.passage_prompt


def profile_for(
    model: str,
    *,
    is_folder: bool,
    profile: str | None = None,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
) -> ModelProfile:
    """Return the profile a model is used with.

    A known name has its own. A folder that ``koe5 export`` or ``koe5 train`` wrote says how it is
    used; another is used as KoE5 is, unless a profile is named. Prompts given explicitly replace
    the profile's; given both, they also make an unknown model usable.

    Raises:
        UnknownModelError: an unknown hub name without a profile and without both prompts.
        ConfigError: ``profile`` names none of the table.
        ModelLoadError: the folder is a damaged export.
    """
    both_prompts = query_prompt is not None and passage_prompt is not None
    if profile is not None:
        if profile not in PROFILES:
            raise ConfigError(
                f"profile={profile!r} is not in the table{_similar(profile)}; "
                "`koe5 models` prints it, and query_prompt= and passage_prompt= work without one"
            )
        found = PROFILES[profile]
    elif model in PROFILES:
        found = PROFILES[model]
    elif is_folder and (export := Export.read(Path(model))) is not None:
        found = replace(
            PROFILES.get(export.model) or ModelProfile(export.model, "", ""),
            query_prompt=export.query_prompt,
            passage_prompt=export.passage_prompt,
            normalize=export.normalize,
        )
    elif both_prompts:
        found = ModelProfile(name=model, query_prompt="", passage_prompt="")
    elif is_folder and (stored := _stored_prompts(Path(model))) is not None:
        found = replace(
            PROFILES[DEFAULT_MODEL], query_prompt=stored["query"], passage_prompt=stored["passage"]
        )
    elif is_folder:
        found = PROFILES[DEFAULT_MODEL]
    else:
        raise UnknownModelError(
            f"model={model!r} is neither a folder nor a model whose prompts are "
            f"known{_similar(model)}. Give query_prompt= and passage_prompt= as its authors "
            "trained it ('' for none), or profile= with the name of a model it was tuned from; "
            "`koe5 models` prints those known"
        )
    if query_prompt is not None:
        found = replace(found, query_prompt=query_prompt)
    if passage_prompt is not None:
        found = replace(found, passage_prompt=passage_prompt)
    return found


def _stored_prompts(folder: Path) -> dict[str, str] | None:
    """Return a folder's own prompts if it names them all, as `koe5 train` does; "" is one.

    Of two names for passages, neither is to be guessed to be the right one.
    """
    try:
        read = json.loads((folder / "config_sentence_transformers.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    prompts = read.get("prompts") or {}
    named = {"query", "passage", "document"} <= prompts.keys()
    return prompts if named and prompts["document"] == prompts["passage"] else None


def _similar(name: str) -> str:
    close = difflib.get_close_matches(name, PROFILES, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


# The E5 family: mean pooling over 512 tokens, a prompt for each role.
_E5 = ModelProfile(
    name="",
    query_prompt="query: ",
    passage_prompt="passage: ",
    dim=1024,
    max_seq_length=512,
    pooling="mean",
    normalize=True,
    license="MIT",
)
# The BGE-M3 family: the [CLS] vector over 8192 tokens, no prompts.
_BGE = ModelProfile(
    name="",
    query_prompt="",
    passage_prompt="",
    dim=1024,
    max_seq_length=8192,
    pooling="cls",
    normalize=True,
    license="MIT",
)
# Korean sentence-similarity models: symmetric, so no prompts; vectors keep their length.
_STS = ModelProfile(
    name="",
    query_prompt="",
    passage_prompt="",
    dim=768,
    max_seq_length=128,
    pooling="mean",
    normalize=False,
    license="CC-BY-SA-4.0",
)

PROFILES: dict[str, ModelProfile] = {
    profile.name: profile
    for profile in (
        replace(
            _E5,
            name=DEFAULT_MODEL,
            revision="bc6d284c60fe5a973e74c1751b92594c9f581213",
            note="Korean retrieval; the default",
        ),
        replace(_E5, name="intfloat/multilingual-e5-large", note="KoE5's base model"),
        replace(_E5, name="intfloat/multilingual-e5-base", dim=768),
        replace(_E5, name="intfloat/multilingual-e5-small", dim=384),
        replace(
            _E5,
            name="intfloat/multilingual-e5-large-instruct",
            query_prompt=(
                "Instruct: Given a web search query, retrieve relevant passages that answer "
                "the query\nQuery: "
            ),
            passage_prompt="",
            note="the query prompt states the task; yours may be another",
        ),
        replace(_BGE, name="nlpai-lab/KURE-v1", note="the KoE5 authors' later model, from bge-m3"),
        replace(
            _BGE,
            name="BAAI/bge-m3",
            note=(
                "its repository holds pickled weights, which are not loaded: "
                "pass a converted folder"
            ),
        ),
        replace(_BGE, name="dragonkue/BGE-m3-ko", license="Apache-2.0"),
        replace(
            _BGE,
            name="dragonkue/snowflake-arctic-embed-l-v2.0-ko",
            query_prompt="query: ",
            license="Apache-2.0",
            note="asymmetric: only questions have a prompt",
        ),
        replace(_E5, name="dragonkue/multilingual-e5-small-ko", dim=384, license="Apache-2.0"),
        replace(
            _BGE,
            name="Alibaba-NLP/gte-multilingual-base",
            dim=768,
            license="Apache-2.0",
            note=(
                "its repository runs on custom code, which is never executed: "
                "pass a converted folder"
            ),
        ),
        replace(_STS, name="upskyy/kf-deberta-multitask", max_seq_length=None),
        replace(_STS, name="jhgan/ko-sroberta-multitask"),
        replace(_STS, name="jhgan/ko-sroberta-nli"),
        replace(_STS, name="jhgan/ko-sroberta-sts"),
        replace(_STS, name="jhgan/ko-sbert-multitask"),
        replace(_STS, name="jhgan/ko-sbert-nli"),
        replace(_STS, name="jhgan/ko-sbert-sts"),
        ModelProfile(
            name=BUNDLED_MODEL,
            query_prompt="query: ",
            passage_prompt="passage: ",
            dim=1024,
            pooling="mean",
            normalize=True,
            license="CC-BY-SA-4.0",
            note="bundled, compact; runs offline, without torch",
        ),
    )
}
"""Every known model by name."""
