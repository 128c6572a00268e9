"""Embeddings kept on disk, so that a repeated or interrupted evaluation computes only what is new.

One SQLite file per model and settings (its name is the encoder's fingerprint), because SQLite makes
each write whole or absent, also when the process is killed, and lets several processes share it.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import CacheWarning, ConfigError
from koe5_integrations.types import Role, Vectors
from koe5_integrations.warn import warn

__all__ = ["CacheWarning", "EmbeddingCache", "default_cache_folder"]

_SLICE = 1024
# SQLite allows 32,766 parameters in a statement, older ones 999.
_KEYS_AT_ONCE = 900
_CHECKSUM = 4
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"


def default_cache_folder() -> Path:
    """Return ``koe5/embeddings`` under ``$XDG_CACHE_HOME``, or else under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "koe5/embeddings"


class EmbeddingCache:
    """Vectors by encoder fingerprint, role and text.

    An entry is found again only by an encoder of the same fingerprint, for the same role and the
    same text. Each carries a checksum; a damaged one is computed again and replaced.

    Args:
        folder: where the files are; made when something is first stored.

    Raises:
        ConfigError: ``folder`` is a file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"cache folder {str(self.folder)!r} is a file: name a folder")

    def file(self, encoder: KoE5Encoder) -> Path:
        """Return the file that holds an encoder's vectors."""
        return self.folder / f"{encoder.fingerprint}.sqlite3"

    def encode(
        self,
        encoder: KoE5Encoder,
        texts: Sequence[str],
        role: Role,
        *,
        show_progress: bool = False,
    ) -> tuple[Vectors, int]:
        """Return the vectors of texts, and how many had to be computed.

        What is computed is stored every 1,024 texts, so that an interrupted run goes on there.
        Equal texts are computed once.

        Args:
            encoder: computes what is missing.
            texts: bare texts; the encoder adds the prefix of the role.
            role: ``query`` or ``passage``.
            show_progress: draw a progress bar on stderr.

        Returns:
            float32, shape (len(texts), dim), and the number of texts computed.

        Raises:
            ConfigError: the folder can't be used (permissions, disk full, locked for a minute).
            KoE5Error: as :meth:`KoE5Encoder.encode_queries`, which names positions in the slice of
                texts that was being computed.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            return self._encode(encoder, texts, role, show_progress)
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error
        except sqlite3.DatabaseError as error:
            self._set_aside(self.file(encoder), error)
            return self._encode(encoder, texts, role, show_progress)

    def _encode(
        self, encoder: KoE5Encoder, texts: Sequence[str], role: Role, show_progress: bool
    ) -> tuple[Vectors, int]:
        keys = _keys(encoder, role, texts)
        rows = {key: row for row, key in enumerate(dict.fromkeys(keys))}
        distinct = dict(zip(keys, texts, strict=True))
        vectors: Vectors = np.empty((len(rows), encoder.dim), dtype=np.float32)
        with closing(sqlite3.connect(self.file(encoder), timeout=60)) as database:
            database.execute(_TABLE)
            known = _read(database, rows, vectors)
            missing = [key for key in rows if key not in known]
            new = encode_in_slices(
                encoder, [distinct[key] for key in missing], role, show_progress=show_progress
            )
            for start, computed in new:
                added = missing[start : start + len(computed)]
                vectors[[rows[key] for key in added]] = computed
                packed = zip(added, map(_pack, added, computed), strict=True)
                with database:
                    database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", packed)
        if len(rows) < len(keys):
            vectors = vectors[[rows[key] for key in keys]]
        return vectors, len(missing)

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"embedding cache {str(self.folder)!r}: {error}; see to space and permissions there, "
            "or choose another folder"
        )

    def _set_aside(self, file: Path, error: sqlite3.Error) -> None:
        aside = file.with_suffix(".damaged")
        file.replace(aside)
        # It belongs to the damaged file and would be applied to the new one.
        file.with_name(f"{file.name}-journal").unlink(missing_ok=True)
        warn(
            CacheWarning(
                f"{file} is damaged ({error}) and was set aside as {aside.name}; what it held is "
                "computed again"
            )
        )


def encode_in_slices(
    encoder: KoE5Encoder, texts: Sequence[str], role: Role, *, show_progress: bool = False
) -> Iterator[tuple[int, Vectors]]:
    """Yield the start of each slice of 1,024 texts and its vectors, under one progress bar."""
    encode: Callable[[Sequence[str]], Vectors] = (
        encoder.encode_queries if role == "query" else encoder.encode_passages
    )
    bar = tqdm(total=len(texts), desc=f"embedding {role}", unit="text", disable=not show_progress)
    with bar:
        for start in range(0, len(texts), _SLICE):
            vectors = encode(texts[start : start + _SLICE])
            yield start, vectors
            bar.update(len(vectors))


def _keys(encoder: KoE5Encoder, role: Role, texts: Sequence[str]) -> list[bytes]:
    # on_prefixed decides what becomes of a text that already starts with a prefix.
    on_prefixed = encoder.config().get("on_prefixed", "warn")
    common = hashlib.sha256(f"{encoder.fingerprint}\0{role}\0{on_prefixed}\0".encode())
    keys = []
    for text in texts:
        key = common.copy()
        key.update(text.encode(errors="surrogatepass"))
        keys.append(key.digest())
    return keys


def _pack(key: bytes, vector: Vectors) -> bytes:
    stored = vector.astype("<f4").tobytes()
    return stored + zlib.crc32(key + stored).to_bytes(_CHECKSUM, "little")


def _read(database: sqlite3.Connection, rows: dict[bytes, int], vectors: Vectors) -> set[bytes]:
    """Fill in the vectors that are stored and sound, and return their keys."""
    known: set[bytes] = set()
    keys = list(rows)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        wanted = keys[start : start + _KEYS_AT_ONCE]
        marks = ",".join("?" * len(wanted))
        query = f"SELECT key, CAST(vector AS BLOB) FROM vectors WHERE key IN ({marks})"
        for key, packed in database.execute(query, wanted):
            stored = packed[:-_CHECKSUM]
            checksum = zlib.crc32(key + stored).to_bytes(_CHECKSUM, "little")
            if len(stored) == vectors.shape[1] * 4 and packed[-_CHECKSUM:] == checksum:
                vectors[rows[key]] = np.frombuffer(stored, dtype="<f4")
                known.add(key)
    return known
