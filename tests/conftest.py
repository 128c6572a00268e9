"""Fixtures that tests share: small models, encoders with caches, no network but this machine."""

from __future__ import annotations

import os

# Before any model library reads them: no hub, no telemetry, no progress bars in the test log.
os.environ.update(
    HF_HUB_OFFLINE="1",
    ANONYMIZED_TELEMETRY="False",
    LANGSMITH_TRACING="false",
    TOKENIZERS_PARALLELISM="false",
)

import gc
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_static, make_xlm_roberta

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test marked ``alone`` in a process of its own, where this one is one of several.

    It sends its process a signal, and would end a worker of pytest-xdist with it.
    """
    if pyfuncitem.get_closest_marker("alone") is None or "PYTEST_XDIST_WORKER" not in os.environ:
        return None
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return True


@pytest.fixture(scope="session", autouse=True)
def no_exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the exports of whoever runs the tests, which would change what ``auto`` picks."""
    import huggingface_hub.constants  # reads the same variable, and keeps to what it finds first

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", huggingface_hub.constants.HF_HOME)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test tried to reach {address!r}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def xlm_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KoE5's architecture in small (dim 32, 64 tokens), with the prompts trap in its configuration.

    Its configuration names the prompts ``query`` and ``passage``, for which sentence-transformers'
    ``encode_document`` finds no prefix, and a default prompt that would come on top of ours.
    """
    pytest.importorskip("sentence_transformers")
    return make_xlm_roberta(
        tmp_path_factory.mktemp("models") / "tiny-koe5",
        prompts={"query": "query: ", "passage": "passage: "},
        default_prompt_name="query",
    )


@pytest.fixture(scope="session")
def static_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static embedding (dim 16) that loads without torch."""
    return make_static(tmp_path_factory.mktemp("models") / "tiny-static")


@pytest.fixture(scope="session")
def other_static_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same size."""
    return make_static(tmp_path_factory.mktemp("models") / "other-static", seed=1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of evaluation data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs {SHARED_DATA}, which is not shipped")
    return SHARED_DATA


@pytest.fixture
def fresh_models() -> Iterator[None]:
    """No model loaded before, none left after."""
    from koe5_integrations import release_models

    release_models()
    yield
    release_models()


@pytest.fixture
def loads(fresh_models: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of which a model has been loaded."""
    import koe5_integrations.handle

    seen: list[str] = []
    load = koe5_integrations.handle.load_backend

    def counted(folder: Any, *args: Any, **options: Any) -> Any:
        seen.append(str(folder.path))
        return load(folder, *args, **options)

    monkeypatch.setattr(koe5_integrations.handle, "load_backend", counted)
    return seen


@pytest.fixture(scope="module")
def quick_collections() -> Iterator[None]:
    """Leave out what was there before: looking through all frameworks takes half a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def nothing_in_memory(quick_collections: None) -> None:
    """Caches in memory end with their encoders, which errors that were caught may still hold."""
    gc.collect()


@pytest.fixture(params=["memory", "disk", "both"])
def cached(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Make an encoder with a cache of each kind."""
    from koe5_integrations import KoE5Encoder

    size = {"embedding_cache_size": 1000} if request.param != "disk" else {}
    folder = {"embedding_cache": tmp_path / "cache"} if request.param != "memory" else {}
    return lambda path, **options: KoE5Encoder(path, **size, **folder, **options)
