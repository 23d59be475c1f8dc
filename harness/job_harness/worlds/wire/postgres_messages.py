"""PostgreSQL's messages: framing, what a client sends before it waits, and what its statements are.

See "Frontend/Backend Protocol" in PostgreSQL's manual. Must not know: sockets, gates, sessions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

PROTOCOL: Final = 196608
SSL_REQUEST: Final = 80877103
ENCRYPTION_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102
READY: Final = b"Z"
ERROR: Final = b"E"
NOTICE: Final = b"N"
NOTIFICATION: Final = b"A"
PARAMETER: Final = b"S"
KEY_DATA: Final = b"K"
AUTHENTICATION: Final = b"R"
PASSWORD: Final = b"p"
TERMINATE: Final = b"X"
FLUSH: Final = b"H"
SYNC: Final = b"S"
QUERY: Final = b"Q"
CALL: Final = b"F"
PARSE: Final = b"P"
BIND: Final = b"B"
EXECUTE: Final = b"E"
COPY_IN: Final = b"G"
_HEAD: Final = 5
_ENDS: Final = (SYNC, QUERY, CALL)
"""What a client sends last before it waits for a ReadyForQuery."""
_COPY_ENDS: Final = (b"c", b"f")
_ANSWERED: Final = (PARSE, BIND, b"C", b"D", EXECUTE)
"""What of an extended query has exactly one message that completes its answer."""
_COMPLETES: Final = (b"1", b"2", b"3", b"T", b"n", b"C", b"s", b"I")
"""Those messages: of Parse, Bind, Close, Describe (rows, none) and Execute (done, suspended, empty)."""


class Frame(NamedTuple):
    """One message of either side."""

    kind: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """The message as it is sent."""
        return self.kind + struct.pack("!I", len(self.body) + 4) + self.body

    @property
    def completes(self) -> bool:
        """Whether, sent by a server, it completes the answer to one message of an extended query."""
        return self.kind in _COMPLETES


class Frames:
    """Takes bytes as they come and gives whole messages."""

    def __init__(self) -> None:
        self._unread = b""

    @property
    def torn(self) -> bool:
        """Whether it ends in the middle of a message."""
        return bool(self._unread)

    def take(self, data: bytes) -> Iterator[Frame]:
        """Return the messages that are complete with these bytes."""
        self._unread += data
        while len(self._unread) >= _HEAD:
            size = 1 + int(struct.unpack_from("!I", self._unread, 1)[0])
            if len(self._unread) < size:
                return
            yield Frame(self._unread[:1], self._unread[_HEAD:size])
            self._unread = self._unread[size:]


class Batch(NamedTuple):
    """What a client sends before it waits: a statement or several, what prepares or closes one, or data of a COPY."""

    frames: tuple[Frame, ...]
    statements: tuple[str, ...] = ()
    """The texts of the statements that it executes, in their order."""
    leans: bool = False
    """Whether it executes something unnamed that an earlier batch prepared: nothing may be sent in between."""

    @property
    def raw(self) -> bytes:
        """All of it as it is sent."""
        return b"".join(frame.raw for frame in self.frames)

    @property
    def sql(self) -> str:
        """The text of what it executes; empty: it executes nothing."""
        return "; ".join(self.statements)

    @property
    def ready(self) -> bool:
        """Whether its answer ends with a ReadyForQuery; if not, with the answer to its last message."""
        return self.frames[-1].kind in (*_ENDS, *_COPY_ENDS)

    @property
    def ends_copy(self) -> bool:
        """Whether it is what a COPY waits for: all the data, or that there will be none."""
        return _ends_copy(self.frames)

    @property
    def answers(self) -> int:
        """How many messages of its answer complete something."""
        return sum(frame.kind in _ANSWERED for frame in self.frames)


class Batches:
    """Puts a client's messages together to batches, and remembers the texts that it prepared."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._texts: dict[bytes, str] = {}
        self._portals: dict[bytes, bytes] = {}
        self._statements: list[str] = []
        self._leans = False
        self._fresh: set[bytes] = set()
        """What was prepared in the batch at hand: kind and name."""
        self.copying: bytes = b""
        """While a client copies data: the message that began it; the server wants no ReadyForQuery of it."""
        self._began: bytes = b""
        """The first message of the last batch; some clients send the data before the server has asked for it."""

    @property
    def empty(self) -> bool:
        """Whether the client is not in the middle of one."""
        return not self._frames

    def take(self, frame: Frame) -> Batch | None:
        """Return the batch that this message completes."""
        if self.copying and frame.kind in (FLUSH, SYNC) and not _ends_copy(self._frames):
            return None  # The server ignores both while it takes data.
        self._frames.append(frame)
        self._read(frame)
        if not self._ends(frame):
            return None
        batch = Batch(tuple(self._frames), tuple(filter(None, map(str.strip, self._statements))), self._leans)
        self._frames.clear()
        self._statements.clear()
        self._fresh.clear()
        self._leans = False
        self.copying, self._began = b"", batch.frames[0].kind
        return batch

    def _ends(self, frame: Frame) -> bool:
        if frame.kind in _COPY_ENDS:
            return (self.copying or self._began) == QUERY
        if self.copying:
            return frame.kind == SYNC and self.copying != QUERY
        return frame.kind in (*_ENDS, FLUSH)

    def _read(self, frame: Frame) -> None:
        if frame.kind == QUERY:
            self._statements.append(frame.body.rstrip(b"\0").decode("utf-8", "replace"))
        elif frame.kind == PARSE:
            name, sql, _ = frame.body.split(b"\0", 2)
            self._texts[name] = sql.decode("utf-8", "replace")
            self._fresh.add(PARSE + name)
        elif frame.kind == BIND:
            portal, name, _ = frame.body.split(b"\0", 2)
            self._portals[portal] = name
            self._fresh.add(BIND + portal)
            self._leans = self._leans or (not name and PARSE not in self._fresh)
        elif frame.kind == EXECUTE:
            portal = frame.body.split(b"\0", 1)[0]
            self._leans = self._leans or BIND + portal not in self._fresh
            self._statements.append(self._texts.get(self._portals.get(portal, b""), "a statement"))


def _ends_copy(frames: Iterable[Frame]) -> bool:
    return any(frame.kind in _COPY_ENDS for frame in frames)


def query(sql: str) -> bytes:
    """Return the simple query of this text."""
    return Frame(QUERY, sql.encode() + b"\0").raw


def startup(parameters: Mapping[str, str]) -> bytes:
    """Return the message that opens a session."""
    pairs = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
    body = struct.pack("!I", PROTOCOL) + pairs + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def startup_parameters(body: bytes) -> dict[str, str]:
    """Read what a message that opens a session asks for; its length and version are not in `body`."""
    parts = body.rstrip(b"\0").decode("utf-8", "replace").split("\0")
    return dict(zip(parts[::2], parts[1::2], strict=False))


def fields(frame: Frame) -> dict[str, str]:
    """Read an error or a notice by its field codes: `C` is the SQLSTATE, `M` the message, `V` the severity."""
    parts = frame.body.rstrip(b"\0").decode("utf-8", "replace").split("\0")
    return {part[0]: part[1:] for part in parts if part}


def with_fields(frame: Frame, told: Mapping[str, str]) -> Frame:
    """Return an error or a notice with these fields."""
    return Frame(frame.kind, b"".join(f"{code}{text}\0".encode() for code, text in told.items()) + b"\0")


def error_frame(code: str, message: str, *, severity: str = "FATAL") -> Frame:
    """Return the error of this SQLSTATE, as a server says it."""
    return with_fields(Frame(ERROR, b""), {"S": severity, "V": severity, "C": code, "M": message})
