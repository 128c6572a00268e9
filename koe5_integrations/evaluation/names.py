"""Names of systems as names of folders."""

from __future__ import annotations

import re
from hashlib import sha256

__all__ = ["slug"]

# No dash before the colon, so that the colon can become one.
_PLAIN = re.compile(r"[a-z0-9]+([._][a-z0-9]+)*(:[a-z0-9]+([-._][a-z0-9]+)*)?")


def slug(spec: str) -> str:
    """Return a system's name as a folder's: letters, digits, ``.``, ``_`` and ``-``, distinct."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", spec).strip("-.")
    if len(spec) <= 80 and _PLAIN.fullmatch(spec):
        return plain
    digest = sha256(spec.encode(errors="surrogatepass")).hexdigest()[:10]
    return f"{plain[:60].strip('-.')}_{digest}".lower()
