"""Small models made on the spot: architectures and layouts of the real ones, random weights."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

KOREAN = [
    "파이썬 문자열이 불변인 이유는 무엇입니까?",
    "부동 소수점 계산이 왜 그렇게 부정확합니까?",
    "제빵사는 밀가루와 물과 소금으로 빵을 굽는다.",
    "헌법은 국민의 기본권을 보장하고 국가의 조직을 정한다.",
    "서울의 겨울은 춥고 건조하며 여름은 덥고 습하다.",
    "query: passage: document: 질문 문서",
]


def numbered(n: int) -> list[str]:
    """Texts of which each has another length than its neighbours."""
    return [f"{KOREAN[i % 5] * (1 + i % 3)} {i}" for i in range(n)]


def korean_tokenizer(vocab_size: int = 300) -> Tokenizer:
    """A unigram tokenizer with XLM-RoBERTa's special tokens and their ids, always the same.

    Its pieces are the characters and the most frequent substrings of ``KOREAN``; the library's own
    trainer gives another vocabulary in every process.
    """
    words = ["▁" + word for text in KOREAN for word in text.split()]
    substrings = Counter(
        word[start : start + length]
        for word in words
        for length in (1, 2, 3, 4)
        for start in range(len(word) - length + 1)
    )
    by_use = sorted(substrings, key=lambda piece: (len(piece) > 1, -substrings[piece], piece))
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = by_use[: vocab_size - len(special)]
    scores = [0.0] * len(special) + [-5.0 - rank / 100 for rank in range(len(pieces))]
    vocab = list(zip([*special, *pieces], scores, strict=True))
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=special.index("<unk>"), byte_fallback=False))
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer


def make_xlm_roberta(
    path: Path,
    *,
    dim: int = 32,
    layers: int = 2,
    max_seq_length: int = 64,
    seed: int = 0,
    pooling: str = "mean",
    normalize: bool = True,
    prompts: dict[str, str] | None = None,
    default_prompt_name: str | None = None,
) -> Path:
    """KoE5's architecture in small, saved by sentence-transformers as KoE5 is."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(seed)
    tokenizer = korean_tokenizer()
    base = path.with_name(path.name + "-base")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=max_seq_length,
    ).save_pretrained(base)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=dim * 2,
        max_position_embeddings=max_seq_length + 2,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    XLMRobertaModel(config).eval().save_pretrained(base)
    modules = [Transformer(str(base)), Pooling(dim, pooling_mode=pooling)]
    if normalize:
        modules.append(Normalize())
    model = SentenceTransformer(
        modules=modules, device="cpu", prompts=prompts, default_prompt_name=default_prompt_name
    )
    model.save(str(path), create_model_card=False)
    return path


def make_static(path: Path, *, dim: int = 16, seed: int = 0, prompt_weight: float = 1.0) -> Path:
    """A static embedding in sentence-transformers' layout, written without torch.

    The vectors of what only prompts hold (Latin letters, a colon) are scaled by ``prompt_weight``.
    """
    tokenizer = korean_tokenizer()
    path.mkdir(parents=True)
    tokenizer.save(str(path / "tokenizer.json"))
    table = np.random.default_rng(seed).normal(size=(tokenizer.get_vocab_size(), dim))
    pieces = tokenizer.get_vocab().items()
    table[[row for piece, row in pieces if re.search("[a-z:]|^▁$", piece)]] *= prompt_weight
    save_file({"embedding.weight": table.astype(np.float16)}, path / "model.safetensors")
    modules = [
        {
            "idx": 0,
            "name": "0",
            "path": "",
            "type": "sentence_transformers.models.StaticEmbedding",
        }
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    return path


def make_bag(
    path: Path,
    *,
    dim: int = 64,
    bigrams: str = "파이 이썬 헌법 은",
    seed: int = 0,
    longest: float = 60.0,
) -> Path:
    """The form of koe5-mini in small: random bits for tokens, some bigrams and 8 buckets."""
    tokenizer = korean_tokenizer()
    tokenizer.add_special_tokens(["query: ", "passage: "])
    known = np.sort([int("".join(f"{ord(c):021b}" for c in pair), 2) for pair in bigrams.split()])
    rows = tokenizer.get_vocab_size() + len(known) + 8
    rng = np.random.default_rng(seed)
    signs = np.hstack([rng.integers(0, 2, (rows, dim - 1)), np.zeros((rows, 1))]).astype(np.uint8)
    path.mkdir(parents=True)
    tokenizer.save(str(path / "tokenizer.json"))
    save_file(
        {
            "bits": np.packbits(signs, axis=1),
            "scales": rng.uniform(0.5, 2, rows).astype(np.float16),
            "bigrams": known.astype(np.int64),
        },
        path / "model.safetensors",
    )
    config = {
        "model_type": "koe5-bag",
        "dim": dim,
        "buckets": 8,
        "saturation": 2.0,
        "length_exponent": 0.75,
        "longest": longest,
        "passage_token": tokenizer.token_to_id("passage: "),
        "prompts": ["query: ", "passage: "],
    }
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path
