"""HTTP to one server: what passes is tried again within bounds, and the key shows up nowhere."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from koe5_integrations.backends.remote.retrying import (
    Again,
    Passing,
    Patience,
    seconds_to_wait,
)
from koe5_integrations.backends.remote.server import DEFAULT_KEY_ENV, REPLICAS, Address
from koe5_integrations.errors import ConfigError, EmbeddingServerError, MissingExtraError

try:
    import httpx
    import stamina
except ImportError as error:
    raise MissingExtraError("backend='remote'", "remote") from error

__all__ = ["Client", "Refused", "Unusable"]

T = TypeVar("T")

# Its own lines say neither where nor why; they still reach whoever has set logging up.
logging.getLogger("stamina").addHandler(logging.NullHandler())

_PASSING = frozenset({408, 429, 502, 503, 504})
_SHOWN = 200


PATIENCE = Patience()
"""With texts that somebody waits for."""

FIRST_CONTACT = Patience(attempts=6, deadline=30, read=60)
"""While finding out what is there: a wrong address is to be told soon."""


class Refused(Exception):
    """The server doesn't do what it was asked, and won't if it is asked again.

    Attributes:
        status: of its answer; 500 also after some attempts.
        problem: for people.
    """

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


class Unusable(Exception):
    """What the server answered is no answer; said by who reads it.

    Attributes:
        broken: it may be one text's fault, as with an answer of 500.
    """

    def __init__(self, problem: str, *, broken: bool = False) -> None:
        super().__init__(problem)
        self.broken = broken


class Client:
    """Sends requests to one server, from any number of threads, over connections kept open.

    No redirect is followed. Proxies and certificates are taken from the environment as httpx does
    (``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``), but a server on this machine is reached
    directly.

    Args:
        address: of the server.

    Raises:
        ConfigError: the key can't be used, or would be sent where anyone on the way can read it.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        if self._key() and not (address.is_encrypted or address.is_loopback):
            raise ConfigError(
                f"base_url={address.base_url!r}: the key in {self._key_env} would be sent over the "
                "network in clear text. Use https, a tunnel to this machine (ssh -L), or, on a "
                "network you trust, a server without a key and no such variable"
            )
        self.reconnected = threading.Event()
        """A connection was made since this was last cleared: the server may be another one now."""
        self._http = httpx.Client(
            auth=_Bearer(self._key),
            headers={"Accept": "application/json"},
            follow_redirects=False,
            trust_env=not address.is_loopback,
            limits=httpx.Limits(max_connections=REPLICAS, max_keepalive_connections=REPLICAS),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def _key_env(self) -> str:
        return self._address.api_key_env or DEFAULT_KEY_ENV

    def _key(self) -> str:
        """Read the key, each time anew: it may be replaced while this process runs."""
        key = os.environ.get(self._key_env, "").strip()
        if not key and self._address.api_key_env:
            raise ConfigError(
                f"api_key_env={self._key_env!r}: there is no such environment variable, or it is "
                "empty"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigError(
                f"the key in the environment variable {self._key_env} has characters that no key "
                "has (it is not shown)"
            )
        return key

    def send(
        self,
        url: str,
        body: Any = None,
        *,
        read: Callable[[Any], T],
        first_contact: bool = False,
    ) -> T:
        """Send a request, again and again if that may help, and return what ``read`` makes of it.

        Args:
            url: where to.
            body: posted as JSON; without one, the URL is got.
            read: takes the answer's JSON; raises Unusable if that is none.
            first_contact: somebody waits to be told whether the server is there at all.

        Raises:
            Refused: the server said no, or fails inside each time.
            EmbeddingServerError: it can't be reached, wants another key, or answers nonsense.
        """
        patience = FIRST_CONTACT if first_contact else PATIENCE
        content = None
        if body is not None:
            content = json.dumps(body, ensure_ascii=False).encode()
        again = Again(url, patience)
        try:
            for attempt in stamina.retry_context(on=again, attempts=None, timeout=None):
                with attempt:
                    return self._send_once(url, content, read, patience)
        except Passing as error:
            tried = "once" if again.failures <= 1 else f"{again.failures} times"
            problem = f"{url}, tried {tried}: {error}"
            if error.kind == "broken":
                raise Refused(500, problem) from None
            raise EmbeddingServerError(problem) from None
        raise AssertionError("an attempt either returns or raises")

    def _send_once(
        self, url: str, content: bytes | None, read: Callable[[Any], T], patience: Patience
    ) -> T:
        timeout = httpx.Timeout(patience.read, connect=patience.connect)
        try:
            response = self._http.request(
                "GET" if content is None else "POST",
                url,
                content=content,
                headers={} if content is None else {"Content-Type": "application/json"},
                timeout=timeout,
                extensions={"trace": self._note_connections},
            )
        except httpx.TransportError as error:
            # The error itself holds the request, and that the key.
            problem = f"{type(error).__name__}: {self._scrubbed(str(error))}"
            raise Passing(problem) from None
        except (httpx.RequestError, httpx.InvalidURL) as error:
            problem = f"{type(error).__name__}: {self._scrubbed(str(error))}"
            raise Passing(problem, "unusable") from None
        status = response.status_code
        if status >= 300:
            raise self._failure(url, response)
        try:
            answer = json.loads(response.content)
        except (ValueError, RecursionError):
            kind = self._scrubbed(response.headers.get("content-type", "an unknown type"))
            problem = f"answers with {len(response.content)} bytes of {kind} that are no JSON"
            raise Passing(problem, "unusable") from None
        try:
            return read(answer)
        except Unusable as error:
            problem = self._scrubbed(str(error))
            raise Passing(problem, "broken" if error.broken else "unusable") from None

    def _note_connections(self, event: str, info: object) -> None:
        if event == "connection.connect_tcp.started":
            self.reconnected.set()

    def _failure(self, url: str, response: httpx.Response) -> Exception:
        status = response.status_code
        if status in (401, 403):
            sent = f"the key in {self._key_env}" if self._key() else "a request without a key"
            return EmbeddingServerError(f"{url} refuses {sent} ({status})")
        if status < 400:
            to = self._scrubbed(response.headers.get("location", "nowhere"))
            return Passing(
                f"answers with {status}, a redirection to {to}, which is not followed; if it is "
                "right, give it as base_url=",
                "unusable",
            )
        problem = f"answers with {status}: {self._scrubbed(_message(response))}"
        if status in _PASSING:
            return Passing(problem, after=seconds_to_wait(response.headers.get("retry-after", "")))
        if status >= 500:
            return Passing(problem, "broken" if status == 500 else "unusable")
        return Refused(status, f"{url} {problem}")

    def _scrubbed(self, text: str) -> str:
        """Take the key out of what a server wrote, and cut it."""
        key = self._key()
        return (text.replace(key, "***") if key else text)[:_SHOWN]


class _Bearer(httpx.Auth):
    """Puts the key on a request as it goes out."""

    def __init__(self, key: Callable[[], str]) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if key := self._key():
            request.headers["Authorization"] = f"Bearer {key}"
        yield request


def _message(response: httpx.Response) -> str:
    """Find what a server says is wrong, as TEI, OpenAI's interface and FastAPI write it."""
    try:
        content = json.loads(response.content)
    except ValueError:
        return response.reason_phrase
    if isinstance(content, dict):
        content = content.get("error") or content.get("message") or content.get("detail") or content
    if isinstance(content, dict):
        content = content.get("message") or content
    return " ".join(str(content).split())
