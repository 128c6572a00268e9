"""What an existing Chroma collection is made of, by embedding a sample of its texts again."""

from __future__ import annotations

from koe5_integrations.ingestion.diagnosis.diagnose import diagnose
from koe5_integrations.ingestion.diagnosis.findings import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
