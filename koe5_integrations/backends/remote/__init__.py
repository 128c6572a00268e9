"""Models that run on a server: Text Embeddings Inference (TEI), or any with OpenAI's interface.

Light to import: only :mod:`~koe5_integrations.backends.remote.client` and what uses it need the
extra ``remote``.
"""

from __future__ import annotations
