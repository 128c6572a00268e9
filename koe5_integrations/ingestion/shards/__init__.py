"""Vector shards: Parquet files that are the truth, of which stores are projections."""

from __future__ import annotations

from koe5_integrations.ingestion.shards.files import Shard, read_shard, write_shard
from koe5_integrations.ingestion.shards.folder import Change, ShardFolder

__all__ = ["Change", "Shard", "ShardFolder", "read_shard", "write_shard"]
