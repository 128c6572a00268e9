"""Tests of koe5_integrations.backends.folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ConfigError, ModelLoadError

TEXTS = ["파이썬 문자열", "제빵사는 밀가루와 물과 소금으로 빵을 굽는다. " * 20]
MODULES = ("Transformer", "Pooling", "Normalize")


@pytest.fixture
def folder(xlm_roberta: Path, tmp_path: Path) -> Path:
    """A copy of the small transformer model, to be spoilt."""
    return Path(shutil.copytree(xlm_roberta, tmp_path / "model"))


@pytest.fixture
def static(static_model: Path, tmp_path: Path) -> Path:
    """A copy of the small static model, to be spoilt."""
    return Path(shutil.copytree(static_model, tmp_path / "static"))


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def name_modules(folder: Path, *names: str) -> None:
    """Write ``modules.json`` as sentence-transformers before version 6 did."""
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate(names)
    ]
    write(folder / "modules.json", modules)


def legacy_pooling(mode: str = "mean_tokens") -> dict[str, Any]:
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    return {
        "word_embedding_dimension": 32,
        **{f"pooling_mode_{m}": m == mode for m in modes},
    }


def reference(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def assert_equals_reference(folder: Path, **options: Any) -> None:
    """Ours and sentence-transformers' vectors from one folder are the same."""
    expected = reference(folder).encode([f"query: {text}" for text in TEXTS], prompt="")
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    encoder = KoE5Encoder(folder, on_truncation="ignore", **options)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-5)


def test_reads_the_layout_of_sentence_transformers_6(xlm_roberta: Path) -> None:
    """A model saved by the current sentence-transformers is read without loading it."""
    read = ModelFolder.read(xlm_roberta)
    assert read == ModelFolder(
        path=xlm_roberta,
        folders=(xlm_roberta, xlm_roberta / "1_Pooling", xlm_roberta / "2_Normalize"),
        kind="transformer",
        modules=("Transformer", "Pooling", "Normalize"),
        dim=32,
        max_seq_length=64,
        pooling="mean",
        normalize=True,
    )


def test_reads_a_static_embedding(static_model: Path) -> None:
    """A static embedding has the width of its table, reads all tokens and averages them."""
    read = ModelFolder.read(static_model)
    assert read == ModelFolder(
        path=static_model,
        folders=(static_model,),
        kind="static",
        modules=("StaticEmbedding",),
        dim=16,
        max_seq_length=None,
        pooling="mean",
        normalize=False,
    )


@pytest.mark.parametrize("own", ["sentence_bert_config.json", "sentence_roberta_config.json"])
def test_reads_the_legacy_layout(folder: Path, own: str) -> None:
    """Older folders state pooling by flags and the length in a file of their own."""
    (folder / "sentence_bert_config.json").unlink()
    name_modules(folder, *MODULES)
    write(folder / "1_Pooling" / "config.json", legacy_pooling())
    write(folder / own, {"max_seq_length": 48, "do_lower_case": False})
    read = ModelFolder.read(folder)
    assert (read.dim, read.max_seq_length, read.pooling, read.normalize) == (32, 48, "mean", True)
    assert reference(folder).max_seq_length == 48
    assert_equals_reference(folder)


@pytest.mark.parametrize(
    ("stated", "in_tokenizer", "expected"),
    [
        (48, 64, 48),
        (None, 40, 40),
        (None, int(1e30), 64),
        (512, 512, 64),
        (None, None, 64),
    ],
)
def test_finds_the_maximum_length(
    folder: Path, stated: int | None, in_tokenizer: int | None, expected: int
) -> None:
    """The folder's own figure counts, else the tokenizer's, never beyond the position table."""
    if stated is not None:
        write(folder / "sentence_bert_config.json", {"max_seq_length": stated})
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["model_max_length"] = in_tokenizer
    write(folder / "tokenizer_config.json", config)
    assert ModelFolder.read(folder).max_seq_length == expected


def test_bert_reads_its_whole_position_table(folder: Path) -> None:
    """Only RoBERTa's positions begin after the padding id."""
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"model_type": "bert"})
    (folder / "tokenizer_config.json").unlink()
    assert ModelFolder.read(folder).max_seq_length == 66


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("cls_token", "cls"), ("max_tokens", "max"), ("mean_sqrt_len_tokens", "mean_sqrt_len_tokens")],
)
def test_reads_every_pooling(folder: Path, mode: str, expected: str) -> None:
    """Pooling other than by the mean is read, and refused for a model used as KoE5."""
    write(folder / "1_Pooling" / "config.json", legacy_pooling(mode))
    read = ModelFolder.read(folder)
    assert (read.pooling, read.dim) == (expected, 32)
    with pytest.raises(ConfigError, match=f"pools by '{expected}'.*as nlpai-lab/KoE5.*'mean'"):
        KoE5Encoder(folder).encode_queries(["가"])


def test_joined_poolings_widen_the_vector(folder: Path) -> None:
    """Two poolings at once give a vector twice as long, as in sentence-transformers."""
    config = legacy_pooling() | {"pooling_mode_cls_token": True}
    write(folder / "1_Pooling" / "config.json", config)
    assert ModelFolder.read(folder).dim == 64
    encoder = KoE5Encoder(folder, query_prompt="query: ", passage_prompt="")
    assert encoder.encode_queries(["가"]).shape == (1, 64)
    assert_equals_reference(folder, query_prompt="query: ", passage_prompt="")


def test_reads_a_bare_transformers_folder(xlm_roberta: Path) -> None:
    """A folder that transformers saved has no pooling of its own and takes the profile's."""
    bare = xlm_roberta.with_name(xlm_roberta.name + "-base")
    assert not (bare / "modules.json").exists()
    read = ModelFolder.read(bare)
    assert (read.modules, read.dim, read.max_seq_length, read.pooling) == ((), 32, 64, None)
    bare_encoder = KoE5Encoder(bare, on_truncation="ignore")
    complete = KoE5Encoder(xlm_roberta, on_truncation="ignore")
    np.testing.assert_allclose(
        bare_encoder.encode_passages(TEXTS), complete.encode_passages(TEXTS), atol=1e-5
    )
    assert bare_encoder.fingerprint.pooling == "mean"
    # The same weights under the prefix that transformers gives them within a model.
    assert bare_encoder.dim == complete.dim


def test_a_bare_folder_is_pooled_as_its_profile_says(xlm_roberta: Path) -> None:
    """With a profile that takes the [CLS] vector, a bare folder is pooled so."""
    bare = xlm_roberta.with_name(xlm_roberta.name + "-base")
    by_cls = KoE5Encoder(bare, profile="BAAI/bge-m3")
    by_mean = KoE5Encoder(bare)
    assert by_cls.fingerprint.pooling == "cls"
    assert by_mean.fingerprint.pooling == "mean"
    one, other = by_cls.encode_queries(["파이썬"])[0], by_mean.encode_queries(["파이썬"])[0]
    assert one @ other < 0.999


def test_a_bare_folder_without_a_profile_is_not_guessed_at(xlm_roberta: Path) -> None:
    """Prompts alone don't say how a bare folder pools, and it is refused before it is loaded."""
    bare = xlm_roberta.with_name(xlm_roberta.name + "-base")
    with pytest.raises(ConfigError, match="profile="):
        KoE5Encoder(bare, query_prompt="", passage_prompt="").encode_queries(["파이썬"])


def test_reads_a_dense_module(folder: Path) -> None:
    """A Dense module sets the length of the vector and is applied."""
    name_modules(folder, "Transformer", "Pooling", "Dense")
    (folder / "2_Dense").mkdir()
    write(
        folder / "2_Dense" / "config.json",
        {
            "in_features": 32,
            "out_features": 12,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
    )
    rng = np.random.default_rng(0)
    save_file(
        {
            "linear.weight": rng.normal(size=(12, 32)).astype(np.float32),
            "linear.bias": rng.normal(size=12).astype(np.float32),
        },
        folder / "2_Dense" / "model.safetensors",
    )
    assert ModelFolder.read(folder).dim == 12
    assert_equals_reference(folder)


def test_refuses_a_module_it_does_not_know(folder: Path) -> None:
    """An unknown module is named, with those that are supported."""
    name_modules(folder, "Transformer", "WordWeights")
    expected = r"'WordWeights', which is not supported; .*Dense"
    with pytest.raises(ModelLoadError, match=expected):
        ModelFolder.read(folder)


@pytest.mark.parametrize(
    "name", ["modules.json", "config.json", "1_Pooling/config.json", "tokenizer_config.json"]
)
@pytest.mark.parametrize("content", [b'{"cut off', b"", b"\xff\xfe\x00", b"<html>"])
def test_names_a_file_that_is_not_json(folder: Path, name: str, content: bytes) -> None:
    """A spoilt configuration is named by its path."""
    (folder / "sentence_bert_config.json").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(ModelLoadError, match="is not valid JSON") as caught:
        ModelFolder.read(folder)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json"])
def test_names_a_file_that_is_missing(folder: Path, name: str) -> None:
    """A file that modules.json names and is not there is named by its path."""
    (folder / name).unlink()
    with pytest.raises(ModelLoadError, match="No such file") as caught:
        ModelFolder.read(folder)
    assert str(folder / name) in str(caught.value)


def test_names_a_missing_tokenizer(folder: Path, static: Path) -> None:
    """Without tokenizer.json the error says how to make one."""
    for path in (folder, static):
        (path / "tokenizer.json").unlink()
        with pytest.raises(ModelLoadError, match=r"has no tokenizer\.json; save it with"):
            KoE5Encoder(path).count_tokens(["가"], "query")


@pytest.mark.parametrize("size", [0, 7, 100, 3000, 1_000_000])
def test_names_weights_of_the_wrong_size(folder: Path, static: Path, size: int) -> None:
    """An interrupted or padded download is recognised before anything is loaded."""
    for path in (folder, static):
        os.truncate(path / "model.safetensors", size)
        with pytest.raises(ModelLoadError, match="copy it again") as caught:
            KoE5Encoder(path).encode_queries(["가"])
        assert str(path / "model.safetensors") in str(caught.value)


def test_names_weights_that_are_a_pointer(folder: Path) -> None:
    """A Git LFS pointer in place of the weights is no safetensors file."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2239607176\n"
    (folder / "model.safetensors").write_text(pointer)
    with pytest.raises(ModelLoadError, match="is not a safetensors file"):
        ModelFolder.read(folder)


def test_names_a_missing_shard(folder: Path) -> None:
    """A shard that the index names and that is not there is an incomplete model."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    write(folder / "model.safetensors.index.json", {"weight_map": shards})
    with pytest.raises(ModelLoadError, match="00002-of-00002") as caught:
        ModelFolder.read(folder)
    assert "00001-of-00002" not in str(caught.value)


def test_refuses_pickled_weights(folder: Path) -> None:
    """Weights that could run code are refused, with the way to convert them."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    expected = r"no \*\.safetensors weights; pickled weights .*safe_serialization=True"
    with pytest.raises(ModelLoadError, match=expected):
        KoE5Encoder(folder).encode_queries(["가"])


def test_refuses_an_empty_folder(tmp_path: Path) -> None:
    """A folder without a model is refused as incomplete."""
    with pytest.raises(ModelLoadError, match="is it the folder of a model"):
        ModelFolder.read(tmp_path)


def test_refuses_a_static_model_without_its_table(static: Path) -> None:
    """A static model whose weights hold something else says what they hold."""
    save_file({"other": np.zeros((2, 2), np.float32)}, static / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"no tensor 'embedding\.weight', but \['other'\]"):
        ModelFolder.read(static)
    (static / "model.safetensors").rename(static / "elsewhere.safetensors")
    with pytest.raises(ModelLoadError, match=r"model\.safetensors is missing"):
        ModelFolder.read(static)


def test_the_digest_covers_weights_and_tokenizer(folder: Path) -> None:
    """Another value in a tensor, or another token, is another model."""
    before = ModelFolder.read(folder).digest
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("layer.1.output.dense.weight"))
    weights[name][0, 0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    after = ModelFolder.read(folder).digest
    assert after != before
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"][-1][1] -= 1
    write(folder / "tokenizer.json", tokenizer)
    assert ModelFolder.read(folder).digest not in {before, after}


def test_the_digest_ignores_what_changes_no_vector(folder: Path, tmp_path: Path) -> None:
    """Place, metadata, sharding and the tokenizer file's own cutting do not count."""
    before = ModelFolder.read(folder).digest
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    (folder / "model.safetensors").unlink()
    for i, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        save_file(
            {name: weights[name] for name in part},
            folder / f"model-{i:05}-of-00002.safetensors",
            metadata={"saved": "again"},
        )
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["truncation"] = {
        "direction": "Right",
        "max_length": 8,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=4))
    moved = folder.rename(tmp_path / "elsewhere")
    assert ModelFolder.read(moved).digest == before


def test_checkpoints_beside_the_model_are_not_part_of_it(static_model: Path, folder: Path) -> None:
    """A training folder with checkpoints in it has the digest of the model alone."""
    digest = ModelFolder.read(folder).digest
    shutil.copytree(static_model, folder / "checkpoint-500")
    assert ModelFolder.read(folder).digest == digest


def test_a_module_outside_the_folder_is_refused(folder: Path) -> None:
    """A model folder can't name files of this machine outside itself."""
    modules = [{"type": "sentence_transformers.models.Transformer", "path": "../elsewhere"}]
    write(folder / "modules.json", modules)
    with pytest.raises(ModelLoadError, match="outside the model's folder"):
        ModelFolder.read(folder)


def test_a_static_embedding_takes_no_further_layers(static_model: Path, tmp_path: Path) -> None:
    """Layers that the static backend would silently leave out are refused."""
    path = shutil.copytree(static_model, tmp_path / "model")
    name_modules(path, "StaticEmbedding", "Dense")
    with pytest.raises(ModelLoadError, match="only Normalize"):
        ModelFolder.read(path)
