"""A model on a server, used like one that was loaded here."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.remote.answers import openai_vectors, tei_vectors
from koe5_integrations.backends.remote.client import Client, Refused
from koe5_integrations.backends.remote.discovery import discover
from koe5_integrations.backends.remote.server import Served
from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.errors import ConfigError, EmbeddingServerError, EncodingError
from koe5_integrations.types import Vectors

__all__ = ["RemoteBackend"]

# Of the texts of one request; servers take 1 or 2 MB in all by default.
_MOST_BYTES = 900_000
# Statuses with which servers refuse a text, or so much at once: 400 empty or too long, 413 too
# large, 422 not valid, 424 failed in the model.
_OF_A_TEXT = frozenset({400, 413, 422, 424})
_HARMLESS = "파이썬"


class RemoteBackend:
    """Sends texts to a server, several requests at a time if called by several threads.

    Texts are tokenised here too, with the model's own tokenizer, for the scheduler to see how long
    they are, and cut here to what the model reads: servers cut without a word, or refuse.

    Args:
        folder: the model; its weights need not be in it.
        served: what the server says of itself.
        max_seq_length: tokens read of each text.

    Raises:
        ConfigError: the key can't be used.
        ModelLoadError: there is no tokenizer.
    """

    def __init__(self, folder: ModelFolder, served: Served, max_seq_length: int | None) -> None:
        self.batch_tokens = served.batch_tokens
        # Servers put texts of like lengths together themselves.
        self.pass_tokens = served.batch_tokens
        self._dim = folder.dim
        self._served = served
        self._tokenizer = TextTokenizer.from_folder(folder, max_seq_length)
        self._client = Client(served.address)
        self._recognising = threading.Lock()
        # A quarter of the size of JSON's numbers, but not every server knows it.
        self._encoding_format = "base64"
        weakref.finalize(self, self._client.close)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return each text's tokens, in order, with the text as it is sent."""
        return [
            tokens._replace(
                text=text if tokens.uncut <= len(tokens.ids) else self._tokenizer.cut(text)
            )
            for text, tokens in zip(texts, self._tokenizer(texts), strict=True)
        ]

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        """Return raw vectors, shape (len(batch), dim); normalised already by some servers.

        Raises:
            EncodingError: the server refuses a text of these, or fails on it.
            EmbeddingServerError: it can't be reached, or answers nonsense, whatever it is sent.
        """
        texts = [tokens.text for tokens in batch]
        return np.concatenate([self.embed(part) for part in _by_bytes(texts)])

    def embed(self, texts: Sequence[str], *, first_contact: bool = False) -> Vectors:
        """Send texts in one request; result and errors as :meth:`forward`.

        Args:
            texts: as the server is to read them.
            first_contact: as of :meth:`Client.send`.
        """
        try:
            return self._send(texts, first_contact)
        except Refused as refused:
            if refused.status == 500 and not self._is_well():
                raise EmbeddingServerError(refused.problem) from None
            if refused.status in _OF_A_TEXT or refused.status == 500:
                raise EncodingError(
                    f"the server can't embed this text: {refused.problem}"
                ) from None
            raise EmbeddingServerError(refused.problem) from None

    def ask(self, url: str, body: Any, read: Any) -> Any:
        """Send any other request; raises as :meth:`Client.send`."""
        return self._client.send(url, body, read=read, first_contact=True)

    def greet(self) -> None:
        """Find out whether the server embeds, and whether it knows base64.

        Raises:
            EmbeddingServerError: it doesn't embed what nothing is wrong with.
        """
        for encoding_format in ("base64", "float"):
            self._encoding_format = encoding_format
            try:
                self._send([_HARMLESS], True)
            except Refused as refused:
                problem = refused.problem
            else:
                return
        raise EmbeddingServerError(problem)

    def _send(self, texts: Sequence[str], first_contact: bool) -> Vectors:
        served, count = self._served, len(texts)

        def read(answer: Any) -> Vectors:
            if served.protocol == "tei":
                vectors = tei_vectors(answer, count, self._dim)
            else:
                vectors = openai_vectors(answer, count, self._dim, served.model)
            self._recognise()
            return vectors

        body: dict[str, Any]
        if served.protocol == "tei":
            url = f"{served.root}/embed"
            body = {"inputs": texts, "normalize": False, "truncate": False}
        else:
            url = f"{served.root}/embeddings"
            body = {"model": served.model, "input": texts, "encoding_format": self._encoding_format}
        return self._client.send(url, body, read=read, first_contact=first_contact)

    def _recognise(self) -> None:
        """Over a new connection, make sure that it still leads to the same server."""
        if not self._client.reconnected.is_set():
            return
        with self._recognising:
            if not self._client.reconnected.is_set():
                return
            self._client.reconnected.clear()
            try:
                self._meet_again()
            except BaseException:
                self._client.reconnected.set()
                raise

    def _meet_again(self) -> None:
        address = self._served.address
        try:
            now = discover(address, [self._served.model], self._client)
        except ConfigError as error:
            raise EmbeddingServerError(f"it is not the server it was: {error}") from None
        if now != self._served:
            raise EmbeddingServerError(
                f"{address.base_url} is not the server it was: it served "
                f"{_described(self._served)}, and now {_described(now)}. Start again with what it "
                "serves now, or let it serve what it did"
            )

    def _is_well(self) -> bool:
        """Whether the server embeds what nothing is wrong with."""
        try:
            self._send([_HARMLESS], True)
        except (Refused, EmbeddingServerError):
            return False
        return True


def _by_bytes(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a batch where it gets too large for one request."""
    start = size = 0
    for i, text in enumerate(texts):
        more = len(json.dumps(text, ensure_ascii=False).encode())
        if i > start and size + more > _MOST_BYTES:
            yield texts[start:i]
            start, size = i, 0
        size += more
    yield texts[start:]


def _described(served: Served) -> str:
    return (
        f"{served.model!r} at {served.commit}, {served.precision}, {served.max_seq_length} tokens"
    )
