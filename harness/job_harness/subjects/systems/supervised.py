"""The processes of a system in a world whose time a supervisor owns: any program, with nothing loaded into it.

All processes of a run live in one `ClockedTree` (docs/contracts/supervisor.md) with a network of
its own: the database, the hosts of `outside` and a name server are sockets of ours in it, and
nothing else can be reached. The tree stands still but for the turns that it gets here. What it says
in a turn stands at gates afterwards, as for processes that load our preload; a sleep of its threads
is a timer of theirs, and what an event loop waits for happens inside the tree. Must not know: what
a job is, how rows are read.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from signal import SIGTERM
from typing import Any, Final, NamedTuple

from job_harness.core.model import MILLISECOND, Duration, Instant
from job_harness.core.sim import Clocks
from job_harness.errors import NothingToJudge
from job_harness.subjects.systems.document import REDIS, REDIS_ENVIRONMENT, SQS, SystemFile, SystemFileError
from job_harness.subjects.systems.group import EndedByItself, ProcessGroup, refuse_garbled
from job_harness.subjects.systems.process import (
    ProcessEnded,
    ProcessOutput,
    ProcessTimer,
    Program,
    SentLines,
    StopRequest,
    SystemProcess,
    expanded,
    programs_of,
)
from job_harness.subjects.systems.redis_store import PORT as REDIS_PORT
from job_harness.subjects.systems.store_links import StoreSession, talks_of
from job_harness.subjects.systems.stores import SystemStores
from job_harness.subjects.systems.tls import TlsSocket, certificate
from job_harness.subjects.systems.traffic import DatabaseSession
from job_harness.worlds.clock import ClockedTree
from job_harness.worlds.wire.database import exact_milliseconds_of, instant_at
from job_harness.worlds.wire.postgres_proxy import PasswordEndpoint
from job_harness.worlds.wire.proxy import ListeningSocket

HOST: Final = "127.77.{}.{}"
"""The addresses of hosts outside. A call to one comes from 127.88, and the rest says which process made it."""
NAME_SERVER: Final = "127.77.255.53"
WEB: Final = (80, 443)
DATABASE_PORT: Final = 5432
HTTP_PORT: Final = 3000
LARGEST_OUTPUT: Final = 1 << 20
"""Bytes printed that are kept of a process; of more, the end."""
_PLACE: Final = "a sleep"


class WorldSocket(socket.socket):
    """A connection with a process that acts in turns only: who waits for it has to give it one."""

    def __init__(self, world: SupervisedWorld, made: socket.socket) -> None:
        super().__init__(made.family, made.type, made.proto, fileno=made.detach())
        self._world = world
        self.setblocking(False)
        world.tree.watched.register(self.fileno(), 1)

    def settimeout(self, value: float | None) -> None:
        """Nothing waits here in real time."""

    def setblocking(self, flag: bool) -> None:
        """Nothing waits here in real time."""
        super().setblocking(False)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Take what has come, or what comes in one turn. Raises OSError where nothing does."""
        try:
            data = super().recv(bufsize, flags)
        except BlockingIOError:
            self._world.tree.run()
            data = super().recv(bufsize, flags)
        if len(data) == bufsize:  # There may be more, and a sender that waits for room.
            self._world.tree.touched = True
        return data

    def send(self, data: Any, flags: int = 0) -> int:
        """Send as much as there is room for. Raises OSError where there is none."""
        self._world.tree.touched = True
        return super().send(data, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of it, in as many turns as it is read in. Raises OSError where it is not read."""
        left = memoryview(data)
        while left:
            try:
                left = left[self.send(left, flags) :]
            except BlockingIOError:
                self._world.tree.run()
                left = left[self.send(left, flags) :]

    def shutdown(self, how: int) -> None:
        """Say that nothing more comes, or is read."""
        self._world.tree.touched = True
        super().shutdown(how)

    def close(self) -> None:
        """Leave it."""
        self._world.tree.touched = True
        super().close()


class WorldListener(ListeningSocket):
    """A socket in a world at which its processes connect."""

    def __init__(self, world: SupervisedWorld, listener: socket.socket) -> None:
        super().__init__(listener)
        self._world = world
        listener.setblocking(False)
        world.tree.watched.register(listener.fileno(), 1)

    def accept(self) -> socket.socket:
        """Return the client that connected first."""
        made = super().accept()
        self._world.tree.touched = True
        return WorldSocket(self._world, made)


def _address(number: int) -> str:
    return HOST.format(number >> 8, number & 255)


class SupervisedWorld:
    """The tree of a system's processes and its network, from one run to the next."""

    def __init__(self, file: SystemFile) -> None:
        """Start an empty tree. Raises EnvironmentUnavailable where that cannot be."""
        self.file = file
        self.folder = Path(tempfile.mkdtemp(prefix="job-harness-system-"))
        self._hosts = (*file.outside, *(file.sqs.hosts if file.sqs else ()))
        """What is reached at ports 80 and 443 of its own name: hosts outside, then those of SQS."""
        self.refused: list[str] = []
        """Names of hosts that were looked up and are none of the file's."""
        store = ("--store", str(REDIS_PORT)) if file.redis else ()
        with ExitStack() as opened:
            opened.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.tree = opened.enter_context(
                ClockedTree(
                    start=exact_milliseconds_of(0),
                    options=("--own-net", "--hold-sleeps", *store, *self._mounts()),
                    patience=file.ready_seconds,
                )
            )
            self._opened = opened
            """What ends with it; each socket of ours that listens, too."""
            web = [[self._web(number, port) for port in WEB] for number, _ in enumerate(self._hosts, 1)]
            self.outside = list(chain.from_iterable(web[: len(file.outside)]))
            self._stores = {
                REDIS: [self._owned(self.listen(REDIS_PORT))] if file.redis else [],
                SQS: list(chain.from_iterable(web[len(file.outside) :])),
            }
            self._names = opened.enter_context(self.tree.listen(53, address=NAME_SERVER, datagrams=True))
            self._names.setblocking(False)
            self.tree.watched.register(self._names.fileno(), 1)
            self._opened = opened.pop_all()
        self._certificate = certificate(self._hosts) if self._hosts else None

    def _web(self, number: int, port: int) -> WorldListener:
        return self._owned(WorldListener(self, self.tree.listen(port, address=_address(number))))

    def _owned(self, listener: WorldListener) -> WorldListener:
        self._opened.callback(listener.close)
        return listener

    def _mounts(self) -> list[str]:
        hosts = [f"{_address(number)} {host}" for number, host in enumerate(self._hosts, 1)]
        stand_ins = {
            "/etc/hosts": "\n".join(("127.0.0.1 localhost redis valkey", *hosts, "")),
            "/etc/resolv.conf": f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n",
            "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        }
        told: list[str] = []
        for path, text in stand_ins.items():
            if Path(path).exists():
                own = self.folder / Path(path).name
                own.write_text(text)
                own.chmod(0o644)
                told += ("--mount", f"{own}:{path}")
        self.folder.chmod(0o755)
        return told

    @property
    def environment(self) -> dict[str, str]:
        """What lets a process trust the hosts that stand for others."""
        if self._certificate is None:
            return {}
        names = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
        return dict.fromkeys(names, str(self._certificate.path))

    def listen(self, port: int) -> WorldListener:
        """Listen at a port of the world."""
        return WorldListener(self, self.tree.listen(port))

    def connect(self, port: int) -> socket.socket:
        """Open a connection to the process that listens at a port. Raises OSError where none does."""
        return WorldSocket(self, self.tree.connect(port))

    def calls(self) -> Iterator[tuple[int, socket.socket]]:
        """Accept the calls to hosts outside, each with the number of the process that makes it."""
        for number, ours in _accepted(self.outside):
            yield number, self._secure(ours)

    def _secure(self, ours: socket.socket) -> Any:
        """Speak TLS over a connection where that is expected."""
        own = self._certificate if ours.getsockname()[1] == WEB[1] else None
        return ours if own is None else TlsSocket(ours, own)

    def store_connections(self) -> Iterator[tuple[str, int, socket.socket]]:
        """Accept the connections to stores: which one, the number of the process that makes it, the connection."""
        for store, listeners in self._stores.items():
            for number, ours in _accepted(listeners):
                yield store, number, self._secure(ours)

    def look_up(self) -> None:
        """Reply to lookups that there is no other host, and keep the names."""
        while True:
            try:
                question, who = self._names.recvfrom(1500)
            except OSError:
                return
            self.tree.touched = True
            flags = struct.pack("!H", 0x8183)
            self._names.sendto(question[:2] + flags + question[4:6] + bytes(6) + question[12:], who)
            labels, at = [], 12
            while at < len(question) and (size := question[at]):
                labels.append(question[at + 1 : at + 1 + size].decode("latin-1"))
                at += 1 + size
            name = ".".join(labels)
            self.refused.append(f"it connects to {name}, which `outside` does not name")

    def close(self) -> None:
        """End everything. Never raises."""
        self._opened.close()


def _accepted(listeners: Iterable[WorldListener]) -> Iterator[tuple[int, socket.socket]]:
    """Accept all that wait; the address from which one comes has the number of its process."""
    for listener in listeners:
        while True:
            try:
                ours = listener.accept()
            except OSError:
                break
            low, high = ours.getpeername()[0].rpartition(".")[2], ours.getpeername()[0].split(".")[2]
            yield int(high) << 8 | int(low), ours


class _Template(NamedTuple):
    """A process that was started as far as it gets before it speaks to others; None: it cannot be."""

    number: int | None


class _LinesInFile(SentLines):
    """What a process says in a file of the lines from which it sends what, if it is Node or Python."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        file.touch()
        file.chmod(0o666)  # The process may run as another user.
        self._heard = 0
        """How much of it was read."""

    @property
    def environment(self) -> dict[str, str]:
        return {"JOB_HARNESS_LINES": str(self.file)}

    def clear(self) -> None:
        os.truncate(self.file, 0)
        self._heard = 0
        super().clear()

    def place_at(self, key: str) -> str:
        with self.file.open("rb") as file:
            file.seek(self._heard)
            said = file.read()
        self._heard += len(said)
        for line in said.decode("utf-8", "replace").splitlines():
            ends, number, path = line.split(" ", 2)
            name = os.path.basename(path)
            self.files[name], self.places[ends] = path, f"{name}:{number}"
        return super().place_at(key)


class SupervisedProcess(SystemProcess):
    """A process of any program, in a `SupervisedWorld`."""

    def __init__(
        self, name: str, program: Program, endpoint: PasswordEndpoint | None, world: SupervisedWorld, *, order: int
    ) -> None:
        super().__init__(name, program, endpoint, port=HTTP_PORT + order if program.kind.takes_requests else 0)
        self.world = world
        self.number = 0
        """Of its process in the tree; 0: there is none."""
        self.ahead: Duration = 0
        """How far its clock was set off."""
        self._template: _Template | None = None
        self._file = world.folder / f"{order}.log"
        if world.file.tells_lines:
            self.lines = _LinesInFile(world.folder / f"{order}.lines")

    @property
    def alive(self) -> bool:
        return self.number != 0

    def prepare(self) -> None:
        """Start it as far as it gets before it speaks to others, so that each run can go on from there."""
        if self._template is None:
            self._template = _Template(None)
            self._file.touch()
            with self._by_name():
                self._template = _Template(self.world.tree.prepare(**self._command()))

    @contextmanager
    def _by_name(self) -> Iterator[None]:
        """Say of what goes on without end whose start it is."""
        try:
            yield
        except NothingToJudge as error:
            hint = "Does it compute, print or fork without end? Where the machine is slow, raise `ready_seconds`."
            raise NothingToJudge(f"{self.program.kind.place}: {self.name}: {error.message}", hint=hint) from None

    def _command(self) -> dict[str, Any]:
        environment = {
            "HOSTNAME": self.name,
            **self.lines.environment,
            **self.program.environment,
            **self.world.environment,
            **({} if self.endpoint is None else self.endpoint.environment),
            **(REDIS_ENVIRONMENT if self.world.file.redis else {}),
            **(self.world.file.sqs.environment if self.world.file.sqs else {}),
            **({self.program.kind.port_variable: str(self.port)} if self.port else {}),
        }
        command = expanded(self.program.command, environment)
        return {"argv": command, "env": environment, "cwd": self.program.folder, "output": self._file}

    def start(self, *, seed: str, now: Instant, skew: Duration = 0) -> None:
        tree = self.world.tree
        self.life += 1
        os.truncate(self._file, 0)
        self.lines.clear()
        seed = f"{seed} {self.name} {self.life}"
        with self._by_name():
            template = None if self._template is None else self._template.number
            if template is None or now:  # What it had read of the clock by then is long ago.
                self.number = tree.start(**self._command(), seed=seed)
            else:
                self.number = tree.fork(template, seed=seed)
        self._begin(tree.pids[self.number])
        self.ahead, self.stirred = 0, True

    def kill(self) -> None:
        """End it and whatever it has started at once, as a power cut would."""
        if self.number:
            self._read()
            self.world.tree.sever(self.number)
        self.forget()
        super().kill()

    def forget(self) -> None:
        """Take note that it has ended."""
        self.number = 0

    def take_end(self) -> ProcessEnded | None:
        """Say how it ended, where it did by itself, and end what it has started."""
        tree = self.world.tree
        if not self.alive or not (self.number in tree.exits or self.gone):
            return None
        code = tree.exits.get(self.number, 0)
        self._read()
        how = f"its process was ended by signal {code - 128}" if code > 128 else f"its process ended with code {code}"
        tree.sever(self.number)
        self.forget()
        return ProcessEnded(self.gone or how, code=-(code - 128) if code > 128 else code)

    def signal_stop(self) -> None:
        """Send SIGTERM, if it was asked for."""
        if self._to_be_told:
            self._stop = StopRequest.TOLD
            self.world.tree.signal(self.number, SIGTERM)

    def connect(self) -> socket.socket:
        return self.world.connect(self.port)

    def _read(self) -> None:
        with self._file.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LARGEST_OUTPUT))
            lines = file.read().decode("utf-8", "replace").splitlines()
        if size > LARGEST_OUTPUT:
            os.truncate(self._file, 0)
        self.output.lines.clear()
        for line in lines:
            self.output.take(line)

    @property
    def printed(self) -> ProcessOutput:
        if self.number:
            self._read()
        return self.output

    def fire(self, timer: ProcessTimer, *, now: Instant, skew: Duration = 0) -> None:
        self.stirred = True
        self.world.tree.fire(timer.number)

    def see(self) -> None:
        """Take note of what it waits for, once the tree is at rest."""
        self._rest(
            ProcessTimer(each.wait, _after(each.until), round(each.asked * MILLISECOND), repeats=False, place=_PLACE)
            for each in self.world.tree.sleeps
            if each.process == self.number
        )


def _moment_of(instant: Instant) -> int:
    """Return the microsecond since 1970 that an instant is in the tree."""
    return int(exact_milliseconds_of(0)) * 1000 + instant


def _after(milliseconds: float) -> Instant:
    """Return the first whole instant that is not before a moment of the tree."""
    instant = instant_at(milliseconds)
    return instant if exact_milliseconds_of(instant) >= milliseconds else instant + 1


class SupervisedGroup(ProcessGroup[SupervisedProcess]):
    """Processes in a `SupervisedWorld`: they act in its turns, and are at rest in between."""

    def __init__(
        self,
        file: SystemFile,
        stores: SystemStores,
        processes: Sequence[SupervisedProcess],
        *,
        clocks: Clocks,
        world: SupervisedWorld,
    ) -> None:
        super().__init__(file, stores, processes, clocks=clocks)
        self._world = world
        self._came: dict[StoreSession, Instant] = {}
        """When what a session was asked last came, where that was while time passed."""
        for process in processes:
            process.prepare()
            process.forget()
        world.tree.reset(exact_milliseconds_of(0))

    def _living(self) -> list[SupervisedProcess]:
        return [each for each in self.processes.values() if each.alive]

    def tell_time(self, process: SystemProcess) -> None:
        """It knows what time it is: the tree has one clock."""

    def pause(self, name: str) -> None:
        if (process := self.processes[name]).alive:
            self._world.tree.pause(process.number)

    def resume(self, name: str) -> None:
        if (process := self.processes[name]).alive:
            self._world.tree.resume(process.number)

    # what happens in silence --------------------------------------------------------------------------------------

    def due_inside(self, standing: Collection[Any]) -> Instant | None:
        tree = self._world.tree
        # What was done to its connections a process has yet to hear, however long it would have slept.
        due = tree.moment if tree.touched or self._is_news(standing) else tree.due
        if due is None:
            return None
        # In whole milliseconds: how often a runtime reads the clock, which moves it, may differ between runs.
        at = -((_moment_of(0) - due) // MILLISECOND) * MILLISECOND
        return max(at, self.now)

    def let_pass(
        self, until: Instant, standing: Collection[Any], repeats: Callable[[StoreSession, Instant], bool]
    ) -> bool:
        if self._is_news(standing):
            return False
        tree = self._world.tree
        tree.move_to(_moment_of(until))
        while self._answer_again(repeats):
            if self._is_news(standing):
                tree.run()
            else:  # What was answered is handled first, and then time goes on: one turn does both.
                tree.move_to(_moment_of(until))
        return True

    def _answer_again(self, repeats: Callable[[StoreSession, Instant], bool]) -> bool:
        """Give what found nothing before the same answer: that is no event of the run. True: something was answered."""
        tree = self._world.tree
        found = {descriptor for descriptor, _ in tree.watched.poll(0)}
        answered = False
        for session in (each for process in self._living() for each in talks_of(process)):
            if not session.closed and session.descriptor in found:
                session.arrive()
                moment = tree.moment - _moment_of(0)
                if repeats(session, moment):
                    session.answer_again()
                    answered = True
                else:
                    self._came[session] = moment
        return answered

    def _is_news(self, standing: Collection[Any]) -> bool:
        """Whether a process has said something that was not heard, or has ended."""
        tree, living = self._world.tree, self._living()
        if tree.watched.poll(0) or any(each.number in tree.exits for each in living):
            return True
        sessions = (session for each in living for session in talks_of(each))
        return any(session.pending and session not in standing for session in sessions)

    def remember(self, session: StoreSession, batch: Any, change: int, came: Instant) -> None:
        session.remember(batch, change=change, at=min(came, self._came.pop(session, came)))

    # turns --------------------------------------------------------------------------------------------------------

    def quiesce(self) -> None:
        """Give the tree turns until it says nothing more. Raises EndedByItself for a process that ended."""
        tree, living = self._world.tree, self._living()
        for process in living:
            if process.ahead != (ahead := self.skew(process)):
                tree.shift(process.number, offset=ahead / MILLISECOND)
                process.ahead = ahead
            process.signal_stop()
        while True:
            try:
                tree.move_to(_moment_of(self.now))
            except NothingToJudge:
                if not tree.spinning:
                    raise
            if tree.spinning:
                raise self._spins()
            for process in living:
                if (ended := process.take_end()) is not None:
                    raise EndedByItself(process, str(ended), ended.code)
            if not self._hear(living):
                break
        for process in living:
            process.see()

    def _spins(self) -> NothingToJudge:
        """Say which process computes without end, or long enough for its run not to reproduce."""
        process = next((each for each in self._living() if each.number == self._world.tree.spinning), None)
        name, place = (process.name, process.program.kind.place) if process else ("a process", self.file.path)
        return NothingToJudge(
            f"{place}: {name} computes without a call that lets others go on: how far it gets is not under control",
            hint="Does it loop until another thread is done? Then let it wait, or sleep, in between.",
        )

    def _hear(self, living: Sequence[SupervisedProcess]) -> bool:
        """Take what processes say. True: there was something."""
        if not self._world.tree.watched.poll(0):
            return False
        self._world.look_up()
        by_number = {process.number: process for process in living}
        for number, ours in self._world.calls():
            if number in by_number:
                self.take_call(by_number[number], ours)
            else:
                ours.close()
        heard = self._open_links(by_number)
        found = {descriptor for descriptor, _ in self._world.tree.watched.poll(0)}
        for process in living:
            hears = process.hears()
            for descriptor in [each for each in hears if each in found]:
                hears[descriptor]()
                heard = True
            refuse_garbled(process)
        if self._world.refused:
            refused, self._world.refused = self._world.refused, []
            raise SystemFileError(
                f"{self.file.path}: {refused[0]}",
                hint="Name the host under `outside`, or switch that off by a variable under `env`.",
            )
        return heard

    def _open_links(self, by_number: Mapping[int, SupervisedProcess]) -> bool:
        """Take the connections to stores, which may be away. True: there was one."""
        heard = False
        for store, number, ours in self._world.store_connections():
            process, heard = by_number.get(number), True
            if process is None or self.away_until > self.now:
                ours.close()
            else:
                process.links.append(self.meetings[store].link(ours, process))
        return heard


def supervised_processes(
    file: SystemFile, stores: SystemStores, workers: Sequence[str], world: SupervisedWorld
) -> list[SupervisedProcess]:
    """Make the processes of a file in a world; its workers have these names."""
    programs = programs_of(file)
    made: list[SupervisedProcess] = []
    for kind in file.processes:
        for name in workers[: kind.instances] if kind.instances else (kind.name,):
            database = stores.database
            endpoint = (
                None
                if database is None
                else PasswordEndpoint(
                    name,
                    database.pool,
                    kind=DatabaseSession,
                    backends=database.backends,
                    called=file.database,
                    replica=database.replica,
                    listener=world.listen(DATABASE_PORT + len(made)),
                )
            )
            made.append(SupervisedProcess(name, programs[kind.name], endpoint, world, order=len(made)))
    return made
