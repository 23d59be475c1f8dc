"""The processes of one run: they are served until all of them are at rest, and then stand still.

Must not know: gates, what a job is, how rows are read.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from job_harness.core.model import Duration, Instant
from job_harness.core.sim import Clocks
from job_harness.subjects.systems.document import SystemFile, SystemFileError
from job_harness.subjects.systems.http_wire import LARGEST
from job_harness.subjects.systems.process import PreloadedProcess, ProcessEnded, SystemProcess
from job_harness.subjects.systems.store_links import StoreSession
from job_harness.subjects.systems.stores import SystemStores
from job_harness.subjects.systems.traffic import HttpLink, OutsideCall
from job_harness.worlds.patience import Deadline, ready
from job_harness.worlds.peers.peer import end_orphans
from job_harness.worlds.wire.database import timestamp_of
from job_harness.worlds.wire.proxy import Timekeeper

_SELECT_SECONDS: Final = 0.05


class EndedByItself(Exception):
    """A process ended by itself while the others came to rest."""

    def __init__(self, process: SystemProcess, message: str, code: int) -> None:
        super().__init__(message)
        self.process = process
        self.code = code

    @property
    def allowed(self) -> bool:
        """Whether the file says that it may end so."""
        return self.code == 0 and self.process.program.kind.ends


class ProcessTime(Timekeeper):
    """The clocks of the database and of one process."""

    def __init__(self, group: ProcessGroup[Any], process: SystemProcess) -> None:
        self._group = group
        self._process = process

    def before_request(self, at: Instant) -> datetime:
        self._group.stores.set_now(self._group.clocks.store())
        return timestamp_of(at)

    def before_reply(self) -> None:
        self._group.tell_time(self._process)


Member = TypeVar("Member", bound=SystemProcess)


class ProcessGroup(Generic[Member]):
    """All processes of a run, on the time that it says: what is the same wherever they live."""

    def __init__(self, file: SystemFile, stores: SystemStores, processes: Sequence[Member], *, clocks: Clocks) -> None:
        self.file = file
        self.stores = stores
        self.meetings = stores.meetings(clocks)
        """By store but for the database, where their connections to it meet."""
        self.away_until: Instant = 0
        """Until then no process reaches a store over a new connection."""
        self.clocks = clocks
        self.processes = {process.name: process for process in processes}
        self.now: Instant = 0
        """What time it is for them."""
        self.calls: dict[str, list[OutsideCall]] = {name: [] for name in self.processes}
        """Their calls to the outside that are not over."""
        self._started = tuple(processes)

    def skew(self, process: SystemProcess) -> Duration:
        """Tell how far a process's clock is ahead."""
        return self.clocks.of(process.name) - self.clocks.now

    def start(self, process: SystemProcess) -> None:
        """Start a process; it is not ready yet."""
        process.start(seed=self.file.system, now=self.now, skew=self.skew(process))

    def quiesce(self) -> None:
        """Serve the processes until none of them can do anything by itself. Raises EndedByItself for one that ended."""
        raise NotImplementedError

    def tell_time(self, process: SystemProcess) -> None:
        """Tell a process what time it is before something reaches it: what it does then begins at this instant."""
        raise NotImplementedError

    def take_call(self, process: SystemProcess, ours: socket.socket) -> None:
        """Take a call of a process to the outside."""
        call = OutsideCall(ours, ProcessTime(self, process))
        process.links.append(call)
        self.calls[process.name].append(call)

    def pause(self, name: str) -> None:
        """Let nothing of a process go on."""

    def resume(self, name: str) -> None:
        """Let a paused process go on."""

    def due_inside(self, standing: Collection[Any]) -> Instant | None:
        """Tell when something is due among them that is no timer; the sessions of `standing` stand at gates already."""
        return None

    def let_pass(
        self, until: Instant, standing: Collection[Any], repeats: Callable[[StoreSession, Instant], bool]
    ) -> bool:
        """Let time pass among them; what `repeats` a statement that found nothing has the same answer, at no gate.

        False: they have said something that was not heard.
        """
        return False

    def remember(self, session: StoreSession, batch: Any, change: int, came: Instant) -> None:
        """Remember what a statement or a command found while nothing changed it.

        `came` is when it came to its gate: a time that it has in it is no later, however long it stood there.
        """

    def close(self) -> None:
        """End every process, and what it had open. Never raises."""
        for process in self._started:
            process.kill()


class PreloadedGroup(ProcessGroup[PreloadedProcess]):
    """Processes that load our preload: each says itself when it is at rest."""

    def quiesce(self) -> None:
        deadline = Deadline(self.file.ready_seconds)
        for process in self.processes.values():
            if process.alive and process.stirred:
                process.go_on(now=self.now, skew=self.skew(process))
        while moving := self._moving():
            self._listen(moving)
            if deadline.passed:
                raise moving[0].overdue(deadline.seconds)

    def _moving(self) -> list[PreloadedProcess]:
        """List the processes that are not at rest, and let them go on."""
        moving = []
        for process in self.processes.values():
            if not process.alive or not process.stirred:
                continue
            try:
                rests = process.rests()
            except ProcessEnded as ended:
                raise EndedByItself(process, str(ended), ended.code) from None
            if not rests:
                process.go_on(now=self.now, skew=self.skew(process))
                moving.append(process)
        return moving

    def _listen(self, moving: Sequence[PreloadedProcess]) -> None:
        """Take what processes send, for a moment."""
        if any(process.gone for process in moving):
            return  # It ended before it could be told to go on: that is to be dealt with first.
        hears: dict[int, Callable[[], object]] = {}
        for process in moving:
            hears[process.channel.descriptor] = _nothing
            hears[process.outside.fileno()] = lambda process=process: self._accept_call(process)  # type: ignore[misc]
            hears |= process.hears()
        for descriptor in ready(hears, seconds=_SELECT_SECONDS)[0]:
            hears[descriptor]()
        for process in moving:
            refuse_garbled(process)

    def _accept_call(self, process: PreloadedProcess) -> None:
        self.take_call(process, process.outside.accept()[0])

    def tell_time(self, process: SystemProcess) -> None:
        assert isinstance(process, PreloadedProcess)
        if process.alive and not process.stirred and process.told != (self.now, self.skew(process)):
            process.go_on(now=self.now, skew=self.skew(process))
            try:
                self.quiesce()
            except EndedByItself as ended:
                ended.process.ended(str(ended))

    def close(self) -> None:
        """End every process, what it had open, and what has left it, as a daemon does. Never raises."""
        super().close()
        ways = (process.endpoint for process in self._started if process.endpoint is not None)
        end_orphans(f"DATABASE_URL={way.environment['DATABASE_URL']}" for way in ways)


def _nothing() -> None:
    """The peer's own channel is read by `rests`."""


def refuse_garbled(process: SystemProcess) -> None:
    """Raise SystemFileError if a process sent something other than HTTP: it would wait forever for an answer."""
    for link in process.links:
        if isinstance(link, HttpLink) and link.problem and not link.closed:
            raise SystemFileError(
                f"{process.program.kind.place}: {process.name} sends what is not HTTP/1.1: {link.problem}",
                hint=f"Requests, answers and calls to `outside` are HTTP/1.1 messages of at most {LARGEST >> 20} MiB.",
            )
