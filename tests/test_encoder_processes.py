"""Tests of encoders in other processes, and of models released or written over under them."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from encoder_samples import TEXTS
from safetensors.numpy import load_file, save_file
from tiny_models import make_static

from koe5_integrations import KoE5Encoder, release_models
from koe5_integrations.truncation import Truncation

WAIT = 20


def run_python(code: str, *args: str, timeout: float = 120) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=True,
        timeout=timeout,
    )
    return done.stdout


@pytest.mark.parametrize("kind", ["transformer", "static"])
def test_pickles_its_settings_into_a_new_process(
    kind: str, xlm_roberta: Path, static_model: Path, tmp_path: Path
) -> None:
    """A loaded encoder pickles without its model, and gives the same vectors elsewhere."""
    path = xlm_roberta if kind == "transformer" else static_model
    encoder = KoE5Encoder(path, on_truncation="ignore")
    expected = encoder.encode_queries(TEXTS)
    pickled = pickle.dumps(encoder)
    assert len(pickled) < 5000
    assert pickle.loads(pickled).truncation == Truncation(0, 0)
    (tmp_path / "encoder.pkl").write_bytes(pickled)
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    code = """
import json, pickle, sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
encoder = pickle.loads((folder / "encoder.pkl").read_bytes())
texts = json.loads((folder / "texts.json").read_text())
np.save(folder / "vectors.npy", encoder.encode_queries(texts))
print(encoder.fingerprint)
"""
    assert run_python(code, str(tmp_path)).strip() == str(encoder.fingerprint)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-5)


def test_counting_loads_no_torch(xlm_roberta: Path) -> None:
    """Tokens of a transformer model are counted without torch, transformers or weights."""
    code = f"""
import json, sys
from koe5_integrations import KoE5Encoder
counts = KoE5Encoder({str(xlm_roberta)!r}).count_tokens({TEXTS!r}, "passage")
print(json.dumps([counts, [m for m in ("torch", "transformers") if m in sys.modules]]))
"""
    counts, loaded = json.loads(run_python(code))
    assert counts == KoE5Encoder(xlm_roberta).count_tokens(TEXTS, "passage")
    assert loaded == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_child_loads_its_own(static_model: Path, tmp_path: Path) -> None:
    """A child forked while the parent's worker is busy encodes, and so does the parent after."""
    encoder = KoE5Encoder(static_model)
    expected = encoder.encode_queries(TEXTS)
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            encoder.encode_passages(TEXTS * 20)

    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(keep_busy) for _ in range(2)]
        for i in range(5):
            pid = os.fork()
            if pid == 0:
                signal.alarm(WAIT)  # rather than wait for ever
                try:
                    np.save(tmp_path / f"{i}.npy", encoder.encode_queries(TEXTS))
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(pid, 0)[1] == 0
            np.testing.assert_allclose(np.load(tmp_path / f"{i}.npy"), expected, atol=1e-6)
        stop.set()
        for future in busy:
            future.result(WAIT)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-6)


def test_a_process_ends_while_work_is_waiting(static_model: Path) -> None:
    """A script that leaves minutes of work behind ends cleanly after the pass that is running."""
    code = f"""
import threading, time
from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.static import StaticBackend

running, forward = threading.Event(), StaticBackend.forward

def slow(self, batch):
    running.set()
    time.sleep(0.1)
    return forward(self, batch)

StaticBackend.forward = slow
encoder = KoE5Encoder({str(static_model)!r}, batch_size=1)
work = lambda: encoder.encode_passages(["헌법"] * 3000)
threading.Thread(target=work, daemon=True).start()
assert running.wait(20)
print("done")
"""
    assert run_python(code, timeout=30).strip() == "done"


# Models that come and go


def test_models_released_in_between_are_loaded_again(loads: list[str], static_model: Path) -> None:
    """release_models() frees the model; the encoder itself stays usable."""
    encoder = KoE5Encoder(static_model)
    before = encoder.encode_queries(TEXTS)
    release_models()
    np.testing.assert_array_equal(encoder.encode_queries(TEXTS), before)
    assert loads == [str(static_model), str(static_model)]


def test_weights_written_over_in_place_are_used(tmp_path: Path) -> None:
    """A new encoder on a folder whose weights were replaced uses the new ones."""
    path = make_static(tmp_path / "model")
    old = KoE5Encoder(path)
    before, digest = old.encode_queries(TEXTS), str(old.fingerprint)
    table = load_file(path / "model.safetensors")["embedding.weight"]
    save_file({"embedding.weight": table[::-1].copy()}, path / "model.safetensors")
    os.utime(path / "model.safetensors", ns=(1, 1))  # as if a coarse clock had ticked
    new = KoE5Encoder(path)
    assert str(new.fingerprint) != digest
    assert not np.allclose(new.encode_queries(TEXTS), before)
    # The old encoder stays what its fingerprint says.
    assert str(old.fingerprint) == digest
    np.testing.assert_array_equal(old.encode_queries(TEXTS), before)
