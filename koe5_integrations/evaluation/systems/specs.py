"""Systems by their names on the command line: ``bm25:bigram``, ``dense:MODEL``, ``hybrid:…``."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any, Unpack, get_args

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, shorten
from koe5_integrations.evaluation.results import System
from koe5_integrations.evaluation.systems.bm25 import BM25System
from koe5_integrations.evaluation.systems.chroma import ChromaSystem
from koe5_integrations.evaluation.systems.compressed import Form
from koe5_integrations.evaluation.systems.dense import DenseSystem
from koe5_integrations.evaluation.systems.hybrid import HybridSystem
from koe5_integrations.evaluation.systems.retrievers import DocId, RetrieverSystem
from koe5_integrations.lexical import TOKENIZERS
from koe5_integrations.options import EncoderOptions, check_options

__all__ = ["FORMS", "as_system", "parse_spec"]

FORMS = (
    f"bm25:{'|'.join(TOKENIZERS)}",
    "dense:MODEL",
    "dense:MODEL@FORM",
    "chroma:MODEL",
    "hybrid:SPEC+SPEC",
    "python:module:attribute",
)
"""The forms of a spec. MODEL is a name of `koe5 models` or a folder. FORM is a number of dimensions
(also of ``chroma:``), a compression (``int8``, ``binary``, ``binary-int8``, ``binary-float`` or
``hamming``), or both: ``dense:koe5-mini@256@int8``."""

_KINDS = "bm25|dense|chroma|hybrid|python"
# A plus in a folder's name is no separator.
_SEPARATOR = re.compile(rf"\s*\+\s*(?=(?:{_KINDS}):)")


def parse_spec(
    spec: str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    show_progress: bool = False,
    doc_id: DocId | None = None,
    concurrency: int = 8,
    **encoder_options: Unpack[EncoderOptions],
) -> System:
    """Return the system a spec names; nothing is loaded but a user's own module.

    Args:
        spec: one of :data:`FORMS`. ``python:`` loads from the current directory or what is
            installed: a LangChain or LlamaIndex retriever, or a function that is given the corpus
            (text by document id) and returns one.
        cache_dir: folder of vectors kept between runs; None keeps none.
        show_progress: draw progress bars of embedding on stderr.
        doc_id: see :class:`~koe5_integrations.evaluation.systems.retrievers.RetrieverSystem`.
        concurrency: queries a user's retriever is asked at the same time.
        **encoder_options: of each :class:`~koe5_integrations.encoder.KoE5Encoder` made here. What
            is cut is reported by the system, so that ``on_truncation`` is ``ignore`` by default.

    Raises:
        ConfigError: no such form, tokenizer, model, module or attribute, or an impossible option.
        MissingExtraError: it needs a package that is not installed.
    """
    if not isinstance(spec, str):
        raise ConfigError(f"spec={shorten(spec)} must be a string, {_listed()}")
    kind, _, rest = spec.strip().partition(":")
    if not rest.strip():
        raise ConfigError(f"system {spec!r} is not {_listed()}")
    options: dict[str, Any] = {
        "cache_dir": cache_dir,
        "show_progress": show_progress,
        "doc_id": doc_id,
        "concurrency": concurrency,
    }
    if kind == "bm25":
        if rest not in TOKENIZERS:
            raise ConfigError(f"system {spec!r}: there is no tokenizer {rest!r}; it is {_listed()}")
        return BM25System(rest, spec=spec)
    if kind in ("dense", "chroma"):
        model, dim, form = _model_and_form(spec, rest)
        if dim is not None:
            encoder_options["truncate_dim"] = dim
        check_options(encoder_options)
        encoder_options.setdefault("on_truncation", "ignore")
        if kind == "chroma":
            if form is not None:
                raise ConfigError(f"system {spec!r}: Chroma keeps float32 only, not {form}")
            encoder = KoE5Encoder(model, **encoder_options)
            return ChromaSystem(encoder, spec=spec, cache=cache_dir, show_progress=show_progress)
        return DenseSystem(
            KoE5Encoder(model, **encoder_options),
            spec=spec,
            cache=cache_dir,
            show_progress=show_progress,
            form=form,
        )
    if kind == "hybrid":
        parts = _SEPARATOR.split(rest)
        if len(parts) < 2 or any(part.startswith("hybrid:") for part in parts):
            raise ConfigError(
                f"system {spec!r}: a hybrid joins two systems or more by +, none of them a hybrid "
                f"itself (hybrid:A+B+C fuses three alike); each is {_listed()}"
            )
        return HybridSystem(
            [parse_spec(part, **options, **encoder_options) for part in parts], spec=spec
        )
    if kind == "python":
        return RetrieverSystem(_load(spec, rest), spec=spec, doc_id=doc_id, concurrency=concurrency)
    raise ConfigError(f"system {spec!r} is not {_listed()}")


def as_system(given: object, **options: Any) -> System:
    """Return the system that is meant: a spec, a KoE5Encoder, a retriever, or a System as it is.

    Args:
        given: the same, or a function that makes a retriever from the corpus.
        **options: of :func:`parse_spec`.

    Raises:
        ConfigError: it is nothing of the kind, or as :func:`parse_spec`.
    """
    if isinstance(given, str):
        return parse_spec(given, **options)
    if isinstance(given, KoE5Encoder):
        return DenseSystem(
            given,
            cache=options.get("cache_dir"),
            show_progress=options.get("show_progress", False),
        )
    if all(hasattr(given, name) for name in ("spec", "index", "search", "facts")):
        system: Any = given
        return system  # type: ignore[no-any-return]  # a protocol, checked by its names
    chosen = {name: options[name] for name in ("doc_id", "concurrency") if name in options}
    return RetrieverSystem(given, **chosen)


def _model_and_form(spec: str, given: str) -> tuple[str, int | None, Form | None]:
    """Split MODEL@256@int8 from its end; a folder may have an @ in its name."""
    model = given
    dim: int | None = None
    form: Any = None
    while "@" in model and not Path(model).expanduser().is_dir():
        model, _, last = model.rpartition("@")
        if dim is None and last.isdecimal():
            dim = int(last)
        elif dim is form is None and last in get_args(Form):
            form = last
        else:
            raise ConfigError(
                f"system {spec!r}: @{last} is neither a number of dimensions nor one of "
                f"{', '.join(get_args(Form))}; both are given as @256@int8"
            )
    return model, dim, form


def _load(spec: str, target: str) -> object:
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ConfigError(
            f"system {spec!r} must be python:module:attribute, for example python:search:retriever "
            "for `retriever` in search.py of the current directory"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        # For good, because the module may import its neighbours only when it is used.
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"system {spec!r}: {module_name} needs the module {error.name!r}, which is not "
                "installed"
            ) from error
        raise ConfigError(
            f"system {spec!r}: there is no module {module_name!r}, neither in {here} nor installed"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"system {spec!r}: importing {module_name} failed with {type(error).__name__}: {error}"
        ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            public = ", ".join(sorted(n for n in vars(found) if n[:1] != "_")) or "nothing public"
            raise ConfigError(
                f"system {spec!r}: {module_name} has no attribute {attribute!r}; it has {public}"
            )
        found = getattr(found, name)
    return found


def _listed() -> str:
    return f"one of {', '.join(FORMS)}"
