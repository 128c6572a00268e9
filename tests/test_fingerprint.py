"""Tests of koe5_integrations.fingerprint, and of what the encoder puts into it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_static

from koe5_integrations import Fingerprint, KoE5Encoder
from koe5_integrations.errors import TruncateDimWarning

FINGERPRINT = Fingerprint(
    model="nlpai-lab/KoE5",
    weights="0123456789abcdef",
    query_prompt="query: ",
    passage_prompt="passage: ",
    pooling="mean",
    normalize=True,
    max_seq_length=512,
    truncate_dim=None,
    precision="fp32",
    unicode="NFC",
)
CHANGED = {
    "weights": "fedcba9876543210",
    "query_prompt": "",
    "passage_prompt": "document: ",
    "pooling": "cls",
    "normalize": False,
    "max_seq_length": 256,
    "truncate_dim": 256,
    "precision": "bf16",
    "unicode": "none",
}


def test_the_digest_of_a_release_is_that_of_the_next() -> None:
    """Collections store the digest, so that the way it is made must not change by accident."""
    assert FINGERPRINT.digest == "a8db9030be804494d3d0d772620d075d"
    assert str(FINGERPRINT) == FINGERPRINT.digest


@pytest.mark.parametrize("name", [f.name for f in fields(Fingerprint)])
def test_every_field_but_the_name_changes_the_digest(name: str) -> None:
    """Each of the ten fields counts, but for the model's name, whose weights are hashed."""
    if name == "model":
        assert replace(FINGERPRINT, model="/mirror/koe5").digest == FINGERPRINT.digest
    else:
        assert replace(FINGERPRINT, **{name: CHANGED[name]}).digest != FINGERPRINT.digest


def test_no_two_changes_have_the_same_digest() -> None:
    """Text that moves from one prompt to the other is another fingerprint."""
    changed = [replace(FINGERPRINT, **{name: value}) for name, value in CHANGED.items()]
    swapped = replace(FINGERPRINT, query_prompt="passage: ", passage_prompt="query: ")
    digests = {f.digest for f in [FINGERPRINT, swapped, *changed]}
    assert len(digests) == len(changed) + 2


def test_writes_its_fields_as_json() -> None:
    """The fields are stored readably beside the vectors and compare equal when read back."""
    stored = json.loads(FINGERPRINT.to_json())
    assert Fingerprint(**stored) == FINGERPRINT
    assert FINGERPRINT.differences(stored) == []


def test_names_the_differences_with_both_sides() -> None:
    """Each field that differs is shown as it is there and here; the model's name is no reason."""
    stored = asdict(replace(FINGERPRINT, query_prompt="", precision="fp16", model="elsewhere"))
    del stored["unicode"]
    assert FINGERPRINT.differences(stored) == [
        "query_prompt: '' there, 'query: ' here",
        "precision: 'fp16' there, 'fp32' here",
        "unicode: '(not recorded)' there, 'NFC' here",
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"query_prompt": ""},
        {"passage_prompt": ""},
        {"profile": "jhgan/ko-sroberta-multitask"},
        {"max_seq_length": 32},
        {"precision": "bf16"},
        {"normalize_unicode": False},
    ],
    ids=str,
)
def test_options_that_change_vectors_change_it(xlm_roberta: Path, options: dict[str, Any]) -> None:
    """An encoder with another setting that changes vectors has another fingerprint."""
    assert (
        KoE5Encoder(xlm_roberta, **options).fingerprint.digest
        != KoE5Encoder(xlm_roberta).fingerprint.digest
    )


def test_cutting_vectors_changes_it(xlm_roberta: Path) -> None:
    """Fewer dimensions are other vectors."""
    with pytest.warns(TruncateDimWarning):
        cut = KoE5Encoder(xlm_roberta, truncate_dim=16)
    assert cut.fingerprint.digest != KoE5Encoder(xlm_roberta).fingerprint.digest


def test_options_that_change_no_vector_leave_it(xlm_roberta: Path) -> None:
    """Device, batches and policies on cut texts say nothing of the vectors."""
    encoder = KoE5Encoder(
        xlm_roberta,
        device="cpu",
        backend="torch",
        batch_size=3,
        batch_tokens=100,
        on_truncation="error",
        cache_folder="elsewhere",
        local_files_only=True,
    )
    assert encoder.fingerprint == KoE5Encoder(xlm_roberta).fingerprint


def test_the_default_length_and_the_same_asked_for_are_one(xlm_roberta: Path) -> None:
    """Asking for what is the default anyway changes nothing."""
    asked = KoE5Encoder(xlm_roberta, max_seq_length=64, precision="fp32")
    assert asked.fingerprint == KoE5Encoder(xlm_roberta).fingerprint


def test_a_copy_of_the_folder_has_the_same(static_model: Path, tmp_path: Path) -> None:
    """Where the model lies does not count."""
    copy = shutil.copytree(static_model, tmp_path / "copy")
    there, here = KoE5Encoder(copy).fingerprint, KoE5Encoder(static_model).fingerprint
    assert there.model != here.model
    assert there.digest == here.digest


def test_saving_the_model_again_keeps_it(xlm_roberta: Path, tmp_path: Path) -> None:
    """What sentence-transformers loads and saves again is the same model."""
    from sentence_transformers import SentenceTransformer

    again = tmp_path / "again"
    SentenceTransformer(str(xlm_roberta), device="cpu").save(str(again), create_model_card=False)
    assert KoE5Encoder(again).fingerprint.digest == KoE5Encoder(xlm_roberta).fingerprint.digest


def test_other_weights_have_another(static_model: Path, tmp_path: Path) -> None:
    """The same architecture and tokenizer with other weights is another model."""
    other = KoE5Encoder(make_static(tmp_path / "other", seed=1)).fingerprint
    assert other.digest != KoE5Encoder(static_model).fingerprint.digest


def test_a_normalisation_in_the_model_counts(xlm_roberta: Path, tmp_path: Path) -> None:
    """Equal weights with and without a Normalize module give vectors of different lengths."""
    without = Path(shutil.copytree(xlm_roberta, tmp_path / "without"))
    modules = json.loads((without / "modules.json").read_text())
    (without / "modules.json").write_text(json.dumps(modules[:2]))
    profile = "jhgan/ko-sroberta-multitask"
    ends_in_unit = KoE5Encoder(xlm_roberta, profile=profile).fingerprint
    keeps_length = KoE5Encoder(without, profile=profile).fingerprint
    assert (ends_in_unit.normalize, keeps_length.normalize) == (True, False)
    assert ends_in_unit.digest != keeps_length.digest


def test_is_the_same_in_every_process(static_model: Path) -> None:
    """No hash seed and no order of files gets into the digest."""
    code = (
        "from koe5_integrations import KoE5Encoder\n"
        f"print(KoE5Encoder({str(static_model)!r}).fingerprint)"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.strip() == str(KoE5Encoder(static_model).fingerprint)
