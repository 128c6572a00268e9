"""The students: some layers of the teacher, a table of token vectors, or a base of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, StaticEmbedding
from tokenizers import Tokenizer

from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.backends.torch_load import load_sentence_transformer
from koe5_integrations.errors import ConfigError, ModelLoadError
from koe5_integrations.ingestion.shards.durable import new_file
from koe5_integrations.text import is_visible
from koe5_integrations.training.distillation.teacher import Teacher
from koe5_integrations.training.mini.tokenizer import train_tokenizer
from koe5_integrations.training.recipes.base import load_base
from koe5_integrations.training.texts import Texts
from koe5_integrations.types import Vectors

if TYPE_CHECKING:
    from koe5_integrations.training.config import TrainingConfig

__all__ = ["dim_of", "load_student", "start_student"]

_STATIC_DIM = 512
# Token vectors' root mean square. Vectors of unit length don't show it, but it decides how far one
# of AdamW's steps goes: with this one, the learning rate that suits transformers suits them too.
_SCALE = 1e-3
# Tokens more frequent than this weigh less, as in smooth inverse frequency.
_FREQUENT = 1e-4


def load_student(
    config: TrainingConfig,
    teacher: Teacher,
    texts: Texts,
    *,
    layers: int,
    vocab_size: int,
    dim: int | None,
) -> SentenceTransformer:
    """Return the student as it is before it has seen the teacher's vectors; its own are unit ones.

    Args:
        config: ``model`` is "layers", "static", or a base on the hub or in a folder.
        teacher: gives layers, and the tokenizer where none is to be learnt.
        texts: from which one is learnt.
        layers: how many to take, evenly from first to last.
        vocab_size: tokens to learn, 0 for the teacher's.
        dim: length of the vectors; None is the base's, of "static" 512 or the teacher's.

    Raises:
        ConfigError: the teacher has no such layers, or vectors can't be that long.
        ModelLoadError: teacher or base can't be had or loaded.
    """
    if config.model == "static":
        table = StaticEmbedding(
            _tokenizer(vocab_size, teacher, texts),
            embedding_dim=dim or min(_STATIC_DIM, teacher.encoder.dim),
        )
        return SentenceTransformer(modules=[table, Normalize()], device="cpu")
    if config.model == "layers":
        modules = list(_layers(layers, config.max_seq_length, teacher))
    else:
        modules = list(load_base(replace(config, matryoshka_dims=(), matryoshka_weights=())))
    if isinstance(modules[-1], Normalize):
        modules.pop()
    own = dim_of(SentenceTransformer(modules=modules, device="cpu"))
    # Turning the teacher's vectors is a task for a layer, not for those that came with them.
    turned = config.model == "layers" and bool(config.matryoshka_dims)
    if (dim or own) != own or turned:
        if isinstance(modules[0], StaticEmbedding):
            raise ConfigError(
                f"dim={dim!r}: the vectors of {config.model} have {own} dimensions, which a "
                "static base keeps; leave dim= out, or choose model='static'"
            )
        modules.append(Dense(own, dim or own, bias=False, activation_function=torch.nn.Identity()))
    return SentenceTransformer(modules=[*modules, Normalize()], device="cpu")


def dim_of(model: SentenceTransformer) -> int:
    """Return the length of a model's vectors."""
    dim = model.get_embedding_dimension()
    assert dim is not None
    return dim


def start_student(
    model: SentenceTransformer,
    kind: str,
    teacher: Teacher,
    texts: Texts,
    projection: Vectors | None,
) -> None:
    """Give the student what can be worked out rather than learnt, before the first update.

    A table begins with the teacher's vectors of its tokens, a layer that shortens the teacher's
    own vectors as those were shortened.

    Args:
        model: as :func:`load_student` made it.
        kind: ``config.model`` there.
        teacher: whose vectors they are.
        texts: that show how frequent tokens are.
        projection: how the teacher's vectors were shortened or turned; None is not at all.
    """
    module: Any = model[0]
    if kind == "static":
        vectors = _token_vectors(module.tokenizer, teacher, texts)
        if projection is not None:
            vectors = vectors @ projection
        vectors *= _SCALE / np.sqrt(np.mean(np.square(vectors)))
        with torch.no_grad():
            module.embedding.weight.copy_(torch.from_numpy(vectors))
    elif kind == "layers" and projection is not None:
        dense: Any = model[-2]
        with torch.no_grad():
            dense.linear.weight.copy_(torch.from_numpy(projection.T))


def _tokenizer(vocab_size: int, teacher: Teacher, texts: Texts) -> Tokenizer:
    if not vocab_size:
        files = teacher.files()
        found = files.files("tokenizer.json")
        if not found:
            raise ModelLoadError(
                f"{files.path} has no tokenizer.json; give vocab_size= to learn one from the texts"
            )
        tokenizer = Tokenizer.from_file(str(found[0]))
        tokenizer.no_truncation()
        return tokenizer
    # Learnt anew it would have its tokens in another order.
    file = teacher.folder / f"tokenizer-{teacher.key(texts, vocab_size)}.json"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        prompts = [prompt for prompt in dict.fromkeys(teacher.prompts.values()) if prompt]
        try:
            learnt = train_tokenizer(
                (*texts.queries, *texts.passages), vocab_size=vocab_size, prompts=prompts
            )
        except Exception as error:  # tokenizers raises bare Exception
            raise ConfigError(
                f"vocab_size={vocab_size!r} doesn't suit the texts ({error}); ask for more, or for "
                "0 to take the teacher's tokenizer"
            ) from error
        with new_file(file) as stream:
            stream.write(learnt.to_str().encode())
    return Tokenizer.from_file(str(file))


def _token_vectors(tokenizer: Tokenizer, teacher: Teacher, texts: Texts) -> Vectors:
    """Return the teacher's vector of each token as a passage, frequent ones shortened.

    Zeros for what is no text by itself: prefixes, special tokens, invisible characters.
    """
    size = tokenizer.get_vocab_size()
    special = tokenizer.get_added_tokens_decoder()
    spoken = {
        token: text
        for token in range(size)
        if token not in special and is_visible(text := tokenizer.decode([token]))
    }
    vectors = np.zeros((size, teacher.encoder.dim), dtype=np.float32)
    vectors[list(spoken)] = teacher.vectors(list(spoken.values()), "passage")
    counts = np.ones(size)
    read = TextTokenizer(tokenizer, None, add_special_tokens=False)
    for tokens in read([*texts.queries, *texts.passages]):
        np.add.at(counts, tokens.ids, 1)
    weights = _FREQUENT / (_FREQUENT + counts / counts.sum())
    weighted: Vectors = (vectors * weights[:, None]).astype(np.float32)
    return weighted


def _layers(wanted: int, max_seq_length: int, teacher: Teacher) -> Iterable[torch.nn.Module]:
    """Return the teacher's modules with so many of its layers, evenly from first to last."""
    files = teacher.files()
    if files.kind == "static" or files.export is not None:
        raise ConfigError(
            f"model='layers': {teacher.model} is {'an export' if files.export else 'static'} and "
            "has no layers to take; choose model='static' or a base of your own"
        )
    model = load_sentence_transformer(
        files, device="cpu", pooling=teacher.encoder.profile.pooling, dtype=torch.float32
    )
    transformer: Any = model[0]
    inner = transformer.auto_model
    number = inner.config.num_hidden_layers
    stacks = [
        module
        for module in inner.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == number
    ]
    if len(stacks) != 1 or getattr(inner.config, "layer_types", None):
        raise ConfigError(
            f"model='layers': the layers of a {inner.config.model_type} can't be taken apart; "
            "choose model='static' or a base of your own"
        )
    if wanted > number:
        raise ConfigError(f"layers={wanted!r}: {teacher.model} has {number}; ask for fewer")
    _keep(stacks[0], np.linspace(0, number - 1, wanted).round().astype(int).tolist())
    inner.config.num_hidden_layers = wanted
    limit = files.max_seq_length
    if limit is not None and max_seq_length > limit:
        raise ConfigError(
            f"max_seq_length={max_seq_length}: {teacher.model} reads {limit} tokens at "
            f"most; ask for {limit} or fewer"
        )
    model.max_seq_length = max_seq_length
    return model


def _keep(stack: torch.nn.ModuleList, wanted: Sequence[int]) -> None:
    layers = list(stack)
    del stack[:]
    stack.extend(layers[number] for number in wanted)
