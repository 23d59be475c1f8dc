"""One Node process and what is said between it and the harness: whole turns, bounded in size and in real time.

Control messages have pipes of their own, so that whatever a processor prints cannot disturb them. The child dies with
its parent, and with it everything that it started. Knows no processor and no virtual time.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.foreign import Node
from harness.postgres.patience import Deadline
from harness.processors.processes import descendants_of

RUNNER = Path(__file__).parent / "runner" / "main.mjs"
BLOCKED_AFTER_SECONDS = 2.0
"""Real seconds without an answer after which a child counts as blocked."""
STANDSTILL_SECONDS = 60.0
"""Real seconds that I/O in flight may take."""
LARGEST_MESSAGE = 128 * 1024 * 1024
LARGEST_LOG = 1024 * 1024
"""Bytes of a child's output that are kept."""
_CHUNK = 1 << 16
_OPTIONS = ("--disable-warning=ExperimentalWarning", "--max-old-space-size=1024")
_TAIL_LINES = 4

Message = dict[str, Any]


class ChildLost(Exception):
    """The child is gone: `kind` is `blocked`, `died`, `nonsense` or `flooded`; `said` is what it said before."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind
        self.said: list[Message] = []


class NodeChild:
    """A Node process that answers one message after the other."""

    def __init__(
        self,
        node: Node,
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Callable[[str], None],
        blocked_after: float = BLOCKED_AFTER_SECONDS,
    ) -> None:
        """Start it in `folder`. `log` hears each line that it prints."""
        self._log = _Log(log)
        self._blocked_after = blocked_after
        self._turn = 0
        self._incoming = bytearray()
        child_reads, self._inward = os.pipe()
        self._outward, child_writes = os.pipe()
        child_lifeline, lifeline = os.pipe()
        ours, theirs = (self._inward, self._outward, lifeline), (child_reads, child_writes, child_lifeline)
        try:
            self._process = _started(node, theirs, environment=environment, folder=folder)
        except BaseException:
            _close(ours)
            raise
        finally:
            _close(theirs)
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for descriptor, hears in (
            (self._outward, self._hear),
            (self._process.stdout.fileno(), self._log.take),
            (self._process.stderr.fileno(), self._log.take),
        ):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ, hears)
        os.set_blocking(self._inward, False)
        self._end = weakref.finalize(self, _end, self._process, self._selector, ours, os.getpid())

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it was neither killed nor has ended by itself."""
        return self._end.alive and self._process.poll() is None

    def started(self) -> list[int]:
        """List the processes that it started and that still run, where the system tells them."""
        return descendants_of(self.pid)

    def exchange(self, message: Mapping[str, Any], *, patience: float | None = None) -> list[Message]:
        """Say something, and answer all that the child says until it has nothing left to do.

        `patience` is how many real seconds it may stay silent. Raises ChildLost; the child is then gone.
        """
        self._turn += 1
        outgoing = memoryview(json.dumps({**message, "turn": self._turn}).encode() + b"\n")
        said: list[Message] = []
        try:
            self._converse(outgoing, said, self._blocked_after if patience is None else patience)
        except ChildLost as lost:
            self.kill()
            lost.said = said
            raise
        except BaseException:
            self.kill()
            raise
        finally:
            self._log.flush()
        return said

    def kill(self) -> None:
        """End the process and whatever it started, at once. Harmless when repeated."""
        self._end()
        self._log.flush()

    def _converse(self, outgoing: memoryview, said: list[Message], patience: float) -> None:
        if not self._end.alive:
            raise ChildLost("died", "the Node process was ended")
        began = last = _seconds()
        waits_for: list[str] = []
        self._selector.register(self._inward, selectors.EVENT_WRITE, None)
        writing = True
        while True:
            for key, _ in self._selector.select(max(0.0, min(last + patience - _seconds(), patience))):
                if key.data is None:
                    written = self._write(outgoing)
                    outgoing = outgoing[written:]
                    last = _seconds() if written else last
                    if not outgoing:
                        self._selector.unregister(self._inward)
                        writing = False
                elif not self._take(key.fd, key.data):
                    raise self._died()
            for heard in self._lines():
                last = _seconds()
                if "idle" in heard:
                    self._check_turn(heard, said)
                    if writing:
                        raise ChildLost("nonsense", "the Node process answered before it was asked")
                    return
                if "alive" in heard:
                    waits_for = list(heard["alive"])
                else:
                    said.append(heard)
            self._check_patience(began, last, patience, waits_for)

    def _check_patience(self, began: float, last: float, patience: float, waits_for: list[str]) -> None:
        now = _seconds()
        if now - last >= patience:
            raise ChildLost("blocked", f"it did not answer for {patience:g} s of real time")
        if now - began >= max(STANDSTILL_SECONDS, patience):
            work = ", ".join(waits_for) or "work without end"
            raise ChildLost("blocked", f"virtual time stood still for {now - began:.0f} real seconds, for {work}")

    def _check_turn(self, heard: Message, said: list[Message]) -> None:
        if heard["idle"] != self._turn:
            raise ChildLost("nonsense", f"the Node process answered turn {heard['idle']}, and this is {self._turn}")
        said.append(heard)

    def _write(self, outgoing: memoryview) -> int:
        try:
            return os.write(self._inward, outgoing[:_CHUNK])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise self._died() from None

    def _take(self, descriptor: int, hears: Callable[[bytes], None]) -> bool:
        """Read what is there. False: the control pipe was closed."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return True
        if data:
            hears(data)
            return True
        if descriptor == self._outward:
            return False
        self._selector.unregister(descriptor)
        return True

    def _hear(self, data: bytes) -> None:
        self._incoming += data
        if len(self._incoming) > LARGEST_MESSAGE:
            raise ChildLost("flooded", f"it sent a message of more than {LARGEST_MESSAGE >> 20} MiB")

    def _lines(self) -> list[Message]:
        if b"\n" not in self._incoming[-_CHUNK:]:
            return []
        *lines, rest = bytes(self._incoming).split(b"\n")
        self._incoming = bytearray(rest)
        return [_understood(line) for line in lines]

    def _died(self) -> ChildLost:
        deadline = Deadline(BLOCKED_AFTER_SECONDS)
        while self._process.poll() is None and not deadline.passed:
            deadline.pause()
        for stream in (self._process.stdout, self._process.stderr):
            while stream is not None and (data := _read_now(stream.fileno())):
                self._log.take(data)
        self._log.flush()
        code = self._process.returncode
        how = "closed its channel" if code is None else _how(code)
        tail = self._log.tail()
        return ChildLost("died", f"its process {how}" + (f"\n{tail}" if tail and code else ""))


class _Log:
    """Lines that a child prints, up to a limit."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._rest = b""
        self._room = LARGEST_LOG
        self._last: list[str] = []

    def take(self, data: bytes) -> None:
        if self._room <= 0:
            return
        self._room -= len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._say(line)
        if self._room <= 0:
            self._rest = b""
            self._tell(f"(more than {LARGEST_LOG >> 20} MiB was printed; the rest is dropped)")

    def flush(self) -> None:
        if self._rest:
            line, self._rest = self._rest, b""
            self._say(line)

    def tail(self) -> str:
        return "\n".join(f"  {line}" for line in self._last)

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._last = [*self._last, text][-_TAIL_LINES:]
        self._tell(text)


def _started(
    node: Node, descriptors: Sequence[int], *, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    """Start the runner in a session of its own; it finds its descriptors by number."""
    return subprocess.Popen(
        [node.path, *_OPTIONS, str(RUNNER), *map(str, descriptors)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
        cwd=folder,
        env=dict(environment),
        start_new_session=True,
    )


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _end(
    process: subprocess.Popen[bytes], selector: selectors.BaseSelector, descriptors: Sequence[int], owner: int
) -> None:
    if os.getpid() == owner:  # A forked child lets go of the parent's processes and touches none.
        _kill(process)  # Before its pipes are closed: a child that notices kills itself, and is asked nothing more.
    selector.close()
    _close(descriptors)
    if os.getpid() != owner:
        return
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, its session, and whatever it started."""
    started: list[int] = []
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGSTOP)  # So that it starts nothing more, and the list stands still.
        started = descendants_of(process.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in started:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _understood(line: bytes) -> Message:
    try:
        heard = json.loads(line)
    except ValueError:
        heard = None
    if not isinstance(heard, dict):
        shown = line[:200].decode(errors="replace")
        raise ChildLost("nonsense", f"something wrote {shown!r} into the harness's channel")
    return heard


def _read_now(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except (BlockingIOError, OSError):
        return b""


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGABRT" else "")
    return f"was killed by signal {-code}"


def _seconds() -> float:
    return time.monotonic()  # noqa: TID251 - patience with another process is real time
