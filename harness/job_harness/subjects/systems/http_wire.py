"""HTTP/1.1 as it goes over a socket: whole messages out of bytes, and messages as bytes.

Must not know: sockets, processes, jobs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import h11

_END: Final = b"\r\n\r\n"
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of one message."""


@dataclass(frozen=True, slots=True)
class HttpMessage:
    """A request or a response."""

    first: str
    """`POST /charge HTTP/1.1`, or `HTTP/1.1 200 OK`."""
    headers: Mapping[str, str]
    """By name, in lower case."""
    body: bytes = b""

    @property
    def status(self) -> int:
        """The status of a response; 0 if there is none."""
        parts = self.first.split(" ", 2)
        return int(parts[1]) if self.first.startswith("HTTP/") else 0

    @property
    def method(self) -> str:
        """The method of a request."""
        return self.first.split(" ", 1)[0]

    @property
    def path(self) -> str:
        """What a request asks for, without its query."""
        parts = self.first.split(" ")
        return parts[1].partition("?")[0] if len(parts) > 1 else "/"

    @property
    def host(self) -> str:
        """The host that a request is for, without a port."""
        return self.headers.get("host", "").partition(":")[0]

    def json(self) -> Any:
        """Return the body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class HttpReader:
    """Takes bytes as they come; `message` is there once it is whole."""

    def __init__(self, *, answers: str = "") -> None:
        """Read a response to a request of the method that it `answers`; without one, read a request."""
        self._wire = h11.Connection(h11.CLIENT if answers else h11.SERVER, max_incomplete_event_size=LARGEST)
        if answers:  # Whether a response has a body depends on what it answers.
            self._wire.send(h11.Request(method=answers, target="/", headers=[("host", "process")]))
            self._wire.send(h11.EndOfMessage())
        self._head: h11.Request | h11.Response | None = None
        self._body = bytearray()
        self._began = False
        self.problem = ""
        """Why this is no message."""
        self.message: HttpMessage | None = None

    def take(self, data: bytes) -> None:
        """Take what came; nothing: the other side has ended it."""
        if self.message is not None or self.problem:
            return
        self._began |= bool(data)
        try:
            self._wire.receive_data(data)
            while self.message is None and self._hear(self._wire.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            self.problem = str(error)
        if not data and self.message is None:
            self.problem = "it ended in the middle of a message" if self._began else "it ended without a message"

    @property
    def rest(self) -> bytes:
        """What came after the message."""
        return self._wire.trailing_data[0] if self.message is not None else b""

    def _hear(self, event: object) -> bool:
        """Take one event; False where more bytes are needed first. 100 Continue and 103 Early Hints are no response."""
        match event:
            case h11.Request() | h11.Response():
                self._head = event
            case h11.Data():
                self._body += event.data
                if len(self._body) > LARGEST:
                    raise h11.RemoteProtocolError(f"a message of more than {LARGEST >> 20} MiB")
            case h11.EndOfMessage():
                assert self._head is not None
                self.message = HttpMessage(_first_line(self._head), _texts(self._head.headers), bytes(self._body))
            case h11.InformationalResponse():
                pass
            case _:
                return False
        return True


def _first_line(head: h11.Request | h11.Response) -> str:
    version = f"HTTP/{head.http_version.decode()}"
    if isinstance(head, h11.Request):
        return f"{head.method.decode()} {head.target.decode('latin-1')} {version}"
    return f"{version} {head.status_code} {head.reason.decode('latin-1')}"


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def request(method: str, path: str, *, host: str, headers: Mapping[str, str], body: Any = None) -> bytes:
    """Write a request with a JSON body, after which the connection ends."""
    data = b"" if body is None else json.dumps(body).encode()
    all_headers = {"host": host, "connection": "close", **headers}
    if body is not None:
        all_headers = {"content-type": "application/json", **all_headers, "content-length": str(len(data))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items())]
    return "\r\n".join(lines).encode("latin-1", "replace") + _END + data


def response(status: int, body: bytes, *, kind: str = "application/json", more: str = "") -> bytes:
    """Write a response, after which the connection ends; `more` are whole lines of its head."""
    head = f"HTTP/1.1 {status} {'OK' if status < 400 else 'Error'}\r\ncontent-type: {kind}\r\n{more}"
    return f"{head}content-length: {len(body)}\r\nconnection: close".encode() + _END + body
