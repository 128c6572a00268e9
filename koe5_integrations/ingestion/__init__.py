"""Documents to a searchable vector store, through durable shards that are the truth.

::

    sources -> documents -> passages -> vectors -> shards (Parquet) -> store (Chroma, …)
"""

from __future__ import annotations
