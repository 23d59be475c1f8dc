"""HTTP/1.1 as it goes over a socket: whole messages out of bytes, and messages as bytes.

Must not know: sockets, processes, jobs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_END: Final = b"\r\n\r\n"
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of one message."""
_SWITCHING: Final = 101
"""The one status below 200 after which no other response comes."""
_BODILESS: Final = (_SWITCHING, 204, 304)
"""Statuses whose responses end with their headers, whatever those say."""


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
        """The status of a response; 0 where there is none."""
        return _status(self.first)

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


def _status(first: str) -> int:
    """Read the status out of the first line of a response; 0 where there is none."""
    parts = first.split(" ", 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdecimal() else 0


def _is_interim(head: bytes) -> bool:
    """Tell 100 Continue, 103 Early Hints and the like: the response itself is still to come."""
    status = _status(head.partition(b"\r\n")[0].decode("latin-1"))
    return 100 <= status < 200 and status != _SWITCHING


class HttpReader:
    """Takes bytes as they come; `message` is there once it is whole."""

    def __init__(self) -> None:
        self._data = b""
        self._ended = False
        self.problem = ""
        """Why this is no message."""
        self.message: HttpMessage | None = None

    def take(self, data: bytes) -> None:
        """Take what came; nothing: the other side has ended it."""
        if self.message is not None or self.problem:
            return
        self._data += data
        self._ended = not data
        if len(self._data) > LARGEST:
            self.problem = f"a message of more than {LARGEST >> 20} MiB"
            return
        try:
            self.message = self._whole()
        except ValueError:
            self.problem = "its length is no number"
            return
        if self.message is None and self._ended:
            self.problem = "it ended in the middle of a message" if self._data else "it ended without a message"

    def _whole(self) -> HttpMessage | None:
        head, end, rest = self._data.partition(_END)
        while end and _is_interim(head):
            self._data = rest
            head, end, rest = rest.partition(_END)
        if not end:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        status = _status(first)
        pairs = [line.partition(":") for line in lines]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if status in _BODILESS:
            body: bytes | None = b""
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = _unchunked(rest)
        elif "content-length" in headers:
            size = _length(headers["content-length"], 10)
            body = rest[:size] if len(rest) >= size else None
        elif first.startswith("HTTP/"):
            body = rest if self._ended else None  # A response without a length goes on to the end.
        else:
            body = b""
        return None if body is None else HttpMessage(first, headers, body)


def _unchunked(data: bytes) -> bytes | None:
    body = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None
        size = _length(line.decode("latin-1").partition(";")[0].strip(), 16)
        if size == 0:
            return body
        if len(data) < size + 2:
            return None
        body, data = body + data[:size], data[size + 2 :]


def _length(text: str, base: int) -> int:
    """Read a length; int() alone takes a sign as well. Raises ValueError for anything else."""
    if not text.isalnum():
        raise ValueError(text)
    return int(text, base)


def request(method: str, path: str, *, host: str, headers: Mapping[str, str], body: Any = None) -> bytes:
    """Write a request with a JSON body, after which the connection ends."""
    data = b"" if body is None else json.dumps(body).encode()
    all_headers = {"host": host, "connection": "close", **headers}
    if body is not None:
        all_headers = {"content-type": "application/json", **all_headers, "content-length": str(len(data))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items())]
    return "\r\n".join(lines).encode("latin-1", "replace") + _END + data


def response(status: int, body: bytes, *, kind: str = "application/json") -> bytes:
    """Write a response, after which the connection ends."""
    head = f"HTTP/1.1 {status} {'OK' if status < 400 else 'Error'}\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(body)}\r\nconnection: close".encode() + _END + body
