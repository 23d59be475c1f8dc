"""A peer: a process that hosts actors, and what is said between it and the harness.

The peer protocol (docs/contracts/peer_protocol.md, peer_protocol.schema.json beside this module) is JSON lines both
ways over pipes of its own, so whatever the process prints cannot disturb it. The harness tells a peer `go`, `time` and
`sever`; the peer reports `gate`, `effect` and, once it has nothing left to do by itself, `idle`. From a message to its
`idle` is a *turn*.

Hides: pipes, framing, limits, patience in real time, and how a process ends together with everything that it started.
Whatever a peer does (speak another version, flood, go silent, die in the middle of a line), the harness gets a
`PeerLost` in time, no other peer is affected, and no process is left. Must not know: queues, processors, virtual
clocks.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final, Protocol, TypeAlias

from job_harness.core.sim.watchdog import WATCHDOG
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import Deadline
from job_harness.worlds.private import NOBODY_ELSE

VERSION: Final = 1
"""Of the protocol. A peer says in `hello` which one it speaks."""
VARIABLE: Final = "JOB_HARNESS_PEER"
"""The environment variable that names a peer's descriptors: it reads the first, writes the second, and the third closes
when the harness is gone."""
WATCHED: Final = "JOB_HARNESS_PEER_WATCHED"
"""The environment variable that says that the system ends this peer when the harness is gone: it need not watch."""
SCHEMA: Final = Path(__file__).with_name("peer_protocol.schema.json")
ANSWER_SECONDS: Final = 20.0
"""Real seconds for which a peer may stay silent, unless the code that starts it says otherwise."""
STANDSTILL_SECONDS: Final = 60.0
"""Real seconds that a turn may take, I/O in flight included."""
LARGEST_TURN: Final = 128 * 1024 * 1024
"""Bytes that a peer may say in one turn."""
MOST_REPORTS: Final = 100_000
"""Reports of one turn."""
LARGEST_LOG: Final = 1024 * 1024
"""Bytes of a peer's standard output and error that are kept."""
DYING_SECONDS: Final = 2.0
"""Real seconds within which a process that was killed is gone."""
_ACTOR: Final = (str, type(None))
REPORTS: Final[Mapping[str, Mapping[str, tuple[type, ...]]]] = {
    "hello": {"hello": (int,), "clock": (bool,)},
    "gate": {"gate": (int,), "actor": _ACTOR, "point": (str,), "with": (list,)},
    "effect": {"effect": (str,), "actor": _ACTOR, "data": (dict,)},
    "idle": {"idle": (int,), "next": (int, float, type(None))},
}
"""What each report has to have, by the field that says which one it is; the schema says the same and more."""
Shapes: TypeAlias = Mapping[str, Mapping[str, tuple[type, ...]]]
"""By the name of an effect, what its data has to have."""
_CHUNK: Final = 1 << 16
_TAIL_LINES: Final = 4
STOPPED: Final = ("T", "t")
"""What Linux calls the state of a process that a signal or a debugger stopped."""
STARVED_LOOKS: Final = 15
"""How often a silent peer is looked at again, each time for a fifth of its patience, while it waits for a processor."""
_PROC: Final = Path("/proc")

Report: TypeAlias = dict[str, Any]


class Responder(Protocol):
    """Carries out requests by name: a peer, or one session of it."""

    def ask(self, do: str, arguments: Mapping[str, Any] | None = None, *, now: float | None = None) -> Report:
        """Have it done, and return the `idle` that ends it, with `value`, `refused` or `raised`."""


class PeerProcess(Protocol):
    """The process of a peer: what is asked of a `subprocess.Popen`."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def returncode(self) -> int | None:
        """How it ended, as far as that was asked."""

    @property
    def stdout(self) -> IO[bytes] | None:
        """What it prints."""

    @property
    def stderr(self) -> IO[bytes] | None:
        """What it complains of."""

    def poll(self) -> int | None:
        """Return how it ended; None: it runs."""

    def wait(self) -> int:
        """Wait until it has ended."""


Fork: TypeAlias = Callable[[Sequence[int], Mapping[str, str]], PeerProcess]
"""Starts a process that has these descriptors as `VARIABLE` says, and this environment. Raises OSError."""


class PeerLost(EnvironmentUnavailable):
    """The peer is gone: `kind` is `died`, `blocked`, `flooded`, `nonsense` or `version`."""

    def __init__(self, kind: str, what: str, *, name: str, hint: str = "", tail: str = "") -> None:
        """Say what happened; `name` is what errors call the peer, and `tail` what it printed last."""
        super().__init__(f"{name}: {what}" + (f"; it last said:\n{tail}" if tail else ""), hint=hint)
        self.kind = kind
        self.what = what
        self.said: list[Report] = []
        """What it reported before, in the turn in which it was lost."""


class TurnTaker(Protocol):
    """A process that takes one turn after the other, each of which ends with `idle`. All of them raise PeerLost."""

    def _whole(self, message: Report, *, do: str, patience: float | None = None) -> list[Report]:
        """Let a turn begin with this message, and return what is reported until it ends."""

    def go(
        self,
        do: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        actor: str | None = None,
        now: float | None = None,
        patience: float | None = None,
    ) -> list[Report]:
        """Let an actor do something; return what is reported, ending with `idle`.

        `now` is what its clock shows, in milliseconds since 1970; `patience` is how many real seconds it may be silent.
        """
        return self._whole(_going(do, arguments, actor=actor, now=now), do=do, patience=patience)

    def go_on(
        self, gate: int, *, value: Any = None, error: Mapping[str, str] | None = None, now: float | None = None
    ) -> list[Report]:
        """Let an actor pass the gate at which it waits, with a value or an error: `name`, `message`, `stack`."""
        told = {"value": value} if error is None else {"error": dict(error)}
        return self._whole({"go": 0, "gate": gate, **told, **_at(now)}, do="go on")

    def time(self, now: float, **more: Any) -> list[Report]:
        """Move its clock, so that the timers fire that are due; `one` and `skip` say which ones do not."""
        return self._whole({"time": 0, "now": now, **more}, do="time")


@dataclass(slots=True)
class PostedTurns:
    """Turns that are not waited for just now."""

    posted: dict[int, str] = field(default_factory=dict)
    """By number, what they are about."""
    ended: dict[int, Report] = field(default_factory=dict)
    forgotten: set[int] = field(default_factory=set)
    """Those whose end is not asked for."""

    def take(self, turn: int, report: Report) -> bool:
        """Keep the end of a turn until it is asked for. False: it is none of these."""
        if turn in self.posted and turn not in self.ended:
            self.ended[turn] = report
            return True
        known = turn in self.forgotten
        self.forgotten.discard(turn)
        return known

    def pop(self, turn: int) -> Report | None:
        """Take the end of a turn, if it came."""
        ended = self.ended.pop(turn, None)
        if ended is not None:
            self.posted.pop(turn, None)
        return ended

    def forget(self, turn: int) -> None:
        """Wait no more for a turn."""
        if self.posted.pop(turn, None) is not None and self.ended.pop(turn, None) is None:
            self.forgotten.add(turn)


class IncomingLines:
    """What came over a pipe, up to the line that is not whole yet."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes since the turn began."""
        self._rest = bytearray()

    @property
    def rest(self) -> bytes:
        """The beginning of a line."""
        return bytes(self._rest)

    def begin_turn(self) -> None:
        """Count from here on."""
        self.size = len(self._rest)

    def take(self, data: bytes) -> list[bytes]:
        """Take more, and return the lines that are whole."""
        self._rest += data
        self.size += len(data)
        if b"\n" not in data:
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return lines


class Peer(TurnTaker):
    """A process that takes one turn after the other; `post` starts turns that go on beside each other."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        log: Callable[[str], None] = lambda line: None,
        patience: float = ANSWER_SECONDS,
        standstill: float = STANDSTILL_SECONDS,
        fork: Fork | None = None,
        effects: Shapes = MappingProxyType({}),
    ) -> None:
        """Start the process in `folder`, with exactly this environment, by default ours; `log` hears what it prints.

        With `fork`, that starts it in place of the command. The data of `effects` has to have what
        these say. It may be silent for `patience`, and one turn may take `standstill`, in real
        seconds. Raises EnvironmentUnavailable where it cannot be started.
        """
        self.name = name
        self._shapes = effects
        self._log = _Log(log)
        self._patience = patience
        self._standstill = standstill
        self._silence = Deadline(patience)
        self._turn = 0
        self._stopped = False
        """Whether a signal had stopped it when it was ended."""
        self._hello: Report | None = None
        self._borrowed = False
        self._beside = PostedTurns()
        self.effects: list[Report] = []
        """What it said while it was asked for the end of a posted turn."""
        self._outgoing = b""
        self._incoming = IncomingLines()
        self._reports: deque[Report] = deque()
        start = fork or (lambda theirs, given: _started(command, theirs, environment=given, folder=folder))
        self._start(start, environment=os.environ if environment is None else environment, command=command[0])

    def _start(self, start: Fork, *, environment: Mapping[str, str], command: str) -> None:
        theirs_in, self._inward = os.pipe()
        self._outward, theirs_out = os.pipe()
        theirs_life, life = os.pipe()
        ours, theirs = (self._inward, self._outward, life), (theirs_in, theirs_out, theirs_life)
        try:
            self._process = start(theirs, environment)
            end_with_us(self._process.pid, theirs_life)
        except OSError as error:
            _close(ours)
            hint = f"Does {command} exist, and may it be run?"
            raise EnvironmentUnavailable(f"{self.name} cannot be started: {error}", hint=hint) from error
        finally:
            _close(theirs)
        out, err = self._process.stdout, self._process.stderr
        assert out is not None
        assert err is not None
        self._selector = selectors.DefaultSelector()
        for descriptor, hears in (
            (self._outward, self._hear),
            (out.fileno(), self._log.take),
            (err.fileno(), self._log.take),
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
    def has_clock(self) -> bool:
        """Whether it keeps a clock, which has to be told the time; known once it has said `hello`."""
        return self._hello is not None and bool(self._hello.get("clock"))

    @property
    def alive(self) -> bool:
        """Whether it was neither killed nor has ended by itself."""
        return self._end.alive and (self._borrowed or self._process.poll() is None)

    @property
    def tail(self) -> str:
        """What it printed last."""
        self._log.flush()
        return self._log.tail()

    @property
    def exit_code(self) -> int:
        """The exit code of a process that has ended, negative for a signal; 0 where it has not."""
        return self._process.poll() or 0

    def confirm(self) -> None:
        """Raise PeerLost where the process has ended by itself, or a signal stopped it (where the system tells).

        That we ended one which did not answer in time says nothing, unless it was found stopped.
        """
        if self._end.alive and self._process.poll() is not None:
            raise self._died()
        if self._stopped or (self._end.alive and _field(self.pid, 0) in STOPPED):
            raise self._lost("blocked", "its process was stopped by a signal", hint="Something outside stopped it.")

    @property
    def descriptor(self) -> int:
        """What becomes readable when the peer says or prints something."""
        return self._selector.fileno()

    def started(self) -> list[int]:
        """List the processes that it started and that still run, where the system tells them."""
        return descendants_of(self.pid)

    def borrow(self) -> None:
        """Take turns with it in a forked child. Its parent leaves it alone meanwhile, and is the one to end it."""
        self._borrowed = True
        shared = self._selector  # Whatever is changed in it is changed for the parent too.
        self._selector = selectors.DefaultSelector()
        for key in shared.get_map().values():
            self._selector.register(key.fd, key.events, key.data)

    def kill(self) -> None:
        """End the process and whatever it started at once, as a power cut would. Harmless when repeated."""
        self._stopped = self._stopped or (self._end.alive and _field(self.pid, 0) in STOPPED)
        self._end()
        self._log.flush()

    # turns that are waited for --------------------------------------------------------------------------------------

    def ask(self, do: str, arguments: Mapping[str, Any] | None = None, *, now: float | None = None) -> Report:
        """Let the peer itself do something, and return the `idle` that ends the turn. Raises PeerLost."""
        return self.go(do, arguments, now=now)[-1]

    def _whole(self, message: Report, *, do: str, patience: float | None = None) -> list[Report]:
        number = self._tell(message)
        said: list[Report] = []
        try:
            with WATCHDOG.patient():
                self._converse(number, said, patience=self._patience if patience is None else patience, do=do)
        except PeerLost as lost:
            lost.said = said
            raise
        except BaseException:
            self.kill()
            raise
        finally:
            self._log.flush()
        return said

    def _converse(self, number: int, said: list[Report], *, patience: float, do: str) -> None:
        still = Deadline(max(self._standstill, patience))
        self._silence = Deadline(patience)
        waits_for: list[str] = []
        looks = 0
        while True:
            while self._reports:
                report = self._reports.popleft()
                if report.get("io"):
                    waits_for = list(report["io"])
                elif "idle" not in report:
                    said.append(report)
                elif self._ends(report, number):
                    said.append(report)
                    return
                if len(said) > MOST_REPORTS:
                    raise self._lost("flooded", f"it reported more than {MOST_REPORTS} things in one turn")
            self._pump(min(self._silence.left, still.left), patience)
            if self._reports:
                continue
            if self._silence.passed:
                looks += 1
                if looks > STARVED_LOOKS or not self._starved(patience / 10):
                    raise self._lost("blocked", f"it did not answer for {patience:g} s of real time", do=do)
                self._silence, still = Deadline(patience / 10), Deadline(still.left + patience / 5)
                continue
            if still.passed:
                work = ", ".join(waits_for) or "work without end"
                what = f"virtual time stood still for {still.seconds:g} real seconds, for {work}"
                raise self._lost("blocked", what, do=do)

    def _starved(self, seconds: float) -> bool:
        """Whether a busy machine keeps it from running most of these real seconds: its silence then says nothing."""
        before = waited_for_processor(self._process.pid)
        Deadline(seconds).pause(seconds)
        return waited_for_processor(self._process.pid) - before > seconds / 2

    def _ends(self, report: Report, number: int) -> bool:
        """Whether a report ends this turn. What ends another one is kept until it is asked for."""
        turn = report["idle"]
        if turn == number and not self._outgoing:
            self._incoming.begin_turn()
            return True
        if not self._beside.take(turn, report):
            what = (
                "it answered before it was asked"
                if turn == number
                else f"it answered turn {turn}, and this is {number}"
            )
            raise self._lost("nonsense", what)
        return False

    # turns beside each other ----------------------------------------------------------------------------------------

    def post(self, do: str, arguments: Mapping[str, Any] | None = None, *, actor: str, now: float | None = None) -> int:
        """Let one of several actors do something and wait for nothing; return the number of the turn."""
        number = self._tell(_going(do, arguments, actor=actor, now=now))
        self._flush(do)
        self._beside.posted[number] = do
        return number

    def ended(self, number: int) -> Report | None:
        """Take the `idle` that ends a posted turn, if it came; wait for nothing. Raises PeerLost."""
        if number not in self._beside.ended:
            self._pump(0.0, self._patience)
            while self._reports:
                report = self._reports.popleft()
                if "idle" in report and not report.get("io"):
                    self._ends(report, 0)
                elif "effect" in report:
                    self.effects.append(report)
        return self._beside.pop(number)

    def drain(self) -> int:
        """Return how many bytes it has printed since this was last asked: who prints into a full pipe sleeps."""
        while ready := self._selector.select(0):
            for key, _ in ready:
                if not self._take(key.fd, key.data):
                    raise self._died()
            if self._log.undrained > LARGEST_LOG:
                break
        return self._log.drain()

    def sever(self, actor: str) -> None:
        """Tell the peer that one of its actors is dead, without waiting for it."""
        self._beside.forgotten.add(self._tell({"sever": 0, "actor": actor}))
        self._flush("sever")

    def forget(self, number: int) -> None:
        """Wait no more for a posted turn."""
        self._beside.forget(number)

    def overdue(self, number: int) -> PeerLost:
        """End the peer, which did not end a posted turn in time, and return the error that says so."""
        return self._lost("blocked", "it did not answer in time", do=self._beside.posted.get(number, ""))

    # lines ----------------------------------------------------------------------------------------------------------

    def _tell(self, message: Report) -> int:
        """Number a message and begin to send it."""
        if not self._end.alive:
            raise PeerLost("died", "its process was ended", name=self.name)
        number = self._turn + 1
        line = json.dumps({**message, **{kind: number for kind in ("go", "time", "sever") if kind in message}})
        self._turn = number
        self._incoming.begin_turn()
        self._outgoing += line.encode() + b"\n"
        self._write()
        return number

    def _flush(self, do: str) -> None:
        """Send all of it: while the caller waits for the peer to speak, nothing else is written."""
        self._silence = Deadline(self._patience)
        while self._outgoing:
            self._pump(self._silence.left, self._patience)
            if self._silence.passed:
                raise self._lost("blocked", f"it took no message for {self._patience:g} s of real time", do=do)

    def _pump(self, seconds: float, patience: float) -> None:
        """Send what is left, wait at most so long until something is there, and take it."""
        if self._outgoing and self._write():
            self._silence = Deadline(patience)
        # A pipe that is full is looked at again soon: to read is what lets the peer read on.
        for key, _ in self._selector.select(min(seconds, 0.005) if self._outgoing else seconds):
            if not self._take(key.fd, key.data):
                raise self._died()
        if self._reports:
            self._silence = Deadline(patience)

    def _write(self) -> bool:
        """Send as much as the pipe takes; say whether that was anything."""
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[os.write(self._inward, self._outgoing[: 1 << 20]) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            raise self._died() from None
        return True

    def _take(self, descriptor: int, hears: Callable[[bytes], None]) -> bool:
        """Read what is there. False: the peer closed the pipe on which it speaks."""
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
        lines = self._incoming.take(data)
        if self._incoming.size > LARGEST_TURN:
            raise self._lost("flooded", f"it sent more than {LARGEST_TURN >> 20} MiB in one turn")
        for line in lines:
            report = self._understood(line)
            if self._hello is None:
                self._greet(report)
            elif problem := _problem(report, self._shapes):
                raise self._lost("nonsense", f"it reported {line[:200].decode(errors='replace')}: {problem}")
            else:
                self._reports.append(report)

    def _understood(self, line: bytes) -> Report:
        try:
            report = json.loads(line)
        except (ValueError, RecursionError):
            report = None
        if not isinstance(report, dict):
            shown = line[:200].decode(errors="replace")
            raise self._lost("nonsense", f"something wrote {shown!r} into the harness's channel")
        return report

    def _greet(self, report: Report) -> None:
        if "hello" not in report:
            shown = json.dumps(report)[:200]
            raise self._lost("nonsense", f"it must say hello first, and said {shown}")
        if report["hello"] != VERSION:
            raise self._lost(
                "version",
                f"it speaks version {report['hello']!r} of the peer protocol, and this harness speaks {VERSION}",
                hint="Install the client that belongs to this version of job-harness.",
            )
        self._hello = report

    # the end --------------------------------------------------------------------------------------------------------

    def _lost(self, kind: str, what: str, *, do: str = "", hint: str = "") -> PeerLost:
        """End the peer, and return the error that says why."""
        self.kill()
        tail = self._log.tail()
        name = f"{self.name}, asked for {do!r}" if do else self.name
        return PeerLost(kind, what, name=name, hint=hint, tail="" if tail in what else tail)

    def _died(self) -> PeerLost:
        deadline = Deadline(DYING_SECONDS)
        while self._process.poll() is None and not deadline.passed:
            deadline.pause()
        for stream in (self._process.stdout, self._process.stderr):
            while stream is not None and (data := _read_now(stream.fileno())):
                self._log.take(data)
        self._log.flush()
        code = self._process.returncode
        how = "closed its channel" if code is None else _how(code)
        if self._incoming.rest:
            how += f" in the middle of the line {self._incoming.rest[:200].decode(errors='replace')!r}"
        tail = self._log.tail()
        return self._lost("died", f"its process {how}" + (f"\n{tail}" if tail and code else ""))


def _problem(report: Report, effects: Shapes) -> str:
    """Say why something is no report that a peer may make once it has said hello; nothing if it is one."""
    kinds = [kind for kind in REPORTS if kind in report]
    if len(kinds) != 1 or kinds == ["hello"]:
        return f"a report has one of the fields {', '.join(list(REPORTS)[1:])}"
    problem = _unshaped(report, kinds[0], REPORTS[kinds[0]])
    if problem or kinds[0] != "effect":
        return problem
    return _unshaped(report["data"], report["effect"], effects.get(report["effect"], {}))


def _unshaped(told: Mapping[str, Any], what: str, shape: Mapping[str, tuple[type, ...]]) -> str:
    for name, types in shape.items():
        if name not in told:
            return f"`{what}` needs `{name}`"
        if not isinstance(told[name], types):
            return f"`{name}` cannot be {told[name]!r:.80}"
    return ""


class _Log:
    """Lines that a peer prints, up to a limit."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.undrained = 0
        """Bytes that were printed since `drain`."""
        self._rest = b""
        self._room = LARGEST_LOG
        self._last: list[str] = []

    def drain(self) -> int:
        drained, self.undrained = self.undrained, 0
        return drained

    def take(self, data: bytes) -> None:
        self.undrained += len(data)
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


def _going(
    do: str, arguments: Mapping[str, Any] | None, *, actor: str | None = None, now: float | None = None
) -> Report:
    return {"go": 0, "do": do, "with": dict(arguments or {}), **({} if actor is None else {"actor": actor}), **_at(now)}


def _at(now: float | None) -> Report:
    return {} if now is None else {"now": now}


def _started(
    command: Sequence[str],
    descriptors: Sequence[int],
    *,
    environment: Mapping[str, str],
    folder: Path | None,
) -> subprocess.Popen[bytes]:
    """Start a peer in a session of its own."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
        cwd=folder,
        env={**environment, VARIABLE: ",".join(map(str, descriptors)), **({WATCHED: "1"} if _signals_an_end() else {})},
        start_new_session=True,
        umask=NOBODY_ELSE,  # What it writes beside its packages, such as bytecode, is run by the next one.
    )


def end_with_us(pid: int, life: int) -> None:
    """Let the kernel kill a peer once the other end of this pipe is closed, whatever the peer is doing.

    Linux sends the reader of a pipe a signal of our choice when the last writer is gone. A peer
    that had to watch the pipe itself would need a thread for it, and in Node that is half of what
    it costs to start.
    """
    if _signals_an_end():
        _signal_at_end(life, pid, signal.SIGKILL)


def _signal_at_end(life: int, pid: int, number: signal.Signals) -> None:
    fcntl.fcntl(life, fcntl.F_SETOWN, pid)
    fcntl.fcntl(life, fcntl.F_SETSIG, number)  # type: ignore[attr-defined,unused-ignore]  # Linux has it
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)


@cache
def _signals_an_end() -> bool:
    """Whether this system can be asked to: some sandboxes that pass for Linux cannot."""
    if sys.platform != "linux":
        return False
    end, life = os.pipe()
    try:
        _signal_at_end(end, os.getpid(), signal.SIGURG)  # That one does no harm, should it ever come.
    except OSError:
        return False
    finally:
        os.close(end)
        os.close(life)
    return True


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _end(process: PeerProcess, selector: selectors.BaseSelector, descriptors: Sequence[int], owner: int) -> None:
    if os.getpid() == owner:  # A forked child lets go of the parent's processes and touches none.
        _kill_all(process)  # Before its pipes are closed: a peer that notices kills itself, and is asked nothing more.
    selector.close()
    _close(descriptors)
    if os.getpid() != owner:
        return
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _kill_all(process: PeerProcess) -> None:
    """Kill a process, its session, and whatever it started."""
    started: list[int] = []
    if process.poll() is None:
        _signal(process.pid, signal.SIGSTOP)  # So that it starts nothing more, and the list stands still.
        started = descendants_of(process.pid)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    _end_all(started)


def _read_now(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except (BlockingIOError, OSError):
        return b""


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGABRT" else "")
    return f"was killed by signal {-code}"


# processes of processes, where the system tells them (Linux); elsewhere none are known ------------------------------


def children_of(pid: int | None = None) -> list[int]:
    """List the children of a process, by default this one, that are alive."""
    if pid is None and _has_no_child():
        return []
    pid = pid or os.getpid()
    if not (_PROC / "thread-self" / "children").exists():  # as where the kernel was built without it
        return [each for each in _pids() if _field(each, 1) == str(pid) and _runs(each)]
    found: list[int] = []
    with suppress(OSError):
        for task in list((_PROC / str(pid) / "task").iterdir()):
            with suppress(OSError):  # A thread may end while it is looked at.
                found += [int(child) for child in (task / "children").read_text().split()]
    return [child for child in found if _runs(child)]


def _has_no_child() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):  # macOS before Python 3.13 cannot ask, and does not tell its processes
        return True
    return False


def waited_for_processor(pid: int) -> float:
    """Return for how many seconds the main thread of a process waited for a processor; 0 where Linux does not say."""
    try:
        return int((_PROC / str(pid) / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def descendants_of(pid: int) -> list[int]:
    """List what a process has started and what that has started, sessions of their own too."""
    return [each for child in children_of(pid) for each in (child, *descendants_of(child))]


def end_session(session: int) -> None:
    """Kill every process of a session with SIGKILL."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    _end_all([pid for pid in _pids() if _field(pid, 3) == str(session)])


def end_descendants() -> None:
    """Kill every process that this one has started, and what those have started."""
    _end_all(descendants_of(os.getpid()))


def end_tree(pid: int) -> None:
    """Kill a process and what it has started; its parent still has to reap it."""
    _signal(pid, signal.SIGSTOP)  # So that it starts nothing more, and the list stands still.
    _end_all([pid, *descendants_of(pid)])


def end_marked(entry: str) -> None:
    """Kill every process whose environment has an entry, wherever it has gone."""
    _end_all([pid for pid in _pids() if pid != os.getpid() and entry.encode() in _environment_of(pid)])


def mark_tree(pid: int, mark: int | None = None) -> int:
    """Give a process a limit that says whose it is: whatever it starts inherits it, and no environment that is cleared
    takes it away. Return what the limit was.

    It is the soft limit of POSIX message queues, which next to no program has: none is taken from
    them but a few bytes.
    """
    before = 0
    with suppress(ImportError, AttributeError, OSError, ValueError):  # Linux has it.
        import resource

        before, most = resource.prlimit(pid, resource.RLIMIT_MSGQUEUE)
        resource.prlimit(pid, resource.RLIMIT_MSGQUEUE, (_our_mark() if mark is None else mark, most))
    return before


@contextmanager
def marking_what_starts() -> Generator[None]:
    """Let whatever this process starts inside the block be marked as by `mark_tree`, from its first instruction on."""
    before = mark_tree(os.getpid())
    try:
        yield
    finally:
        mark_tree(os.getpid(), before)


def _our_mark() -> int:
    return _LEAST_MARK + os.getpid() % _LEAST_MARK


_LEAST_MARK: Final = 400_000
"""With what this makes of a process id, a mark is about as large as the limit that Linux has without us."""


def end_orphans(entries: Iterable[str]) -> None:
    """Kill every process with our mark, or one of these in its environment, that is in our tree no more: a daemon."""
    ours, marks = {os.getpid(), *descendants_of(os.getpid())}, {entry.encode() for entry in entries}
    others = (pid for pid in _pids() if pid not in ours)
    _end_all([pid for pid in others if not marks.isdisjoint(_environment_of(pid)) or _has_our_mark(pid)])


def _has_our_mark(pid: int) -> bool:
    with suppress(OSError):
        limits = (_PROC / str(pid) / "limits").read_text()
        return limits.partition("Max msgqueue size")[2].split()[:1] == [str(_our_mark())]
    return False


def _environment_of(pid: int) -> list[bytes]:
    with suppress(OSError):
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return []


def _pids() -> list[int]:
    with suppress(OSError):
        return [int(folder.name) for folder in _PROC.iterdir() if folder.name.isdigit()]
    return []


def _end_all(pids: Sequence[int]) -> None:
    """Kill processes, and wait until they are gone, since a signal takes its time: afterwards none is left."""
    for pid in pids:
        _signal(pid, signal.SIGKILL)
    deadline = Deadline(DYING_SECONDS)
    while any(_runs(pid) for pid in pids) and not deadline.passed:
        deadline.pause()


def _runs(pid: int) -> bool:
    return _field(pid, 0) not in ("Z", "X", "")


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _field(pid: int, number: int) -> str:
    """Return a field of a process after its name: 0 is its state, 1 its parent, 3 its session."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[number]
