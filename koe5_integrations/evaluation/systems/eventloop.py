"""An event loop that outlives single calls, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["BackgroundLoop"]

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines from code that is not asynchronous, or is already inside a running loop.

    Always the same loop, because clients of remote services keep connections that belong to the
    loop they were opened in. Started at the first use, stopped when garbage.

    Args:
        threads: for what can't be awaited, at most.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return its result; interrupting cancels it."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # The default has but a few more threads than there are cores.
            self._loop.set_default_executor(ThreadPoolExecutor(self._threads))
            thread = threading.Thread(target=_serve, args=[self._loop], daemon=True)
            thread.start()
            weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
