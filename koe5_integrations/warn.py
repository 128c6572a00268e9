"""Warnings that point at the caller's line, whichever adapter it came through."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from koe5_integrations.errors import KoE5Warning

__all__ = ["warn"]

_PACKAGE = str(Path(__file__).parent)


def warn(warning: KoE5Warning) -> None:
    """Issue a warning at the nearest line outside this package."""
    level = 2  # this function's caller
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(warning, stacklevel=level)
