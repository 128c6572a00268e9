"""An OpenAI-compatible chat server that reads its prompt: stands in for a language model in tests.

It parses the delimited passages and the question out of what it was sent, and answers with the
first sentence of the passage that shares most two-letter sequences with the question, citing it.
A word in the question makes it misbehave: ``miscites`` cites a passage it never saw, ``uncited``
cites none, ``breaks-off`` drops the connection in the middle of the answer.

``python openai_server.py LOG KEY`` prints its port, and appends each request to LOG as JSON.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL = "test-model"
PASSAGE = re.compile(r'<passage id="([^"]*)" source="[^"]*">\n(.*?)\n</passage>', re.DOTALL)
QUESTION = re.compile(r"<question>(.*?)</question>", re.DOTALL)


def bigrams(text: str) -> set[str]:
    """Pairs of neighbouring characters within words."""
    return {word[i : i + 2] for word in re.findall(r"\w+", text) for i in range(len(word) - 1)}


def answer(prompt: str) -> str:
    """Answer the question in a prompt from the passages in it."""
    passages = {doc_id: html.unescape(text) for doc_id, text in PASSAGE.findall(prompt)}
    asked = QUESTION.search(prompt)
    if not passages or asked is None:
        return "주어진 문서에서 답을 찾을 수 없습니다."
    wanted = bigrams(html.unescape(asked[1]))
    best = max(passages, key=lambda doc_id: len(wanted & bigrams(passages[doc_id])))
    sentence = re.split(r"(?<=[.!?])\s", passages[best], maxsplit=1)[0]
    if "uncited" in asked[1]:
        return sentence
    return f"{sentence} [{'d99999' if 'miscites' in asked[1] else best}]"


class Handler(BaseHTTPRequestHandler):
    """Serves ``/v1/models`` and ``/v1/chat/completions``, streamed or whole."""

    protocol_version = "HTTP/1.1"
    log: Path
    key: str

    def do_GET(self) -> None:
        if self._authorised() and self.path == "/v1/models":
            model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "tests"}
            self._send(200, {"object": "list", "data": [model]})
        elif self._authorised():
            self._refuse(404, "no such path")

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(request, ensure_ascii=False) + "\n")
        if not self._authorised():
            return
        if self.path != "/v1/chat/completions":
            self._refuse(404, "no such path")
        elif request["model"] != MODEL:
            self._refuse(404, f"the model {request['model']!r} does not exist")
        else:
            self._complete(request)

    def _complete(self, request: dict[str, Any]) -> None:
        prompt = next(m["content"] for m in reversed(request["messages"]) if m["role"] == "user")
        text = answer(prompt)
        if request.get("stream"):
            self._stream(text, whole="breaks-off" not in prompt)
            return
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        self._send(200, self._body("chat.completion", choice) | {"usage": usage})

    def _stream(self, text: str, *, whole: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        # A length that is never reached tells the client that the rest went missing.
        events = list(self._events(text))
        self.send_header("Content-Length", str(sum(map(len, events))))
        self.end_headers()
        for event in events if whole else events[: len(events) // 2]:
            self.wfile.write(event)
        self.close_connection = True

    def _events(self, text: str) -> Iterator[bytes]:
        deltas = [
            {"role": "assistant"},
            *({"content": c} for c in re.findall(r".{1,8}", text, re.S)),
        ]
        for delta in [*deltas, {}]:
            choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
            yield (
                b"data: %s\n\n" % json.dumps(self._body("chat.completion.chunk", choice)).encode()
            )
        yield b"data: [DONE]\n\n"

    def _body(self, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        return {"id": "chat-1", "object": kind, "created": 0, "model": MODEL, "choices": [choice]}

    def _authorised(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.key}":
            return True
        self._refuse(401, "Incorrect API key provided")
        return False

    def _refuse(self, status: int, message: str) -> None:
        self._send(status, {"error": {"message": message, "type": "invalid_request_error"}})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing; requests are in the log file."""


def main() -> None:
    Handler.log, Handler.key = Path(sys.argv[1]), sys.argv[2]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
