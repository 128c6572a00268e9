"""KoE5 for LangChain, LlamaIndex and Chroma: Korean retrieval embeddings with the right prefix.

Importing this package loads no model library and no framework; names are resolved when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.errors import KoE5Error, KoE5Warning
    from koe5_integrations.fingerprint import Fingerprint
    from koe5_integrations.profiles import PROFILES, ModelProfile
    from koe5_integrations.scheduling import release_models

__version__ = "0.1.0"

__all__ = [
    "PROFILES",
    "Fingerprint",
    "KoE5Encoder",
    "KoE5Error",
    "KoE5Warning",
    "ModelProfile",
    "__version__",
    "release_models",
]

_HOME = {
    "PROFILES": "profiles",
    "Fingerprint": "fingerprint",
    "KoE5Encoder": "encoder",
    "KoE5Error": "errors",
    "KoE5Warning": "errors",
    "ModelProfile": "profiles",
    "release_models": "scheduling",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
