"""Servers that embed, on loopback, over a real small model: TEI's protocol, vLLM's and infinity's.

What each does is read from its source. TEI counts every text of a request against
``max_concurrent_requests``, refuses what is too long unless told to cut it, and puts a default
prompt in front of everything, in ``/tokenize`` too. vLLM refuses what is too long. infinity cuts it
without a word, answers to any model's name, and counts letters as tokens.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

KEY = "kgqw-7Zr3-key-that-must-not-be-seen"


@cache
def _load(folder: Path) -> tuple[SentenceTransformer, Tokenizer]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return SentenceTransformer(str(folder), device="cpu"), tokenizer


_computing = threading.Lock()


@dataclass
class Serving:
    """What a server serves, and how; and what it was asked."""

    folder: Path
    kind: str = "tei"
    name: str = ""
    key: str | None = None
    default_prompt: str = ""
    reads: int = 64
    pooling: str = "mean"
    dtype: str = "float32"
    commit: str | None = None
    most_texts: int = 32
    most_bytes: int = 2_000_000
    places: int = 512
    scale: float = 1.0
    knows_base64: bool = True
    poison: str = "\0"
    poison_status: int = 422
    prefix: str = ""
    asked: list[tuple[str, Any]] = field(default_factory=list)
    authorizations: set[str | None] = field(default_factory=set)
    most_at_once: int = 0
    at_once: int = 0

    def __post_init__(self) -> None:
        self.name = self.name or str(self.folder)
        self.lock = threading.Lock()
        self.model, self.tokenizer = _load(self.folder)

    def ids(self, text: str, special: bool = True) -> list[int]:
        return self.tokenizer.encode(self.default_prompt + text, add_special_tokens=special).ids

    def embed(self, texts: list[str]) -> np.ndarray[Any, Any]:
        prompted = [self.default_prompt + text for text in texts]
        with self.lock, _computing:
            vectors = self.model.encode(prompted, prompt="", show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32) * self.scale


class _Refused(Exception):
    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a small answer in one piece, which the network does not hold back
    serving: Serving

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(content)

    def _answer(self, content: bytes | None) -> None:
        serving = self.serving
        serving.authorizations.add(self.headers["Authorization"])
        try:
            if serving.key and self.headers["Authorization"] != f"Bearer {serving.key}":
                raise _Refused(401, f"no access with {self.headers['Authorization']}")
            if content is not None and len(content) > serving.most_bytes:
                raise _Refused(413, "the request is too large")
            body = None if content is None else json.loads(content)
            path = self.path.removeprefix(serving.prefix)
            serving.asked.append((path, body))
            status, answer = 200, getattr(self, f"_{serving.kind}")(path, body)
        except _Refused as refused:
            status, answer = refused.status, {"error": {"message": str(refused)}}
        self._send(status, answer)

    def _tei(self, path: str, body: Any) -> Any:
        serving = self.serving
        if path == "/info":
            return {
                "model_id": serving.name,
                "model_sha": serving.commit,
                "model_dtype": serving.dtype,
                "served_model_name": serving.name,
                "model_type": {"embedding": {"pooling": serving.pooling}},
                "max_concurrent_requests": serving.places,
                "max_input_length": serving.reads,
                "max_batch_tokens": 16384,
                "max_batch_requests": None,
                "max_client_batch_size": serving.most_texts,
                "auto_truncate": True,
                "tokenization_workers": 2,
                "version": "1.9.0",
            }
        if path == "/tokenize":
            special = body.get("add_special_tokens", True)
            return [[{"id": i} for i in serving.ids(text, special)] for text in body["inputs"]]
        if path != "/embed":
            raise _Refused(404, "no such path")
        texts = body["inputs"]
        with self._places(len(texts)):
            if len(texts) > serving.most_texts:
                raise _Refused(422, f"batch size {len(texts)} > maximum allowed batch size")
            self._check(texts)
            if not body["truncate"] and any(len(serving.ids(t)) > serving.reads for t in texts):
                raise _Refused(422, f"`inputs` must have less than {serving.reads} tokens")
            vectors = serving.embed(texts)
        if body["normalize"]:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.tolist()

    def _vllm(self, path: str, body: Any) -> Any:
        serving = self.serving
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": serving.name, "object": "model"}]}
        if path == "/tokenize":
            tokens = serving.ids(body["prompt"], body["add_special_tokens"])
            return {"count": len(tokens), "max_model_len": serving.reads, "tokens": tokens}
        if path != "/v1/embeddings":
            raise _Refused(404, "no such path")
        if body["model"] != serving.name:
            raise _Refused(404, f"The model `{body['model']}` does not exist.")
        texts = body["input"]
        with self._places(len(texts)):
            self._check(texts)
            counts = [len(serving.ids(text)) for text in texts]
            if max(counts) > serving.reads:
                raise _Refused(400, f"This model's maximum context length is {serving.reads}")
            return self._openai(texts, body, sum(counts))

    def _counting(self, path: str, body: Any) -> Any:
        """As vLLM, but with nothing that tells its tokens but their number."""
        if path == "/tokenize":
            raise _Refused(404, "no such path")
        return self._vllm(path, body)

    def _infinity(self, path: str, body: Any) -> Any:
        if path == "/models":
            return {"object": "list", "data": [{"id": self.serving.name, "object": "model"}]}
        if path != "/embeddings":
            raise _Refused(404, "Not Found")
        texts = body["input"]
        with self._places(len(texts)):
            self._check(texts)
            return self._openai(texts, body, sum(map(len, texts)))

    def _openai(self, texts: list[str], body: Any, usage: int) -> Any:
        vectors = self.serving.embed(texts)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows: list[Any] = vectors.tolist()
        if body.get("encoding_format") == "base64":
            if not self.serving.knows_base64:
                raise _Refused(400, "encoding_format: only float")
            rows = [base64.b64encode(row.tobytes()).decode() for row in vectors]
        data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
        counted = {"prompt_tokens": usage, "total_tokens": usage}
        return {"object": "list", "model": self.serving.name, "data": data, "usage": counted}

    def _check(self, texts: list[str]) -> None:
        if not texts or not all(texts):
            raise _Refused(400, "`inputs` cannot be empty")
        if any(self.serving.poison in text for text in texts):
            raise _Refused(self.serving.poison_status, "a text is not valid")

    @contextmanager
    def _places(self, count: int) -> Iterator[None]:
        """Count texts that are worked on, as TEI does, and refuse too many."""
        serving = self.serving
        with serving.lock:
            serving.at_once += count
            serving.most_at_once = max(serving.most_at_once, serving.at_once)
            overloaded = serving.at_once > serving.places
        try:
            if overloaded:
                raise _Refused(429, "Model is overloaded")
            yield
        finally:
            with serving.lock:
                serving.at_once -= count

    def _send(self, status: int, answer: Any) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing; what was asked is kept."""


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep open, as the end of a process does."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone away."""


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[str]:
    """Run a server in threads of this process; the address is the context's value."""
    server = QuietServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join()


@contextmanager
def serving(what: Serving, port: int = 0) -> Iterator[str]:
    """Serve a model; the address is the context's value."""
    with listening(type("Handler", (Handler,), {"serving": what}), port) as url:
        yield url + what.prefix
