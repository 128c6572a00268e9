"""Runs of the examples as their users run them: as processes, without torch or network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = {
    "langchain": EXAMPLES / "rag_langchain_chroma.py",
    "llama_index": EXAMPLES / "rag_llama_index_chroma.py",
}
STRINGS = "파이썬 문자열은 왜 불변인가요?"
QUESTIONS = {
    STRINGS: "d2",
    "부동 소수점 계산이 왜 이렇게 부정확한가요?": "d1",
    "메서드에서 self를 명시적으로 써야 하는 이유가 뭔가요?": "d3",
    "튜플과 리스트를 따로 두는 까닭은?": "d13",
}
FOUND = re.compile(r"^ +\d+\. (-?\d\.\d{4})  (d\d+)  (\S+)$", re.MULTILINE)

# Seen by every process that runs an example: no torch, nothing but this machine.
SITECUSTOMIZE = """
import importlib.abc, os, socket, sys
class Forbid(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["FORBIDDEN"].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Forbid())
connect = socket.socket.connect
def guarded(self, address):
    if isinstance(address, tuple) and address[0] != "127.0.0.1":
        raise OSError(f"the network is denied: {address!r}")
    return connect(self, address)
socket.socket.connect = guarded
"""


@dataclass(frozen=True)
class Ran:
    """What a process did."""

    code: int
    out: str
    err: str

    @property
    def found(self) -> list[tuple[float, str, str]]:
        """Score, id and source of each passage shown."""
        return [(float(score), doc_id, source) for score, doc_id, source in FOUND.findall(self.out)]

    def refused(self, code: int, *words: str) -> None:
        """Check that it failed with one line that says why."""
        assert self.code == code, self
        assert "Traceback" not in self.err
        assert len(self.err.splitlines()) == 1, self.err
        assert self.err.startswith("error: ")
        for word in words:
            assert word in self.err


class Examples:
    """Runs the examples in an environment where torch can't be imported."""

    def __init__(self, home: Path) -> None:
        blocker = home / "blocker"
        blocker.mkdir()
        (blocker / "sitecustomize.py").write_text(SITECUSTOMIZE)
        self.cwd = home / "elsewhere"
        self.cwd.mkdir()
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LANG"))},
            "LANG": "C.UTF-8",
            "LANGSMITH_TRACING": "false",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(blocker),
            "FORBIDDEN": "torch",
        }

    def __call__(self, script: Path | str, *args: str | Path, stdin: str = "", **env: str) -> Ran:
        path = SCRIPTS.get(str(script), script)
        done = subprocess.run(
            [sys.executable, path, *args],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=self.cwd,
            env=self.env | env,
            timeout=120,
        )
        return Ran(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Filled:
    """A folder that an example has filled, and what it said while doing so."""

    framework: str
    folder: Path
    first: Ran


def fill(run: Examples) -> dict[str, Filled]:
    """Each example's first run: from its folder, everything by default, questions from a pipe."""
    return {
        name: Filled(
            name,
            run.cwd / "chroma_faq",
            run(script, "--top-k", "5", stdin="\n".join([*QUESTIONS, "", " "])),
        )
        for name, script in SCRIPTS.items()
    }


@contextmanager
def collection_in(folder: Path, framework: str) -> Iterator[Collection]:
    """The collection an example has on disk, for a test to read or change."""
    import chromadb
    from chromadb.config import Settings

    from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection

    settings = Settings(anonymized_telemetry=False)
    with closing(chromadb.PersistentClient(str(folder), settings)) as client:
        yield open_collection(client, f"python_faq_{framework}", KoE5EmbeddingFunction("koe5-mini"))
