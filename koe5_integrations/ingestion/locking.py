"""One writer at a time in a folder, and a word to the second one about who the first is."""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from koe5_integrations.errors import ConfigError, LockedError, MissingExtraError

try:
    from filelock import FileLock, Timeout
except ImportError as error:
    raise MissingExtraError("koe5_integrations.ingestion", "ingest") from error

__all__ = ["FolderLock", "deputy_lock"]

LOCK_NAME = ".koe5.lock"
# Beside the lock, because Windows lets nobody read a file that is locked.
HOLDER_NAME = ".koe5.lock.json"
_DEPUTY_NAME = ".koe5.deputy.lock"

# For how long a holder may not have said yet who it is, or not be gone yet.
_TRIES, _PAUSE_S = 20, 0.02
# A deputy whose principal was killed ends after the step at hand.
_DEPUTY_S = 60.0


def deputy_lock(folder: Path) -> FileLock:
    """Return the lock of a process that writes there for the one that holds the folder's lock.

    Taken after that one, by a process that makes sure then that its principal still lives; whoever
    comes next waits for it.
    """
    return FileLock(folder / _DEPUTY_NAME, thread_local=False)


class FolderLock:
    """A lock on a folder, held by one object of one process; a context manager.

    The system releases it when the process ends, also by ``kill -9``. On a network drive it holds
    between machines as far as the drive's own locks do.

    Args:
        folder: made if need be.
        purpose: what it is held for, for whoever is refused: ``"koe5 ingest"``.
    """

    def __init__(self, folder: str | os.PathLike[str], purpose: str) -> None:
        self.folder = Path(folder)
        self.purpose = purpose
        # Released by whichever thread closes what it protects.
        self._lock = FileLock(self.folder / LOCK_NAME, thread_local=False)

    def acquire(self) -> None:
        """Take the lock, or raise at once; wait only for the deputy of a holder that was killed.

        Raises:
            LockedError: another process, or another object of this one, holds it.
            ConfigError: the folder can't be made or written.
        """
        self._take()
        if not (self.folder / _DEPUTY_NAME).exists():
            return
        try:
            with deputy_lock(self.folder).acquire(timeout=_DEPUTY_S):
                pass
        except Timeout as error:
            self.release()
            raise LockedError(
                f"{self.folder} is still being written by a process that was started by one which "
                "has been killed: it ends by itself after what it has at hand"
            ) from error

    def _take(self) -> None:
        holder: dict[str, Any] | None = None
        for _ in range(_TRIES):
            # The library lets the object that holds a lock take it again.
            if not self._lock.is_locked and self._taken():
                return
            holder = self._holder()
            if holder is not None and _alive(holder):
                break
            time.sleep(_PAUSE_S)
        raise LockedError(_refusal(self.folder, holder))

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        if self._lock.is_locked:
            with suppress(OSError):
                (self.folder / HOLDER_NAME).unlink()
            self._lock.release()

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _taken(self) -> bool:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            raise ConfigError(
                f"{self.folder} can't be locked for writing: {error.strerror or error}; see to its "
                "permissions, or choose another folder"
            ) from error
        holder = {
            "pid": os.getpid(),
            "host": platform.node(),
            "purpose": self.purpose,
            "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        }
        written = self.folder / f"{HOLDER_NAME}.{os.getpid()}.tmp"
        # Without it the lock holds as well; only what is said to the second is less.
        with suppress(OSError):
            written.write_text(json.dumps(holder, ensure_ascii=False), encoding="utf-8")
            written.replace(self.folder / HOLDER_NAME)
        return True

    def _holder(self) -> dict[str, Any] | None:
        try:
            said = json.loads((self.folder / HOLDER_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return said if isinstance(said, dict) else None


def _alive(holder: dict[str, Any]) -> bool:
    """Whether the process may be running; one that was killed can't tidy up what it said."""
    pid = holder.get("pid")
    # On Windows, sending the signal 0 ends the process.
    if holder.get("host") != platform.node() or os.name == "nt" or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _refusal(folder: Path, holder: dict[str, Any] | None) -> str:
    if holder is None:
        who = "another process, which has not said who it is"
    elif holder.get("pid") == os.getpid() and holder.get("host") == platform.node():
        who = f"this very process ({holder.get('purpose')}, since {holder.get('since')})"
    else:
        who = (
            f"process {holder.get('pid')} on {holder.get('host')} ({holder.get('purpose')}, since "
            f"{holder.get('since')})"
        )
    return (
        f"{folder} is being written by {who}: wait until that has ended, or end it; the lock ends "
        "with it"
    )
