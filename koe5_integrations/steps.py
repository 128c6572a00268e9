"""Work that computes, waits and goes on, written once for callers with and without an event loop.

Such work is a generator. It yields a future to wait for it and is sent its result, and it yields
None before it does what may block: read a file, load a model, go through many texts. Closing it
gives the work up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = ["Steps", "run", "run_async"]

T = TypeVar("T")
Steps: TypeAlias = Generator[Future[Any] | None, Any, T]


@dataclass(frozen=True, slots=True)
class _Done(Generic[T]):
    result: T


def run(steps: Steps[T]) -> T:
    """Run work in this thread; it is given up if the wait is interrupted (Ctrl-C)."""
    try:
        step = _advance(steps, None)
        while not isinstance(step, _Done):
            step = _advance(steps, None if step is None else step.result())
        return step.result
    finally:
        steps.close()


async def run_async(steps: Steps[T]) -> T:
    """Run work beside an event loop: what may block in threads, waiting in none."""
    step = _advance(steps, None)
    while not isinstance(step, _Done):
        if step is None:
            step = await _advance_in_thread(steps)
            continue
        try:
            sent = await asyncio.wrap_future(step)
        except BaseException:
            steps.close()
            raise
        step = _advance(steps, sent)
    return step.result


def _advance(steps: Steps[T], sent: Any) -> Future[Any] | _Done[T] | None:
    try:
        return steps.send(sent)
    except StopIteration as stop:
        return _Done(stop.value)


async def _advance_in_thread(steps: Steps[T]) -> Future[Any] | _Done[T]:
    def advance() -> Future[Any] | _Done[T]:
        step = _advance(steps, None)
        while step is None:
            step = _advance(steps, None)
        return step

    stepping = asyncio.ensure_future(asyncio.to_thread(advance))
    try:
        return await asyncio.shield(stepping)
    except asyncio.CancelledError:
        # A thread can't be stopped; but it only goes as far as the next wait.
        stepping.add_done_callback(lambda done: _give_up(done, steps))
        raise


def _give_up(done: asyncio.Future[Any], steps: Steps[T]) -> None:
    if done.cancelled():
        return  # the loop ends, the thread still runs: what it lets go of closes itself
    done.exception()  # or asyncio would report that nobody looked at it
    steps.close()
