"""Values made to fit the annotations of a configuration's fields."""

from __future__ import annotations

from dataclasses import fields
from os import PathLike, fspath
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["Mismatch", "described", "fitting", "hints"]


class Mismatch(Exception):
    """A value is not of the field's type."""


def hints(cls: type) -> dict[str, Any]:
    """Return the annotation of each field of a dataclass, resolved."""
    resolved = get_type_hints(cls)
    return {field.name: resolved[field.name] for field in fields(cls)}


def fitting(value: Any, hint: Any) -> Any:
    """Return the value as the annotation has it: paths from text, tuples from lists or one value.

    Args:
        value: anything.
        hint: ``str``, ``int``, ``float``, ``bool``, ``Path``, ``None``, a ``Literal``, a tuple of
            any length of one of them, or a union.

    Raises:
        Mismatch: it is of another type.
        TypeError: there is no such annotation here.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _first_that_fits(value, arguments)
    if origin is Literal:
        # 1 == True, but is no such setting.
        if any(value == each and type(value) is type(each) for each in arguments):
            return value
        raise Mismatch
    if origin is tuple:
        several = value if isinstance(value, list | tuple) else [value]
        return tuple(fitting(each, arguments[0]) for each in several)
    if hint not in _FITTING:
        raise TypeError(f"no configuration can have a field of type {hint!r}")
    return _FITTING[hint](value)


def _first_that_fits(value: Any, alternatives: tuple[Any, ...]) -> Any:
    # None first, which no other type takes; then in the order written.
    for hint in sorted(alternatives, key=lambda each: each is not NoneType):
        try:
            return fitting(value, hint)
        except Mismatch:
            continue
    raise Mismatch


def _none(value: Any) -> None:
    if value is not None:
        raise Mismatch


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Mismatch
    return value


def _int(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Mismatch
    return value


def _float(value: Any) -> float:
    # YAML 1.1 takes 1e-5 for text, because it has no dot.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Mismatch
    try:
        return float(value)
    except ValueError:
        raise Mismatch from None


def _str(value: Any) -> str:
    if isinstance(value, PathLike):
        return str(fspath(value))
    if not isinstance(value, str):
        raise Mismatch
    return value


def _path(value: Any) -> Path:
    if not isinstance(value, str | PathLike) or not str(value):
        raise Mismatch
    return Path(value).expanduser()


_FITTING: dict[Any, Any] = {
    NoneType: _none,
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    Path: _path,
}
_WORDS = {
    NoneType: "nothing (null)",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}


def described(hint: Any) -> str:
    """Return in words what an annotation takes."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(described(each) for each in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        return f"a list, each {described(arguments[0])}"
    return _WORDS[hint]
