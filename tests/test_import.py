"""Tests of what importing the package costs, and of what is said when a part is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import koe5_integrations

FOREIGN = [
    "torch",
    "transformers",
    "sentence_transformers",
    "tokenizers",
    "numpy",
    "huggingface_hub",
    "pydantic",
    "langchain",
    "langchain_core",
    "llama_index",
    "chromadb",
    "haystack",
    "typer",
    "rich",
]
EXTRAS = {
    "koe5_integrations.backends.torch": ("torch", ["torch", "sentence_transformers"]),
    "koe5_integrations.backends.onnx": ("onnx", ["onnxruntime"]),
    "koe5_integrations.backends.openvino": ("openvino", ["openvino"]),
    "koe5_integrations.exporting.write": ("export", ["onnx_ir", "onnxscript"]),
    "koe5_integrations.langchain": ("langchain", ["langchain_core"]),
    "koe5_integrations.llama_index": ("llama-index", ["llama_index"]),
    "koe5_integrations.chroma": ("chroma", ["chromadb"]),
    "koe5_integrations.haystack": ("haystack", ["haystack"]),
    "koe5_integrations.ingestion.shards": ("ingest", ["pyarrow"]),
    "koe5_integrations.ingestion.locking": ("ingest", ["filelock"]),
    "koe5_integrations.training.run.arguments": ("train", ["accelerate"]),
    "koe5_integrations.ingestion.ray_engine": ("ray", ["ray"]),
    "koe5_integrations.langchain_splitting": (
        "langchain",
        ["langchain_core", "langchain_text_splitters"],
    ),
    "koe5_integrations.llama_index_splitting": ("llama-index", ["llama_index"]),
    "koe5_integrations.langchain_hybrid": ("langchain", ["langchain_core"]),
    "koe5_integrations.llama_index_hybrid": ("llama-index", ["llama_index"]),
}
BLOCK = """
import importlib.abc, json, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def outcome(work):
    try:
        return "worked", repr(work()), ""
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "extra", "")

blocked = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Block())
"""


def run(code: str, *args: str) -> Any:
    """Run code in a process of its own and return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def without_extras(static_model: Path, xlm_roberta: Path) -> dict[str, list[str]]:
    """What happens in a process where no optional dependency is installed."""
    blocked = [name for _, names in EXTRAS.values() for name in [*names, "transformers"]]
    code = f"""{BLOCK}
from importlib import import_module
from koe5_integrations import KoE5Encoder
static, transformer = sys.argv[2:]
print(json.dumps({{
    **{{name: outcome(lambda: import_module(name)) for name in {list(EXTRAS)!r}}},
    "static": outcome(lambda: KoE5Encoder(static).encode_queries(["파이썬"]).shape),
    "transformer": outcome(lambda: KoE5Encoder(transformer).encode_queries(["파이썬"]).shape),
    "count": outcome(lambda: len(KoE5Encoder(transformer).count_tokens(["파이썬"], "query"))),
}}))
"""
    result: dict[str, list[str]] = run(
        code, json.dumps(blocked), str(static_model), str(xlm_roberta)
    )
    return result


def test_importing_loads_nothing_else() -> None:
    """Importing the package loads no model library, no framework and not even numpy."""
    code = """
import json, sys
import koe5_integrations
print(json.dumps(sorted(sys.modules)))
"""
    assert not {name.partition(".")[0] for name in run(code)} & set(FOREIGN)


def test_the_encoder_loads_no_model_library() -> None:
    """The encoder can be imported and made without torch, transformers or a framework."""
    code = """
import json, sys
from koe5_integrations import PROFILES, KoE5Encoder
KoE5Encoder()
print(json.dumps(sorted(sys.modules)))
"""
    loaded = {name.partition(".")[0] for name in run(code)}
    heavy = {"torch", "transformers", "sentence_transformers", "langchain_core", "llama_index"}
    assert not loaded & (heavy | {"chromadb", "pydantic"})


@pytest.mark.parametrize("name", koe5_integrations.__all__)
def test_every_public_name_resolves(name: str) -> None:
    """Each name of ``__all__`` is there, and listed by ``dir``."""
    assert getattr(koe5_integrations, name) is not None
    assert name in dir(koe5_integrations)


def test_other_names_are_attribute_errors() -> None:
    """An unknown name is refused as of any module."""
    with pytest.raises(AttributeError, match="'koe5_integrations' has no attribute 'KoE6'"):
        koe5_integrations.KoE6  # noqa: B018  # the access is the test


def test_changes_no_logging_and_no_environment() -> None:
    """Importing and making an encoder sets no environment variable and no log handler."""
    code = """
import json, logging, os
before = dict(os.environ), list(logging.root.handlers), logging.root.level
import koe5_integrations.encoder
koe5_integrations.encoder.KoE5Encoder()
after = dict(os.environ), list(logging.root.handlers), logging.root.level
print(json.dumps(before == after))
"""
    assert run(code) is True


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    without_extras: dict[str, list[str]], module: str
) -> None:
    """Importing a part whose dependency is missing says exactly what to install."""
    kind, message, extra = without_extras[module]
    assert (kind, extra) == ("MissingExtraError", EXTRAS[module][0])
    assert message.endswith(f'pip install "koe5-integrations[{extra}]"')


def test_a_transformer_without_torch_is_a_missing_extra(
    without_extras: dict[str, list[str]],
) -> None:
    """Encoding with a model that needs torch says so; counting its tokens needs none."""
    assert without_extras["transformer"][::2] == ["MissingExtraError", "torch"]
    assert without_extras["count"][:2] == ["worked", "1"]


def test_a_static_model_needs_no_extra(without_extras: dict[str, list[str]]) -> None:
    """The base install embeds with a static model."""
    assert without_extras["static"][:2] == ["worked", "(1, 16)"]
