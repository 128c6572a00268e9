"""Tests of koe5_integrations.profiles."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from koe5_integrations.errors import ConfigError, UnknownModelError
from koe5_integrations.profiles import (
    BUNDLED_MODEL,
    DEFAULT_MODEL,
    PROFILES,
    ModelProfile,
    profile_for,
)

INSTRUCT = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
)
E5, NONE = ("query: ", "passage: "), ("", "")
FACTS = {
    "nlpai-lab/KoE5": (*E5, 1024, 512, "mean", True),
    "intfloat/multilingual-e5-large": (*E5, 1024, 512, "mean", True),
    "intfloat/multilingual-e5-base": (*E5, 768, 512, "mean", True),
    "intfloat/multilingual-e5-small": (*E5, 384, 512, "mean", True),
    "intfloat/multilingual-e5-large-instruct": (INSTRUCT, "", 1024, 512, "mean", True),
    "nlpai-lab/KURE-v1": (*NONE, 1024, 8192, "cls", True),
    "BAAI/bge-m3": (*NONE, 1024, 8192, "cls", True),
    "dragonkue/BGE-m3-ko": (*NONE, 1024, 8192, "cls", True),
    "dragonkue/snowflake-arctic-embed-l-v2.0-ko": ("query: ", "", 1024, 8192, "cls", True),
    "dragonkue/multilingual-e5-small-ko": (*E5, 384, 512, "mean", True),
    "Alibaba-NLP/gte-multilingual-base": (*NONE, 768, 8192, "cls", True),
    "upskyy/kf-deberta-multitask": (*NONE, 768, None, "mean", False),
    "jhgan/ko-sroberta-multitask": (*NONE, 768, 128, "mean", False),
    "jhgan/ko-sroberta-nli": (*NONE, 768, 128, "mean", False),
    "jhgan/ko-sroberta-sts": (*NONE, 768, 128, "mean", False),
    "jhgan/ko-sbert-multitask": (*NONE, 768, 128, "mean", False),
    "jhgan/ko-sbert-nli": (*NONE, 768, 128, "mean", False),
    "jhgan/ko-sbert-sts": (*NONE, 768, 128, "mean", False),
}


@pytest.mark.parametrize("name", FACTS)
def test_states_the_facts_of_each_model(name: str) -> None:
    """Prompts, size, pooling and normalisation are those the models' authors publish."""
    profile = PROFILES[name]
    assert (
        profile.query_prompt,
        profile.passage_prompt,
        profile.dim,
        profile.max_seq_length,
        profile.pooling,
        profile.normalize,
    ) == FACTS[name]


def test_pins_koe5_to_a_commit() -> None:
    """KoE5 is the default, pinned to a commit, with the prefixes its authors trained."""
    koe5 = PROFILES[DEFAULT_MODEL]
    assert koe5.name == "nlpai-lab/KoE5"
    assert koe5.revision == "bc6d284c60fe5a973e74c1751b92594c9f581213"
    assert koe5.prompt("query") == "query: "
    assert koe5.prompt("passage") == "passage: "


def test_the_bundled_model_has_koe5s_prefixes() -> None:
    """What is tried out on the bundled model stays right when switching to KoE5."""
    mini, koe5 = PROFILES[BUNDLED_MODEL], PROFILES[DEFAULT_MODEL]
    assert (mini.query_prompt, mini.passage_prompt) == (koe5.query_prompt, koe5.passage_prompt)


@pytest.mark.parametrize("name", PROFILES)
def test_the_table_is_keyed_by_name(name: str) -> None:
    """Each profile is found under its own name, and can't be changed."""
    profile = PROFILES[name]
    assert profile.name == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.query_prompt = "other"


def test_a_known_name_has_its_own_profile() -> None:
    """A name of the table needs nothing else."""
    for name, profile in PROFILES.items():
        assert profile_for(name, is_folder=False) is profile


def test_a_folder_is_used_as_koe5() -> None:
    """A local folder has KoE5's profile unless told otherwise."""
    assert profile_for("/models/tuned", is_folder=True) is PROFILES[DEFAULT_MODEL]


@pytest.mark.parametrize(
    ("stored", "used"),
    [
        ({"query": "", "passage": "", "document": ""}, ("", "")),
        ({"query": "q ", "passage": "p ", "document": "p "}, ("q ", "p ")),
        ({"query": "q ", "passage": "p ", "document": "d "}, ("query: ", "passage: ")),
        ({"query": "q ", "document": ""}, ("query: ", "passage: ")),
        (None, ("query: ", "passage: ")),
    ],
)
def test_a_trained_folder_keeps_its_prompts(
    tmp_path: Path, stored: dict[str, str] | None, used: tuple[str, str]
) -> None:
    """Prompts that a folder names in full, as `koe5 train` does, go before KoE5's."""
    config = "{" if stored is None else json.dumps({"prompts": stored})
    (tmp_path / "config_sentence_transformers.json").write_text(config, encoding="utf-8")
    profile = profile_for(str(tmp_path), is_folder=True)
    assert (profile.query_prompt, profile.passage_prompt) == used


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_profile_can_be_named(is_folder: bool) -> None:
    """``profile=`` decides for folders and for unknown hub names alike."""
    name = "jhgan/ko-sroberta-multitask"
    assert profile_for("me/tuned", is_folder=is_folder, profile=name) is PROFILES[name]


def test_an_unknown_hub_name_is_refused_with_the_remedy() -> None:
    """Prompts are never guessed: the error names the remedies and the nearest name."""
    with pytest.raises(UnknownModelError) as caught:
        profile_for("nlpai-lab/KoE-5", is_folder=False)
    message = str(caught.value)
    for part in (
        "'nlpai-lab/KoE-5'",
        "did you mean 'nlpai-lab/KoE5'?",
        "query_prompt=",
        "passage_prompt=",
        "profile=",
        "koe5 models",
    ):
        assert part in message


def test_an_unknown_hub_name_unlike_any_other_gets_no_suggestion() -> None:
    """Nothing is suggested where nothing is near."""
    with pytest.raises(UnknownModelError) as caught:
        profile_for("zzz/qqq", is_folder=False)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("given", [{"query_prompt": "Q: "}, {"passage_prompt": "P: "}])
def test_one_prompt_is_not_enough_for_an_unknown_name(given: dict[str, str]) -> None:
    """With one of the two prompts given, the other is still not guessed."""
    with pytest.raises(UnknownModelError):
        profile_for("zzz/qqq", is_folder=False, **given)


@pytest.mark.parametrize("is_folder", [True, False])
def test_both_prompts_make_an_unknown_model_usable(is_folder: bool) -> None:
    """Both prompts given, everything else is left to the model's files."""
    profile = profile_for("zzz/qqq", is_folder=is_folder, query_prompt="Q: ", passage_prompt="")
    assert profile == ModelProfile("zzz/qqq", "Q: ", "")
    assert (profile.dim, profile.pooling, profile.normalize) == (None, None, None)


def test_prompts_replace_those_of_the_profile() -> None:
    """A prompt given explicitly wins, an empty one included; the other stays."""
    profile = profile_for(DEFAULT_MODEL, is_folder=False, query_prompt="")
    assert (profile.query_prompt, profile.passage_prompt) == ("", "passage: ")
    assert profile.revision == PROFILES[DEFAULT_MODEL].revision
    profile = profile_for(DEFAULT_MODEL, is_folder=False, passage_prompt="문서: ")
    assert (profile.query_prompt, profile.passage_prompt) == ("query: ", "문서: ")


def test_an_unknown_profile_is_refused() -> None:
    """A misspelt ``profile=`` is refused with the nearest name."""
    with pytest.raises(ConfigError, match="did you mean 'BAAI/bge-m3'") as caught:
        profile_for("/models/tuned", is_folder=True, profile="BAAI/bge-m-3")
    assert not isinstance(caught.value, UnknownModelError)
