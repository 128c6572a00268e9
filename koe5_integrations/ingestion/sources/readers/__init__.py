"""One module for each format; which suffix goes to which is in ``formats.py``."""

from __future__ import annotations
