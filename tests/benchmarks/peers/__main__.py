"""This package beside its peers: ``python tests/benchmarks/peers --environments FOLDER``.

All embed the same texts with the same model, of KoE5's shape with random weights: passages and
short sentences in bulk, one question at a time, and 64 questions at once from asyncio tasks. Every
peer is a process of its own that stays alive. They take turns in an order that rotates, one works
at a time, and a turn's ratio is to the reference's turn beside it; what memory can't hold at once
is measured in groups, each with the reference in it.

The first run makes environments (some 2 GB each) and model files under FOLDER, and later ones reuse
them. Results are written as they come: FOLDER/results-LAYERS.json and .md, or ``--output``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from report import markdown
from rows import REFERENCE, ROWS, WORKER, Row, Store, Unavailable
from texts import load_texts, padding

_OFFLINE = {"HF_HUB_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "False", "PYTHONWARNINGS": "ignore"}
_SPARE = 4e9  # bytes that stay free beside the loaded models, for the one that works
_SETTLE = 0.3  # seconds between turns, for the last one's threads spin a while


class Process:
    """A row's worker, its model loaded.

    Raises:
        Unavailable: the model can't be loaded; says why.
    """

    def __init__(self, row: Row, store: Store, log: Path) -> None:
        python, files = store.python(row.environment), store.files(row.files)
        with log.open("a", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [python, "-P", WORKER, row.adapter, files, json.dumps(row.options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | _OFFLINE,
                text=True,
            )
        self.row = row
        self.loaded = self._answer()

    def ask(self, do: str, texts: Sequence[str], **more: Any) -> dict[str, Any]:
        """Let it embed texts, and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "texts": texts, **more}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it, and free its memory."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"ended with {self._process.wait()}"}
        if "error" in answer:
            self.close()
            raise Unavailable(str(answer["error"]).splitlines()[0])
        return answer


class Run:
    """The measurements of one call of this program.

    Args:
        arguments: of the command line.
        rows: what to measure.
    """

    def __init__(self, arguments: argparse.Namespace, rows: Sequence[Row]) -> None:
        self._arguments = arguments
        self._store = Store(arguments.environments, arguments.layers)
        self._output: Path = (
            arguments.output or arguments.environments / f"results-{arguments.layers}"
        )
        self._passages, self._sentences = load_texts()
        self.results: dict[str, Any] = {
            "machine": _machine(),
            "layers": arguments.layers,
            "reference": REFERENCE.name,
            "rows": {row.name: {} for row in rows},
            "versions": {},
            "padding": {},
        }

    def prepare(self, rows: Sequence[Row]) -> list[Row]:
        """Make environments and model files; return the rows that have theirs."""
        model = self._store.files("model")
        for name, texts, count, turns in (
            ("passages", self._passages, self._arguments.passages, self._arguments.long_turns),
            ("sentences", self._sentences, self._arguments.sentences, self._arguments.turns),
        ):
            drawn = [text for turn in range(turns) for text in texts.sample(count, turn)]
            self.results["padding"][f"{name} of {texts.name}"] = {
                "all": padding(texts.all, model),
                "drawn": padding(drawn, model),
            }
        ready = []
        for row in rows:
            try:
                self._store.files(row.files)
                self._store.python(row.environment)
            except Unavailable as error:
                self._note(row, unavailable=str(error))
            else:
                ready.append(row)
        return ready

    def measure(self, rows: Sequence[Row]) -> None:
        """Measure every row, as many at a time as memory holds."""
        left = [row for row in self.prepare(rows) if row != REFERENCE]
        while True:
            group = [self._load(REFERENCE)]
            try:
                left = self._fill(group, left)
                self._take_turns(group)
            finally:
                for process in group:
                    process.close()
            if not left:
                return

    def _fill(self, group: list[Process], left: Sequence[Row]) -> list[Row]:
        """Load rows until memory is full; return those that are left."""
        for number, row in enumerate(left):
            files = self._store.files(row.files)
            weights = sum(file.stat().st_size for file in files.rglob("*") if file.is_file())
            grow = row.grows + sum(process.row.grows for process in group)
            need = 1.3 * weights + 1e9 * grow + _SPARE
            if psutil.virtual_memory().available < need:
                if len(group) > 1:
                    return list(left[number:])
                self._note(row, unavailable=f"needs {need / 1e9:.1f} GB of free memory")
                continue
            try:
                group.append(self._load(row))
            except Unavailable as error:
                self._note(row, unavailable=str(error))
        return []

    def _load(self, row: Row) -> Process:
        process = Process(row, self._store, self._output.with_suffix(".log"))
        self.results["versions"][row.environment] = process.loaded["versions"]
        self._note(row, load=process.loaded["seconds"])
        return process

    def _take_turns(self, group: list[Process]) -> None:
        self._agreement(group)
        questions = self._sentences.all
        given = self._arguments
        for turn in range(given.query_turns):
            drawn = random.Random(turn).sample(questions, 6)
            self._turn(group, "query", turn, "query", drawn)
        for turn in range(given.turns):
            drawn = self._sentences.sample(given.sentences, turn)
            self._turn(group, "sentences", turn, "passages", drawn)
        for turn in range(given.turns):
            drawn = random.Random(turn).sample(questions, 64)
            self._turn(group, "callers", turn, "callers", drawn)
        for turn in range(given.long_turns):
            drawn = self._passages.sample(given.passages, turn)
            self._turn(group, "passages", turn, "passages", drawn)

    def _agreement(self, group: list[Process]) -> None:
        """Compare everyone's vectors with the reference's of one text at a time."""
        texts = self._passages.all[:3] + self._sentences.all[:3]
        asked = {"role": "passage", "vectors": True}
        alone = [group[0].ask("passages", [text], **asked)["vectors"][0] for text in texts]
        right = np.asarray(alone)
        for process in list(group):
            with self._unless_it_fails(process, group):
                vectors = np.asarray(process.ask("passages", texts, **asked)["vectors"])
                self._note(
                    process.row,
                    difference=float(np.abs(vectors - right).max()),
                    cosine=float((vectors * right).sum(axis=1).mean()),
                )

    def _turn(
        self, group: list[Process], measure: str, turn: int, do: str, texts: list[str]
    ) -> None:
        """Let each of a group embed the same texts, the reference among them."""
        role = "passage" if do == "passages" else "query"
        first = turn % len(group)
        reference: dict[str, Any] | None = None
        waiting: list[tuple[Process, dict[str, Any]]] = []
        for process in group[first:] + group[:first]:
            if do == "callers" and not process.loaded["aquery"]:
                continue
            time.sleep(_SETTLE)
            with self._unless_it_fails(process, group):
                answer = process.ask(do, texts, role=role)
                waiting.append((process, answer))
                reference = answer if process is group[0] else reference
            if reference is not None:
                for done, answer in waiting:
                    self._keep(done.row, measure, len(texts), answer, reference)
                waiting.clear()

    def _keep(
        self, row: Row, measure: str, texts: int, answer: dict[str, Any], reference: dict[str, Any]
    ) -> None:
        """Keep what a turn measured, with the reference's turn beside it."""
        measured = {
            "texts": texts,
            "seconds": answer["seconds"],
            "reference": reference["seconds"],
        }
        if "each" in answer:
            measured |= {"each": answer["each"], "reference_each": reference["each"]}
        self.results["rows"][row.name].setdefault(measure, []).append(measured)
        self._note(row, peak_mb=answer["peak_mb"])

    @contextlib.contextmanager
    def _unless_it_fails(self, process: Process, group: list[Process]) -> Iterator[None]:
        """Go on without one that ends or gives up; without the reference there is no going on."""
        try:
            yield
        except Unavailable as error:
            self._note(process.row, unavailable=str(error))
            if process is group[0]:
                raise
            group.remove(process)

    def _note(self, row: Row, **found: Any) -> None:
        """Keep what was found of a row, on disk too."""
        self.results["rows"][row.name].update(found)
        for suffix, content in (
            (".json", json.dumps(self.results, ensure_ascii=False, indent=1)),
            (".md", markdown(self.results)),
        ):
            self._output.with_suffix(suffix).write_text(content, encoding="utf-8")


def main() -> None:
    """Measure what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(
        prog="peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--environments", type=Path, required=True, help="folder that is reused")
    parser.add_argument("--output", type=Path, help="results, without .json and .md")
    parser.add_argument(
        "--only", nargs="*", default=[""], help="rows whose names hold one of these"
    )
    parser.add_argument("--prepare", action="store_true", help="make environments and files only")
    parser.add_argument("--quick", action="store_true", help="4 layers, fewer turns")
    sizes = {
        "layers": (24, 4, "of the model"),
        "passages": (64, 64, "in a turn, by the 32"),
        "long-turns": (1, 2, "of passages"),
        "sentences": (256, 256, "in a turn, by the 32"),
        "turns": (1, 3, "of short sentences and of callers"),
        "query-turns": (5, 5, "of six questions, one after the other"),
    }
    for name, (full, quick, what) in sizes.items():
        parser.add_argument(f"--{name}", type=int, help=f"{what} ({full}; {quick} if quick)")
    arguments = parser.parse_args()
    for name, (full, quick, _) in sizes.items():
        attribute = name.replace("-", "_")
        if getattr(arguments, attribute) is None:
            setattr(arguments, attribute, quick if arguments.quick else full)
    arguments.environments = arguments.environments.resolve()
    arguments.environments.mkdir(parents=True, exist_ok=True)
    rows = [
        row for row in ROWS if row == REFERENCE or any(part in row.name for part in arguments.only)
    ]
    run = Run(arguments, rows)
    try:
        if arguments.prepare:
            run.prepare(rows)
        else:
            run.measure(rows)
    finally:
        sys.stdout.write(markdown(run.results))


def _machine() -> str:
    """Say what runs here, and how busy it is already."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} CPUs, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GB, load {os.getloadavg()[0]:.1f} before"
    )


if __name__ == "__main__":
    main()
