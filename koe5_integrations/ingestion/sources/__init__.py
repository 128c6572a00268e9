"""Where documents come from: files, folders and globs, or objects of either framework.

A document that can't be read is yielded as :class:`~koe5_integrations.ingestion.Rejected` with the
reason, and the rest goes on.
"""

from __future__ import annotations

from koe5_integrations.ingestion.sources.items import documents_from
from koe5_integrations.ingestion.sources.reading import read_sources, source_names, total_bytes

__all__ = ["documents_from", "read_sources", "source_names", "total_bytes"]
