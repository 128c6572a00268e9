"""A model of KoE5's shape with random weights: ``tests/benchmarks/true_shape.py --output FOLDER``.

24 layers of 1024 dimensions over 250,002 tokens, 512 tokens read, mean pooling, unit vectors: all
that decides how fast it is. It is written in sentence-transformers' layout as KoE5 is published, so
that every version of every peer reads it. Its vectors mean nothing.
"""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from itertools import islice, product
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from koe5_integrations.profiles import BUNDLED_MODEL

_VOCABULARY = 250_002
_SPECIAL = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
_MODULES = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}


def make_true_shape(path: Path, *, layers: int = 24, seed: int = 0) -> Path:
    """Write the model: 2.2 GB for its 24 layers."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(seed)
    config = XLMRobertaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    XLMRobertaModel(config).save_pretrained(path)
    xlm_r_like_tokenizer().save(str(path / "tokenizer.json"))
    written = {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 512,
            **{f"{name}_token": token for name, token in _SPECIAL.items()},
            "cls_token": "<s>",
            "sep_token": "</s>",
            "mask_token": "<mask>",
        },
        "special_tokens_map.json": {f"{name}_token": token for name, token in _SPECIAL.items()},
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
        "modules.json": [
            {"idx": i, "name": str(i), "path": at, "type": f"sentence_transformers.models.{name}"}
            for i, (name, at) in enumerate(_MODULES.items())
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": 1024,
            "pooling_mode_mean_tokens": True,
        },
        "2_Normalize/config.json": {},
    }
    for name, content in written.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def xlm_r_like_tokenizer() -> Tokenizer:
    """Cuts Korean as finely as XLM-RoBERTa's, into 1.7 to 1.8 characters a token.

    The pieces are koe5-mini's, of one or two syllables; the most frequent also begin a word. What
    is left of the vocabulary no text holds, but the file is as long to read.
    """
    bundled = files("koe5_integrations") / "models" / BUNDLED_MODEL / "tokenizer.json"
    listed = json.loads(bundled.read_text(encoding="utf-8"))["model"]["vocab"]
    known = [(p, s) for p, s in listed[3:] if len(p) <= 2 or p.isascii()]
    pieces = {"▁": -4.0} | {chr(letter): -8.0 for letter in range(ord("A"), ord("Z") + 1)}
    for rank, (piece, score) in enumerate(known):
        pieces[piece] = score
        if rank < 2000 or piece.isascii():
            pieces["▁" + piece] = score
    private = map(chr, range(0xE000, 0xF8FF))
    unused = ("".join(pair) for pair in product(private, repeat=2))
    fill = _VOCABULARY - len(_SPECIAL) - len(pieces) - 1
    vocabulary = [
        *((token, 0.0) for token in _SPECIAL.values()),
        *pieces.items(),
        *((piece, -30.0) for piece in islice(unused, fill)),
        ("<mask>", 0.0),
    ]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    tokenizer.add_special_tokens([*_SPECIAL.values(), "<mask>"])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer


def main() -> None:
    """Write a model as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--layers", type=int, default=24, help="of the transformer")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    make_true_shape(arguments.output, layers=arguments.layers)


if __name__ == "__main__":
    main()
