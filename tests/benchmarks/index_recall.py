"""What Chroma's index finds of koe5-mini's nearest passages: ``… --pairs PAIRS.parquet``.

The model stretches short passages by a dimension that all of them share. The more are stretched,
the more alike they look to an approximate index. Printed for the model as it is, for all passages
stretched as in training, and for none.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import chromadb
import numpy as np
import pyarrow.parquet as parquet

import koe5_integrations
from koe5_integrations import KoE5Encoder

MODEL = Path(koe5_integrations.__file__).parent / "models" / "koe5-mini"


def main() -> None:
    """Search the same questions exactly and in a Chroma collection with default settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="Parquet file: query, passage")
    parser.add_argument("--passages", type=int, default=5000)
    parser.add_argument("--questions", type=int, default=500)
    options = parser.parse_args()
    table = parquet.read_table(options.pairs, columns=["query", "passage"])
    rows = np.random.default_rng(0).permutation(len(table))[: options.passages]
    passages = table["passage"].take(rows).to_pylist()
    questions = table["query"].take(rows[: options.questions]).to_pylist()
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    sys.stdout.write("| stretched | 10 nearest found | nearest found |\n|---|--:|--:|\n")
    for name, longest in (("as shipped", config["longest"]), ("all", 1700.0), ("none", 1e-9)):
        with tempfile.TemporaryDirectory() as folder:
            model = Path(shutil.copytree(MODEL, Path(folder) / "model"))
            text = json.dumps(config | {"longest": longest})
            (model / "config.json").write_text(text, encoding="utf-8")
            found, first = recall(KoE5Encoder(model), questions, passages)
        sys.stdout.write(f"| {name} | {found:.3f} | {first:.3f} |\n")


def recall(encoder: KoE5Encoder, questions: list[str], passages: list[str]) -> tuple[float, float]:
    """Return the share of the ten nearest, and of the nearest, that the index finds."""
    asked, stored = encoder.encode_queries(questions), encoder.encode_passages(passages)
    nearest = np.argsort(-(asked @ stored.T), axis=1)[:, :10]
    client = chromadb.EphemeralClient()
    collection = client.get_or_create_collection(
        "recall", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    for start in range(0, len(passages), 2500):
        ids = [str(row) for row in range(start, min(start + 2500, len(passages)))]
        collection.upsert(ids, embeddings=stored[start : start + 2500])
    answers = collection.query(query_embeddings=asked, n_results=10)["ids"]
    client.delete_collection("recall")
    pairs = [(list(map(int, ids)), row) for ids, row in zip(answers, nearest.tolist(), strict=True)]
    return (
        float(np.mean([len({*ids} & {*row}) / 10 for ids, row in pairs])),
        float(np.mean([ids[0] == row[0] for ids, row in pairs])),
    )


if __name__ == "__main__":
    main()
