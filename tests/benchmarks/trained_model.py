"""A small trained transformer to measure int8 on: random weights exaggerate what rounding costs.

Run it with ``python tests/benchmarks/trained_model.py --pairs train_pairs_ko.parquet --output
FOLDER`` (columns query, passage). XLM-RoBERTa's architecture, 6 layers of 384 dimensions, over
koe5-mini's tokenizer, its token table begun from koe5-mini's rows of tokens; in-batch negatives,
300 steps of 192 pairs. Then ``koe5 export FOLDER --to openvino --int8``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

DIM, LAYERS, TOKENS, PAIRS = 384, 6, 40, 192
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
MINI = Path(str(files("koe5_integrations") / "models" / "koe5-mini"))


def make_tokenizer() -> Tokenizer:
    """koe5-mini's tokenizer behind XLM-RoBERTa's special tokens."""
    written = json.loads((MINI / "tokenizer.json").read_text(encoding="utf-8"))
    written["model"]["vocab"] = [[s, 0.0] for s in SPECIAL] + written["model"]["vocab"]
    written["model"]["unk_id"] = SPECIAL.index("<unk>")
    prompts = [t | {"id": t["id"] + len(SPECIAL)} for t in written["added_tokens"] if t["id"]]
    same = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    special = [{"id": i, "content": s, "special": True, **same} for i, s in enumerate(SPECIAL)]
    written["added_tokens"] = special + prompts
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
    return tokenizer


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    weights = load_file(MINI / "model.safetensors")
    tokens = tokenizer.get_vocab_size() - len(SPECIAL)  # rows of bigrams follow
    signs = 2 * np.unpackbits(weights["bits"][:tokens], axis=1).astype(np.float32) - 1
    table = signs * weights["scales"][:tokens, None].astype(np.float32)
    _, _, directions = np.linalg.svd(table[:20_000], full_matrices=False)
    table = table @ directions[:DIM].T
    model = XLMRobertaModel(
        XLMRobertaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=DIM,
            num_hidden_layers=LAYERS,
            num_attention_heads=6,
            intermediate_size=4 * DIM,
            max_position_embeddings=514,
            type_vocab_size=1,
        ),
        add_pooling_layer=False,
    )
    with torch.no_grad():
        begun = torch.from_numpy(table * (0.05 / np.abs(table).std()))
        model.embeddings.word_embeddings.weight[len(SPECIAL) :] = begun
    pairs = pq.read_table(given.pairs, columns=["query", "passage"])
    order = np.random.default_rng(0).permutation(len(pairs))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4)
    steps = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-4, total_steps=given.steps)

    def embed(texts: list[str], prompt: str) -> torch.Tensor:
        encoded = tokenizer.encode_batch([prompt + text[:200] for text in texts])
        ids = torch.tensor([each.ids for each in encoded])
        mask = torch.tensor([each.attention_mask for each in encoded])
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(means, dim=1)

    for step in range(given.steps):
        rows = pairs.take(np.take(order, range(step * PAIRS, (step + 1) * PAIRS), mode="wrap"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            queries = embed(rows["query"].to_pylist(), "query: ")
            passages = embed(rows["passage"].to_pylist(), "passage: ")
        loss = torch.nn.functional.cross_entropy(20 * queries @ passages.T, torch.arange(PAIRS))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps.step()
        if step % 20 == 0:
            sys.stdout.write(f"step {step}: loss {loss.item():.3f}\n")
    with tempfile.TemporaryDirectory() as base:
        names = dict(
            zip(("bos_token", "pad_token", "eos_token", "unk_token"), SPECIAL, strict=True)
        )
        tokenizer.no_truncation()
        tokenizer.no_padding()
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, model_max_length=512, **names
        ).save_pretrained(base)
        model.save_pretrained(base)
        parts = [Transformer(base, max_seq_length=512), Pooling(DIM, "mean"), Normalize()]
        SentenceTransformer(modules=parts, device="cpu").save_pretrained(str(given.output))


if __name__ == "__main__":
    main()
