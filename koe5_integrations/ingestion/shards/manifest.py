"""manifest.json: says that a folder holds shards, in which format, and which vectors."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from koe5_integrations.errors import ShardError
from koe5_integrations.fingerprint import Fingerprint
from koe5_integrations.ingestion.shards.durable import new_file
from koe5_integrations.ingestion.shards.fingerprints import StoredFingerprint
from koe5_integrations.ingestion.shards.layout import FORMAT_VERSION, check_version

__all__ = ["MANIFEST", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> StoredFingerprint | None:
    """Return the fingerprint of a folder of shards; None if there is no manifest.

    Raises:
        ShardError: it can't be read, or is of another format version.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format_version"]
        stored = StoredFingerprint(
            str(manifest["fingerprint"]),
            dict(manifest["fingerprint_fields"]),
            int(manifest["dim"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ShardError(f"{path} can't be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"{path} is damaged ({error!r}): remove it, and the next koe5 ingest into this folder "
            "writes it again from the shards"
        ) from error
    check_version(path, version)
    return stored


def write_manifest(folder: Path, fingerprint: Fingerprint, dim: int) -> None:
    """Write the manifest, wholly or not at all."""
    manifest = {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint.digest,
        "fingerprint_fields": asdict(fingerprint),
        "dim": dim,
    }
    with new_file(folder / MANIFEST) as file:
        file.write(json.dumps(manifest, ensure_ascii=False, indent=2).encode() + b"\n")
