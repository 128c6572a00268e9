"""What compression loses, by how it is calibrated: recall of the nearest ten by float vectors.

Run ``python tests/benchmarks/compression.py [DATASET ...]`` (any that ``koe5 evaluate`` takes).
Vectors of the E5 family crowd together, those of koe5-mini don't: "crowded" adds the same vector,
twice as long as they are, to each of them.
"""

from __future__ import annotations

import argparse
import sys
import warnings

import numpy as np

from koe5_integrations import KoE5Encoder
from koe5_integrations.compression import CompressedIndex, Compression
from koe5_integrations.errors import KoE5Warning
from koe5_integrations.evaluation import load_dataset
from koe5_integrations.evaluation.search import exact_search
from koe5_integrations.types import Vectors

TOP_K = 10


def crowded(vectors: Vectors) -> Vectors:
    """Return unit vectors that mostly point one way."""
    direction = np.random.default_rng(0).normal(size=vectors.shape[1])
    moved = vectors + 2 * direction / np.linalg.norm(direction)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def recall(nearest: np.ndarray, found: np.ndarray) -> float:
    """Return the share of the nearest that were found."""
    pairs = zip(nearest.tolist(), found.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / len(one) for one, other in pairs]))


def write(line: str) -> None:
    """Show a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def stepped(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the upper bounds, above the lower ones where a dimension never changes."""
    return np.maximum(high, low + 1e-6)


def ranges_of(sample: Vectors, encoder: KoE5Encoder) -> dict[str, Compression]:
    """Return int8 compressions by how their ranges were learnt."""
    fingerprint = encoder.fingerprint
    least, most = sample.min(axis=0), sample.max(axis=0)
    low, high = np.percentile(sample, [0.5, 99.5], axis=0)
    return {
        "one range (default)": Compression.calibrate(sample, fingerprint=fingerprint),
        "per_dimension=True": Compression.calibrate(
            sample, fingerprint=fingerprint, per_dimension=True
        ),
        "minimum and maximum": Compression("int8", fingerprint, least, stepped(least, most)),
        "99% of each dimension": Compression("int8", fingerprint, low, stepped(low, high)),
    }


def main() -> None:
    """Print two tables: ranges of int8, and thresholds of bits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="*", default=["python_faq_ko", "belebele_ko"])
    parser.add_argument("--data-dir")
    given = parser.parse_args()
    warnings.simplefilter("ignore", KoE5Warning)
    encoder = KoE5Encoder("koe5-mini")
    write("| data | vectors | sample | ranges of int8 | float question | codes alone |")
    write("|---|---|---:|---|---:|---:|")
    bits = ["| data | vectors | threshold | hamming | binary | binary-float |"]
    bits.append("|---|---|---|---:|---:|---:|")
    for name in given.datasets:
        data = load_dataset(name, data_dir=given.data_dir)
        passages = encoder.encode_passages(data.corpus.values())
        queries = encoder.encode_queries(data.queries[key] for key in data.qrels)
        for kind in ("as they are", "crowded"):
            if kind == "crowded":
                passages, queries = crowded(passages), crowded(queries)
            nearest, _ = exact_search(queries, passages, TOP_K)
            order = np.random.default_rng(1).permutation(len(passages))
            for count in (100, len(passages)):
                for label, int8 in ranges_of(passages[order[:count]], encoder).items():
                    codes = int8(passages)
                    rows, _ = CompressedIndex(int8, codes).search(queries, TOP_K)
                    asked = int8(queries).astype(np.float32)
                    alone, _ = exact_search(asked, codes.astype(np.float32), TOP_K)
                    shares = f"{recall(nearest, rows):.3f} | {recall(nearest, alone):.3f}"
                    write(f"| {name} | {kind} | {count} | {label} | {shares} |")
            for label, bound in (("0", np.zeros(encoder.dim)), ("mean", passages.mean(axis=0))):
                binary = Compression("ubinary", encoder.fingerprint, bound, bound)
                codes = binary(passages)
                cells = []
                for originals, multiplier in ((None, 0), (None, 4), (passages, 4)):
                    index = CompressedIndex(binary, codes, originals=originals)
                    rows, _ = index.search(queries, TOP_K, rescore_multiplier=multiplier)
                    cells.append(f"{recall(nearest, rows):.3f}")
                bits.append(f"| {name} | {kind} | {label} | {' | '.join(cells)} |")
    write("\n" + "\n".join(bits))


if __name__ == "__main__":
    main()
