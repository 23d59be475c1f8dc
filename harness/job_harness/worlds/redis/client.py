"""One connection to a Redis: a command goes out, its reply comes back. No pool, no pipelines, no retries."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import Deadline

PATIENCE: Final = 20.0
"""Real seconds within which a command is answered; a script that runs longer is named."""
_CHUNK: Final = 1 << 16


class RedisError(Exception):
    """What Redis answered instead of a value: its text begins with a word such as ERR, OOM or MOVED."""


class RedisClient:
    """Speaks RESP2. Bytes in, and bytes, integers, lists or None out."""

    def __init__(self, path: Path, *, patience: float = PATIENCE) -> None:
        """Connect to a Unix socket. Raises OSError where nothing listens."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._incoming = bytearray()
        self._deadline = Deadline(patience)
        self._patience = patience
        self.broken = False

    def ask(self, *words: bytes | str | int) -> Any:
        """Send one command and return its reply.

        Raises RedisError for an error reply, EnvironmentUnavailable where the server is gone, does
        not answer in time or speaks something else. After that the connection is given up.
        """
        if self.broken:
            raise self._lost("this connection broke before")
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        message = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._deadline = Deadline(self._patience)
        try:
            self._socket.sendall(message)
            reply = self._reply()
        except TimeoutError as error:
            raise self._lost(
                f"it did not answer {parts[0].decode(errors='replace')} for {self._patience:g} s"
            ) from error
        except OSError as error:
            raise self._lost(str(error) or type(error).__name__) from error
        except (ValueError, RecursionError) as error:
            raise self._lost(f"what it says is no RESP: {error}") from error
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def _lost(self, what: str) -> EnvironmentUnavailable:
        self.broken = True
        return EnvironmentUnavailable(f"Redis went away: {what}", hint="Something outside ended or stopped the server.")

    def _reply(self) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"+":
                return rest
            case b"-":
                return RedisError(rest.decode(errors="replace"))
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else self._exactly(_length(rest))
            case b"*":
                return None if rest == b"-1" else [self._reply() for _ in range(_length(rest))]
        raise ConnectionError(f"no RESP: {line[:40]!r}")

    def _line(self) -> bytes:
        while (end := self._incoming.find(b"\r\n")) < 0:
            self._more()
        line = bytes(self._incoming[:end])
        del self._incoming[: end + 2]
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._incoming) < size + 2:
            self._more()
        found = bytes(self._incoming[:size])
        del self._incoming[: size + 2]
        return found

    def _more(self) -> None:
        if self._deadline.passed:  # One that sends a byte now and then is as good as silent.
            raise TimeoutError
        chunk = self._socket.recv(_CHUNK)
        if not chunk:
            raise ConnectionError("it closed the connection")
        self._incoming += chunk

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def _length(digits: bytes) -> int:
    if not digits.isdigit():
        raise ValueError(f"{digits[:40]!r} is no length")
    return int(digits)
