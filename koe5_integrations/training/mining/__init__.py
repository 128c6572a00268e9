"""Hard negatives: passages that a model finds for a question though they don't answer it."""

from __future__ import annotations

from koe5_integrations.training.mining.mine import Mined, Sampling, mine_negatives

__all__ = ["Mined", "Sampling", "mine_negatives"]
