"""Starts the Python processes of one command by forking one that has imported its packages already.

To import psycopg costs a third of a second, and each run starts every process anew. So one process
of the command imports what a rehearsal had imported from packages (never the user's own modules),
before the program's first line, and then forks itself whenever a process is wanted: the child goes
on into the program as any other start does. Where a package starts a thread when it is imported,
nothing is forked, and processes start in the usual way.

Hides how descriptors are handed over, and how the end of a process is heard of that is no child of
ours. Must not know: turns, connections.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import Deadline, ready
from job_harness.worlds.peers.peer import end_tree, end_with_us

FORKS: Final = "JOB_HARNESS_FORKS"
"""The environment variable that names the descriptors of a process that is to fork itself: a socket, and one that
closes when the harness is gone."""
_LARGEST: Final = 1 << 20
_SECONDS: Final = 30.0
"""Real seconds that an import, or a fork, may take."""


class ForkedProcess:
    """A process that is a grandchild of ours: what is asked of a `Popen`."""

    def __init__(self, pid: int, server: ForkServer, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: IO[bytes] | None = os.fdopen(stdout, "rb", buffering=0)
        self.stderr: IO[bytes] | None = os.fdopen(stderr, "rb", buffering=0)
        self._server = server

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None: it runs."""
        if self.returncode is None:
            self.returncode = self._server.code_of(self.pid)
        return self.returncode

    def wait(self, timeout: float = _SECONDS) -> int:
        """Wait until it has ended."""
        deadline = Deadline(timeout)
        while self.poll() is None and not deadline.passed:
            self._server.listen(deadline.left)
        return self.returncode or 0


class ForkServer:
    """One process that has imported the packages of a command, and forks on demand."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, modules: Sequence[str]
    ) -> None:
        """Start it. Raises EnvironmentUnavailable where it does not get as far as to fork."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        life_end, self._life = os.pipe()
        self._codes: dict[int, int] = {}
        self._channel = ours
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), life_end),
                cwd=folder,
                env={**environment, FORKS: str(theirs.fileno())},
                start_new_session=True,
            )
            end_with_us(self._process.pid, life_end)
        except OSError as error:
            self._leave()
            raise EnvironmentUnavailable(f"{command[0]} cannot be started: {error}") from error
        finally:
            theirs.close()
            os.close(life_end)
        told = self._request({"import": list(modules)})
        if not told.get("ready"):
            self.close()
            raise EnvironmentUnavailable(f"it cannot be forked: {told.get('why', 'it ended')}")

    def start(self, descriptors: Sequence[int], environment: Mapping[str, str]) -> ForkedProcess:
        """Fork a process that has these descriptors (in this order) and exactly this environment.

        Raises OSError where none could be forked.
        """
        out, theirs_out = os.pipe()
        err, theirs_err = os.pipe()
        try:
            told = self._request({"environment": dict(environment)}, [*descriptors, theirs_out, theirs_err])
            if "pid" not in told:
                os.close(out)
                os.close(err)
                raise OSError(f"it could not be forked: {told.get('why', 'its parent ended')}")
        finally:
            os.close(theirs_out)
            os.close(theirs_err)
        return ForkedProcess(told["pid"], self, out, err)

    def _request(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """Ask for something, and return the answer; nothing if there is none."""
        deadline = Deadline(_SECONDS)
        try:
            socket.send_fds(self._channel, [json.dumps(message).encode()], list(descriptors))
        except OSError as error:
            return {"why": str(error)}
        while not deadline.passed:
            told = self.listen(deadline.left)
            if told is None or told:
                return told or {}
        return {"why": f"it did not answer within {_SECONDS:g} real seconds"}

    def listen(self, seconds: float) -> dict[str, Any] | None:
        """Take what it says, and return an answer; an empty one: it said which process ended. None: it is gone."""
        if not ready([self._channel.fileno()], seconds=seconds)[0]:
            return {}
        try:
            data = self._channel.recv(_LARGEST)
        except OSError:
            data = b""
        if not data:
            return None
        told: dict[str, Any] = json.loads(data)
        if "ended" in told:
            self._codes[told["ended"]] = told["code"]
            return {}
        return told

    def code_of(self, pid: int) -> int | None:
        """Return how a process ended; None: it runs."""
        while pid not in self._codes and ready([self._channel.fileno()], seconds=0)[0]:
            if self.listen(0) is None:
                return -signal.SIGKILL  # Who would tell is gone, and has taken it along.
        return self._codes.pop(pid, None)

    def close(self) -> None:
        """End it, and what it has forked. Never raises."""
        end_tree(self._process.pid)
        self._process.wait()
        self._leave()

    def _leave(self) -> None:
        self._channel.close()
        with suppress(OSError):
            os.close(self._life)
