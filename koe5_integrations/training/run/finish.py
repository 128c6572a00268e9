"""The end of a run: the best model, measured, described and put in its place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from koe5_integrations.ingestion.shards.durable import sync_folder
from koe5_integrations.training.config import TrainingConfig
from koe5_integrations.training.recipe import Prepared
from koe5_integrations.training.run.card import model_card
from koe5_integrations.training.run.checkpoints import sync_files
from koe5_integrations.training.run.curves import draw_curves
from koe5_integrations.training.run.folder import RunFolder, write_json
from koe5_integrations.training.run.metrics import rows_of, write_rows
from koe5_integrations.training.run.trainer import PRIMARY, TurnsTrainer

__all__ = ["finish", "stored_prompts"]

_PARTIAL = ".model.partial"


def stored_prompts(prompts: Mapping[str, str]) -> dict[str, str]:
    """Return the prompts as a model stores them: "query", "passage" and "document" always.

    sentence-transformers' ``encode_document`` looks for "document" first. That "passage" is there,
    empty or not, tells that the prompts were chosen.
    """
    passage = prompts.get("passage", prompts.get("document", ""))
    return {"query": "", **prompts, "passage": passage, "document": passage}


def finish(
    folder: RunFolder, config: TrainingConfig, prepared: Prepared, trainer: TurnsTrainer
) -> None:
    """Write metrics, results and curves of a run whose last checkpoint is there; last, the model.

    Raises:
        TrainingError: the best checkpoint is damaged.
    """
    last = folder.checkpoints.steps()[-1]
    state = folder.checkpoints.state(last)
    best = folder.checkpoints.best(last)
    folder.checkpoints.clear_after(last)
    trainer._load_from_checkpoint(str(folder.checkpoints.path(best)))
    model: Any = trainer.model.eval()
    rows = rows_of(state["log_history"])
    write_rows(rows, folder.metrics)
    measured = {row["step"]: {**row["dev"], PRIMARY: row[PRIMARY]} for row in rows if "dev" in row}
    results = {
        "steps": last,
        "best_step": best,
        "metrics": measured.get(best, {}),
        "before": measured.get(0, {}),
        "results": {} if prepared.test is None else prepared.test(model),
    }
    write_json(folder.results, results)
    draw_curves(rows, folder.curves)
    staging = folder.path / _PARTIAL
    shutil.rmtree(staging, ignore_errors=True)
    model.save_pretrained(str(staging), create_model_card=False)
    shutil.copyfile(folder.curves, staging / folder.curves.name)
    card = model_card(config, prepared, folder.trained(), model.prompts)
    (staging / "README.md").write_text(card, encoding="utf-8")
    sync_files(staging)
    staging.rename(folder.model)
    sync_folder(folder.path)
