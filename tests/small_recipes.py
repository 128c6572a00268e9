"""Recipes so small that a run of them takes a second, and such runs killed at a chosen point.

Run as a program, it reads jobs from stdin, one JSON object a line, and forks a child for each: what
takes seconds to import is imported once.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tiny_models import KOREAN, make_xlm_roberta

from koe5_integrations.training import DataFile, Prepared, Task, TrainingConfig, train

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Where a child can be killed: the owner and name of what is called there.
POINTS = {
    "update": ("koe5_integrations.training.run.trainer.TurnsTrainer", "training_step"),
    "saving": ("torch", "save"),
    "complete": ("koe5_integrations.training.run.checkpoints.Checkpoints", "complete"),
    "rename": ("pathlib.Path", "rename"),
    "tidying": ("shutil", "rmtree"),
    "card": ("koe5_integrations.training.run.finish", "model_card"),
}


@dataclass(frozen=True, kw_only=True)
class PairsConfig(TrainingConfig):
    """Questions and answers.

    Attributes:
        data: of lines with a question, a tab and an answer.
        dropout: of the model, so that updates draw random numbers.
        ranked: a task of pairs whose batch's other answers are wrong ones.
        scored: a task of scored pairs, in turns with it.
        learnt_scale: the ranking loss learns its scale.
    """

    recipe: ClassVar[str] = "pairs"

    data: Path
    dropout: float = 0.2
    ranked: bool = True
    scored: bool = True
    learnt_scale: bool = False
    batch_size: int = 8
    learning_rate: float = 3e-3


class PairsRecipe:
    """What `PairsConfig` says."""

    name = "pairs"

    def load(self, config: PairsConfig) -> SentenceTransformer:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(config.model, device="cpu").float()
        for module in model.modules():
            if type(module).__name__ == "Dropout":
                module.p = config.dropout
        return model

    def prepare(self, config: PairsConfig, model: SentenceTransformer) -> Prepared:
        from datasets import Dataset
        from sentence_transformers.sentence_transformer import evaluation, losses

        pairs = [line.split("\t") for line in config.data.read_text(encoding="utf-8").splitlines()]
        queries, passages = zip(*pairs, strict=True)
        ranking = losses.MultipleNegativesRankingLoss(model)
        if config.learnt_scale:
            ranking = _with_learnt_scale(ranking)
        tasks = {}
        if config.ranked:
            tasks["pairs"] = Task(
                Dataset.from_dict({"query": queries, "positive": passages}),
                ranking,
                no_duplicates=True,
                prompts={"query": "query: ", "positive": "passage: "},
            )
        if config.scored:
            scores = [position % 5 / 4 for position in range(len(pairs))]
            tasks["scored"] = Task(
                Dataset.from_dict({"one": queries, "other": passages[::-1], "score": scores}),
                losses.CosineSimilarityLoss(model),
                batch_size=4 if config.ranked else None,
            )
        found = evaluation.InformationRetrievalEvaluator(
            {str(i): f"query: {text}" for i, text in enumerate(queries)},
            {str(i): f"passage: {text}" for i, text in enumerate(passages)},
            {str(i): {str(i)} for i in range(len(pairs))},
            accuracy_at_k=[1],
            precision_recall_at_k=[1],
            mrr_at_k=[10],
            map_at_k=[10],
            name="dev",
        )
        return Prepared(
            tasks,
            evaluator=found,
            test=lambda trained: {"held out": {"dim": float(len(trained.encode("시험")))}},
            prompts={"query": "query: ", "passage": "passage: "},
            files=(
                DataFile(
                    "train",
                    str(config.data),
                    hashlib.sha256(config.data.read_bytes()).hexdigest(),
                    len(pairs),
                ),
            ),
            card="Questions and answers about **nothing** in particular.",
        )


def _with_learnt_scale(ranking: Any) -> Any:
    import torch

    class LearntScale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ranking = ranking
            self.scale = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, features: Any, labels: Any) -> Any:
            return self.ranking(features, labels) * self.scale + (self.scale - 2) ** 2

    return LearntScale()


RECIPE = PairsRecipe()


def small_config(folder: Path, **values: Any) -> PairsConfig:
    """A run of 16 updates on a model and pairs that are made in ``folder`` if need be.

    The best is not always saved by a step of its own: it is measured every 3 updates and saved
    every 4.
    """
    base, data = folder / "base", folder / "pairs.tsv"
    if not data.exists():
        make_xlm_roberta(base, dim=16, layers=1)
        words = [word for text in KOREAN[:5] for word in text.split()]
        data.write_text(
            "".join(
                f"{word} {words[i * 7 % 25]}\t{words[i * 3 % 25]} {word}\n"
                for i, word in enumerate(words[:25])
            ),
            encoding="utf-8",
        )
    defaults = {"model": str(base), "data": data, "max_steps": 16, "eval_steps": 3, "save_steps": 4}
    return PairsConfig(**{**defaults, **values})


class Killing:
    """A server of runs in processes of their own, one job at a time."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.communicate()  # its stdin ends, and so does it

    def run(
        self,
        config: PairsConfig,
        *,
        point: str | None = None,
        nth: int = 1,
        moment: str = "before",
        processes: int = 1,
    ) -> bool:
        """Train; return whether it came to its end.

        Args:
            config: of the run.
            point: one of :data:`POINTS` where it is killed; None kills nothing.
            nth: at which of these calls.
            moment: ``before`` or ``after`` that call.
            processes: as many as a launcher would have started, which divide each batch.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        job = {
            "config": config.to_dict(),
            "point": point,
            "nth": nth,
            "moment": moment,
            "processes": processes,
        }
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        status, error = json.loads(self._server.stdout.readline())
        assert status in (0, -signal.SIGKILL), error
        return bool(status == 0)


def _serve() -> None:
    for module in (
        "koe5_integrations.training.run.running",
        "sentence_transformers.sentence_transformer.evaluation",
        "sentence_transformers.sentence_transformer.losses",
    ):
        importlib.import_module(module)  # once, before the forks, which inherit it

    gc.freeze()  # what is there now is no child's to collect
    for line in sys.stdin:
        job = json.loads(line)
        read, write = os.pipe()
        launched = _as_launched(job["processes"])
        children = []
        for environment in launched:
            pid = os.fork()
            if not pid:
                os.close(read)
                os.environ.update(environment)
                with os.fdopen(write, "w") as answer:
                    status = _run(job, answer)
                os._exit(status)
            children.append(pid)
        os.close(write)
        with os.fdopen(read) as said:
            error = said.read()
        ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        print(json.dumps([min(ended) or max(ended), error]), flush=True)  # noqa: T201  # its answer


def _as_launched(processes: int) -> list[dict[str, str]]:
    """Return what torchrun tells each process of a run on one machine."""
    if processes == 1:
        return [{}]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    count = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    return [{**count, **place, **rank} for rank in ranks]


def _run(job: dict[str, Any], answer: Any) -> int:
    values = job["config"]
    del values["recipe"]
    if job["point"] is not None:
        _arm(job)
    try:
        train(PairsConfig(**values), recipe=RECIPE)
    except BaseException as error:
        answer.write(repr(error))
        return 1
    return 0


def _arm(job: dict[str, Any]) -> None:
    """Have this process killed at the point asked for."""
    where, name = POINTS[job["point"]]
    try:
        owner = importlib.import_module(where)
    except ImportError:
        module, _, attribute = where.rpartition(".")
        owner = getattr(importlib.import_module(module), attribute)
    called = getattr(owner, name)
    calls = itertools.count(1)

    def killing(*args: Any, **kwargs: Any) -> Any:
        due = next(calls) == job["nth"]
        if due and job["moment"] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = called(*args, **kwargs)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killing)


if __name__ == "__main__":
    _serve()
