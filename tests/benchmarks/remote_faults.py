"""The long run of tests/backends/test_remote_faults.py: requests whose answers are spoilt.

A server that speaks TEI's protocol, or vLLM's, over a small model with random weights, behind a
proxy that spoils a share of what passes through it. Prints what was done, and ends with 1 if a
vector was wrong, missing or out of order, or a key was seen.

    python tests/benchmarks/remote_faults.py --requests 1000
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import pickle
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["HF_HUB_OFFLINE"] = "1"

from embedding_server import KEY, Serving, serving
from fault_proxy import Spoiling, spoiling
from tiny_models import KOREAN, make_xlm_roberta

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.remote import client
from koe5_integrations.backends.remote.retrying import Patience

_TEXTS_A_REQUEST = 4
_CALLERS = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=["tei", "vllm", "infinity"], default="tei")
    given = parser.parse_args()

    log = io.StringIO()
    logging.basicConfig(level=logging.DEBUG, stream=log)
    os.environ["KOE5_API_KEY"] = KEY
    # Waits as with a real server would only make it longer.
    client.PATIENCE = Patience(first_wait=0.005, longest_wait=0.1, connect=2, read=1)
    client.FIRST_CONTACT = client.PATIENCE
    texts = [f"{KOREAN[i % 5]} {i}" for i in range(given.requests * _TEXTS_A_REQUEST)]
    size = -(-len(texts) // _CALLERS)
    parts = [texts[start : start + size] for start in range(0, len(texts), size)]
    with tempfile.TemporaryDirectory() as folder:
        model = make_xlm_roberta(Path(folder) / "tiny-koe5")
        expected = KoE5Encoder(model, backend="torch").encode_passages(texts)
        what = Serving(model, given.kind, key=KEY)
        with serving(what) as upstream:
            spoils = Spoiling(upstream, given.rate, seed=given.seed, hang=1.5)
            with spoiling(spoils) as url, ThreadPoolExecutor(_CALLERS) as pool:
                encoder = KoE5Encoder(model, base_url=url, batch_size=_TEXTS_A_REQUEST)
                start = time.perf_counter()
                found = np.concatenate(list(pool.map(encoder.encode_passages, parts)))
                seconds = time.perf_counter() - start
    wrong = int((np.abs(found - expected).max(axis=1) > 1e-5).sum())
    shown = log.getvalue() + repr(encoder) + repr(pickle.dumps(encoder)) + repr(encoder.config())
    leaks = shown.count(KEY)
    total = spoils.done.total()
    sys.stdout.write(
        f"{total} requests for {len(texts)} texts in {seconds:.0f} s, "
        f"{total - spoils.done['none']} of them spoilt in {len(spoils.done) - 1} ways\n"
        f"{dict(spoils.done.most_common())}\n"
        f"wrong, missing or out of order: {wrong}; keys seen: {leaks}\n"
    )
    return 1 if wrong or leaks or found.shape != expected.shape else 0


if __name__ == "__main__":
    sys.exit(main())
