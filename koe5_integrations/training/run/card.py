"""The model card: what a model was made from, how, how good it is, and how it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from koe5_integrations.training.config import TrainingConfig
from koe5_integrations.training.recipe import DataFile, Prepared
from koe5_integrations.training.run.trained import Trained

__all__ = ["model_card"]

_CURVES = "curves.png"


def model_card(
    config: TrainingConfig, prepared: Prepared, trained: Trained, prompts: Mapping[str, str]
) -> str:
    """Return the card, Markdown with a head of YAML.

    Args:
        config: of the run.
        prepared: its data.
        trained: what it came to.
        prompts: as the model stores them.
    """
    parts = [
        _head(config),
        f"# {config.out.resolve().name}\n",
        f"Trained from `{config.model}` by `koe5 train {config.recipe}` on Korean texts: "
        f"{trained.steps:,} updates, of which the model after {trained.best_step:,} was kept.\n",
        prepared.card.strip() + "\n" if prepared.card else "",
        "## Use\n",
        _use(trained.model_dir.name, prompts),
        "## Figures\n",
        _figures(trained),
        f"![loss and dev metric over updates]({_CURVES})\n",
        "## Data\n",
        _data(prepared.files),
        "## Settings\n",
        "`config.yaml`, in the run folder, reproduces the run: "
        f"`koe5 train {config.recipe} --config config.yaml --out DIR`.\n",
        _table(
            ("setting", "value"),
            [(f"`{k}`", _shown(v)) for k, v in config.to_dict().items() if k != "out"],
        ),
    ]
    return "\n".join(part for part in parts if part)


def _head(config: TrainingConfig) -> str:
    head: dict[str, Any] = {
        "language": "ko",
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "korean", "koe5-integrations"],
    }
    # The hub takes names of its own only.
    if config.model.count("/") == 1 and not Path(config.model).exists():
        head["base_model"] = config.model
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n"


def _use(folder: str, prompts: Mapping[str, str]) -> str:
    query, passage = prompts["query"], prompts["passage"]
    given = f", query_prompt={query!r}, passage_prompt={passage!r}"
    prefixes = (
        f"Questions are embedded with `{query}` in front and passages with `{passage}`; both "
        "libraries do so below."
        if query or passage
        else "Texts are embedded without a prefix."
    )
    return f"""{prefixes}

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer({folder!r})
scores = model.similarity(model.encode_query("질문"), model.encode_document(["문서", "다른 문서"]))
```

```python
from koe5_integrations import KoE5Encoder

encoder = KoE5Encoder({folder!r}{given})
vectors = encoder.encode_passages(["문서", "다른 문서"])
```

`koe5 export {folder} --to onnx --int8` makes a smaller, faster one for CPUs from a transformer.
"""


def _figures(trained: Trained) -> str:
    tables = []
    if trained.metrics:
        rows = [
            (name, _number(trained.before[name]) if name in trained.before else "–", _number(value))
            for name, value in trained.metrics.items()
            if name != "primary"
        ]
        tables.append(_table(("on the dev set", "base", "this model"), rows))
    # Tables with the same columns are one.
    by_columns: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for name, values in trained.results.items():
        row = (name, *(_number(value) for value in values.values()))
        by_columns.setdefault(tuple(values), []).append(row)
    tables += [_table(("test", *columns), rows) for columns, rows in by_columns.items()]
    return "\n".join(tables) or "None were measured.\n"


def _data(files: Sequence[DataFile]) -> str:
    if not files:
        return "The recipe named none.\n"
    rows = [(f.role, f"`{Path(f.path).name}`", f"{f.rows:,}", f"`{f.sha256}`") for f in files]
    return _table(("for", "file", "examples", "sha256"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(value: float) -> str:
    return f"{value:.4f}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
