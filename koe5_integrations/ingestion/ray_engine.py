"""Many pending shards at once, on the machines of a Ray cluster.

What Ray Data hands out is the names of files; an actor that holds the model makes of each a
finished shard. So a file is what is done or not done: one that is finished is never embedded again,
whoever was killed, and no document is torn apart or lost with a block of rows.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from koe5_integrations.errors import ConfigError, KoE5Error, MissingExtraError, SourceError

try:
    import ray
    import ray.data
except ImportError as error:
    raise MissingExtraError("koe5_integrations.ingestion.ray_engine", "ray") from error

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.ingestion.embed_shard import ShardReport, embed_shard

__all__ = ["embed_with_ray"]

# Files a task takes, at most: Ray keeps an object for each task, and a million are too many.
_MOST_TASKS = 10_000
# With fewer free than the actors take, reading the list of files may never get its turn.
_CPUS_TO_SPARE = 2


def embed_with_ray(
    pending: str | os.PathLike[str],
    finished: str | os.PathLike[str],
    *,
    encoder: KoE5Encoder,
    actors: int = 1,
    gpus_per_actor: float = 0,
    cpus_per_actor: float = 1,
) -> Iterator[ShardReport]:
    """Embed all pending shards of a folder, and yield what became of each as it is done.

    Uses the Ray that this process is connected to, else the cluster of ``RAY_ADDRESS`` or the one
    this machine belongs to, else one of its own. Nothing is done before the first report is asked
    for. Run again after whatever happened, it embeds what is not finished.

    Args:
        pending: folder of ``*.parquet``, see
            :func:`~koe5_integrations.ingestion.pending.write_pending`; every machine must see it
            under this path.
        finished: folder for the shards, of the same names, and for what
            :func:`~koe5_integrations.ingestion.embed_shard.embed_shard` writes beside them; made
            if need be, and seen by every machine too.
        encoder: its settings go to the actors, which load the model themselves; a server's key
            does not, and must be in their environment.
        actors: processes that hold the model.
        gpus_per_actor: of each, 0.5 for two actors on one GPU.
        cpus_per_actor: threads that each may use.

    Raises:
        ConfigError: impossible values, or Ray on this machine has not got what they ask for.
        SourceError: there is no such folder, or one of the machines does not see it.
        FingerprintMismatchError: the files were written for another model or other settings.
        ShardError: a file is damaged, or can't be written.
        ModelLoadError: an actor can't have the model.
        EmbeddingServerError: a server that embeds fails.
    """
    if actors < 1 or gpus_per_actor < 0 or cpus_per_actor <= 0:
        raise ConfigError(
            f"actors={actors!r} must be at least 1, gpus_per_actor={gpus_per_actor!r} at least 0 "
            f"and cpus_per_actor={cpus_per_actor!r} above 0"
        )
    folder, target = Path(pending).absolute(), Path(finished).absolute()
    if not folder.is_dir():
        raise SourceError(f"{folder}: there is no such folder of passages to be embedded")
    files = sorted(folder.glob("*.parquet"))
    target.mkdir(parents=True, exist_ok=True)
    if not files:
        return iter(())
    _connect(actors, gpus_per_actor, cpus_per_actor)
    return _reports(
        files,
        target,
        encoder.config(),
        num_cpus=cpus_per_actor,
        num_gpus=gpus_per_actor or None,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(files))),
    )


def _reports(
    files: Sequence[Path], finished: Path, config: dict[str, Any], **resources: Any
) -> Iterator[ShardReport]:
    names = ray.data.from_items(
        [{"pending": str(file)} for file in files],
        override_num_blocks=min(len(files), _MOST_TASKS),
    )
    done = names.map_batches(
        _ShardEmbedder, fn_constructor_args=(config, str(finished)), batch_size=1, **resources
    )
    done.context.enable_progress_bars = False  # each report is progress, to be shown as one likes
    for row in done.iter_rows():
        outcome: ShardReport | Exception = pickle.loads(row["outcome"])
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome


class _ShardEmbedder:
    """An actor: holds the model, and makes finished shards of pending ones.

    Args:
        config: of the encoder.
        finished: folder for the shards.
    """

    def __init__(self, config: dict[str, Any], finished: str) -> None:
        self._config = config
        self._finished = Path(finished)
        self._encoder: KoE5Encoder | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        # An error is a result too: Ray would wrap it, and lose its type.
        return {"outcome": [pickle.dumps(self._outcome(Path(p))) for p in batch["pending"]]}

    def _outcome(self, pending: Path) -> ShardReport | Exception:
        try:
            if not self._finished.is_dir():
                raise SourceError(
                    f"{self._finished}: there is no such folder on {platform.node()}; every "
                    "machine that embeds must see it under this path"
                )
            if self._encoder is None:
                self._encoder = KoE5Encoder(**self._config)
            return embed_shard(pending, self._finished / pending.name, encoder=self._encoder)
        except (KoE5Error, OSError) as error:
            return error


def _connect(actors: int, gpus_per_actor: float, cpus_per_actor: float) -> None:
    """Connect to a cluster, or start Ray on this machine.

    Raises:
        ConfigError: this machine has fewer GPUs.
    """
    if ray.is_initialized():
        return
    with contextlib.suppress(ConnectionError):
        ray.init(address="auto", log_to_driver=False)
        return
    # Ray reports its use to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    needed = int(actors * cpus_per_actor) + _CPUS_TO_SPARE
    ray.init(
        address="local",
        num_cpus=max(needed, os.cpu_count() or 1),
        include_dashboard=False,
        log_to_driver=False,
    )
    there = ray.cluster_resources().get("GPU", 0)
    if there < actors * gpus_per_actor:
        ray.shutdown()
        raise ConfigError(
            f"actors={actors} with gpus_per_actor={gpus_per_actor} take "
            f"{actors * gpus_per_actor:g} GPUs, and Ray finds {there:g} on this machine; for a "
            "cluster's set RAY_ADDRESS"
        )
