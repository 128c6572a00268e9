"""Finding a known data set's files: in a local folder, or fetched at the pinned revision."""

from __future__ import annotations

import os
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from koe5_integrations.backends.hub import UnavailableError, snapshot
from koe5_integrations.evaluation.datasets.dataset import DatasetError
from koe5_integrations.evaluation.datasets.files import check_sha256
from koe5_integrations.evaluation.datasets.known import KnownDataset

__all__ = ["find_files"]

_TIMEOUT = 60  # seconds without an answer


def find_files(known: KnownDataset, data_dir: str | Path | None) -> dict[str, list[Path]]:
    """Return the local files by path (or pattern) of the known data set; never of another.

    Args:
        known: what to find.
        data_dir: folder that holds it, in itself or in a folder of its name, laid out as the
            repository is or with the files directly inside; None fetches into a cache:
            the hub's own for the hub, else ``koe5/datasets`` under ``$XDG_CACHE_HOME`` or
            ``~/.cache``.

    Raises:
        DatasetError: they are not there, can't be fetched, or have another sha256.
    """
    if data_dir is None:
        base = _from_hub(known) if known.host == "hub" else _from_github(known)
        found = _layout(base, known)
    else:
        found = _in_folder(Path(data_dir), known)
    for path, files in found.items():
        digest = known.files[path]
        if digest is not None:
            check_sha256(files[0], digest)
    return found


def _in_folder(data_dir: Path, known: KnownDataset) -> dict[str, list[Path]]:
    if not data_dir.is_dir():
        raise DatasetError(f"the data folder {data_dir} does not exist; name one that does")
    places = [data_dir / name for name in (known.name, *known.folders)] + [data_dir]
    best: dict[str, list[Path]] = {}
    for place in places:
        found = _layout(place, known)
        if len(found) == len(known.files):
            return found
        best = max(best, found, key=len)
    missing = ", ".join(path for path in known.files if path not in best)
    raise DatasetError(
        f"{data_dir} does not hold {known.name}: {missing} not found in it or in its folder "
        f"{' or '.join((known.name, *known.folders))}. Put there what is at "
        f"{' and '.join(known.urls)}"
    )


def _layout(base: Path, known: KnownDataset) -> dict[str, list[Path]]:
    """Return what is there, as in the repository or (for fixed names) directly in the folder."""
    found: dict[str, list[Path]] = {}
    for path in known.files:
        files = sorted(base.glob(path))
        flat = base / Path(path).name
        if not files and "*" not in path and flat.is_file():
            files = [flat]
        if files:
            found[path] = files
    return found


def _from_hub(known: KnownDataset) -> Path:
    try:
        return snapshot(
            known.repo, kind="dataset", revision=known.revision, wanted=list(known.files)
        )
    except UnavailableError as error:
        raise _unavailable(known, str(error), "point HF_ENDPOINT at a mirror") from error


def _from_github(known: KnownDataset) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "koe5/datasets"
    base = cache / known.name / known.revision
    for path, url in zip(known.files, known.urls, strict=True):
        if not (base / path).is_file():
            try:
                _download(url, base / path, known.files[path])
            except (OSError, HTTPException) as error:
                reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                raise _unavailable(known, reason, f"put the files into {base}") from error
    return base


def _download(url: str, file: Path, digest: str | None) -> None:
    """Fetch to a temporary name beside the file and rename, so that it is whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        part = Path(folder) / file.name
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            part.write_bytes(answer.read())
        if digest is not None:
            check_sha256(part, digest)
        part.replace(file)


def _unavailable(known: KnownDataset, reason: str, other: str) -> DatasetError:
    return DatasetError(
        f"{known.name} ({known.source}) can't be fetched ({reason}). "
        f"Fetch {' and '.join(known.urls)} elsewhere and pass its folder as data_dir= "
        f"(--data-dir); or {other}; or measure on python_faq_ko or belebele_ko, which are shipped"
    )
