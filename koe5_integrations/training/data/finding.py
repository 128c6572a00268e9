"""Where training data is: a file, a folder of files, or a data set on the hub."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from koe5_integrations.backends.hub import UnavailableError, snapshot
from koe5_integrations.errors import DatasetError
from koe5_integrations.training.data.rows import SUFFIXES

__all__ = ["KO_TRIPLET", "Found", "find_files", "sha256_of"]

KO_TRIPLET = "nlpai-lab/ko-triplet-v1.0"
"""What KoE5 was trained on: 744,862 triplets, 270 MB to fetch."""
_REVISIONS = {KO_TRIPLET: "c1b9af996118e1f612d78a726fc47bf12ebd7d87"}
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_TRAIN = re.compile(r"(^|[^a-z])train([^a-z]|$)")
_OTHER_SPLIT = re.compile(r"(^|[^a-z])(dev|eval|test|valid|validation)([^a-z]|$)")


@dataclass(frozen=True)
class Found:
    """A file of training data.

    Attributes:
        path: where it lies.
        name: for the record: the path, or where on the hub it comes from, with the commit.
    """

    path: Path
    name: str


def find_files(data: str | Path, *, revision: str | None = None) -> list[Found]:
    """Return the files of a file's, folder's or hub data set's name, in order.

    Of a folder and of a data set on the hub those are taken whose name says train; where none
    does, all whose name doesn't say dev, test or validation. Where there are several forms, the
    first of Parquet, JSON Lines, JSON, CSV and TSV.

    Args:
        data: path, or owner and name on the hub.
        revision: commit, branch or tag on the hub; None is the newest, of ko-triplet-v1.0 the one
            this package was written against.

    Raises:
        DatasetError: there is no such file or folder, nothing in it can be read, or the data set
            can't be fetched.
    """
    path = Path(data)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise DatasetError(f"{path} is none of {', '.join(SUFFIXES)}; convert it to one")
        return [Found(path, str(path))]
    if path.is_dir():
        return [Found(file, str(file)) for file in _of_folder(path)]
    name = str(data)
    if not _HUB_NAME.fullmatch(name) or path.suffix.lower() in SUFFIXES:
        raise DatasetError(
            f"there is no training data at {name!r}; name a file ({', '.join(SUFFIXES)}), a folder "
            f"of them, or a data set on the hub such as {KO_TRIPLET}"
        )
    snapshot = _fetch(name, revision or _REVISIONS.get(name))
    # The cache names a snapshot by its commit.
    return [
        Found(file, f"{name}@{snapshot.name}:{file.relative_to(snapshot).as_posix()}")
        for file in _of_folder(snapshot)
    ]


def sha256_of(file: Path) -> str:
    """Return the digest of a file's bytes, 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _of_folder(folder: Path) -> list[Path]:
    for suffix in SUFFIXES:
        files = {
            file.relative_to(folder).as_posix().lower(): file
            for file in sorted(folder.rglob("*"))
            if file.suffix.lower() == suffix and file.is_file()
        }
        train = [file for name, file in files.items() if _TRAIN.search(name)]
        rest = [file for name, file in files.items() if not _OTHER_SPLIT.search(name)]
        if train or rest:
            return train or rest
    raise DatasetError(
        f"the folder {folder} holds no training data; put files of {', '.join(SUFFIXES)} there"
    )


def _fetch(name: str, revision: str | None) -> Path:
    try:
        return snapshot(
            name, kind="dataset", revision=revision, wanted=[f"*{suffix}" for suffix in SUFFIXES]
        )
    except UnavailableError as error:
        at = f"{name!r} at revision {revision!r}" if revision else repr(name)
        raise DatasetError(
            f"the data set {at} is not in the local cache and can't be downloaded "
            f"({error.kind}). Three ways on: pass the path of a file or folder as data=; "
            "point HF_HOME at a cache that has it, or HF_ENDPOINT at a mirror; or fetch "
            f"https://huggingface.co/datasets/{name} elsewhere and copy its files here"
        ) from error
