"""What a training run can be told; every recipe adds its own and sets its seed's defaults."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from koe5_integrations.errors import ConfigError, MissingExtraError
from koe5_integrations.training.field_types import Mismatch, described, fitting, hints

__all__ = ["TrainingConfig", "read_config"]

# What changes where a run lies and what it keeps, but not what it gives.
NOT_COMPARED = ("out", "keep_checkpoints")

_ABOVE_ZERO = ("epochs", "learning_rate", "max_grad_norm")
_AT_LEAST_ONE = (
    "max_steps",
    "batch_size",
    "mini_batch_size",
    "max_seq_length",
    "eval_steps",
    "save_steps",
    "keep_checkpoints",
)

Config = TypeVar("Config", bound="TrainingConfig")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The settings all recipes share.

    A recipe's own configuration names it in ``recipe``, and the module that defines the
    configuration also has ``RECIPE``, the :class:`~koe5_integrations.training.recipe.Recipe`. One
    that checks values of its own does so in ``__post_init__``, after calling this class's, which
    sees to the types of all fields: a ``str`` becomes a ``Path``, a list or a single value a tuple.

    Attributes:
        out: the run folder: configuration, checkpoints, metrics, curves, card and the model.
        model: the base, a name of the hub or a folder.
        revision: of a base on the hub.
        epochs: passes over the data.
        max_steps: updates to stop after, whatever `epochs` says.
        batch_size: examples of an update, over all devices and accumulation together.
        mini_batch_size: examples that go through the model at a time; None is all of a device's.
        learning_rate: AdamW's highest.
        warmup_ratio: share of the updates in which the rate rises to `learning_rate`, 0 to 1.
        scheduler: how it falls then.
        weight_decay: AdamW's.
        max_grad_norm: gradients longer than this are shortened to it.
        max_seq_length: tokens read of a text, special tokens and prefix included.
        matryoshka_dims: sizes to which vectors will be cut, the largest first; empty for none.
        matryoshka_weights: what the loss of each size counts; empty for 1 each.
        precision: of the arithmetic; "auto" is bf16 on a GPU that has it, else fp32.
        gradient_checkpointing: less memory against about a third more time.
        eval_steps: updates between two evaluations on the dev set; None is 1,000, or a tenth of
            a shorter run.
        save_steps: updates between two checkpoints; None is as `eval_steps`.
        keep_checkpoints: how many of the latest are kept beside the best.
        seed: of all that is drawn.

    Raises:
        ConfigError: a value is of another type, or impossible.
    """

    recipe: ClassVar[str] = ""

    out: Path
    model: str
    revision: str | None = None
    epochs: float = 1
    max_steps: int | None = None
    batch_size: int = 64
    mini_batch_size: int | None = None
    learning_rate: float = 2e-5
    warmup_ratio: float = 0.1
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_seq_length: int = 128
    matryoshka_dims: tuple[int, ...] = ()
    matryoshka_weights: tuple[float, ...] = ()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    gradient_checkpointing: bool = False
    eval_steps: int | None = None
    save_steps: int | None = None
    keep_checkpoints: int = 2
    seed: int = 777

    def __post_init__(self) -> None:
        """Refuse what can't be trained with, before anything is read."""
        for name, hint in hints(type(self)).items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, fitting(value, hint))
            except Mismatch:
                raise ConfigError(f"{name}={value!r} must be {described(hint)}") from None
        for name in _AT_LEAST_ONE:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be at least 1")
        for name in _ABOVE_ZERO:
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be above 0")
        if not 0 <= self.warmup_ratio <= 1:
            raise ConfigError(f"warmup_ratio={self.warmup_ratio!r} must be from 0 to 1")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay={self.weight_decay!r} must be 0 or above")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed={self.seed!r} must be from 0 to 2**32 - 1")
        if not self.model:
            raise ConfigError("model='' must be a name of the hub or a folder")
        self._check_matryoshka()

    def _check_matryoshka(self) -> None:
        dims, weights = self.matryoshka_dims, self.matryoshka_weights
        if any(dim < 1 for dim in dims) or list(dims) != sorted(set(dims), reverse=True):
            raise ConfigError(
                f"matryoshka_dims={dims!r} must be different sizes of at least 1, the largest "
                "first, such as 768,256,64"
            )
        if any(not 0 < weight < math.inf for weight in weights):
            raise ConfigError(f"matryoshka_weights={weights!r} must each be above 0")
        if weights and len(weights) != len(dims):
            raise ConfigError(
                f"matryoshka_weights={weights!r} must be as many as matryoshka_dims={dims!r}, or "
                "none for 1 each"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe's name and every field, as JSON and YAML have types for them."""
        values = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}
        return {"recipe": self.recipe, **values} if self.recipe else values

    def to_yaml(self) -> str:
        """Return all settings as YAML, which :func:`read_config` takes back.

        Raises:
            MissingExtraError: PyYAML is not installed.
        """
        text: str = _yaml().safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        return text


def read_config(file: str | PathLike[str] | None, cls: type[Config], **overrides: Any) -> Config:
    """Read a configuration from YAML; what is given beside it goes before the file.

    Args:
        file: a mapping of field names, as ``config.yaml`` in a run folder; None reads none.
            Paths in it are relative to the folder the program runs in.
        cls: the recipe's configuration.
        overrides: values by field name.

    Raises:
        ConfigError: the file can't be read, is for another recipe, or has a key that is no field;
            a field without a default is missing; a value is impossible.
        MissingExtraError: PyYAML is not installed.
    """
    said: dict[str, Any] = {} if file is None else _read_mapping(Path(file))
    where = "" if file is None else f"{file}: "
    recipe = said.pop("recipe", cls.recipe)
    if recipe != cls.recipe:
        raise ConfigError(f"{where}recipe={recipe!r} is another recipe than {cls.recipe!r}")
    known = [field.name for field in fields(cls)]
    for source, names in ((where, said), ("", overrides)):
        for name in names:
            if name not in known:
                close = get_close_matches(str(name), known)
                hint = f"; did you mean {' or '.join(close)}?" if close else ""
                listed = "" if close else f"; there are {', '.join(sorted(known))}"
                raise ConfigError(f"{source}{name}= is no setting of {cls.recipe}{hint}{listed}")
    values = {**said, **overrides}
    for field in fields(cls):
        needed = field.default is MISSING and field.default_factory is MISSING
        if needed and values.get(field.name) is None:
            raise ConfigError(
                f"{where}{field.name}= is missing: {cls.recipe} has no default for it"
            )
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None


def _read_mapping(file: Path) -> dict[str, Any]:
    yaml = _yaml()
    try:
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} can't be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {error}") from error
    if read is None:
        return {}
    if not isinstance(read, dict):
        raise ConfigError(f"{file} must be a mapping, one `setting: value` a line")
    return read


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("a configuration as YAML", "train") from error
    return yaml
