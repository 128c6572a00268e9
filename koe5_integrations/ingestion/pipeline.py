"""Documents to a searchable store: read, split, embed, write durably, load."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, ShardError, SourceError
from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.loading import Loader, load_all
from koe5_integrations.ingestion.outside import Outside
from koe5_integrations.ingestion.places import Opened, Place
from koe5_integrations.ingestion.quarantine import Quarantine
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.ingestion.sources import documents_from, read_sources, source_names
from koe5_integrations.ingestion.summary import Summary
from koe5_integrations.ingestion.writing import ShardWriter, slices
from koe5_integrations.profiles import DEFAULT_MODEL
from koe5_integrations.splitting import TokenSplitter

__all__ = ["ingest", "rebuild"]


def ingest(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    *,
    documents: Iterable[Any] | None = None,
    encoder: KoE5Encoder | str = DEFAULT_MODEL,
    persist_dir: str | os.PathLike[str] | None = None,
    url: str | None = None,
    collection: str | None = None,
    store: Any = None,
    store_name: str | None = None,
    shards: str | os.PathLike[str] | None = None,
    sync: bool = False,
    source: str = "documents",
    text_field: str = "text",
    id_field: str = "id",
    metadata_fields: Sequence[str] | None = None,
    chunk_tokens: int | None = None,
    overlap_tokens: int = 0,
    sentences: Literal["auto", "rule", "kiwi"] = "auto",
    shard_size: int | None = None,
    engine: Literal["local", "ray", "files"] = "local",
    actors: int = 1,
    gpus_per_actor: float = 0,
    on_progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Make documents searchable, and keep what is searchable in step with them.

    Run again, it does only what is missing: after a crash at any point, after documents were added
    or changed. Nothing is embedded twice. What can't be ingested is left out and written to
    ``quarantine.jsonl`` in the shards' folder, with the reason.

    Args:
        sources: files, folders and globs, see :func:`~koe5_integrations.ingestion.read_sources`.
        documents: instead of ``sources``: any iterable of LangChain or LlamaIndex documents, of
            LlamaIndex nodes, of mappings with ``text``, ``id`` and metadata, or of texts. Read once
            and lazily.
        encoder: or the name of its model.
        persist_dir: folder of an embedded Chroma database.
        url: of a Chroma server, instead.
        collection: its name there; made if there is none.
        store: instead of a Chroma collection: a LangChain ``VectorStore`` or a LlamaIndex vector
            store, with our embeddings.
        store_name: of what that store holds, if another process will still find it there; without
            it everything is loaded once for each Python object.
        shards: folder that holds the vectors durably; None is ``PERSIST_DIR.shards/COLLECTION``.
        sync: also remove the documents of these sources that are no longer in them.
        source: what ``documents`` are called, for ``sync``.
        text_field: which column or key holds the text, of JSONL, CSV and Parquet.
        id_field: likewise the id.
        metadata_fields: likewise the metadata; None takes all others.
        chunk_tokens: longest passage; None is what the model reads.
        overlap_tokens: of each passage repeated in the next.
        sentences: see :class:`~koe5_integrations.splitting.TokenSplitter`.
        shard_size: passages written at once; None goes by the model's speed.
        engine: what embeds: this process, ``ray`` (a cluster, or this machine), or whoever takes
            the ``files`` that are written for it: see docs/scaling.md.
        actors: of Ray, each with a model of its own.
        gpus_per_actor: likewise.
        on_progress: called after each step with the counts so far.

    Raises:
        SourceError: a source can't be read at all.
        FingerprintMismatchError: shards or collection were made by another model.
        CollectionError: the collection is not one of ours.
        LockedError: another process is writing there.
        StoreError: the store failed; run it again to load what it has not taken.
        ShardError: the shards are damaged.
        ConfigError: impossible arguments.
        ModelLoadError: the model can't be had.
    """
    if (sources is None) == (documents is None):
        raise ConfigError("give either sources= or documents=")
    if isinstance(encoder, str):
        encoder = KoE5Encoder(encoder)
    if engine not in ("local", "ray", "files"):
        raise ConfigError(f"engine={engine!r} must be 'local', 'ray' or 'files'")
    if shard_size is not None and shard_size < 1:
        raise ConfigError(f"shard_size={shard_size!r} must be at least 1")
    splitter = TokenSplitter(
        encoder,
        chunk_tokens=chunk_tokens,
        overlap_tokens=overlap_tokens,
        sentences=sentences,
    )
    place = Place.of(
        persist_dir=persist_dir,
        url=url,
        collection=collection,
        store=store,
        store_name=store_name,
        shards=shards,
    )
    _ = splitter.settings  # can fail, and should before anything is made
    run = _Run(on_progress)
    items: Iterable[Document | Rejected]
    if sources is None:
        names = [source]
        items = documents_from(documents or (), source=source)
    else:
        names = source_names(sources)
        items = read_sources(
            sources,
            text_field=text_field,
            id_field=id_field,
            metadata_fields=metadata_fields,
            on_read=run.read_bytes,
        )
    with place.open(encoder) as opened:
        quarantine = Quarantine(opened.shards.path / "quarantine.jsonl", names)
        opened.shards.start_run()
        with run.loading(opened, opened.damage) as loader:
            outside = Outside(opened.shards, quarantine, run.summary, written=loader.add)
            outside.collect()
            writer = ShardWriter(
                opened.shards,
                encoder,
                splitter,
                quarantine,
                run.summary,
                shard_size=shard_size,
                written=loader.add,
                hand_out=None if engine == "local" else outside.hand_out,
            )
            try:
                for part in slices(items):
                    writer.take(part)
                    run.tell()
            except Exception:
                writer.settle()  # the fault is not that of the documents before
                raise
            writer.finish()
            if engine == "ray":
                outside.embed_with_ray(encoder, actors, gpus_per_actor, told=run.tell)
            if sync:
                run.summary.not_synced = sorted(writer.unreadable)
                sound = [name for name in names if name not in writer.unreadable]
                _remove_unseen(opened.shards, sound, run.summary, loader)
            loader.finish(run.tell)
    if quarantine.count:
        run.summary.quarantine = quarantine.path
    return run.end()


def rebuild(
    *,
    encoder: KoE5Encoder | str = DEFAULT_MODEL,
    persist_dir: str | os.PathLike[str] | None = None,
    url: str | None = None,
    collection: str | None = None,
    store: Any = None,
    store_name: str | None = None,
    shards: str | os.PathLike[str] | None = None,
    on_progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Empty a store and load it anew from its shards; nothing is embedded.

    Whatever else was put into that collection or store goes too. Arguments and errors as
    :func:`ingest`; ``encoder`` is not loaded, only compared.

    Raises:
        ShardError: there are no shards.
    """
    if isinstance(encoder, str):
        encoder = KoE5Encoder(encoder)
    place = Place.of(
        persist_dir=persist_dir,
        url=url,
        collection=collection,
        store=store,
        store_name=store_name,
        shards=shards,
    )
    if not place.shards.is_dir():
        raise ShardError(
            f"{place.shards}: there are no shards here to build a store from; ingest the documents"
        )
    run = _Run(on_progress)
    with place.open(encoder) as opened:
        if not opened.damage:
            opened.store.reset()
        with run.loading(opened, opened.damage or "asked for") as loader:
            loader.finish(run.tell)
    return run.end()


def _remove_unseen(
    shards: ShardFolder, sources: Sequence[str], summary: Summary, loader: Loader
) -> None:
    """Remove the documents of these sources that did not come in this run.

    Raises:
        SourceError: nothing at all came, as if the source were gone.
    """
    for ids in shards.unseen(sources):
        if not summary.read:
            raise SourceError(
                f"nothing was read from {', '.join(sources)}, so sync=True would remove all that "
                "is stored of it: check the source; to remove it all the same, delete the "
                "collection and its shards"
            )
        no_vectors = np.empty((0, shards.dim), dtype=np.float32)
        loader.add(shards.write([], no_vectors, removed=ids))
        summary.removed += len(ids)
        summary.shards += 1


class _Run:
    """Counts one run, and tells of it."""

    def __init__(self, on_progress: Callable[[Summary], None] | None) -> None:
        self.summary = Summary()
        self._on_progress = on_progress
        self._started = time.perf_counter()

    def read_bytes(self, n: int) -> None:
        self.summary.bytes_read += n

    def tell(self) -> None:
        self.summary.seconds = time.perf_counter() - self._started
        if self._on_progress is not None:
            self._on_progress(self.summary)

    @contextmanager
    def loading(self, opened: Opened, rebuilt: str) -> Iterator[Loader]:
        """Load what an earlier run left, and what this one adds; check that nothing is missing."""
        self.summary.rebuilt = rebuilt
        with Loader(opened.shards, opened.store, self._loaded) as loader:
            yield loader
        self.summary.documents, self.summary.passages = opened.shards.count()
        stored = opened.store.count()
        if stored is not None and stored < self.summary.passages:
            missing = self.summary.passages - stored
            self.summary.rebuilt = f"{missing} passages were missing from the store"
            load_all(opened.shards, opened.store, self._loaded)

    def _loaded(self, n: int) -> None:
        self.summary.loaded += n

    def end(self) -> Summary:
        self.tell()
        return self.summary
