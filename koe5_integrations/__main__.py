"""``python -m koe5_integrations`` is the command ``koe5``."""

from __future__ import annotations

from koe5_integrations.cli import main

if __name__ == "__main__":
    main()
