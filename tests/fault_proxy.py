"""A proxy before a server that embeds, which spoils some of what passes through it."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from embedding_server import listening

STATUSES = {"408": 408, "429": 429, "500": 500, "502": 502, "503": 503, "504": 504}
FAULTS = (
    "reset",  # the connection breaks before an answer
    "reset in the middle",  # and in the middle of one
    "timeout",  # no answer
    "slow",  # one that takes its time; nothing is wrong with it
    *STATUSES,
    "cut JSON",
    "empty",
    "HTML",
    "redirection",
    "too few",
    "shuffled",  # OpenAI's interface allows it: each vector has its index
    "same index twice",
    "NaN",
    "null",
    "other dimension",
)
HTML = b"<html><body>The site is down for maintenance.</body></html>"


@dataclass
class Spoiling:
    """What the proxy does to which share of the answers; and what it has done."""

    upstream: str
    rate: float = 0.3
    faults: Sequence[str] = FAULTS
    seed: int = 0
    hang: float = 2.0
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()
        self._deck: list[str] = []

    def next_fault(self) -> str | None:
        """Return what to do to an answer; every fault comes once before any comes again."""
        with self._lock:
            fault = None
            if self._random.random() < self.rate:
                if not self._deck:
                    self._deck = self._random.sample(self.faults, len(self.faults))
                fault = self._deck.pop()
            self.done[fault or "none"] += 1
            return fault


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a small answer in one piece, which the network does not hold back
    spoiling: Spoiling

    def do_GET(self) -> None:
        self._pass_on(None)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass_on(self, body: bytes | None) -> None:
        fault = self.spoiling.next_fault()
        if fault == "reset":
            self._reset()
        elif fault == "timeout":
            time.sleep(self.spoiling.hang)
            self._reset()
        elif fault in STATUSES:
            # What some proxies do: repeat what they were sent.
            sent = {"error": f"cannot answer {self.headers['Authorization']}"}
            headers = {"Retry-After": "0"} if fault in ("429", "503") else {}
            self._send(STATUSES[fault], json.dumps(sent).encode(), headers)
        elif fault == "redirection":
            self._send(302, b"", {"Location": "http://127.0.0.1:9/login"})
        elif fault == "HTML":
            self._send(200, HTML, {"Content-Type": "text/html"})
        elif fault == "empty":
            self._send(200, b"", {})
        else:
            status, content = self._upstream(body)
            self._spoil(fault, status, content)

    def _upstream(self, body: bytes | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.spoiling.upstream).netloc, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k in ("Authorization", "Content-Type")}
        try:
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _spoil(self, fault: str | None, status: int, content: bytes) -> None:
        if fault == "reset in the middle":
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self._reset()
            return
        if fault == "slow":
            time.sleep(0.1)
        elif fault == "cut JSON":
            content = content[: len(content) // 2]
        elif fault is not None:
            answer = json.loads(content)
            vectors = answer.get("data", []) if isinstance(answer, dict) else answer
            if vectors:
                _change(fault, vectors)
                content = json.dumps(answer).encode()
        self._send(status, content, {})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        """Break the connection so that the client sees it break."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""


def _change(fault: str, vectors: list[Any]) -> None:
    """Spoil the first vector of an answer, as TEI writes it or as OpenAI's interface does."""
    openai = isinstance(vectors[0], dict)
    if fault == "too few":
        vectors.pop()
    elif fault == "shuffled" and openai:
        vectors.reverse()
    elif fault == "same index twice" and openai:
        vectors[-1]["index"] = 0 if len(vectors) > 1 else 1
    else:
        value = {"NaN": float("nan"), "null": None}.get(fault, 1.0)
        size = 3 if fault == "other dimension" else 32
        spoilt = [value] * size
        if fault not in ("NaN", "null", "other dimension"):
            return
        if openai:
            vectors[0]["embedding"] = spoilt
        else:
            vectors[0] = spoilt


@contextmanager
def spoiling(what: Spoiling) -> Iterator[str]:
    """Run the proxy; its address is the context's value."""
    with listening(type("Proxy", (Proxy,), {"spoiling": what})) as url:
        yield url
