"""A process that writes to an embedded Chroma collection while its parent embeds."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koe5_integrations.ingestion.locking import deputy_lock
from koe5_integrations.ingestion.stores.chroma_database import connect
from koe5_integrations.types import Vectors

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection

__all__ = ["ChromaProcess", "replace"]

_START_S = 60.0


def replace(
    collection: Collection,
    ids: Sequence[str],
    vectors: Vectors,
    texts: Sequence[str],
    metadatas: Sequence[dict[str, Any]],
    *,
    alone: bool = True,
) -> None:
    """Store rows; what was there under their ids goes, metadata too.

    Args:
        collection: of Chroma.
        ids: of the rows, all different.
        vectors: float32, shape (len(ids), dim).
        texts: of the rows.
        metadatas: likewise.
        alone: nobody else writes to the collection.
    """
    stored = collection.get(list(ids), include=["metadatas"])
    before = dict(zip(stored["ids"], stored["metadatas"] or [], strict=True))
    # An add is quicker than an upsert. Of an id that is there, it would keep the old vector without
    # a word.
    store = collection.add if alone and not before else collection.upsert
    # Chroma merges: a key that is not named stays, one that is None goes. Its types don't know.
    # It takes None for no metadata, but no empty one.
    replacing: Any = [
        {**dict.fromkeys(before.get(id) or {}), **metadata} or None
        for id, metadata in zip(ids, metadatas, strict=True)
    ]
    store(list(ids), embeddings=vectors, documents=list(texts), metadatas=replacing)


class ChromaProcess:
    """Does in a process of its own what holds the interpreter's lock throughout.

    chromadb 1.5.9 lets no other thread of Python run until an upsert has ended. The process opens
    the database when it is first asked for something, and should be the only one that has it open
    then. Nobody else gets the folder's lock for as long as it lives; where its parent dies, it ends
    after what it has at hand.

    Args:
        folder: of the database, locked by the parent.
        collection_name: of a collection that exists.

    Raises:
        OSError: no process can be started here.
        RuntimeError: what was started is no Python.
    """

    def __init__(self, folder: Path, collection_name: str) -> None:
        if getattr(sys, "frozen", False):
            raise OSError("in a frozen application there is no Python to start")
        code = f"from {__name__} import _serve; _serve()"
        self._child = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps([str(folder), collection_name])],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        # What is no Python may never answer.
        patience = threading.Timer(_START_S, self._child.kill)
        patience.start()
        try:
            self._receive()
        except BaseException:
            self.close()
            raise
        finally:
            patience.cancel()

    def replace(
        self,
        ids: Sequence[str],
        vectors: Vectors,
        texts: Sequence[str],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Do as :func:`replace`, which see.

        Raises:
            RuntimeError: Chroma refused, or brought the process down.
        """
        self._ask("replace", ids, vectors, texts, metadatas)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows; errors as :meth:`replace`."""
        self._ask("delete", ids)

    def count(self) -> int:
        """How many rows there are; errors as :meth:`replace`."""
        return int(self._ask("count"))

    def close(self) -> None:
        """End it, after what it has at hand; it can be closed once only.

        Raises:
            RuntimeError: it did not end in order, which no call has said yet.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        # It may have ended before it was sent everything.
        with suppress(BrokenPipeError):
            self._child.stdin.close()
        known = self._child.returncode is not None
        self._child.wait()
        self._child.stdout.close()
        if not known and self._child.returncode:
            raise RuntimeError(self._ended())

    def _ask(self, what: str, *arguments: Any) -> Any:
        assert self._child.stdin is not None
        # Where it has ended, there is no answer, which says how.
        with suppress(BrokenPipeError):
            pickle.dump((what, arguments), self._child.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._child.stdin.flush()
        return self._receive()

    def _receive(self) -> Any:
        assert self._child.stdout is not None
        try:
            problem, value = pickle.load(self._child.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise RuntimeError(self._ended()) from None
        if problem:
            raise RuntimeError(problem)
        return value

    def _ended(self) -> str:
        code = self._child.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"the process that loads it {how}"


def _serve() -> None:
    """Do the work of the child: what it is asked on stdin, until that ends."""
    # Meant for the parent, which closes stdin when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody else writes among the answers

    def answer(problem: str, value: object) -> None:
        with suppress(BrokenPipeError):  # its parent has been killed, which stdin will tell
            os.write(answers, pickle.dumps((problem, value)))

    warnings.simplefilter("ignore")  # said in the parent
    place, name = json.loads(sys.argv[1])
    with deputy_lock(Path(place)), ExitStack() as opened:
        answer("", None)
        calls: dict[str, Callable[..., Any]] = {}
        while True:
            try:
                what, arguments = pickle.load(sys.stdin.buffer)
            except (EOFError, pickle.UnpicklingError):
                break
            try:
                if not calls:
                    client = opened.enter_context(connect(Path(place), None))
                    collection = client.get_collection(name, embedding_function=None)
                    calls |= {
                        "replace": partial(replace, collection),
                        "delete": collection.delete,
                        "count": collection.count,
                    }
                answer("", calls[what](*arguments))
            except Exception as error:
                answer(str(error) or type(error).__name__, None)
