"""Tests of koe5_integrations.backends.torch_inputs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koe5_integrations.backends import Tokens

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
inputs = pytest.importorskip("koe5_integrations.backends.torch_inputs")

CPU = torch.device("cpu")


def make_batch(*lengths: int) -> list[Tokens]:
    rng = np.random.default_rng(0)
    return [Tokens(rng.integers(5, 200, n).astype(np.int32), n) for n in lengths]


def test_padded() -> None:
    """Shorter texts are filled up behind, and masked there."""
    batch = make_batch(2, 4)
    features = inputs.padded(batch, 1, CPU)
    assert features["input_ids"].tolist() == [[*batch[0].ids, 1, 1], [*batch[1].ids]]
    assert features["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert {f.dtype for f in features.values()} == {torch.int64}


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("lengths", [(1,), (3, 1, 5), (4, 4)])
def test_unpadded_is_what_transformers_would_make(lengths: tuple[int, ...], first: int) -> None:
    """Names, values and dtypes are those of transformers' own collator."""
    batch = make_batch(*lengths)
    collator = transformers.DataCollatorWithFlattening(
        return_seq_idx=True,
        return_flash_attn_kwargs=True,
        return_position_ids=True,
    )
    expected = collator([{"input_ids": tokens.ids.tolist()} for tokens in batch])
    del expected["labels"]
    expected["position_ids"] += first
    features = inputs.unpadded(batch, first, CPU)
    assert features.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert features[name].dtype == value.dtype, name
            assert torch.equal(features[name], value), name
        else:
            assert features[name] == value, name


def attend_within_texts(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """What flash attention does with unpadded texts, one text after the other."""
    outputs = []
    bounds = cu_seq_lens_q.tolist()
    for start, end in itertools.pairwise(bounds):
        q, k, v = (tensor[:, :, start:end] for tensor in (query, key, value))
        outputs.append(torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scaling))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def test_unpadded_texts_go_through_a_model(
    xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose attention keeps to the bounds gives each text's vector as if it were alone."""
    from sentence_transformers import SentenceTransformer
    from transformers import modeling_flash_attention_utils as flash
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from koe5_integrations.backends.folder import ModelFolder
    from koe5_integrations.backends.torch import TorchBackend

    texts = ["파이썬 문자열이 불변인 이유는 무엇입니까?", "서울의 겨울은 춥다.", "헌법"]
    plain = SentenceTransformer(str(xlm_roberta), device="cpu")
    if not hasattr(plain[0], "can_flatten_inputs"):
        pytest.skip("this sentence-transformers has no unpadded inputs")
    backend = TorchBackend(
        ModelFolder.read(xlm_roberta),
        device="cpu",
        precision="fp32",
        max_seq_length=64,
        pooling=None,
    )
    # Set up as sentence-transformers does where flash attention is installed.
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", attend_within_texts)
    monkeypatch.setattr(
        flash, "lazy_import_flash_attention", lambda _: ((None, attend_within_texts), ())
    )
    transformer = backend._transformer
    transformer.config._attn_implementation = "flash_attention_2"
    transformer.unpad_inputs = True
    assert transformer.can_flatten_inputs
    vectors = backend.forward(backend.tokenize(texts))
    alone = [plain.encode(text, prompt="") for text in texts]
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
