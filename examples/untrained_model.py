"""Write a small untrained model, to try a training command where no real base can be had.

It is built as KoE5 is, in a thousandth of the size. Its tokens are learnt from the texts given;
its weights are random, so that it knows no Korean until it is trained.

  python untrained_model.py --texts helpdesk.jsonl --out base
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

DIM, LAYERS, LENGTH, TOKENS = 128, 2, 128, 1500
# In XLM-RoBERTa's order, which its configuration relies on.
SPECIAL = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def main() -> int:
    """Train a tokenizer, draw weights, and write both as transformers keeps them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", required=True, help="file whose pieces become tokens")
    parser.add_argument("--out", required=True, help="folder to write")
    args = parser.parse_args()
    if not Path(args.texts).is_file():
        print(f"error: there is no file {args.texts}", file=sys.stderr)
        return 2
    tokenizer = train_tokenizer(args.texts)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LENGTH,
        cls_token="<s>",
        sep_token="</s>",
        **SPECIAL,
    ).save_pretrained(args.out)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=2 * DIM,
        max_position_embeddings=LENGTH + 2,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    XLMRobertaModel(config).save_pretrained(args.out)
    print(f"{args.out}: {LAYERS} layers, {DIM} dimensions, {tokenizer.get_vocab_size()} tokens")
    return 0


def train_tokenizer(file: str) -> Tokenizer:
    """Learn the most frequent pieces of a file's words."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    tokenizer.train_from_iterator(
        [*lines, "query: passage: document: "],
        trainers.BpeTrainer(
            vocab_size=TOKENS, special_tokens=list(SPECIAL.values()), show_progress=False
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer


if __name__ == "__main__":
    sys.exit(main())
