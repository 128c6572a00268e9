"""A run: from a configuration to a model, through checkpoints that outlive any crash.

Importing this package loads no model library.
"""

from __future__ import annotations

from koe5_integrations.training.run.train import train
from koe5_integrations.training.run.trained import Trained

__all__ = ["Trained", "train"]
