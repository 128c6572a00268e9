"""Tests of koe5_integrations.errors."""

from __future__ import annotations

import builtins
import pickle
import re

import pytest

from koe5_integrations import errors
from koe5_integrations.errors import (
    InputError,
    KoE5Error,
    KoE5Warning,
    MissingExtraError,
    TextTypeError,
)

CLASSES = {name: getattr(errors, name) for name in errors.__all__}
INPUT_ERRORS = [c for c in CLASSES.values() if issubclass(c, InputError)]
PLAIN = [
    c for c in CLASSES.values() if not issubclass(c, InputError) and c is not MissingExtraError
]


def drawn_tree() -> dict[str, set[str]]:
    """Return the bases of every class as drawn in the module's docstring."""
    bases: dict[str, set[str]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│ ]*)([├└]── )?(\w+(?:Error|Warning))(?: \((\w+)\))?(  |$)", line)
        if found is None:
            continue
        depth = len(found[1]) // 4 + bool(found[2])
        path = [*path[:depth], found[3]]
        bases[found[3]] = set(path[-2:-1]) | ({found[4]} if found[4] else set())
    return bases


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The drawing names every class, with all its bases."""
    actual = {
        name: {b.__name__ for b in cls.__bases__ if b is not Exception}
        for name, cls in CLASSES.items()
    }
    assert drawn_tree() == actual


def test_all_defined_classes_are_public() -> None:
    """No error class is left out of ``__all__``."""
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert defined == set(CLASSES)


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_has_one_root_and_a_builtin_beside_it(cls: type[BaseException]) -> None:
    """Everything is caught by the package's root; errors also by what Python would raise."""
    assert issubclass(cls, KoE5Warning if issubclass(cls, Warning) else KoE5Error)
    if cls not in (KoE5Error, KoE5Warning):
        assert any(getattr(builtins, b.__name__, None) is b for b in cls.__mro__[1:-3])


@pytest.mark.parametrize("cls", INPUT_ERRORS)
@pytest.mark.parametrize("position", [None, 0, 7])
def test_input_errors_survive_pickling(cls: type[InputError], position: int | None) -> None:
    """Type, message, position and value cross a process boundary."""
    error = cls("is no good", position=position, value=["값"])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert (str(copy), copy.position, copy.value) == (str(error), position, ["값"])


def test_missing_extra_survives_pickling() -> None:
    """The extra to install crosses a process boundary, in the message and by itself."""
    copy = pickle.loads(pickle.dumps(MissingExtraError("backend='torch'", "torch")))
    assert copy.extra == "torch"
    assert str(copy) == (
        "backend='torch' needs an optional dependency: pip install \"koe5-integrations[torch]\""
    )


@pytest.mark.parametrize("cls", PLAIN)
def test_the_others_survive_pickling(cls: type[Exception]) -> None:
    """Type and message cross a process boundary."""
    copy = pickle.loads(pickle.dumps(cls("what happened")))
    assert (type(copy), str(copy)) == (cls, "what happened")


def test_the_message_names_position_and_value() -> None:
    """Which text, what is wrong with it, and what it is."""
    assert str(TextTypeError("must be a str", position=3, value=b"x")) == (
        "texts[3] must be a str: b'x'"
    )
    assert str(TextTypeError("must be a list", position=None, value=5)).startswith("texts must")


@pytest.mark.parametrize("value", ["가" * 1_000_000, b"a" * 1_000_000, list(range(10_000))])
def test_the_message_is_short_however_long_the_value(value: object) -> None:
    """A long value is cut in the message and whole in the attribute."""
    error = InputError("is too long", position=0, value=value)
    assert len(str(error)) < 130
    assert str(error).endswith("…")
    assert error.value is value
