"""A child that cannot outlive its parent, and the folder that goes with it.

A small shell holds the reading end of a pipe. When the parent closes the other end, or is gone for whatever
reason (SIGKILL included), the shell ends its command and removes the folder. Unlike a death signal this is
not tied to the thread that forked, works on every POSIX system, and cleans up files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import weakref
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from harness.postgres.privilege import Privilege

# $1 is the folder, $2 the signal that ends the command gently, the rest the command. The command finds at
# descriptor 4 what the parent gave as standard output. The signal is repeated: a command that is still
# unpacking ignores it, as shells make background commands do.
_SCRIPT = r"""
exec 3<&0 4<&1 </dev/null >/dev/null
folder=$1; gently=$2; shift 2
"$@" 3<&- & child=$!
exec 4<&-
(
    read -r _ <&3
    rounds=0
    while [ "$((rounds += 1))" -lt 70 ]; do
        if [ "$rounds" -lt 20 ]; then kill -s "$gently" "$child" || exit; fi
        kill -s 0 "$child" || exit
        sleep 0.1
    done
    kill -s KILL "$child"
) 2>/dev/null & watcher=$!
exec 3<&-
trap 'kill -s "$gently" "$child" 2>/dev/null' TERM INT HUP
wait "$child"; status=$?
while kill -s 0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
kill "$watcher" 2>/dev/null
rm -rf "$folder"
exit "$status"
"""

_alive: weakref.WeakSet[Supervised] = weakref.WeakSet()


class Supervised:
    """A command at work in a folder of its own; both end with `stop()` or with this process."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        privilege: Privilege,
        channel: IO[bytes] | None = None,
        gently: str = "TERM",
    ) -> None:
        """Start `command`. It finds `channel` (a file to read or to write) at descriptor 4."""
        self.folder = folder
        self._owner = os.getpid()
        self._log = TemporaryFile(prefix="job-harness-log-")  # noqa: SIM115 - closed by stop(); never has a name
        reading, self._lifeline = os.pipe()
        try:
            self._process = privilege.popen(
                ["/bin/sh", "-c", _SCRIPT, "supervisor", str(folder), gently, *command],
                stdin=reading,
                stdout=subprocess.DEVNULL if channel is None else channel.fileno(),
                stderr=self._log.fileno(),
            )
        except BaseException:
            os.close(self._lifeline)
            self._log.close()
            raise
        finally:
            os.close(reading)
        _remember(self)

    @property
    def ended(self) -> bool:
        """Whether the command has ended by itself."""
        return self._process.poll() is not None

    def wait(self, timeout_seconds: float) -> int:
        """Wait for the command; its exit status. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout=timeout_seconds)

    def log_tail(self, lines: int = 12) -> str:
        """The end of what the command wrote to standard error."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), 8192, max(0, size - 8192)).decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-lines:])

    def stop(self) -> None:
        """End the command and remove its folder. Harmless when repeated, and in a forked child."""
        if os.getpid() != self._owner:
            self.forget()
            return
        self.forget()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self) -> None:
        """Let go of the pipe. In a forked child this leaves the parent's command alone."""
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
        _alive.discard(self)


def _remember(supervised: Supervised) -> None:
    """Have forked children let go of the pipe, or a stray one would keep the server alive."""
    if not getattr(_remember, "registered", False):
        _remember.registered = True  # type: ignore[attr-defined]
        os.register_at_fork(after_in_child=_forget_all)
    _alive.add(supervised)


def _forget_all() -> None:
    for supervised in list(_alive):
        supervised.forget()
