"""Splits Korean texts into chunks that a model reads whole, measured in its own tokens."""

from __future__ import annotations

from koe5_integrations.splitting.chunking import Chunk, Frame
from koe5_integrations.splitting.sentences import SentenceRule
from koe5_integrations.splitting.splitter import TokenSplitter

__all__ = ["Chunk", "Frame", "SentenceRule", "TokenSplitter"]
