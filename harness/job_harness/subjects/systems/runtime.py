"""The processes of one run: a carrier of the kernel, which brings them from gate to gate.

Processes act by themselves: they react to what reaches them, and send what they want over their connections. What
arrives here stands at a gate of its process, in the order of (process, connection), never of sockets; and nothing is
chosen before all processes are quiet. Time is theirs when the kernel says so: a timer that is due is a gate as well.
Must not know: what a job is, how rows are read.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import psycopg

from job_harness.core.model.duration import MINUTE, SECOND, Duration, Instant, format_duration
from job_harness.core.port import Sent
from job_harness.core.sim.actor import Actor
from job_harness.core.sim.clock import STORE, Clocks
from job_harness.core.sim.kernel import Kernel
from job_harness.core.sim.request import Elsewhere, Frame, Point, Request, Sleep, Wait
from job_harness.errors import EnvironmentUnavailable, Hung
from job_harness.subjects.systems.database import SystemDatabase
from job_harness.subjects.systems.document import SystemFile, SystemFileError
from job_harness.subjects.systems.http_wire import LARGEST, HttpMessage
from job_harness.subjects.systems.http_wire import request as http_request
from job_harness.subjects.systems.process import ProcessEnded, ProcessTimer, SystemProcess, programs_of
from job_harness.subjects.systems.traffic import DatabaseSession, HttpLink, OutsideCall, ProcessRequest, Tag
from job_harness.worlds.patience import Deadline, ready
from job_harness.worlds.peers.peer import end_orphans
from job_harness.worlds.postgres.gating import SessionCoordinator
from job_harness.worlds.sql import changed_tables, point_of
from job_harness.worlds.wire.database import timestamp_of
from job_harness.worlds.wire.postgres_messages import Batch
from job_harness.worlds.wire.postgres_proxy import PasswordEndpoint

RESTART: Final[Duration] = 5 * SECOND
"""How long a platform takes to bring a process back that died of itself."""
RESTARTS: Final = 3
"""How often it does."""
TURNED_AWAY: Final = 3
"""After that many rounds in a row that ended at an upkeep, the next one is taken to end there too."""
_AT_WORK: Final = Elsewhere()
_GOING_ON: Final = Point("going on")
_SELECT_SECONDS: Final = 0.05


# rounds of a loop that found nothing ----------------------------------------------------------------------------------


Said: TypeAlias = tuple[str, tuple[Tag, ...]]
"""A statement, and what it did."""


@dataclass(slots=True)
class Round:
    """What a timer's firing came to, until its process is quiet again."""

    timer: ProcessTimer
    fired_at: Instant
    said: list[Said] = field(default_factory=list)
    wrote: list[str] = field(default_factory=list)
    """Those statements that wrote something."""
    called: bool = False
    """Whether more than statements came of it."""
    beside: int = 0
    """How often others had changed something when it began: what they change later it may have missed."""
    others: frozenset[int] = frozenset()
    """The timers of other loops, by number: those that were set when it began."""


class LastRound(NamedTuple):
    """What is known of the round that set a timer, or fired it last.

    It is kept for each timer. Two loops may be alike, such as those of a library that polls two queues: what one of
    them has looked at, the other has not.
    """

    idle_at: int
    """The change of the system since which it has found nothing."""
    fired_at: Instant
    upkeep: bool
    """Whether it wrote down that it was there."""


@dataclass(slots=True)
class Rounds:
    """What is known of the rounds of loops that are alike, in one process."""

    mute: bool = True
    """Whether none of them has said anything or set its timer again, as where a pool closes an idle connection."""
    looked: tuple[int, Instant] = (-1, 0)
    """Up to which change, and when, a round has looked at everything and found nothing."""
    turned_away: int = 0
    """How many rounds in a row were over at an upkeep that was not due again yet: they looked at nothing."""


class ProcessEnd(NamedTuple):
    """How a process ended that was not killed by the run."""

    code: int
    words: str
    """How it ended, and what it printed last."""
    told: bool
    """Whether it had been told to stop."""
    back: bool
    """Whether it comes back: a platform restarts what fails, a few times."""


# the run --------------------------------------------------------------------------------------------------------------


class SystemRun:
    """All processes of a system, from their first start to the end of a run; it is a `Carrier`."""

    scheduled = True

    def __init__(
        self,
        file: SystemFile,
        database: SystemDatabase,
        processes: Sequence[SystemProcess],
        *,
        clocks: Clocks,
    ) -> None:
        """Take the processes that are to be at work; they start with `start`."""
        self.file = file
        self.database = database
        self.processes = {process.name: process for process in processes}
        self._started = tuple(processes)
        self.clocks = clocks
        self.coordinator = SessionCoordinator(database.pool, clock=clocks.store, patience_seconds=file.ready_seconds)
        self.kernel: Kernel | None = None
        self.changes = 0
        """How often something happened on which a round of a loop may depend."""
        self.on_statement: Callable[[Sent], None] = lambda sent: None
        """Told of every statement that has ended."""
        self.on_call: Callable[[SystemProcess, OutsideCall], Generator[Request, Any, None]] | None = None
        """Sees to a call to the outside."""
        self.on_aborted: Callable[[SystemProcess, OutsideCall], None] = lambda process, call: None
        """Told of a call that its process gave up."""
        self.on_end: Callable[[SystemProcess, ProcessEnd], None] = lambda process, end: None
        """Told of a process that ended by itself."""
        self.next_instant: Callable[[Instant], Instant | None] = lambda after: None
        """Tells when time alone changes what a statement sees, after an instant."""
        self.writes = 0
        """How many statements may have changed a row."""
        self.writer = ""
        """Which process sent the last of these; empty for a client."""
        self.listening = False
        """Whether some session listens for notifications."""
        self._changed_by = dict.fromkeys(self.processes, 0)
        self._tasks: dict[str, dict[_ProcessTask, None]] = {name: {} for name in self.processes}
        self._held: set[str] = set()
        self._requests: list[SentRequest] = []
        self._calls: dict[str, list[OutsideCall]] = {name: [] for name in self.processes}
        self._rounds: dict[str, dict[tuple[str, Duration, bool], Rounds]] = {name: {} for name in self.processes}
        self._last: dict[str, dict[int, LastRound]] = {name: {} for name in self.processes}
        """By process and number of a timer."""
        self._heard: dict[str, set[Said]] = {name: set() for name in self.processes}
        """What each process has said in rounds before."""
        self._open: dict[str, Round] = {}
        self._upkeep: dict[tuple[str, int], Instant] = {}
        """By process and timer, when an upkeep has to be done that would be left out otherwise."""
        self._now: Instant = 0
        self._steady = self._steady_clocks()
        self._settling = False
        self._deaths: dict[str, int] = {}
        self._over: set[str] = set()
        """Processes that had ended, as they may, before the run began."""
        self._locked: list[_Passing] = []
        """Statements of a start that wait for locks, before they stand in the run."""
        for process in processes:
            process.life = 0
            process.endpoint.database = database.name
            process.endpoint.join(self.coordinator, process.name)

    # the start --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all processes and wait until each is ready. Raises SystemFileError where one is not."""
        for process in self.processes.values():
            process.start(seed=self.file.system, now=self._now)
        self._get_ready(list(self.processes.values()))

    def _get_ready(self, processes: Sequence[SystemProcess]) -> None:
        """Let statements pass at no gate until each of these is at rest and says that it is ready.

        They act one at a time, in the order of the processes: so the start is the same in each run. A statement that
        waits for a lock which another process keeps goes on waiting in the run: the start would have no end.
        """
        # A start stands at no gate: orders among starts would multiply every search, and a system
        # that is not ready yet has no jobs to get wrong. So its statements pass one at a time, in
        # the order of the processes, and each start is the same. It cannot wait for all of them,
        # though: a worker that is started again in the middle of a run may want a lock which
        # another process keeps until its own next gate. Such a statement stays in flight and
        # stands in the run like any other (`_locked`).
        waiting, self._locked = self._locked, []
        while True:
            try:
                self._quiesce()
            except _Ended as ended:
                if not ended.allowed:
                    raise self._not_ready(ended.process, str(ended)) from None
                ended.process.kill()
                self._over.add(ended.process.name)
                continue
            through = next((each for each in waiting if each.goes_on()), None)  # The others are not to be moved on.
            if through is not None:
                waiting.remove(through)
                self._passed(through)
            else:
                session = next(
                    (
                        session
                        for process in processes
                        for session in _sessions(process)
                        if session.pending and not any(each.session is session for each in waiting)
                    ),
                    None,
                )
                if session is not None:
                    passing = self._passing(session)
                    if passing.goes_on():
                        self._passed(passing)
                    else:
                        waiting.append(passing)
                elif waiting and self._lets_go(waiting):
                    continue
                else:
                    break
        self._locked = waiting
        for process in processes:
            if process.alive and not process.ready:
                self._ask_whether_ready(process)

    def _lets_go(self, waiting: Sequence[_Passing]) -> bool:
        """Whether PostgreSQL has answered one of these by now; the others wait for locks that another process keeps."""
        self.coordinator.settle()
        return any(each.answered for each in waiting)

    def _passing(self, session: DatabaseSession) -> _Passing:
        session.clock = self._set_clock
        session.resumes = partial(self._tell_time, self.processes[session.actor])
        return _Passing(session, self.processes[session.actor])

    def _passed(self, passing: _Passing) -> None:
        """Take note of what a statement did at the start of a process: that may be the work of its first round."""
        session, sql = passing.session, passing.batch.sql
        tags = session.told()
        counts_as = session.counts_as(sql, "", tags)
        ends = any(tag.writes or tag.startswith("COMMIT") for tag in tags) or (not sql and counts_as.sql != "")
        wrote = session.idle and ends
        session.wrote = None
        self._wrote(session.actor, wrote)
        self._listens(passing.batch)
        if wrote:
            self.change(session.actor)
        if wrote and self.kernel is not None:
            self.on_statement(counts_as)

    def _ask_whether_ready(self, process: SystemProcess) -> None:
        kind = process.program.kind
        process.ready = True
        if not kind.ready:
            return
        asked = http_request("GET", kind.ready, host="localhost", headers={})
        try:
            message = self.ask_at_rest(process, asked)
        except OSError:
            told = f"it is idle, but does not listen at the port that {kind.port_variable} names"
            raise self._not_ready(process, told) from None
        if message is None or not 200 <= message.status < 300:
            answered = "nothing" if message is None else f"{message.status}"
            raise self._not_ready(process, f"it answers GET {kind.ready} with {answered}")

    def ask_at_rest(self, process: SystemProcess, data: bytes) -> HttpMessage | None:
        """Send a request outside of any run, at no gate; None where no answer comes by itself.

        Raises OSError where the process does not listen, SystemFileError where one ends meanwhile.
        """
        sent = ProcessRequest.sent_to(process.port, data)
        process.links.append(sent)
        process.stirred = True
        self._get_ready([process])
        return sent.message

    def _not_ready(self, process: SystemProcess, message: str) -> SystemFileError:
        tail = process.tail
        told = "\n".join(filter(str.strip, message.splitlines()))
        said = f"; it last said:\n{tail}" if tail and tail not in told else ""
        return SystemFileError(
            f"{process.program.kind.place}: {process.name} did not become ready: {message}{said}",
            hint=f"Does it start by itself? {' '.join(process.program.kind.command)}",
        )

    # actors -----------------------------------------------------------------------------------------------------------

    def join(self, kernel: Kernel) -> None:
        """Become a carrier of this kernel, and let every process be an actor of it."""
        if self.kernel is None:
            self.kernel = kernel
            kernel.carriers.append(self)

    def life(self, name: str) -> Callable[[], Frame]:
        """Return what the kernel calls to start a process, again after each crash."""
        return lambda: self._life(self.processes[name])

    def _life(self, process: SystemProcess) -> Frame:
        kernel = self.kernel
        assert kernel is not None
        actor = kernel.actors[process.name]
        self.let_go(actor)  # What was paused was its restart.
        if process.name in self._over:
            self._over.discard(process.name)
            return
        while not process.alive:
            process.start(seed=self.file.system, now=self._now, skew=self._skew(process))
            self.change()
            try:
                self._get_ready([process])
            except SystemFileError as error:
                process.kill()
                self.on_end(process, ProcessEnd(1, error.message, told=False, back=True))
                yield Sleep(RESTART, "restarting")
        while True:
            yield _AT_WORK
            while kernel.rejoin(actor):
                yield _GOING_ON
            self.let_go(actor)

    def _skew(self, process: SystemProcess) -> Duration:
        return self.clocks.of(process.name) - self.clocks.now

    def tasks(self, actor: Actor) -> Sequence[Actor]:
        """List what of a process stands at gates, in the order in which it came."""
        return list(self._tasks[actor.name])

    def held(self, actor: Actor) -> None:
        """Let nothing of a process go on until `let_go`."""
        self._held.add(actor.name)

    def let_go(self, actor: Actor) -> None:
        """Let a held process go on."""
        self._held.discard(actor.name)

    def severed(self, actor: Actor) -> None:
        """Kill a process: its connections break, and what it had open in the database is undone."""
        process = self.processes[actor.name]
        self._held.discard(actor.name)
        self._open.pop(actor.name, None)
        self._upkeep = {key: at for key, at in self._upkeep.items() if key[0] != actor.name}
        self._rounds[actor.name].clear()
        self._last[actor.name].clear()
        self._heard[actor.name].clear()
        tasks, self._tasks[actor.name] = self._tasks[actor.name], {}
        self._locked = [each for each in self._locked if each.session.actor != actor.name]
        drop = self.coordinator.sever(actor.name)
        if process.peer is not None:
            process.peer.kill()
        drop()
        process.kill()
        for task in tasks:
            task.end()
        for call in self._calls[actor.name]:
            call.close()
        self._calls[actor.name].clear()
        self.change()

    def terminate(self, name: str) -> None:
        """Tell a process to stop."""
        self.processes[name].terminate()

    # requests to processes --------------------------------------------------------------------------------------------

    def ask(self, name: str, data: bytes, actor: Callable[[], Actor]) -> Generator[Request, Any, SentRequest]:
        """Send a request to a process, and stand aside until it is answered, or never will be."""
        process = self.processes[name]
        sent = SentRequest(actor(), name, data, began=self.changes)
        if process.alive:
            self._requests.append(sent)
            yield sent.waits
        sent.saw = self.changes if self.changes == sent.began + sent.own else sent.began
        return sent

    # what changed -----------------------------------------------------------------------------------------------------

    def change(self, by: str = "") -> None:
        """Note that something happened on which a round of a loop may depend, and which process did it, if one did."""
        self.changes += 1
        if by:
            self._changed_by[by] += 1
            served = [sent for sent in self._requests if sent.name == by and sent.link is not None]
            if len(served) == 1:  # Which of two was at work, and whether the other has seen it, is not known.
                served[0].own += 1

    def _beside(self, process: SystemProcess) -> int:
        """Count what was changed by others than this process."""
        return self.changes - self._changed_by[process.name]

    # settling ---------------------------------------------------------------------------------------------------------

    def next_wake(self) -> Instant | None:
        """Tell when the next timer of a process is due; rounds that would find nothing are left out."""
        wakes: list[Instant] = []
        mute: list[Instant] = []
        """Those before which no upkeep is due: nothing looks for it then, and each upkeep may set such a timer anew."""
        upkeep: list[tuple[SystemProcess, ProcessTimer]] = []
        for process in self._at_work():
            for timer in process.timers:
                wake = self._due(process, timer)
                known = self._rounds[process.name].get(timer.round)
                if wake is not None:
                    (mute if known is not None and known.mute else wakes).append(wake)
                if wake != timer.when and self._last[process.name][timer.number].upkeep:
                    upkeep.append((process, timer))
        if upkeep:
            assert self.kernel is not None
            beside = self.kernel.wake_beside(self)
            until = min(wakes if beside is None else [*wakes, beside], default=None)
            if until is not None:
                wakes += self._upkeep_before(until, upkeep)
        return min((*wakes, *mute), default=None)

    def _upkeep_before(self, until: Instant, upkeep: Sequence[tuple[SystemProcess, ProcessTimer]]) -> Iterator[Instant]:
        """Say when an upkeep has to be done once more, before it may be looked for."""
        for process, timer in upkeep:
            at = _last_before(timer, until) if timer.when <= until else -1
            if at > self._last[process.name][timer.number].fired_at:
                self._upkeep[process.name, timer.number] = at
                yield at

    def _at_work(self) -> Iterator[SystemProcess]:
        for name, process in self.processes.items():
            if process.alive and name not in self._held:
                yield process

    def settle(self, now: Instant) -> None:
        """Bring every clock to `now`, let everybody come to rest, and put what arrived at its gate."""
        if self._settling or self.kernel is None:
            return
        self._settling = True
        try:
            steady = self._steady_clocks()
            if steady != self._steady:  # What was not due may be by a clock that was set forward.
                self._steady = steady
                self.change()
            if now != self._now:
                self._pass_over(now)
                self._now = now
            while True:
                try:
                    self._quiesce()
                except _Ended as ended:
                    self._ended(ended)
                    continue
                if not self._placed():
                    return
        finally:
            self._settling = False

    def _steady_clocks(self) -> dict[str, Duration]:
        """Tell how far each clock is ahead; one that drifts moves as time does, and is left out."""
        drifting = self.clocks.drifts()
        ahead = {**self.clocks.offsets(), STORE: self.clocks.store_offset}
        return {whose: offset for whose, offset in ahead.items() if whose not in drifting}

    def _placed(self) -> bool:
        """Put what arrived at its gate. True: a process has to come to rest once more first."""
        assert self.kernel is not None
        self._forget_aborted()
        for process in self._at_work():
            if process.name in self.kernel.actors and (begun := self._begun(process)) is not None:
                return self._stands(begun)
            for session in _sessions(process):
                if session.pending and not any(task.about is session for task in self._tasks[process.name]):
                    steps = session.carry_out().__await__()
                    stands = self._statement(process, session, session.pending[0], steps)
                    return self._stands(_ProcessTask(self, process, session, stands))
            for call in self._calls[process.name]:
                if call.message is not None and not call.taken and self.on_call is not None:
                    call.taken = True
                    if process.name in self._open:
                        self._open[process.name].called = True
                    return self._stands(_ProcessTask(self, process, call, self._call(process, call)))
        if self._sent_requests() or self._answered_requests():
            return True
        for process in self._at_work():
            self._close_round(process)
            timer = self._first_due(process)
            if timer is not None and not any(type(task.about) is ProcessTimer for task in self._tasks[process.name]):
                return self._stands(_ProcessTask(self, process, timer, self._timer(process, timer)))
        return False

    def _begun(self, process: SystemProcess) -> _ProcessTask | None:
        """Return what a process waits for since its start, to stand in the run from here on."""
        for passing in self._locked:
            if passing.session.actor == process.name:
                self._locked.remove(passing)
                steps = self._statement(process, passing.session, passing.batch, passing.rest())
                return _ProcessTask(self, process, passing.session, steps)
        return None

    def _stands(self, task: _ProcessTask) -> bool:
        """Let a task come to its first gate; it may have none."""
        assert self.kernel is not None
        request = task.go()
        if request is not None:
            self.kernel.stand(task, request)
        return True

    def _sent_requests(self) -> bool:
        """Hand over the requests that wait for a process which takes them now."""
        for sent in [each for each in self._requests if each.link is None and each.name not in self._held]:
            process = self.processes[sent.name]
            try:
                self._tell_time(process)
                if not process.alive:
                    raise ConnectionRefusedError
                sent.link = ProcessRequest.sent_to(process.port, sent.data)
            except OSError:
                self._answer(sent)
                return True
            process.links.append(sent.link)
            process.stirred = True
            self._last[process.name].clear()  # What it was asked may be what one of its own rounds looks for.
            return True
        return False

    def _answered_requests(self) -> bool:
        for sent in self._requests:
            if sent.link is not None and sent.link.over:
                self._answer(sent)
                return True
        return False

    def _answer(self, sent: SentRequest) -> None:
        assert self.kernel is not None
        self._requests.remove(sent)
        if sent.actor.request is sent.waits:  # It may be cut off from what it asks, and at something else by now.
            self.kernel.stand(sent.actor, Point(f"reply of {sent.name}"))

    def _ended(self, ended: _Ended) -> None:
        """A process ended by itself."""
        assert self.kernel is not None
        process = ended.process
        actor = self.kernel.actors[process.name]
        said = process.said
        clean = ended.code == 0 or process.terminated
        deaths = self._deaths[process.name] = self._deaths.get(process.name, 0) + (not clean)
        back = not clean and deaths <= RESTARTS
        told = process.terminated or ended.allowed
        self.on_end(process, ProcessEnd(ended.code, str(ended) + (f"\n{said}" if said else ""), told, back))
        self.kernel.crash(actor)
        if back:
            self.kernel.start_later(actor, RESTART)

    # what stands at gates ---------------------------------------------------------------------------------------------

    def _statement(self, process: SystemProcess, session: DatabaseSession, batch: Batch, steps: Iterator[Any]) -> Frame:
        """Let the steps of a statement be taken, and take note of what it did."""
        line = process.lines.get(session.key, "")
        opened = session.idle
        session.clock = self._set_clock
        session.coarse = self.file.gate == "transaction"
        session.resumes = partial(self._tell_time, process)
        try:
            yield from steps
        except (psycopg.Error, OSError):  # The connection broke, by us or with its process.
            session.drop()
        process.stirred = True
        tags = tuple(session.told())
        wrote = session.idle and self.database.wrote(told=session.wrote)
        session.wrote = None
        self._wrote(process.name, wrote)
        self._listens(batch)
        counts_as = session.counts_as(batch.sql, line, tags)
        if batch.sql:
            self._note(process, (batch.sql, tags), wrote=wrote)
        if batch.sql or wrote:
            self.on_statement(counts_as)
        if session.idle and not (opened and not batch.sql):
            self.nudge()

    def _listens(self, batch: Batch) -> None:
        self.listening = self.listening or any(point_of(sql).startswith("listen ") for sql in batch.statements)

    def _wrote(self, writer: str, wrote: bool) -> None:
        if wrote:
            self.writes += 1
            self.writer = writer

    def _set_clock(self, began_at: int) -> Any:
        self.database.set_now(self.clocks.store())
        return timestamp_of(began_at)

    def _tell_time(self, process: SystemProcess) -> None:
        """Tell a process what time it is before something reaches it: what it does then begins at this instant."""
        if process.alive and not process.stirred and process.told != (self._now, self._skew(process)):
            process.go_on(now=self._now, skew=self._skew(process))
            try:
                self._quiesce()
            except _Ended as ended:
                ended.process.ended(str(ended))

    def nudge(self) -> None:
        """Let everybody who listens hear what was notified by now."""
        if not self.listening:
            return
        for process in self.processes.values():
            self._tell_time(process)
            for session in _sessions(process):
                before = session.sent
                session.nudge()
                process.stirred = process.stirred or session.sent != before

    def _call(self, process: SystemProcess, call: OutsideCall) -> Frame:
        assert self.on_call is not None
        self.change(process.name)
        call.before_answer = partial(self._tell_time, process)
        yield from self.on_call(process, call)
        if call in self._calls[process.name]:
            self._calls[process.name].remove(call)
        process.stirred = True
        self.change(process.name)

    def _timer(self, process: SystemProcess, timer: ProcessTimer) -> Frame:
        yield Point(f"timer {timer.place or format_duration(timer.wait)}")
        if any(each.number == timer.number for each in process.timers):
            others = frozenset(each.number for each in process.timers if each.number != timer.number)
            self._open[process.name] = Round(timer, self._now, beside=self._beside(process), others=others)
            self._last[process.name].pop(timer.number, None)
            process.moved.pop(timer.number, None)
            process.fire(timer, now=self._now, skew=self._skew(process))

    # rounds -----------------------------------------------------------------------------------------------------------

    def _note(self, process: SystemProcess, said: Said, *, wrote: bool) -> None:
        """Take note of a statement: what was written may be what a round of another process looks for."""
        at = self._open.get(process.name)
        if at is not None:
            at.said.append(said)
            if wrote:
                at.wrote.append(said[0])
        if wrote and not self._is_upkeep(said[0]):
            self.change(process.name)

    def _is_upkeep(self, sql: str) -> bool:
        """Whether a statement writes no more than that its process was there."""
        return is_upkeep(sql, self.file.upkeep)

    def _close_round(self, process: SystemProcess) -> None:
        """Judge a round once its process is quiet: whether the next one would find nothing either.

        It would, where this one said nothing that had not been said before without consequence, and was set again.
        With jobs locked in a transaction that is still open, it is at work on one of them, and goes on to the next.
        """
        done = self._open.get(process.name)
        if done is None or any(isinstance(task.about, DatabaseSession) for task in self._tasks[process.name]):
            return
        del self._open[process.name]
        # A round that is wrongly taken to find nothing hides a bug: its loop is passed over until
        # something changes. One that is wrongly taken to be at work costs only time. So all of
        # this must hold, and most of it was once a false verdict:
        # - It said nothing new, and what it wrote only says that its process is there. Such a
        #   write of its own does not wake it again, or a cron that notes each visit would never
        #   come to rest.
        # - It was not turned away by an upkeep that is not due yet: then it has looked at
        #   nothing, and its next round may. Two workers that take turns at one upkeep would do so
        #   for hours, so a look of its like in another process counts, and after TURNED_AWAY
        #   times its own word.
        # - It set one of its timers again. Timers that other loops had set are not its own, even
        #   where two loops look alike: a library that polls two queues has two of them.
        # - Nothing stays locked in an open transaction: a worker that sleeps between the jobs of
        #   a batch is at work, though it says nothing.
        # - No other process changed anything since it began: what was written while its statement was
        #   under way it may not have seen.
        known = self._rounds[process.name].setdefault(done.timer.round, Rounds())
        seen = self._heard[process.name]
        fresh = [said for said in done.said if said not in seen]
        turned_away = any(self._is_upkeep(sql) and not any(tag.writes for tag in tags) for sql, tags in done.said)
        known.turned_away = known.turned_away + 1 if turned_away and not fresh else 0
        again = [
            timer.number
            for timer in process.timers
            if timer.round == done.timer.round and timer.number not in done.others
        ]
        nothing = not fresh and not done.called and all(map(self._is_upkeep, done.wrote))
        if 0 < known.turned_away < TURNED_AWAY and not self._looked(process, done.timer):
            nothing = False
        nothing = nothing and bool(again) and bool(done.said or done.timer.repeats)
        nothing = nothing and not any(session.holds() for session in _sessions(process))
        nothing = nothing and self._beside(process) == done.beside
        last = self._last[process.name]
        for gone in last.keys() - {timer.number for timer in process.timers}:
            del last[gone]
        if nothing:
            last.update(dict.fromkeys(again, LastRound(self.changes, done.fired_at, bool(done.wrote))))
            if not turned_away:
                known.looked = self.changes, done.fired_at
        known.mute = known.mute and not (done.said or done.called or again)
        seen.update(done.said)

    def _looked(self, process: SystemProcess, timer: ProcessTimer) -> bool:
        """Whether a round of this loop, here or in a process of the same kind, looked since the last change."""
        alike = [each.name for each in self.processes.values() if each.program.kind is process.program.kind]
        for known in filter(None, (self._rounds[name].get(timer.round) for name in alike)):
            change, when = known.looked
            if change == self.changes and ((until := self.next_instant(when)) is None or until > self._now):
                return True
        return False

    def _due(self, process: SystemProcess, timer: ProcessTimer) -> Instant | None:
        """Tell when a timer has to fire; None: never, as things stand."""
        last = self._last[process.name].get(timer.number)
        if last is None or last.idle_at != self.changes or timer.wait <= 0:
            return timer.when
        until = self.next_instant(last.fired_at)
        if process.program.kind.may_be_a_scheduler:  # It may ask its own clock whether something is due this minute.
            minute = (last.fired_at // MINUTE + 1) * MINUTE
            until = minute if until is None else min(until, minute)
        return None if until is None else _on_grid(timer, max(until, timer.when))

    def _first_due(self, process: SystemProcess) -> ProcessTimer | None:
        due = [
            (when, timer.number, timer)
            for timer in process.timers
            if (when := self._due_now(process, timer)) is not None and when <= self._now
        ]
        return min(due)[2] if due else None

    def _due_now(self, process: SystemProcess, timer: ProcessTimer) -> Instant | None:
        """Tell the same; an upkeep that was moved up to now has to fire now."""
        at = self._upkeep.get((process.name, timer.number))
        last = self._last[process.name].get(timer.number)
        if at is not None and last is not None and last.fired_at < at <= self._now:
            return at
        return self._due(process, timer)

    def _pass_over(self, now: Instant) -> None:
        """Leave out the rounds before `now` that would find nothing; what is not left out fires late."""
        for process in self._at_work():
            timers = []
            for timer in process.timers:
                due = self._due(process, timer)
                moved = timer
                if timer.when < now and (due is None or due > timer.when):
                    moved = timer._replace(when=_on_grid(timer, now))
                    process.moved[timer.number] = moved.when
                timers.append(moved)
            process.timers = tuple(timers)

    # quiet ------------------------------------------------------------------------------------------------------------

    def _quiesce(self) -> None:
        """Serve the processes until none of them can do anything by itself. Raises _Ended for one that ended."""
        deadline = Deadline(self.file.ready_seconds)
        for process in self.processes.values():
            if process.alive and process.stirred:
                process.go_on(now=self._now, skew=self._skew(process))
        while True:
            moving = []
            for process in self.processes.values():
                if not process.alive or not process.stirred:
                    continue
                try:
                    rests = process.rests()
                except ProcessEnded as ended:
                    raise _Ended(process, str(ended), ended.code) from None
                if not rests:
                    process.go_on(now=self._now, skew=self._skew(process))
                    moving.append(process)
            if not moving:
                return
            self._listen(moving)
            if deadline.passed:
                raise moving[0].overdue(deadline.seconds)

    def _listen(self, moving: Sequence[SystemProcess]) -> None:
        """Take what processes send, for a moment."""
        if any(process.gone for process in moving):
            return  # It ended before it could be told to go on: that is to be dealt with first.
        hears: dict[int, Callable[[], object]] = {}
        for process in moving:
            assert process.peer is not None
            hears[process.peer.descriptor] = _nothing
            hears[process.endpoint.descriptor] = process.endpoint.accept
            hears[process.outside.fileno()] = lambda process=process: self._accept_call(process)  # type: ignore[misc]
            for link in process.connections():
                if not link.closed:
                    hears[link.descriptor] = link.arrive  # type: ignore[attr-defined]
        for descriptor in ready(hears, seconds=_SELECT_SECONDS)[0]:
            hears[descriptor]()
        for process in moving:
            _refuse_garbled(process)

    def _accept_call(self, process: SystemProcess) -> None:
        ours, _ = process.outside.accept()
        call = OutsideCall(ours)
        process.links.append(call)
        self._calls[process.name].append(call)

    def _forget_aborted(self) -> None:
        """Tell of the calls that their processes have given up."""
        for name, calls in self._calls.items():
            for call in [each for each in calls if each.closed]:
                calls.remove(call)
                self.on_aborted(self.processes[name], call)

    # the end ----------------------------------------------------------------------------------------------------------

    def leftovers(self) -> list[str]:
        """Say what processes left open in the database."""
        return self.coordinator.leftovers()

    def close(self) -> None:
        """End every process, what it had open, and what has left it, as a daemon does. Never raises."""
        for process in self._started:
            process.kill()
        end_orphans(f"DATABASE_URL={process.endpoint.environment['DATABASE_URL']}" for process in self._started)
        with suppress(psycopg.Error, EnvironmentUnavailable, Hung):
            self.coordinator.close()


class _Ended(Exception):
    """A process ended by itself while the others came to rest."""

    def __init__(self, process: SystemProcess, message: str, code: int) -> None:
        super().__init__(message)
        self.process = process
        self.code = code

    @property
    def allowed(self) -> bool:
        """Whether the file says that it may end so."""
        return self.code == 0 and self.process.program.kind.ends


@dataclass(slots=True)
class SentRequest:
    """A request to a process, who waits for its answer, and what its process can have seen of the system by then."""

    actor: Actor
    name: str
    data: bytes
    link: ProcessRequest | None = None
    waits: Elsewhere = field(default_factory=Elsewhere)
    """What its actor stands at until then."""
    began: int = 0
    """The change of the system at which it was sent."""
    own: int = 0
    """How much its process has changed since, as long as it served nothing else."""
    saw: int = -1
    """Up to which change its process must have seen everything: where others changed something meanwhile, `began`."""

    @property
    def message(self) -> HttpMessage | None:
        """The answer; None: there was none."""
        return None if self.link is None else self.link.message


class _Passing:
    """A statement of a process that is not ready yet: it passes every gate, and waits for locks alone."""

    def __init__(self, session: DatabaseSession, process: SystemProcess) -> None:
        self.session = session
        self.batch = session.pending[0]
        self._process = process
        self._steps = session.carry_out().__await__()
        self._waits: Wait | None = None

    def goes_on(self) -> bool:
        """Let it go as far as it gets. True: it is through."""
        while self._waits is None or self._waits.answered():
            self._waits = None
            try:
                request = next(self._steps)
            except StopIteration:
                break
            except (psycopg.Error, OSError):
                self.session.drop()
                break
            if type(request) is Wait:
                self._waits = request
        else:
            return False
        self._process.stirred = True
        return True

    @property
    def answered(self) -> bool:
        """Whether what it waits for is there."""
        return self._waits is None or self._waits.answered()

    def rest(self) -> Frame:
        """Return the steps that are left, from the lock on that it waits for."""
        if self._waits is not None:
            yield self._waits
        yield from self._steps


class _ProcessTask(Actor):
    """What stands at one gate of a process: a statement, a call to the outside, a timer."""

    __slots__ = ("_run", "_steps", "about")

    def __init__(self, run: SystemRun, process: SystemProcess, about: Any, steps: Frame) -> None:
        assert run.kernel is not None
        root = run.kernel.actors[process.name]
        super().__init__(root.name, root.factory, root.order, process=True)
        self.root = root
        self.carrier = run
        self.about = about
        self.frames = [self]  # type: ignore[list-item]  # it has what the kernel asks of a frame
        self._steps = steps
        self._run = run
        run._tasks[process.name][self] = None

    def go(self) -> Request | None:
        """Go on to the next gate; None: there is none."""
        try:
            return self._steps.send(None)
        except StopIteration:
            self._run._tasks[self.root.name].pop(self, None)
            return None

    def send(self, reply: Any) -> Request:
        """Go on, as the kernel asks a frame to. Raises StopIteration where no gate is left."""
        request = self.go()
        if request is None:
            raise StopIteration
        return request

    def close(self) -> None:
        """Close what it was about to do."""
        self.end()

    def end(self) -> None:
        """Close what it was about to do; it is never resumed."""
        with suppress(Exception):
            self._steps.close()


def _refuse_garbled(process: SystemProcess) -> None:
    """Raise SystemFileError if a process sent something other than HTTP: it would wait forever for an answer."""
    for link in process.links:
        if isinstance(link, HttpLink) and link.problem and not link.closed:
            raise SystemFileError(
                f"{process.program.kind.place}: {process.name} sends what is not HTTP/1.1: {link.problem}",
                hint=f"Requests, answers and calls to `outside` are HTTP/1.1 messages of at most {LARGEST >> 20} MiB.",
            )


def _nothing() -> None:
    """The peer's own channel is read by `rests`."""


def _sessions(process: SystemProcess) -> list[DatabaseSession]:
    return [session for session in process.endpoint.sessions if isinstance(session, DatabaseSession)]


def _last_before(timer: ProcessTimer, instant: Instant) -> Instant:
    """Return the last instant up to this one at which a timer's loop has a round."""
    return timer.when + (instant - timer.when) // timer.wait * timer.wait


def _on_grid(timer: ProcessTimer, instant: Instant) -> Instant:
    """Return the first instant from this one on at which a timer's loop has a round."""
    if instant <= timer.when:
        return timer.when
    return timer.when + -(-(instant - timer.when) // timer.wait) * timer.wait


def open_outside() -> socket.socket:
    """Listen for the calls of one process to the outside."""
    return socket.create_server(("127.0.0.1", 0), backlog=64)


def is_upkeep(sql: str, tables: frozenset[str]) -> bool:
    """Whether a statement is about one of these tables, or changes nothing but them, in its WITH too."""
    if point_of(sql).rpartition(" ")[2] in tables:
        return True
    changed = changed_tables(sql)
    return bool(changed) and tables.issuperset(changed)


def processes_of(file: SystemFile, database: SystemDatabase, workers: Sequence[str]) -> list[SystemProcess]:
    """Make the processes of a file; its workers have these names."""
    programs = programs_of(file)
    hosts = tuple(file.outside)
    made: list[SystemProcess] = []
    for kind in file.processes:
        for name in workers[: kind.instances] if kind.instances else (kind.name,):
            endpoint = PasswordEndpoint(
                name, database.pool, kind=DatabaseSession, backends=database.backends, called=file.database
            )
            program = programs[kind.name]
            made.append(SystemProcess(name, program, endpoint, order=len(made), outside=open_outside(), hosts=hosts))
    return made
