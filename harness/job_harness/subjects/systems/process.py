"""One process of a user's: its command, its channel, its connections, and when it is at rest.

A process that loads our preload is a peer (docs/contracts/peer_protocol.md): it says when it has nothing left to do by
itself, and how many bytes went over each of its connections. Only when these are the numbers at our end too is nothing
on its way, and the process quiet. Must not know: kernels, jobs, what is said over a connection.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from job_harness.core.model.duration import MILLISECOND, Duration, Instant
from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.systems.document import ProcessKind, SystemFile, SystemFileError
from job_harness.subjects.systems.fork_server import ForkServer
from job_harness.worlds.packages import find_node
from job_harness.worlds.peers.peer import Fork, Peer, PeerLost, Report
from job_harness.worlds.private import cache_folder
from job_harness.worlds.wire.database import exact_milliseconds_of, instant_at
from job_harness.worlds.wire.postgres_proxy import PasswordEndpoint

NODE_PRELOAD: Final = Path(__file__).with_name("node") / "preload.mjs"
PYTHON_PRELOAD: Final = Path(__file__).with_name("python")
ASKED: Final = "JOB_HARNESS_SYSTEM"
"""The environment variable that tells a preload where connections may lead."""
NODE: Final = frozenset({"node", "nodejs"})
PYTHON: Final = frozenset({"python", "python3"})
_KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
"""What of our own environment a process finds in its own."""


_RUN_BY_PYTHON: Final = re.compile(rb"""^(?:#!|'''exec' ).*[/\s]python[\d.]*["\s]""")
_VARIABLE: Final = re.compile(r"\$(?:\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}|(?P<bare>[A-Za-z_]\w*))")
RUN_FAILED: Final = "job-harness: this run of a cron command failed"
"""What `repeat.py` prints where the program that it repeats ended with an error."""
_LINES_KEPT: Final = 60
_LINES_SHOWN: Final = 12
_LOOKS: Final = 10
_PIPE: Final = 1 << 15
"""Printed bytes from which on a pipe may have been full."""
_LONGEST_LINE: Final = 300


class Link(Protocol):
    """One connection between a process and us."""

    key: str
    """The ports of its ends, the process's first."""
    sent: int
    """Bytes that we sent."""
    heard: int
    """Bytes that we read."""
    may_wait: bool
    """Whether the process may leave it in the queue of those that it has not accepted."""

    @property
    def fresh(self) -> bool:
        """Whether it was opened just now, in real time."""
        ...

    @property
    def closed(self) -> bool:
        """Whether we hear and say nothing over it any more."""
        ...


def key_of(ours: socket.socket) -> str:
    """Name a connection by the ports of its ends, the process's first."""
    return f"{ours.getpeername()[1]}:{ours.getsockname()[1]}"


class ProcessTimer(NamedTuple):
    """A timer that a process has set."""

    number: int
    when: Instant
    wait: Duration
    repeats: bool
    place: str

    @property
    def round(self) -> tuple[str, Duration, bool]:
        """Tell it from timers of other loops: the rounds of one loop are set at one place, for one time."""
        about = int(float(f"{self.wait:.1e}"))  # A clock that drifts makes two rounds of one loop differ a little.
        return self.place, about, self.repeats


class ProcessEnded(Exception):
    """A process ended by itself: `code` is its exit code, negative for a signal."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Program:
    """How the processes of one kind are started."""

    kind: ProcessKind
    command: tuple[str, ...]
    environment: Mapping[str, str]
    runtime: str
    """`node`, `python`, or nothing: it has no preload."""
    folder: Path = field(default_factory=Path)


def programs_of(file: SystemFile) -> dict[str, Program]:
    """Find the programs of a file, by the name of their kind. Raises SystemFileError where one is not there."""
    return {kind.name: _program(kind, file) for kind in file.processes}


def _program(kind: ProcessKind, file: SystemFile) -> Program:
    command, runtime = resolved(kind.command, file, place=kind.place)
    if not runtime:
        raise SystemFileError(
            f"{kind.place}: `{kind.command[0]}` is neither node nor python, and time can be controlled only in these",
            hint="Write the command as `node ...` or `python ...`, or as a script that Python runs: `uvicorn ...`.",
        )
    environment = {**base_environment(file), **kind.environment}
    if runtime == "node":
        options = f"{environment.get('NODE_OPTIONS', '')} --import={NODE_PRELOAD.as_uri()}".strip()
        environment |= {"NODE_OPTIONS": options, "NODE_COMPILE_CACHE": str(cache_folder("node-compile"))}
    else:
        paths = (str(PYTHON_PRELOAD), environment.get("PYTHONPATH", ""))
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONHASHSEED": "0"}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return Program(kind, command, environment, runtime, file.folder)


def resolved(command: tuple[str, ...], file: SystemFile, *, place: str) -> tuple[tuple[str, ...], str]:
    """Put the program that is meant in the place of its name, and say what runs it: `node`, `python` or nothing."""
    name = Path(command[0]).name
    if name in NODE and "/" not in command[0]:
        return (find_node(file.node or (20, 0), wanted_by=file.system).path, *command[1:]), "node"
    if name in PYTHON and "/" not in command[0]:
        python = sys.executable if file.python is None else str(file.folder / file.python)
        return (python, *command[1:]), "python"
    scripts = Path(sys.executable if file.python is None else file.folder / file.python).parent
    found = shutil.which(
        str(file.folder / command[0]) if "/" in command[0] else command[0],
        path=os.pathsep.join((str(file.folder), str(scripts), os.environ.get("PATH", ""))),
    )
    if found is None:
        raise SystemFileError(f"{place}: there is no program {command[0]!r}", hint="Is it on the PATH?")
    return (found, *command[1:]), "node" if name in NODE else "python" if _is_python(Path(found)) else ""


def _is_python(program: Path) -> bool:
    """Whether a program is Python, or a script that Python runs, as those are that packages install."""
    if program.name.startswith("python"):
        return True
    with program.open("rb") as file:
        first = file.readline(_LONGEST_LINE)
        if first.startswith(b"#!/bin/sh"):  # What pip writes where the path of Python is long, or has a space in it.
            first = file.readline(_LONGEST_LINE)
    return _RUN_BY_PYTHON.search(first) is not None


def expanded(command: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Put values in the place of `$NAME`, `${NAME}` and `${NAME:-default}`, as a shell would; what is not set stays."""

    def value(found: re.Match[str]) -> str:
        return environment.get(found["name"] or found["bare"], found["default"] or found[0])

    return tuple([_VARIABLE.sub(value, word) for word in command])


def base_environment(file: SystemFile) -> dict[str, str]:
    """Return what every command of a system finds in its environment."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    if file.node is not None:
        folder = str(Path(find_node(file.node, wanted_by=file.system).path).parent)
        kept["PATH"] = os.pathsep.join((folder, kept.get("PATH", "")))
    return {**kept, "TZ": "UTC", "NODE_NO_WARNINGS": "1", **file.environment}


class SystemProcess:
    """A process by name, from one start to the next."""

    def __init__(
        self,
        name: str,
        program: Program,
        endpoint: PasswordEndpoint,
        *,
        order: int,
        outside: socket.socket,
        hosts: tuple[str, ...],
    ) -> None:
        """Say how it is started; `outside` is where its calls to `hosts` arrive."""
        self.name = name
        self.program = program
        self.endpoint = endpoint
        self.order = order
        self.outside = outside
        self.port = _free_port() if program.kind.takes_requests else 0
        """Where it listens."""
        self.links: list[Link] = []
        """Its connections but those to the database, which its endpoint has."""
        self.peer: Peer | None = None
        self.life = 0
        """How often it was started."""
        self.pids: dict[str, str] = {}
        """By number, as the program sees itself, what each process of this run is called that it was."""
        self.ready = False
        self.terminated = False
        """Whether it was told to stop."""
        self._signalled = False
        """Whether it has yet to be told."""
        self.timers: tuple[ProcessTimer, ...] = ()
        self.moved: dict[int, Instant] = {}
        """By number, timers whose rounds were left out up to an instant."""
        self.stirred = False
        """Whether something reached it since it was last at rest."""
        self.lines: dict[str, str] = {}
        """By connection, the line of its code from which something was sent over it, where that is known."""
        self.odd: dict[str, None] = {}
        """What it does that is not under control."""
        self.told: tuple[Instant, Duration] = (-1, 0)
        """What time it was told last, and how far its time of day is ahead of that."""
        self._spare_printed: list[str] = []
        self.printed: list[str] = []
        """What it printed last."""
        self.failed = ""
        """What it printed last when a program that it repeats had failed; empty: none did."""
        self.gone = ""
        """How it ended, where that showed before it was asked."""
        self._unknown = 0
        """How often it reported a connection that was not accepted."""
        self._turn = 0
        self._report: Report | None = None
        self._hosts = hosts
        self._spare: Peer | None = None
        self._fork: Fork | None = None
        self.rehearses = True
        """Whether its start is to tell what it imports."""
        self.modules: tuple[str, ...] = ()
        """What it imported from packages, when it last told."""

    # starting and ending --------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start a process that waits before the program's first line, for the next start."""
        if self._spare is None or not self._spare.alive:
            self._spare = self._started()

    def fork_from_now_on(self, parents: dict[str, ForkServer | None]) -> None:
        """Let its starts be forks of a process that has imported its packages; `parents` has one for each command.

        What these are was seen in a start before. Where such a process cannot be made, the command is started.
        """
        environment = self._environment()
        command = expanded(self.program.command, environment)
        key = " ".join((self.program.kind.name, *command))
        if key not in parents:
            parents[key] = None
            if self.program.runtime == "python" and self.modules:
                with suppress(EnvironmentUnavailable):
                    parents[key] = ForkServer(
                        command,
                        environment=environment,
                        folder=self.program.folder,
                        modules=self.modules,
                    )
        parent = parents[key]
        if self._spare is not None:
            self._spare.kill()
            self._spare = None
        self._fork = None if parent is None else parent.start
        self.rehearses = False

    def _environment(self) -> dict[str, str]:
        kind = self.program.kind
        virtual = self.port if self.program.runtime == "python" else 3000 + self.order
        asked = {
            "ports": {virtual: self.port} if self.port else {},
            "outside": dict.fromkeys(self._hosts, True),
            "database": self.endpoint.port,
            "recorder": self.outside.getsockname()[1],
            **({"rehearses": True} if self.rehearses else {}),
        }
        return {
            "HOSTNAME": self.name,  # as a pod has it: its name stays when what runs in it starts again
            **self.program.environment,
            **self.endpoint.environment,
            ASKED: json.dumps(asked),
            **({kind.port_variable: str(virtual)} if self.port else {}),
        }

    def _started(self) -> Peer:
        self._spare_printed = printed = list[str]()

        def log(line: str) -> None:
            if line == RUN_FAILED:
                self.failed = self.failed or "\n".join(f"  {each}" for each in printed[-_LINES_SHOWN:])
                return
            printed.append(line[:_LONGEST_LINE])
            del printed[:-_LINES_KEPT]

        folder, environment = self.program.folder, self._environment()
        command = expanded(self.program.command, environment)
        if self._fork is not None:
            try:
                return Peer(command, name=self.name, environment=environment, log=log, fork=self._fork)
            except EnvironmentUnavailable:
                self._fork = None
        return Peer(command, name=self.name, environment=environment, folder=folder, log=log)

    def start(self, *, seed: str, now: Instant, skew: Duration = 0) -> None:
        """Let the program begin; it is not ready before it is at rest."""
        self.prepare()
        assert self._spare is not None
        self.peer, self._spare = self._spare, None
        self.printed = self._spare_printed
        self.life += 1
        if self.life == 1:
            self.pids.clear()
        self.pids[str(self.peer.pid)] = self.name if self.life == 1 else f"{self.name}.{self.life}"
        self.ready = self.terminated = self._signalled = False
        self.timers, self.links, self._report, self.gone = (), [], None, ""
        self.moved.clear()
        self._post("begin", now=now, skew=skew, seed=f"{seed} {self.name} {self.life}")

    def ended(self, message: str) -> None:
        """Take note that it ended, where that is to be dealt with when all come to rest."""
        self.gone, self.stirred = message, True

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.peer is not None:
            self.peer.kill()
        self.peer = None
        self.endpoint.cut()
        for link in self.links:
            _close(link)
        self.links.clear()
        self.timers = ()
        self.stirred = self.ready = False
        self._turn = 0

    def close(self) -> None:
        """End it and what was kept for its next start."""
        self.kill()
        if self._spare is not None:
            self._spare.kill()
            self._spare = None

    def terminate(self) -> None:
        """Tell it to stop, the next time that it goes on: in between, it would act unasked."""
        self._signalled = self.peer is not None
        self.stirred = self.stirred or self._signalled

    def _signal(self) -> None:
        assert self.peer is not None
        self._signalled, self.terminated = False, True
        with suppress(ProcessLookupError):
            os.kill(self.peer.pid, signal.SIGTERM)

    @property
    def tail(self) -> str:
        """What it printed last, a line each."""
        return "\n".join(self.said.splitlines()[-_LINES_SHOWN:])

    @property
    def said(self) -> str:
        """What it printed last, with all lines that are kept: an error may stand above what the driver adds to it."""
        return "\n".join(f"  {line}" for line in self.printed if line.strip())

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self.peer is not None

    # turns ----------------------------------------------------------------------------------------------------------

    def connections(self) -> Iterator[Link]:
        """Return all its connections."""
        yield from self.endpoint.sessions  # type: ignore[misc]
        yield from self.links

    def go_on(self, *, now: Instant, skew: Duration = 0) -> None:
        """Let it do what it can do, since something reached it."""
        if not self._turn and self._report is None:
            if self._signalled and self.told == (now, skew):  # It has to know the time before it reacts.
                self._signal()
            self._post("rest", now=now, skew=skew)

    def fire(self, timer: ProcessTimer, *, now: Instant, skew: Duration = 0) -> None:
        """Let one of its timers fire."""
        self._post("fire", now=now, skew=skew, timer=timer.number)

    def _post(self, do: str, *, now: Instant, skew: Duration, **more: Any) -> None:
        assert self.peer is not None
        told = {
            **more,
            "skew": skew / MILLISECOND,
            "skip": [[number, exact_milliseconds_of(when)] for number, when in self.moved.items()],
            "sockets": {link.key: [link.sent, link.closed] for link in self.connections()},
        }
        self.stirred = True
        self.told = (now, skew)
        self._report = None
        try:
            self._turn = self.peer.post(do, told, actor="*", now=exact_milliseconds_of(now))
        except PeerLost as lost:
            if lost.kind != "died":
                raise
            self.gone = lost.what

    def rests(self) -> bool:
        """Whether it is at rest, and nothing is on its way to or from it. Raises ProcessEnded, PeerLost."""
        if self.peer is None:
            return True
        if self.gone:
            raise ProcessEnded(self.gone, code=self.peer.exit_code)
        self._refuse_strangers()
        if self._report is None:
            if not self._turn:
                return False
            try:
                report = self.peer.ended(self._turn)
            except PeerLost as lost:
                if lost.kind != "died":
                    raise
                raise ProcessEnded(lost.what, code=self.peer.exit_code) from None
            if report is None:
                return False
            self._turn = 0
            self._report = report if self._drained() else None
        report = self._report
        if report is None or not self._agrees(report.get("sockets") or {}, waiting=int(report.get("waiting") or 0)):
            return False
        self._rest(report)
        return not self.stirred

    def _drained(self) -> bool:
        """Whether it did not sleep because what it prints was not read."""
        assert self.peer is not None
        try:
            return self.peer.drain() < _PIPE
        except PeerLost as lost:
            if lost.kind != "died":
                raise
            raise ProcessEnded(lost.what, code=self.peer.exit_code) from None

    def _refuse_strangers(self) -> None:
        """Raise SystemFileError where it goes where no host of the file is: what it makes of that proves nothing."""
        assert self.peer is not None
        told = [str(each["data"].get("what", "")) for each in self.peer.effects]
        if found := (*self.endpoint.refused, *told):
            self.endpoint.refused.clear()
            hint = "Name the host under `outside`, or switch that off by a variable under `env`."
            if "connects" not in found[0]:
                hint = "Switch that off by a variable under `env`."
            raise SystemFileError(f"{self.program.kind.place}: {self.name}: {found[0]}", hint=hint)

    def _agrees(self, told: Mapping[str, list[Any]], *, waiting: int) -> bool:
        """Whether both ends of every connection have seen the same; where it has yet to read, it goes on.

        `waiting` is how many connections it knows to wait to be accepted.
        """
        links = {link.key: link for link in self.connections()}
        unaccepted = [link for key, link in links.items() if key not in told and link.may_wait and not link.closed]
        if len(unaccepted) > waiting and any(link.fresh for link in unaccepted):
            self._report = None  # It may be accepted yet: on a crowded machine that takes its time.
            return False
        for key, (_, wrote, finished, seen) in told.items():
            link = links.get(key)
            if link is None:
                if not finished and not seen:
                    self._unknown += 1
                    if self._unknown > _LOOKS:  # It is none that waits to be accepted: the report is out of date.
                        self._report, self._unknown = None, 0
                    return False
            elif not link.closed and (link.heard < wrote or finished):
                return False
        for key, link in links.items():
            if key not in told and (link.may_wait or link.closed):
                continue  # It was over before it was looked for, or waits until the one before it is done with.
            read, _, _, seen = told.get(key, (0, 0, False, False))
            if not seen and (link.sent > read or link.closed):
                self._report = None  # It was sent more since.
                return False
        return True

    def _rest(self, report: Report) -> None:
        self.stirred = self._signalled
        self._report = None
        self.modules = tuple(report.get("modules") or self.modules)
        self.timers = tuple(
            ProcessTimer(int(number), instant_at(when), round(wait * MILLISECOND), bool(repeats), str(place))
            for number, when, wait, repeats, place, _ in report.get("timers") or ()
        )
        known = {timer.number for timer in self.timers}
        self.moved = {number: when for number, when in self.moved.items() if number in known}
        self.timers = tuple(
            replace_when(timer, self.moved[timer.number]) if timer.number in self.moved else timer
            for timer in self.timers
        )
        line = str(report.get("line") or "")
        lines = report.get("lines") or {}
        self.lines = {link.key: str(lines.get(link.key, line)) for link in self.connections()}
        self.links = [link for link in self.links if not link.closed]
        self.endpoint.sessions = [session for session in self.endpoint.sessions if not session.closed]

    def overdue(self, seconds: float) -> EnvironmentUnavailable:
        """End it, and say that it did not come to rest in time."""
        does = "did not come to rest" if self._turn else "did not read or send what it should"
        tail = self.tail
        self.kill()
        return EnvironmentUnavailable(
            f"{self.program.kind.place}: {self.name} {does} within {seconds:g} real seconds"
            + (f"; it last said:\n{tail}" if tail else ""),
            hint="Does it compute or poll without end? Where the machine is slow, raise `ready_seconds`.",
        )


def replace_when(timer: ProcessTimer, when: Instant) -> ProcessTimer:
    """Return a timer that is due at another instant."""
    return timer._replace(when=when)


def _close(link: Any) -> None:
    with suppress(OSError):
        link.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
