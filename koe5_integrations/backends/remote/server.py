"""Where a server is, and what it says it serves."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["DEFAULT_KEY_ENV", "REPLICAS", "Address", "Served"]

DEFAULT_KEY_ENV = "KOE5_API_KEY"
"""The environment variable that holds the key, where ``api_key_env`` names no other."""

REPLICAS = 8
"""Requests under way at once. With 32 texts each they are half of what TEI takes in by default
(512 texts), so that a second client fits beside them."""


@dataclass(frozen=True)
class Address:
    """How a server is reached; the key itself is in no object, only the name it is found by.

    Attributes:
        base_url: without a slash at its end.
        api_key_env: environment variable that holds the key; None is ``KOE5_API_KEY``, if that is
            set.
    """

    base_url: str
    api_key_env: str | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent can't be read on the way."""
        return urlsplit(self.base_url).scheme == "https"


@dataclass(frozen=True)
class Served:
    """What a server says of itself and of the model it serves.

    Attributes:
        address: of the server.
        protocol: ``tei``, or ``openai``.
        root: what its paths are put behind: ``…/embed`` or ``…/embeddings``.
        model: its name there.
        commit: hub commit of the model, if it says so.
        precision: number format it computes in, if it says so.
        pooling: how token vectors become one, if it says so.
        max_seq_length: tokens it reads of each text, if it says so.
        most_texts: texts sent in one request.
        batch_tokens: tokens sent in one request.
    """

    address: Address
    protocol: Literal["tei", "openai"]
    root: str
    model: str
    commit: str | None
    precision: str | None
    pooling: str | None
    max_seq_length: int | None
    most_texts: int
    batch_tokens: int

    @property
    def shown(self) -> str:
        """What kind of server it is, for people."""
        return "TEI" if self.protocol == "tei" else "a server with OpenAI's interface"
