"""Vectors in a fraction of their memory: int8 and binary codes, and the search over them.

::

    compress = Compression.calibrate(passages, precision="int8", fingerprint=encoder.fingerprint)
    index = CompressedIndex(compress, compress(passages))
    rows, scores = index.search(questions, top_k=10)
"""

from __future__ import annotations

from koe5_integrations.compression.calibration import CodePrecision, Codes, Compression
from koe5_integrations.compression.index import CompressedIndex, Engine

__all__ = ["CodePrecision", "Codes", "CompressedIndex", "Compression", "Engine"]
