"""Shuts a process off from the world: whatever its code then tries outside raises, and is noted.

For a fork that plays a processor without what a test had put in the place of the world: a card must
not be charged only to see whether a scenario file can say what was found. Network, programs,
databases and files are seen by Python's audit events, which no `from x import y` escapes; psycopg
(3.2, 3.3), which connects in C, at the one function through which all its ways lead. Another
library that connects in C is not seen.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final, NoReturn

_SAYS: Final = {
    "socket.connect": "connects to {1}",
    "socket.sendto": "sends to {1}",
    "socket.sendmsg": "sends to {1}",
    "socket.getaddrinfo": "connects to {0}:{1}",
    "subprocess.Popen": "starts {0}",
    "os.system": "starts {0}",
    "os.exec": "starts {0}",
    "os.posix_spawn": "starts {0}",
    "os.spawn": "starts {1}",
    "sqlite3.connect": "opens the database {0}",
    "open": "writes {0}",
    "os.remove": "deletes {0}",
    "os.rename": "renames {0}",
    "os.mkdir": "makes the folder {0}",
    "os.rmdir": "deletes the folder {0}",
    "os.truncate": "writes {0}",
    "os.link": "writes {1}",
    "os.symlink": "writes {1}",
}
"""What an audit event's arguments say."""
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_IN_MEMORY: Final = frozenset({":memory:", b":memory:", "", b""})


class ReachedOutside(RuntimeError):
    """Code tried something outside a process that is shut off."""


def shut_off() -> list[str]:
    """Let nothing in this process reach outside from here on, until it ends; return where each attempt is noted."""
    attempts: list[str] = []

    def refuse(what: str) -> NoReturn:
        attempts.append(what)
        raise ReachedOutside(f"it {what}, and nothing outside can be reached here")

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        says = _SAYS.get(event)
        if says is None or (event == "open" and not _writes(*arguments)):
            return
        if event == "sqlite3.connect" and arguments[0] in _IN_MEMORY:
            return
        refuse(says.format(*(each.decode(errors="replace") if isinstance(each, bytes) else each for each in arguments)))

    sys.dont_write_bytecode = True
    sys.addaudithook(heard)
    if (generators := sys.modules.get("psycopg.generators")) is not None:
        vars(generators)["connect"] = lambda *_, **__: refuse("connects to PostgreSQL")
    return attempts


def _writes(path: Any, mode: str | None, flags: int) -> bool:
    nowhere = isinstance(path, int) or os.fspath(path) in (os.devnull, os.devnull.encode())
    return not nowhere and bool(flags & _WRITES)
