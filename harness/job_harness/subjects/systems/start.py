"""How the processes of a run get ready: one statement at a time, at no gate.

Must not know: the kernel, jobs, what a statement means.
"""

from __future__ import annotations

import socket
from collections.abc import Generator, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final

import psycopg

from job_harness.core.sim import Frame, Poll, Wait
from job_harness.subjects.systems.document import SystemFileError
from job_harness.subjects.systems.group import EndedByItself, ProcessGroup, ProcessTime
from job_harness.subjects.systems.http_wire import HttpMessage
from job_harness.subjects.systems.http_wire import request as http_request
from job_harness.subjects.systems.process import SystemProcess
from job_harness.subjects.systems.store_links import StoreSession, talks_of
from job_harness.subjects.systems.traffic import ProcessRequest
from job_harness.worlds.patience import Deadline
from job_harness.worlds.postgres.gating import SessionCoordinator

LISTENS_SECONDS: Final = 2.0
"""Real seconds for which a process that is idle may not listen yet."""


class PassingStatement:
    """A statement of a process that is not ready yet: it passes every gate, and waits for locks alone."""

    def __init__(self, session: StoreSession, process: SystemProcess, group: ProcessGroup[Any]) -> None:
        self.session = session
        self.batch: Any = session.pending[0]
        self._process = process
        self._group = group
        self._steps: Iterator[Any] = session.carry_out().__await__()
        self._waits: Wait | Poll | None = None

    def goes_on(self) -> bool:
        """Let it go as far as it gets. True: it is through."""
        while self.answered:
            self._waits = None
            try:
                request = next(self._steps)
            except StopIteration:
                break
            except (psycopg.Error, OSError):
                self.session.close()
                break
            if type(request) is Wait or type(request) is Poll:
                self._waits = request
        else:
            return False
        self._process.stirred = True
        return True

    @property
    def answered(self) -> bool:
        """Whether what it waits for is there."""
        if isinstance(self._waits, Poll):
            due = self._waits.due()
            return due is not None and due <= self._group.now
        return self._waits is None or self._waits.answered()

    def rest(self) -> Frame:
        """Return the steps that are left, from the lock on that it waits for."""
        if self._waits is not None:
            yield self._waits
        yield from self._steps


class Start:
    """Brings processes to where each is at rest and says that it is ready."""

    # A start stands at no gate: orders among starts would multiply every search, and a system
    # that is not ready yet has no jobs to get wrong. So its statements pass one at a time, in
    # the order of the processes, and each start is the same. It cannot wait for all of them,
    # though: a worker that is started again in the middle of a run may want a lock which
    # another process keeps until its own next gate. Such a statement stays in flight and
    # stands in the run like any other (`take_over`).

    def __init__(self, group: ProcessGroup[Any], coordinator: SessionCoordinator | None) -> None:
        self._group = group
        self._coordinator = coordinator
        self._locked: list[PassingStatement] = []
        """Statements that wait for locks, before they stand in the run."""
        self._over: set[str] = set()
        """Processes that had ended, as they may, before the run began."""

    def get_ready(self, processes: Sequence[SystemProcess]) -> Iterator[PassingStatement]:
        """Bring these there, and yield each statement that passes. Raises SystemFileError where one does not get there.

        They act one at a time, in the order of the processes: so the start is the same in each run.
        A statement that waits for a lock which another process keeps goes on waiting in the run:
        the start would have no end.
        """
        waiting, self._locked = self._locked, []
        while True:
            self._quiesce()
            through = next((each for each in waiting if each.goes_on()), None)  # The others are not to be moved on.
            if through is not None:
                waiting.remove(through)
                yield through
            elif (session := next(self._startable(processes, waiting), None)) is not None:
                passing = self._passing(session)
                if passing.goes_on():
                    yield passing
                else:
                    waiting.append(passing)
            elif not waiting or not self._lets_go(waiting):
                break
        self._locked = waiting
        for process in processes:
            if process.alive and not process.ready:
                yield from self._ask_whether_ready(process)

    def _quiesce(self) -> None:
        while True:
            try:
                self._group.quiesce()
            except EndedByItself as ended:
                if not ended.allowed:
                    raise not_ready(ended.process, str(ended)) from None
                ended.process.kill()
                self._over.add(ended.process.name)
            else:
                return

    @staticmethod
    def _startable(processes: Sequence[SystemProcess], waiting: Sequence[PassingStatement]) -> Iterator[StoreSession]:
        """Yield the sessions over which something was sent that is not under way yet."""
        under_way = {id(each.session) for each in waiting}
        for process in processes:
            yield from (each for each in talks_of(process) if each.pending and id(each) not in under_way)

    def _lets_go(self, waiting: Sequence[PassingStatement]) -> bool:
        """Whether PostgreSQL has answered one of these by now; the others wait for locks that another process keeps."""
        if self._coordinator is not None:
            self._coordinator.come_to_rest()
        return any(each.answered for each in waiting)

    def _passing(self, session: StoreSession) -> PassingStatement:
        process = self._group.processes[session.actor]
        session.timekeeper = ProcessTime(self._group, process)
        return PassingStatement(session, process, self._group)

    def _ask_whether_ready(self, process: SystemProcess) -> Iterator[PassingStatement]:
        kind = process.program.kind
        process.ready = True
        if not kind.ready:
            return
        asked = http_request("GET", kind.ready, host="localhost", headers={})
        try:
            message = yield from self.ask(process, asked)
        except OSError:
            told = f"it is idle, but does not listen on the port that {kind.port_variable} names"
            raise not_ready(process, told) from None
        status = 0 if message is None else message.status
        # Who answers 404 to / has no such page; 501 comes of a server that takes nothing but POST.
        listens = kind.ready == "/" and (300 <= status < 500 or status == HTTPStatus.NOT_IMPLEMENTED)
        if not (listens or 200 <= status < 300):
            answered = "nothing" if message is None else f"{status}"
            raise not_ready(process, f"it answers GET {kind.ready} with {answered}")

    def ask(self, process: SystemProcess, data: bytes) -> Generator[PassingStatement, None, HttpMessage | None]:
        """Send a request outside of any run; None where no answer comes by itself.

        Raises OSError where the process does not listen, SystemFileError where one ends meanwhile.
        """
        sent = ProcessRequest.sent_over(self._connect(process), data)
        process.links.append(sent)
        process.stirred = True
        yield from self.get_ready([process])
        return sent.message

    def _connect(self, process: SystemProcess) -> socket.socket:
        """Connect to where it listens. On a busy machine it may look idle a moment before, and is asked again."""
        patience = Deadline(LISTENS_SECONDS)
        while True:
            try:
                return process.connect()
            except OSError:
                if patience.passed:
                    raise
            patience.pause(0.02)
            process.stirred = True
            self._quiesce()

    def is_over(self, name: str) -> bool:
        """Whether a process had ended, as it may, before the run began; it is said once."""
        over = name in self._over
        self._over.discard(name)
        return over

    def take_over(self, name: str) -> PassingStatement | None:
        """Return what a process waits for since its start, to stand in the run from here on."""
        found = next((each for each in self._locked if each.session.actor == name), None)
        if found is not None:
            self._locked.remove(found)
        return found

    def sever(self, name: str) -> None:
        """Forget what a process waits for."""
        self._locked = [each for each in self._locked if each.session.actor != name]


def not_ready(process: SystemProcess, message: str) -> SystemFileError:
    """Say that a process did not become ready, and what it printed last."""
    tail = process.printed.tail
    told = "\n".join(filter(str.strip, message.splitlines()))
    ready = process.program.kind.ready
    asked = f"It is first sent GET {ready}, without a body, and has to answer 2xx. " if ready else ""
    said = f"; it last said:\n{tail}" if tail and tail not in told else ""
    return SystemFileError(
        f"{process.program.kind.place}: {process.name} did not become ready: {message}{said}",
        hint=f"{asked}Does it start by itself? {' '.join(process.program.kind.command)}",
    )
