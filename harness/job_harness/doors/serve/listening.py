"""One process for all clients of a test run: each is served by a fork of it, in which everything is imported.

It ends with its standard input, which its parent holds open, so that it cannot outlive that; a fork
ends with its client. Must not know what is said.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from job_harness.errors import UsageError
from job_harness.subjects.processors.contract.forked_runner import CAN_FORK, fork
from job_harness.worlds.patience import Deadline, ready
from job_harness.worlds.private import FILE_MODE

ENDING_SECONDS: Final = 1.0
"""Real seconds in which forks have to end when all is over; their clients are gone by then."""


@contextmanager
def door_at(place: Path) -> Iterator[socket.socket]:
    """Open a socket of the file system at which clients connect; it is removed, with its folder if that is empty."""
    if not CAN_FORK:
        raise UsageError("serve --at: this system cannot fork", hint="Let each client start `serve --stdio`.")
    owner = os.getpid()
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.bind(str(place))
            place.chmod(FILE_MODE)  # A client can have anything run. Before listen() none can connect.
        except OSError as error:
            raise UsageError(f"serve --at: cannot listen at {place}: {error}") from None
        door.listen(128)
        try:
            yield door
        finally:
            if os.getpid() == owner:
                with suppress(OSError):
                    place.unlink()
                    place.parent.rmdir()


def next_client(door: socket.socket) -> int | None:
    """Wait for clients. Returns in each fork, with the descriptor of its client; None once the standard input ends."""
    forks: set[int] = set()
    while 0 not in (readable := ready([0, door.fileno()], seconds=None)[0]) or os.read(0, 1 << 16):
        forks -= {pid for pid in forks if os.waitpid(pid, os.WNOHANG)[0]}
        if door.fileno() not in readable:
            continue
        client, _ = door.accept()
        with client:
            if not (pid := fork()):
                door.close()
                with open(os.devnull, "rb") as nothing:
                    os.dup2(nothing.fileno(), 0)
                return client.detach()
            forks.add(pid)
    deadline = Deadline(ENDING_SECONDS)
    while forks := {pid for pid in forks if not os.waitpid(pid, os.WNOHANG)[0]}:
        if deadline.passed:
            for pid in forks:
                os.kill(pid, signal.SIGKILL)
        deadline.pause()
    return None
