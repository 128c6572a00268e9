"""Small models exported for real, once for all tests that want them: an export takes seconds."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tiny_models import korean_tokenizer, make_xlm_roberta

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.exports import Engine
from koe5_integrations.profiles import DEFAULT_MODEL, PROFILES, ModelProfile

PLAIN = ModelProfile(name="plain", query_prompt="", passage_prompt="")
"""No prompts, and all else as the model's files say."""


@cache
def scratch() -> Path:
    """A folder that goes when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="koe5-exports-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def tiny_koe5() -> Path:
    """KoE5's architecture in small (dim 32, 64 tokens): the model of the exports below."""
    return make_xlm_roberta(scratch() / "tiny-koe5")


def exported(
    engine: Engine,
    *,
    int8: bool = False,
    model: Path | None = None,
    profile: ModelProfile = PROFILES[DEFAULT_MODEL],
) -> Path:
    """Return the folder of an export of ``model`` (None is ``tiny_koe5()``); don't change it.

    Copy it to change it. Its manifest says nothing of its fidelity, which is not measured here.
    """
    return _exported(engine, int8, model or tiny_koe5(), profile)


@cache
def _exported(engine: Engine, int8: bool, source: Path, profile: ModelProfile) -> Path:
    from koe5_integrations.exporting.write import write_export

    precision = "int8" if int8 else "fp32"
    target = Path(tempfile.mkdtemp(prefix=f"{source.name}-{engine}-{precision}-", dir=scratch()))
    write_export(
        ModelFolder.read(source),
        target,
        engine=engine,
        precision=precision,
        model=str(source),
        profile=profile,
    ).write(target)
    return target


def make_bert(path: Path, *, dim: int = 32, out: int = 24, layers: int = 2) -> Path:
    """A BERT with everything KoE5 lacks: token types, [CLS] pooling, a Dense head, no Normalize."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Pooling, Transformer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(1)
    tokenizer = korean_tokenizer()
    base = path.with_name(f"{path.name}-base")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=48,
    ).save_pretrained(base)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=dim * 2,
        max_position_embeddings=48,
        pad_token_id=1,
    )
    BertModel(config).eval().save_pretrained(base)
    head = Dense(dim, out, activation_function=torch.nn.Tanh())
    modules = [Transformer(str(base)), Pooling(dim, pooling_mode="cls"), head]
    SentenceTransformer(modules=modules, device="cpu").save(str(path), create_model_card=False)
    return path


@cache
def tiny_bert() -> Path:
    """A BERT with a Dense head (dim 24, 48 tokens); beside it, ``-base`` is its bare folder."""
    return make_bert(scratch() / "tiny-bert")
