"""The teacher: an encoder, its files, and its vectors as a student is to learn them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import TruncationWarning
from koe5_integrations.handle import ModelHandle
from koe5_integrations.ingestion.shards.durable import new_file
from koe5_integrations.options import EncoderOptions, model_argument
from koe5_integrations.profiles import profile_for
from koe5_integrations.training.distillation.projection import fit_projection
from koe5_integrations.training.texts import Texts
from koe5_integrations.types import Role, Vectors
from koe5_integrations.warn import warn

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Teacher"]

# Embedded at a time; the encoder writes what it has to its cache more often than that.
_SLICE = 10_000
# More would take long to multiply and change nothing that can be seen.
_SAMPLE = 20_000


class Teacher:
    """The model whose vectors are learnt.

    Its vectors are kept on the disk, by fingerprint and text, so that no text is embedded twice by
    a run that is stopped and goes on.

    Args:
        model: as KoE5Encoder's.
        folder: where what is worked out is kept, and, unless the options say otherwise, vectors.
        seed: of the sample that shows how to shorten vectors.
        options: KoE5Encoder's.

    Raises:
        ConfigError: an option has an impossible value.
        UnknownModelError: a hub name whose prompts are not known and not given.
    """

    def __init__(self, model: str, folder: Path, *, seed: int, options: EncoderOptions) -> None:
        self.model = model
        self.folder = folder
        self._seed = seed
        self._options = options
        given = options.copy()
        given["on_truncation"] = "ignore"  # said once, of all texts
        given["embedding_cache"] = options.get("embedding_cache") or str(folder / "vectors")
        self.encoder = KoE5Encoder(model, **given)

    @property
    def prompts(self) -> dict[str, str]:
        """Its prefixes, which become the student's."""
        profile = self.encoder.profile
        return {"query": profile.query_prompt, "passage": profile.passage_prompt}

    def files(self) -> ModelFolder:
        """Return its files, wherever its vectors come from.

        Raises:
            ModelLoadError: they are not here and can't be had.
        """
        options = self._options
        name, is_folder = model_argument(self.model)
        profile = profile_for(
            name,
            is_folder=is_folder,
            profile=options.get("profile"),
            query_prompt=options.get("query_prompt"),
            passage_prompt=options.get("passage_prompt"),
        )
        local = EncoderOptions(
            revision=options.get("revision"),
            cache_folder=None,
            local_files_only=False,
            max_seq_length=None,
            truncate_dim=None,
        )
        return ModelHandle(name, is_folder, profile, local).folder

    def vectors(self, texts: Sequence[str], role: Role) -> Vectors:
        """Return its vectors of a few texts, float32, shape (len(texts), its dim), of unit length.

        Cosines are all that is searched by, also where the teacher's own have other lengths.
        """
        encode = self.encoder.encode_queries if role == "query" else self.encoder.encode_passages
        found = encode(texts)
        unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit

    def key(self, texts: Texts, *settings: object) -> str:
        """Return what to keep under that which was worked out of its vectors of these texts."""
        parts = [self.encoder.fingerprint.digest, self._seed, *settings]
        digest = hashlib.sha256(json.dumps(parts).encode())
        for text in (*texts.queries, "\0", *texts.passages):
            digest.update(hashlib.sha256(text.encode()).digest())
        return digest.hexdigest()[:16]

    def lessons(self, texts: Texts, dim: int, *, rotate: bool) -> Lessons:
        """Compute what a student is to learn, or find it where an earlier session left it.

        Args:
            texts: to learn from.
            dim: length of the student's vectors, at most the teacher's.
            rotate: have the first dimensions say most, for vectors that will be cut, also where
                there are as many as the teacher's.

        Raises:
            KoE5Error: the encoder fails, see :class:`~koe5_integrations.KoE5Encoder`.
        """
        key = self.key(texts, dim, rotate)
        projection = None
        if rotate or dim < self.encoder.dim:
            file = self.folder / f"projection-{key}.npy"
            if not file.is_file():
                self.folder.mkdir(parents=True, exist_ok=True)
                found = self._projection(texts, dim)
                with new_file(file) as stream:
                    np.save(stream, found)
            projection = np.load(file)
        return Lessons(self._written(f"lessons-{key}.arrow", texts, projection), projection)

    def _projection(self, texts: Texts, dim: int) -> Vectors:
        sample, _ = texts.draw(min(_SAMPLE, len(texts)), self._seed)
        vectors = [vectors for _, _, vectors in self._slices(sample, "a sample of the texts")]
        return fit_projection(np.concatenate(vectors), dim)

    def _written(self, name: str, texts: Texts, projection: Vectors | None) -> Dataset:
        import pyarrow
        from datasets import Dataset

        file = self.folder / name
        dim = self.encoder.dim if projection is None else projection.shape[1]
        schema = pyarrow.schema(
            [("text", pyarrow.string()), ("label", pyarrow.list_(pyarrow.float32(), dim))]
        )
        if not file.is_file():
            before = self.encoder.truncation.texts
            self.folder.mkdir(parents=True, exist_ok=True)
            with new_file(file) as stream, pyarrow.ipc.new_stream(stream, schema) as writer:
                for role, some, vectors in self._slices(texts, "the teacher's vectors"):
                    learnt = vectors if projection is None else vectors @ projection
                    prompted = [self.prompts[role] + text for text in some]
                    labels = pyarrow.FixedSizeListArray.from_arrays(
                        pyarrow.array(learnt.astype(np.float32).ravel()), dim
                    )
                    writer.write_batch(
                        pyarrow.record_batch([pyarrow.array(prompted), labels], schema=schema)
                    )
            cut = self.encoder.truncation.texts - before
            if cut:
                warn(
                    TruncationWarning(
                        f"{cut:,} of {len(texts):,} texts are longer than the "
                        f"{self.encoder.max_seq_length} tokens the teacher reads, and their rest "
                        "is not learnt: split them into shorter passages"
                    )
                )
        return Dataset.from_file(str(file))

    def _slices(self, texts: Texts, what: str) -> Iterator[tuple[Role, Sequence[str], Vectors]]:
        roles: tuple[tuple[Role, list[str]], ...] = (
            ("query", texts.queries),
            ("passage", texts.passages),
        )
        # On a terminal only.
        with tqdm(total=len(texts), desc=what, unit=" texts", disable=None) as bar:
            for role, all_texts in roles:
                for start in range(0, len(all_texts), _SLICE):
                    some = all_texts[start : start + _SLICE]
                    yield role, some, self.vectors(some, role)
                    bar.update(len(some))


@dataclass(frozen=True)
class Lessons:
    """What a student is to learn.

    Attributes:
        data: each text with its prefix, and as ``label`` the vector it is to have; read from the
            disk as needed.
        projection: what made those vectors of the teacher's, shape (teacher's dim, student's dim);
            None if they are the teacher's own.
    """

    data: Dataset
    projection: Vectors | None
