"""The former place of :mod:`koe5_integrations.exports`."""

from __future__ import annotations

from koe5_integrations.exports import (
    MANIFEST,
    Engine,
    Export,
    ExportPrecision,
    default_exports_folder,
)

__all__ = ["MANIFEST", "Engine", "Export", "ExportPrecision", "default_exports_folder"]
