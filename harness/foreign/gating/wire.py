"""PostgreSQL's protocol, as far as one has to read it to know what is asked and whether it is answered.

Frames are told apart by their first byte and a length; see "Frontend/Backend Protocol" in PostgreSQL's manual. Holds no
socket.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from harness.errors import UsageError

PROTOCOL: Final = 196608
SSL_REQUEST: Final = 80877103
ENCRYPTION_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102
READY: Final = b"Z"
ERROR: Final = b"E"
NOTICE: Final = b"N"
KEY_DATA: Final = b"K"
TERMINATE: Final = b"X"
_HEAD: Final = 5
_ENDS: Final = (b"S", b"Q", b"F")
"""What a client sends last before it waits for a ReadyForQuery."""
_REFUSED: Final = {b"H": "asks for an answer in the middle of a pipeline (Flush)", b"d": "copies data (COPY)"}


class Frame(NamedTuple):
    """One message of either side."""

    kind: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """The message as it is sent."""
        return self.kind + struct.pack("!I", len(self.body) + 4) + self.body


class Frames:
    """Takes bytes as they come and gives whole messages."""

    def __init__(self) -> None:
        self._unread = b""

    def take(self, data: bytes) -> Iterator[Frame]:
        """Answer the messages that are complete with these bytes."""
        self._unread += data
        while len(self._unread) >= _HEAD:
            size = 1 + int(struct.unpack_from("!I", self._unread, 1)[0])
            if len(self._unread) < size:
                return
            yield Frame(self._unread[:1], self._unread[_HEAD:size])
            self._unread = self._unread[size:]


class Batch(NamedTuple):
    """What a client sends before it waits: one statement, or what prepares or closes one."""

    frames: tuple[Frame, ...]
    sql: str
    """The text of the first statement that it executes; empty: it executes none."""

    @property
    def raw(self) -> bytes:
        """All of it as it is sent."""
        return b"".join(frame.raw for frame in self.frames)


class Batches:
    """Puts a client's messages together to batches, and remembers the texts that it prepared."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._texts: dict[bytes, str] = {}
        self._portals: dict[bytes, bytes] = {}
        self._sql = ""

    @property
    def empty(self) -> bool:
        """Whether the client is not in the middle of one."""
        return not self._frames

    def take(self, frame: Frame) -> Batch | None:
        """Answer the batch that this message completes.

        Raises UsageError for what a gate has no place for.
        """
        if frame.kind in _REFUSED:
            raise UsageError(
                f"a driver whose statements are gated {_REFUSED[frame.kind]}",
                hint="Take the engine without `-gated`, whose driver speaks to PostgreSQL itself.",
            )
        self._frames.append(frame)
        self._read(frame)
        if frame.kind not in _ENDS:
            return None
        batch = Batch(tuple(self._frames), self._sql)
        self._frames.clear()
        self._sql = ""
        return batch

    def _read(self, frame: Frame) -> None:
        text = ""
        if frame.kind == b"Q":
            text = frame.body.rstrip(b"\0").decode("utf-8", "replace")
        elif frame.kind == b"P":
            name, sql, _ = frame.body.split(b"\0", 2)
            self._texts[name] = sql.decode("utf-8", "replace")
        elif frame.kind == b"B":
            portal, name, _ = frame.body.split(b"\0", 2)
            self._portals[portal] = name
        elif frame.kind == b"E":
            text = self._texts.get(self._portals.get(frame.body.split(b"\0", 1)[0], b""), "a statement")
        self._sql = self._sql or text.strip()


def query(sql: str) -> bytes:
    """Answer the simple query of this text."""
    return Frame(b"Q", sql.encode() + b"\0").raw


def startup(parameters: Mapping[str, str]) -> bytes:
    """Answer the message that opens a session."""
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
    """Answer an error or a notice with these fields."""
    return Frame(frame.kind, b"".join(f"{code}{text}\0".encode() for code, text in told.items()) + b"\0")
