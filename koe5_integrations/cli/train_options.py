"""The flags of ``koe5 train``, read off the recipes' configurations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from inspect import Parameter, cleandoc
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

if TYPE_CHECKING:
    from koe5_integrations.training.config import TrainingConfig

__all__ = ["chosen_fields", "config_flags"]

_SHORT = {"out": "-o", "model": "-m"}
_RECIPE = "The recipe"
_PANELS = {
    "The run": ("out", "model", "revision", "seed"),
    "The updates": (
        "epochs",
        "max_steps",
        "batch_size",
        "learning_rate",
        "warmup_ratio",
        "scheduler",
        "weight_decay",
        "max_grad_norm",
        "max_seq_length",
    ),
    "Vectors that can be cut": ("matryoshka_dims", "matryoshka_weights"),
    "Memory and speed": ("mini_batch_size", "precision", "gradient_checkpointing"),
    "Dev set and checkpoints": ("eval_steps", "save_steps", "keep_checkpoints"),
}
_PANEL_OF = {name: panel for panel, names in _PANELS.items() for name in names}


def config_flags(config: type[TrainingConfig]) -> list[Parameter]:
    """Return a flag for each field of a configuration, what the recipe adds first.

    Every flag's default is None, which leaves the value to a file or the configuration itself; the
    help repeats the latter's. Its text is the field's in the docstring's Attributes.

    Raises:
        TypeError: a field's type has no form on a command line.
    """
    hints = get_type_hints(config)
    docs = {name: _with_flags(text, hints) for name, text in _field_docs(config)}
    panels = [_RECIPE, *_PANELS]
    found = sorted(fields(config), key=lambda field: panels.index(_panel(field)))
    return [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_annotation(field, hints[field.name], docs.get(field.name, "")),
        )
        for field in found
    ]


def _panel(field: Field[Any]) -> str:
    return _PANEL_OF.get(field.name, _RECIPE)


def _field_docs(config: type) -> Iterator[tuple[str, str]]:
    """Yield each field with its text; a subclass's comes after its base's."""
    for cls in reversed(config.__mro__):
        doc = cleandoc(vars(cls).get("__doc__") or "")
        section = doc.partition("\nAttributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE):
            yield name, " ".join(text.split())


def _with_flags(text: str, names: Iterable[str]) -> str:
    """Name fields as they are typed here."""
    for name in names:
        mark = "`?" if "_" in name else "`"  # other names are words, too
        text = re.sub(rf"(?<!\w){mark}{name}{mark}(?!\w)", f"--{name.replace('_', '-')}", text)
    return text


def _annotation(field: Field[Any], hint: Any, doc: str) -> Any:
    # "…; None is all there are." reads better as the default.
    text, _, unset = doc.partition("; None is ")
    help_text = text[:1].upper() + text[1:].rstrip(".") + "."
    flag = f"--{field.name.replace('_', '-')}"
    names = [flag, *([_SHORT[field.name]] if field.name in _SHORT else [])]
    alternatives = get_args(hint) if NoneType in get_args(hint) else (hint,)
    (kind,) = (each for each in alternatives if each is not NoneType)
    further: dict[str, Any] = {}
    taken: Any = kind
    if kind is bool:
        names = [f"{flag}/--no-{flag[2:]}"]
    elif get_origin(kind) is tuple and get_args(kind)[0] in (int, float):
        further = {"parser": _numbers(get_args(kind)[0]), "metavar": "N,N,…"}
        taken = str
    elif get_origin(kind) is tuple and get_args(kind)[0] in (str, Path):
        taken = list[str]
        help_text += " Give it again for another."
    elif kind not in (int, float, str, Path) and get_origin(kind) is not Literal:
        raise TypeError(f"{field.name}: {hint} has no form on a command line")
    if field.default is MISSING:
        help_text += " Must be given, here or in --config."
    option = typer.Option(
        *names,
        help=help_text.replace("[", r"\["),
        show_default=unset.rstrip(".") or _shown(field.default),
        rich_help_panel=_panel(field),
        **further,
    )
    return Annotated[taken | None, option]


def _shown(default: Any) -> str | bool:
    """Return what the help gives as a default."""
    if default is MISSING or default is None:
        return False
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "none"
    return repr(default) if default == "" or str(default) != str(default).strip() else str(default)


def _numbers(kind: type[int] | type[float]) -> Callable[[str], tuple[float, ...]]:
    def numbers(text: str) -> tuple[float, ...]:
        return tuple(kind(part) for part in text.split(",") if part.strip())

    return numbers


def chosen_fields(config: type[TrainingConfig], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that were given as flags, as the configuration takes them.

    Args:
        config: whose fields they are.
        arguments: of the command; None is a flag that was not given.
    """
    given = {field.name: arguments[field.name] for field in fields(config)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
