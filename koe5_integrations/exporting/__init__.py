"""Exports: a model as a graph that runs without torch, with proof of what its vectors lost.

::

    from koe5_integrations.exporting import export_model

    exported = export_model("nlpai-lab/KoE5", to="openvino", int8=True)

Importing this package loads no model library.
"""

from __future__ import annotations

from koe5_integrations.exporting.export import FLOOR, Exported, export_model
from koe5_integrations.exporting.fidelity import Fidelity

__all__ = ["FLOOR", "Exported", "Fidelity", "export_model"]
