"""One process of a user's: its command, its channel, its connections, and when it is at rest.

A process that loads our preload is a peer (docs/contracts/peer_protocol.md): it says when it has
nothing left to do by itself, and how many bytes went over each of its connections. Only when these
are the numbers at our end too is nothing on its way, and the process quiet. Must not know: kernels,
jobs, what is said over a connection.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final, NamedTuple

from job_harness.core.model import MILLISECOND, Duration, Instant
from job_harness.core.own_code import CodeLine
from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.systems.document import ProcessKind, SystemFile, SystemFileError
from job_harness.subjects.systems.fork_server import ForkServer
from job_harness.subjects.systems.traffic import DatabaseSession, Link
from job_harness.worlds.packages import find_node
from job_harness.worlds.patience import PATIENCE
from job_harness.worlds.peers.peer import Fork, Peer, PeerLost, Report, mark_tree
from job_harness.worlds.private import cache_folder
from job_harness.worlds.wire.database import exact_milliseconds_of, instant_at
from job_harness.worlds.wire.postgres_proxy import PasswordEndpoint

NODE_PRELOAD: Final = Path(__file__).with_name("node") / "preload.mjs"
PYTHON_PRELOAD: Final = Path(__file__).with_name("python")
NODE_LINES: Final = Path(__file__).with_name("node") / "lines.cjs"
"""What says from which line something is sent, where a supervisor owns the time; for Python that of `inside` does."""
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
    if file.supervised:
        # What one run leaves in a cache or a log, the next one reads: it would take a little longer, or less long.
        quiet = {"PYTHONDONTWRITEBYTECODE": "1", "NODE_DISABLE_COMPILE_CACHE": "1"}
        # npm looks for logs to delete even if it keeps none, and others leave theirs in the same folder meanwhile.
        quiet |= {"NPM_CONFIG_LOGS_DIR": os.devnull, "NPM_CONFIG_LOGS_MAX": "0", "NPM_CONFIG_UPDATE_NOTIFIER": "false"}
        environment = {**base_environment(file), **quiet, **kind.environment}
        if file.tells_lines:
            options = f"{environment.get('NODE_OPTIONS', '')} --require {json.dumps(str(NODE_LINES))}".strip()
            paths = _first(PYTHON_PRELOAD, environment.get("PYTHONPATH", ""))
            environment |= {"NODE_OPTIONS": options, "PYTHONPATH": paths}
        return Program(kind, command, environment, "", file.folder)
    if not runtime:
        raise SystemFileError(
            f"{kind.place}: `{kind.command[0]}` is neither node nor python, and time can be controlled only in these",
            hint="Say `clock: supervisor` at the top of the file: then any program can be.",
        )
    environment = {**base_environment(file), **kind.environment}
    if runtime == "node":
        options = f"{environment.get('NODE_OPTIONS', '')} --import={NODE_PRELOAD.as_uri()}".strip()
        environment |= {"NODE_OPTIONS": options, "NODE_COMPILE_CACHE": str(cache_folder("node-compile"))}
    else:
        paths = _first(PYTHON_PRELOAD, environment.get("PYTHONPATH", ""))
        environment |= {"PYTHONPATH": paths, "PYTHONHASHSEED": "0"}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return Program(kind, command, environment, runtime, file.folder)


def _first(folder: Path, others: str) -> str:
    """Put a folder before those that Python looks in."""
    return os.pathsep.join(filter(None, (str(folder), others)))


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


class ProcessOutput:
    """What a process printed last."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failed = ""
        """What it had printed last when a program that it repeats failed; empty: none did."""

    def take(self, line: str) -> None:
        """Take a line."""
        if line == RUN_FAILED:
            self.failed = self.failed or self.tail or "  (it printed nothing)"
            return
        self.lines.append(line[:_LONGEST_LINE])
        del self.lines[:-_LINES_KEPT]

    @property
    def text(self) -> str:
        """All lines that are kept: an error may stand above what the driver adds to it."""
        return "\n".join(f"  {line}" for line in self.lines if line.strip())

    @property
    def tail(self) -> str:
        """The last lines."""
        return "\n".join(self.text.splitlines()[-_LINES_SHOWN:])


class StopRequest(Enum):
    """Whether a process is to stop."""

    NONE = auto()
    ASKED = auto()
    """It has yet to be told."""
    TOLD = auto()


class SentLines:
    """From which lines of its code a process sends what, as far as that is known."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        """By the name of a file of the user's, its whole path."""
        self.places: dict[str, str] = {}
        """By connection, the line from which something was sent over it."""

    @property
    def environment(self) -> dict[str, str]:
        """What tells the process where to say so."""
        return {}

    def clear(self) -> None:
        """Begin anew, with a process that has said nothing."""
        self.places.clear()

    def place_at(self, key: str) -> str:
        """Name the line from which something was sent over a connection; empty: that is not known."""
        return self.places.get(key, "")

    def line_at(self, key: str) -> CodeLine | None:
        """Return the user's own line from which something was sent over a connection; None where that is not known."""
        return self.line_of(self.place_at(key))

    def line_of(self, place: str) -> CodeLine | None:
        """Return the line that is called `app.py:47`; None where that is not known."""
        name, _, number = place.rpartition(":")
        return CodeLine(self.files[name], int(number)) if name in self.files else None


class SystemProcess:
    """A process by name, from one start to the next; what is the same wherever it runs."""

    def __init__(self, name: str, program: Program, endpoint: PasswordEndpoint | None, *, port: int) -> None:
        self.name = name
        self.program = program
        self.endpoint = endpoint
        """Its way to the database; None: there is none."""
        self.port = port
        """Where it listens; 0: it takes no requests."""
        self.links: list[Link] = []
        """Its connections but those to the database, which its endpoint has."""
        self.life = 0
        """How often it was started."""
        self.pids: dict[str, str] = {}
        """By number, as the program sees itself, what each process of this run is called that it was."""
        self.ready = False
        self._stop = StopRequest.NONE
        self.timers: tuple[ProcessTimer, ...] = ()
        self.moved: dict[int, Instant] = {}
        """By number, timers whose rounds were left out up to an instant."""
        self.stirred = False
        """Whether something reached it since it was last at rest."""
        self.output = ProcessOutput()
        self.gone = ""
        """How it ended, where that showed before it was asked."""
        self.lines = SentLines()

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        raise NotImplementedError

    @property
    def printed(self) -> ProcessOutput:
        """What it has printed by now."""
        return self.output

    def prepare(self) -> None:
        """Start it as far as can be before a run, for the next start."""
        raise NotImplementedError

    def start(self, *, seed: str, now: Instant, skew: Duration = 0) -> None:
        """Let the program begin; it is not ready before it is at rest."""
        raise NotImplementedError

    def _begin(self, pid: int) -> None:
        """Take note of a new life."""
        if self.life == 1:
            self.pids.clear()
        self.pids[str(pid)] = self.name if self.life == 1 else f"{self.name}.{self.life}"
        self.ready, self._stop = False, StopRequest.NONE
        self.timers, self.links, self.gone = (), [], ""
        self.moved.clear()

    def ended(self, message: str) -> None:
        """Take note that it ended, where that is to be dealt with when all come to rest."""
        self.gone, self.stirred = message, True

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.endpoint is not None:
            self.endpoint.cut()
        for link in self.links:
            with suppress(OSError):
                link.close()
        self.links.clear()
        self.timers = ()
        self.stirred = self.ready = False

    def end_program(self) -> None:
        """End its program before its connections break, where it could act on that."""

    def close(self) -> None:
        """End it and what was kept for its next start."""
        self.kill()
        if self.endpoint is not None:
            self.endpoint.end()

    def terminate(self) -> None:
        """Tell it to stop, once, the next time that it goes on: in between, it would act unasked.

        A platform sends one SIGTERM. Many programs take a second one as "at once", and drop their
        work.
        """
        if self.alive and self._stop is StopRequest.NONE:
            self._stop, self.stirred = StopRequest.ASKED, True

    @property
    def _to_be_told(self) -> bool:
        return self._stop is StopRequest.ASKED

    @property
    def terminated(self) -> bool:
        """Whether it was told to stop."""
        return self._stop is StopRequest.TOLD

    # turns ----------------------------------------------------------------------------------------------------------

    def connect(self) -> socket.socket:
        """Open a connection to where it listens. Raises OSError where it does not."""
        raise NotImplementedError

    def fire(self, timer: ProcessTimer, *, now: Instant, skew: Duration = 0) -> None:
        """Let one of its timers fire."""
        raise NotImplementedError

    @property
    def sessions(self) -> list[DatabaseSession]:
        """Its connections to the database."""
        sessions = () if self.endpoint is None else self.endpoint.sessions
        return [session for session in sessions if isinstance(session, DatabaseSession)]

    def connections(self) -> Iterator[Link]:
        """Return all its connections."""
        yield from self.sessions
        yield from self.links

    def hears(self) -> dict[int, Callable[[], object]]:
        """Say what to call where something can be read of a descriptor."""
        live: dict[int, Callable[[], object]] = {
            link.descriptor: link.arrive for link in self.connections() if not link.closed
        }
        return live if self.endpoint is None else {self.endpoint.descriptor: self.endpoint.accept, **live}

    def _rest(self, timers: Iterable[ProcessTimer]) -> None:
        """Take note of what it waits for, and leave what is closed."""
        self.stirred = self._to_be_told
        self.timers = tuple(timers)
        known = {timer.number for timer in self.timers}
        self.moved = {number: when for number, when in self.moved.items() if number in known}
        self.move_timers()
        self.links = [link for link in self.links if not link.closed]
        if self.endpoint is not None:
            self.endpoint.sessions = [session for session in self.endpoint.sessions if not session.closed]

    def move_timers(self) -> None:
        """Let the timers be due when they are, after the rounds that were left out."""
        self.timers = tuple(each._replace(when=self.moved.get(each.number, each.when)) for each in self.timers)


class PeerLauncher:
    """Makes the peers of one process: started when they are wanted or before, or forked from one that has imported."""

    def __init__(self, name: str, program: Program, environment: Mapping[str, str], asked: Mapping[str, Any]) -> None:
        """Say what the program finds in its environment, and what is `asked` of its preload."""
        self._name = name
        self._program = program
        self._environment = environment
        self._asked = asked
        self._rehearses = True
        """Whether a start is to tell what it imports."""
        self.modules: tuple[str, ...] = ()
        """What it imported from packages, when it last told."""
        self._fork: Fork | None = None
        self._spare: tuple[Peer, ProcessOutput] | None = None
        """A process that waits before the program's first line."""

    @property
    def environment(self) -> dict[str, str]:
        """What the program finds in its environment."""
        asked = {**self._asked, **({"rehearses": True} if self._rehearses else {})}
        return {**self._environment, ASKED: json.dumps(asked)}

    def prepare(self) -> None:
        """Start a process that waits before the program's first line, for the next start."""
        if self._spare is None or not self._spare[0].alive:
            output = ProcessOutput()
            self._spare = self._start(output), output
            mark_tree(self._spare[0].pid)

    def take(self) -> tuple[Peer, ProcessOutput]:
        """Return the process that waits, and what it prints."""
        self.prepare()
        assert self._spare is not None
        taken, self._spare = self._spare, None
        return taken

    def _start(self, output: ProcessOutput) -> Peer:
        environment, log = self.environment, output.take
        command = expanded(self._program.command, environment)
        if self._fork is not None:
            try:
                return Peer(command, name=self._name, environment=environment, log=log, fork=self._fork)
            except EnvironmentUnavailable:
                self._fork = None
        return Peer(command, name=self._name, environment=environment, folder=self._program.folder, log=log)

    def become(self, program: Program, parents: dict[str, ForkServer | None]) -> None:
        """Run this program from the next start on."""
        if program is not self._program:
            self._program = program
            self.fork_from_now_on(parents)

    def fork_from_now_on(self, parents: dict[str, ForkServer | None]) -> None:
        """Let its starts be forks of a process that has imported its packages; `parents` has one for each command.

        What these are was seen in a start before. Where such a process cannot be made, the command
        is started.
        """
        program, environment = self._program, self.environment
        command = expanded(program.command, environment)
        key = " ".join((program.kind.name, *command))
        if key not in parents:
            parents[key] = None
            if program.runtime == "python" and self.modules:
                with suppress(EnvironmentUnavailable):
                    parents[key] = ForkServer(
                        command, environment=environment, folder=program.folder, modules=self.modules
                    )
        parent = parents[key]
        self.close()
        self._fork = None if parent is None else parent.start
        self._rehearses = False

    def close(self) -> None:
        """End the process that waits."""
        if self._spare is not None:
            self._spare[0].kill()
            self._spare = None


class PeerChannel:
    """What is said to a peer and by it, a turn at a time. Raises ProcessEnded where it has died."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.turn = 0
        """The turn that is under way; 0: none."""
        self.report: Report | None = None
        """What it said when it had nothing left to do by itself, until it is sent more."""
        self._unknown = 0
        """How often it reported a connection that was not accepted."""

    @property
    def descriptor(self) -> int:
        """What becomes readable when it says something."""
        return self.peer.descriptor

    def post(self, do: str, told: Mapping[str, Any], *, now: Instant) -> None:
        """Give it a turn."""
        self.report = None
        with self._until_it_dies():
            self.turn = self.peer.post(do, told, actor="*", now=exact_milliseconds_of(now))

    @contextmanager
    def _until_it_dies(self) -> Iterator[None]:
        try:
            yield
        except PeerLost as lost:
            if lost.kind != "died":
                raise
            raise ProcessEnded(lost.what, code=self.peer.exit_code) from None

    def listen(self) -> Report | None:
        """Return what it said at the end of its turn; None: it has not, or may have waited for what it prints."""
        if self.report is None and self.turn:
            with self._until_it_dies():
                report = self.peer.ended(self.turn)
                if report is not None:
                    self.turn = 0
                    self.report = report if self.peer.drain() < _PIPE else None
        return self.report

    def agrees(self, connections: Iterable[Link]) -> bool:
        """Whether both ends of every connection have seen the same; where it has yet to read, its report is void."""
        assert self.report is not None
        told: Mapping[str, list[Any]] = self.report.get("sockets") or {}
        waiting = int(self.report.get("waiting") or 0)
        """How many connections it knows to wait to be accepted."""
        links = {link.key: link for link in connections}
        unaccepted = [link for key, link in links.items() if key not in told and link.may_wait and not link.closed]
        if len(unaccepted) > waiting and any(link.fresh for link in unaccepted):
            self.report = None  # It may be accepted yet: on a crowded machine that takes its time.
            return False
        return self._has_said_all(told, links) and self._has_read_all(told, links)

    def _has_said_all(self, told: Mapping[str, list[Any]], links: Mapping[str, Link]) -> bool:
        for key, (_, wrote, finished, seen) in told.items():
            link = links.get(key)
            if link is None:
                if not finished and not seen:
                    self._unknown += 1
                    if self._unknown > _LOOKS:  # It is none that waits to be accepted: the report is out of date.
                        self.report, self._unknown = None, 0
                    return False
            elif not link.closed and (link.heard < wrote or finished):
                return False
        return True

    def _has_read_all(self, told: Mapping[str, list[Any]], links: Mapping[str, Link]) -> bool:
        for key, link in links.items():
            if key not in told and (link.may_wait or link.closed):
                continue  # It was over before it was looked for, or waits until the one before it is done with.
            read, _, _, seen = told.get(key, (0, 0, False, False))
            if not seen and (link.sent > read or link.closed):
                self.report = None  # It was sent more since.
                return False
        return True


class PreloadedProcess(SystemProcess):
    """A process that loads our preload, and so is a peer."""

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
        super().__init__(name, program, endpoint, port=_free_port() if program.kind.takes_requests else 0)
        self.outside = outside
        virtual = self.port if program.runtime == "python" else 3000 + order
        environment = {
            "HOSTNAME": name,  # as a pod has it: its name stays when what runs in it starts again
            **program.environment,
            **endpoint.environment,
            **({program.kind.port_variable: str(virtual)} if self.port else {}),
        }
        asked = {
            "ports": {virtual: self.port} if self.port else {},
            "outside": dict.fromkeys(hosts, True),
            "database": endpoint.port,
            "recorder": outside.getsockname()[1],
        }
        self.launcher = PeerLauncher(name, program, environment, asked)
        self._channel: PeerChannel | None = None
        self.told: tuple[Instant, Duration] = (-1, 0)
        """What time it was told last, and how far its time of day is ahead of that."""

    @property
    def channel(self) -> PeerChannel:
        """What is said to it and by it, while it lives."""
        assert self._channel is not None
        return self._channel

    @property
    def alive(self) -> bool:
        return self._channel is not None

    def prepare(self) -> None:
        self.launcher.prepare()

    def start(self, *, seed: str, now: Instant, skew: Duration = 0) -> None:
        peer, output = self.launcher.take()
        output.failed = output.failed or self.output.failed
        self._channel, self.output = PeerChannel(peer), output
        self.life += 1
        self._begin(peer.pid)
        self._post("begin", now=now, skew=skew, seed=f"{seed} {self.name} {self.life}")

    def end_program(self) -> None:
        if self._channel is not None:
            self._channel.peer.kill()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.end_program()
        self._channel = None
        super().kill()

    def close(self) -> None:
        super().close()
        self.launcher.close()
        self.outside.close()

    def _signal(self) -> None:
        self._stop = StopRequest.TOLD
        with suppress(ProcessLookupError):
            os.kill(self.channel.peer.pid, signal.SIGTERM)

    # turns ----------------------------------------------------------------------------------------------------------

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def go_on(self, *, now: Instant, skew: Duration = 0) -> None:
        """Let it do what it can do, since something reached it."""
        if not self.channel.turn and self.channel.report is None:
            if self._to_be_told and self.told == (now, skew):  # It has to know the time before it reacts.
                self._signal()
            self._post("rest", now=now, skew=skew)

    def fire(self, timer: ProcessTimer, *, now: Instant, skew: Duration = 0) -> None:
        self._post("fire", now=now, skew=skew, timer=timer.number)

    def _post(self, do: str, *, now: Instant, skew: Duration, **more: Any) -> None:
        told = {
            **more,
            "skew": skew / MILLISECOND,
            "skip": [[number, exact_milliseconds_of(when)] for number, when in self.moved.items()],
            "sockets": {link.key: [link.sent, link.closed] for link in self.connections()},
        }
        self.stirred = True
        self.told = (now, skew)
        try:
            self.channel.post(do, told, now=now)
        except ProcessEnded as ended:
            self.gone = str(ended)

    def rests(self) -> bool:
        """Whether it is at rest, and nothing is on its way to or from it. Raises ProcessEnded, PeerLost."""
        if self._channel is None:
            return True
        if self.gone:
            raise ProcessEnded(self.gone, code=self._channel.peer.exit_code)
        self._refuse_strangers()
        report = self._channel.listen()
        if report is None or not self._channel.agrees(self.connections()):
            return False
        self._channel.report = None
        self._take(report)
        return not self.stirred

    def _refuse_strangers(self) -> None:
        """Raise SystemFileError where it goes where no host of the file is: what it makes of that proves nothing."""
        told = [str(each["data"].get("what", "")) for each in self.channel.peer.effects]
        assert self.endpoint is not None
        if found := (*self.endpoint.refused, *told):
            self.endpoint.refused.clear()
            hint = "Name the host under `outside`, or switch that off by a variable under `env`."
            if "connects" not in found[0]:
                hint = "Switch that off by a variable under `env`."
            raise SystemFileError(f"{self.program.kind.place}: {self.name}: {found[0]}", hint=hint)

    def _take(self, report: Report) -> None:
        """Take what it says that it waits for, and from which of its lines it has sent what."""
        self.launcher.modules = tuple(report.get("modules") or self.launcher.modules)
        line, lines = str(report.get("line") or ""), report.get("lines") or {}
        self.lines.files |= report.get("files") or {}
        self.lines.places = {link.key: str(lines.get(link.key, line)) for link in self.connections()}
        self._rest(
            ProcessTimer(int(number), instant_at(when), round(wait * MILLISECOND), bool(repeats), str(place))
            for number, when, wait, repeats, place, _ in report.get("timers") or ()
        )

    def overdue(self, seconds: float) -> EnvironmentUnavailable:
        """End it, and say that it did not come to rest in time."""
        does = "did not come to rest" if self.channel.turn else "did not read or send what it should"
        self.kill()
        tail = self.output.tail
        return EnvironmentUnavailable(
            f"{self.program.kind.place}: {self.name} {does} within {seconds:g} real seconds"
            + (f"; it last said:\n{tail}" if tail else ""),
            hint="Does it compute or poll without end? Where the machine is slow, raise `ready_seconds`.",
        )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Versions:
    """What each process runs before a deploy and after it."""

    def __init__(self, file: SystemFile, processes: Iterable[SystemProcess]) -> None:
        """Find the programs of the next versions. Raises SystemFileError where one is not there."""
        self.parents: dict[str, ForkServer | None] = {}
        """By kind of process, what its starts are forks of."""
        self._next = {
            process.name: _program(replace(process.program.kind, command=process.program.kind.next), file)
            for process in processes
            if process.program.kind.next
        }

    def upgrade(self, process: SystemProcess) -> None:
        """Let its next start be that of its next version."""
        self._become(process, self._next.get(process.name, process.program))

    def reset(self, process: SystemProcess) -> None:
        """Let its next start be that of the version that every run begins with."""
        self._become(process, process.program)

    def _become(self, process: SystemProcess, program: Program) -> None:
        if process.name in self._next and isinstance(process, PreloadedProcess):
            process.launcher.become(program, self.parents)

    def close(self) -> None:
        """End what starts were forks of."""
        for parent in filter(None, self.parents.values()):
            parent.close()
        self.parents.clear()
