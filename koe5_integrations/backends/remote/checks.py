"""What is found out of a server before it embeds anything: the right model, and nothing added.

A server that puts a prompt of its own in front of every text answers as readily as any other, with
vectors that are wrong. It gives itself away in one of three ways, whichever the server offers:

- ``/tokenize`` (TEI, vLLM, llama.cpp) says which tokens it reads: they must be those read here.
- ``usage`` counts them: for two texts their numbers must differ as they do here, which tells
  servers that count tokens from those that count letters (infinity), and must not be more.
- The last token a model can read must count. Of a text that fills the model to its last token, and
  one that differs from it in that token alone, a server that adds something, or reads less, returns
  the same vector, or an error.
"""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import Any, NoReturn

import numpy as np

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.remote.answers import token_ids
from koe5_integrations.backends.remote.backend import RemoteBackend
from koe5_integrations.backends.remote.client import Refused
from koe5_integrations.backends.remote.server import Served
from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.errors import ConfigError, EncodingError
from koe5_integrations.types import Vectors

__all__ = ["check_server"]

_log = logging.getLogger("koe5_integrations")

_COMMIT = re.compile("[0-9a-f]{40}")
_PROBES = [
    "query: 파이썬 문자열은 왜 불변인가요?",
    "passage: Hello, world 123",
    "헌법은 국민의 기본권을",
]
# Longer ones take too long on a CPU only to be asked for certainty.
_LONGEST_FILLED = 1024
# Neighbouring words to fill a model with, so that some pair has one token each in any vocabulary.
_FILLERS = [("이", "의"), ("가", "는"), ("a", "e"), ("1", "2"), ("the", "of"), (".", ",")]
_REMEDY = (
    "serve the model as it is, without a default prompt (TEI: neither --default-prompt nor "
    "--default-prompt-name), for the prefixes are put on here"
)


def check_server(
    backend: RemoteBackend,
    folder: ModelFolder,
    served: Served,
    max_seq_length: int | None,
    pooling: str | None,
) -> None:
    """Compare what a server does with what the model would do here.

    Args:
        backend: of the server.
        folder: of the model.
        served: what the server says of itself.
        max_seq_length: tokens that are read of each text.
        pooling: of the model, if its folder doesn't say.

    Raises:
        ConfigError: it serves another model, or reads texts otherwise.
        EmbeddingServerError: it can't be reached, or its vectors are of another length.
    """
    check = _Check(backend, folder, served, max_seq_length)
    check.compare_facts(folder.pooling or pooling)
    check.run()


class _Check:
    def __init__(
        self,
        backend: RemoteBackend,
        folder: ModelFolder,
        served: Served,
        max_seq_length: int | None,
    ) -> None:
        self._backend = backend
        self._served = served
        self._path = folder.path
        self._reads = max_seq_length
        self._model_reads = folder.max_seq_length
        self._special = folder.kind == "transformer"
        self._tokenizer = TextTokenizer.from_folder(folder, None)

    def compare_facts(self, pooling: str | None) -> None:
        there, here = self._served.commit, self._path.name
        if there and there != here and _COMMIT.fullmatch(there) and _COMMIT.fullmatch(here):
            self._refuse(
                f"serves the model at commit {there}, not {here}: serve that (--revision {here}), "
                f"or open the other one with revision={there!r}"
            )
        if self._served.pooling is not None and pooling and self._served.pooling != pooling:
            self._refuse(
                f"pools by {self._served.pooling!r}, the model by {pooling!r}: serve it with "
                f"--pooling {pooling}"
            )
        most = self._served.max_seq_length
        if most is not None and (self._reads is None or most < self._reads):
            self._refuse(
                f"reads {most} tokens of a text, not {self._reads or 'all'}: let it read more, or "
                f"say max_seq_length={most}"
            )

    def run(self) -> None:
        self._backend.greet()
        if self._served.protocol == "tei":
            theirs = self._tokens_of_tei()
        else:
            theirs = self._tokens_of_others()
        if theirs is not None:
            self._compare(theirs)
            if self._served.protocol == "openai":
                self._fill(self._reads)
            return
        nothing_added = self._served.protocol == "openai" and self._usage_agrees()
        self._fill(self._reads if nothing_added else self._model_reads)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer([text])[0].ids.tolist()
        return ids

    def _tokens_of_tei(self) -> list[list[int]] | None:
        body = {"inputs": _PROBES, "add_special_tokens": self._special}
        return self._ask(f"{self._served.root}/tokenize", body, len(_PROBES))

    def _tokens_of_others(self) -> list[list[int]] | None:
        url = f"{self._served.root.removesuffix('/v1')}/tokenize"
        found: list[list[int]] = []
        for probe in _PROBES:
            # As vLLM names them, and as llama.cpp does.
            body = {"model": self._served.model, "prompt": probe, "add_special_tokens": True}
            answer = self._ask(url, body | {"content": probe, "add_special": True}, 1)
            if answer is None:
                return None
            found += answer
        return found

    def _ask(self, url: str, body: Any, count: int) -> list[list[int]] | None:
        read = partial(token_ids, count=count)
        try:
            answer: list[list[int]] = self._backend.ask(url, body, read)
        except Refused as refused:
            _log.debug("the server tokenises nothing for others to see: %s", refused)
            return None
        return answer

    def _compare(self, theirs: list[list[int]]) -> None:
        ours = [self._ids(probe) for probe in _PROBES]
        if theirs == ours:
            return
        more = [len(there) - len(here) for there, here in zip(theirs, ours, strict=True)]
        # What stands before the text itself: a special token, then the prompt.
        added = all(
            extra > 0 and there[-len(here) + 2 :] == here[2:]
            for extra, there, here in zip(more, theirs, ours, strict=True)
        )
        if added:
            self._refuse(f"puts a prompt of {max(more)} tokens in front of every text: {_REMEDY}")
        self._refuse(
            "reads texts as other tokens than this model does: it serves another model, or this "
            "one with another tokenizer"
        )

    def _usage_agrees(self) -> bool:
        """Whether the server counts tokens, and no more of them than there are here."""
        counted = [self._usage(probe) for probe in _PROBES]
        here = [len(self._ids(probe)) for probe in _PROBES]
        known = [count - ours for count, ours in zip(counted, here, strict=True) if count]
        if len(known) < len(_PROBES) or len(set(known)) > 1:
            return False
        if known[0] > 0:
            self._refuse(f"counts {known[0]} tokens more than each text has: {_REMEDY}")
        return True

    def _usage(self, text: str) -> int:
        def read(answer: Any) -> int:
            usage = answer.get("usage") if isinstance(answer, dict) else None
            count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
            return count if isinstance(count, int) else 0

        body = {"model": self._served.model, "input": [text]}
        try:
            count: int = self._backend.ask(f"{self._served.root}/embeddings", body, read)
        except Refused:
            return 0
        return count

    def _fill(self, limit: int | None) -> None:
        """Refuse a server for which the last token that is to be read doesn't count."""
        if limit is None or limit > _LONGEST_FILLED:
            return
        pair = self._full_texts(limit)
        if pair is None:
            return
        text, other = pair
        try:
            vectors = self._backend.embed([text, other, text], first_contact=True)
        except EncodingError as error:
            self._refuse(self._reads_less(limit, str(error)))
        noise, difference = _distance(vectors, 0, 2), _distance(vectors, 0, 1)
        if difference <= 10 * noise + 1e-6:
            self._refuse(self._reads_less(limit, "the last token makes no difference"))

    def _reads_less(self, limit: int, why: str) -> str:
        return (
            f"does not read {limit} tokens of a text ({why}). Either it reads fewer (let it read "
            "as many, or say max_seq_length= and let it tell its tokens by /tokenize), or it adds "
            f"a prompt: {_REMEDY}"
        )

    def _full_texts(self, limit: int) -> tuple[str, str] | None:
        """Return two texts of so many tokens that differ in the last one; None if none is found."""
        for word, last in _FILLERS:
            one, two = (len(self._ids(" ".join([word] * n))) for n in (1, 2))
            if two <= one:
                continue
            count = (limit - one) // (two - one) + 1
            words = [word] * count
            text, other = " ".join(words), " ".join([*words[:-1], last])
            here, there = self._ids(text), self._ids(other)
            if len(here) != limit or len(there) != limit:
                continue
            differ = [i for i in range(limit) if here[i] != there[i]]
            specials = len(self._ids("")) if self._special else 0
            # One special token ends the text.
            if differ == [limit - 1 - (specials > 1)]:
                return text, other
        return None

    def _refuse(self, problem: str) -> NoReturn:
        raise ConfigError(f"base_url={self._served.address.base_url!r} {problem}")


def _distance(vectors: Vectors, one: int, other: int) -> float:
    return float(np.abs(vectors[one] - vectors[other]).max() / np.abs(vectors).max())
