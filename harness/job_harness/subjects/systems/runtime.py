"""One run of the processes of a system: a carrier of the kernel, which brings them from gate to gate.

Processes act by themselves: they react to what reaches them, and send what they want over their
connections. What arrives here stands at a gate of its process, in the order of (process,
connection), never of sockets; and nothing is chosen before all processes are quiet. Time is theirs
when the kernel says so: a timer that is due is a gate as well. Must not know: what a job is, how
rows are read, how a program is started and comes to rest.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import psycopg

from job_harness.core.model import MINUTE, SECOND, Duration, Instant, format_duration
from job_harness.core.port import Sent
from job_harness.core.sim import EVERYBODY, STORE, Actor, Elsewhere, Frame, Kernel, Point, Poll, Request, Sleep
from job_harness.errors import EnvironmentUnavailable, Hung
from job_harness.subjects.systems.database import SystemDatabase
from job_harness.subjects.systems.document import SystemFile, SystemFileError
from job_harness.subjects.systems.group import EndedByItself, ProcessGroup, ProcessTime
from job_harness.subjects.systems.http_wire import HttpMessage
from job_harness.subjects.systems.process import PreloadedProcess, ProcessTimer, SystemProcess, programs_of
from job_harness.subjects.systems.rounds import Changes, PollingRounds
from job_harness.subjects.systems.start import PassingStatement, Start
from job_harness.subjects.systems.store_links import StoreLink, StoreSession, links_of, talks_of
from job_harness.subjects.systems.traffic import DatabaseSession, OutsideCall, ProcessRequest, Tag
from job_harness.worlds.postgres.gating import SessionCoordinator
from job_harness.worlds.sql import point_of
from job_harness.worlds.wire.postgres_messages import Batch
from job_harness.worlds.wire.postgres_proxy import PasswordEndpoint

RESTART: Final[Duration] = 5 * SECOND
"""How long a platform takes to bring a process back that died of itself."""
RESTARTS: Final = 3
"""How often it does, while its store is there."""
LOOK_AHEAD: Final[Duration] = 5 * SECOND
"""How far processes may go on by themselves, while no actor stands at a gate, until they say something."""
FAR_AHEAD: Final[Duration] = MINUTE
"""The same where nothing can go wrong any more."""
_AT_WORK: Final = Elsewhere()
_GOING_ON: Final = Point("going on")


class ProcessEnd(NamedTuple):
    """How a process ended that was not killed by the run."""

    code: int
    words: str
    """How it ended, and what it printed last."""
    told: bool
    """Whether it had been told to stop."""
    back: bool
    """Whether it comes back: a platform restarts what fails, a few times."""


class SystemHooks(Protocol):
    """What a run of processes asks of who knows what their statements and calls mean."""

    def begin_statement(self, sent: Sent) -> None:
        """Take note of how a statement is written, which may never be sent: its process may die there."""

    def end_statement(self, sent: Sent) -> None:
        """Take note of a statement that has ended."""

    def take_call(self, process: SystemProcess, call: OutsideCall) -> Generator[Request, Any, None]:
        """See to a call to the outside."""

    def give_up_call(self, process: SystemProcess, call: OutsideCall) -> None:
        """Take note of a call that its process gave up."""

    def end_process(self, process: SystemProcess, end: ProcessEnd) -> None:
        """Take note of a process that ended by itself."""

    def next_instant(self, after: Instant) -> Instant | None:
        """Tell when time alone changes what a statement sees, after an instant."""


# the run --------------------------------------------------------------------------------------------------------------


class SystemRun:
    """All processes of a system, from their first start to the end of a run; it is a `Carrier`."""

    scheduled = True

    def __init__(self, group: ProcessGroup[Any]) -> None:
        """Take the processes that are to be at work; they start with `start`."""
        self.group = group
        self.file = group.file
        self.stores = group.stores
        database = self.stores.database
        self.coordinator = (
            None
            if database is None
            else SessionCoordinator(database.pool, clock=group.clocks.store, patience_seconds=self.file.ready_seconds)
        )
        self.changes = Changes(group.processes)
        self.requests = ProcessRequests(group, self.changes)
        self._start = Start(group, self.coordinator)
        self._kernel: Kernel | None = None
        self._hooks: SystemHooks | None = None
        self._rounds: PollingRounds | None = None
        self._tasks: dict[str, dict[_ProcessTask, None]] = {name: {} for name in group.processes}
        self._held: set[str] = set()
        self._deaths = dict.fromkeys(group.processes, 0)
        self._sent: list[Sent] = []
        """What was carried out at stores but for the database, since `sent` was last asked."""
        self._listening = False
        """Whether some session listens for notifications."""
        self._steady = self._steady_clocks()
        self._settling = False
        for process in group.processes.values():
            process.life = 0
            if process.endpoint is not None and database is not None:
                process.endpoint.database = database.name
                process.endpoint.join(self.coordinator, process.name)

    # the start --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all processes and wait until each is ready. Raises SystemFileError where one is not."""
        for process in self.group.processes.values():
            self.group.start(process)
        self._get_ready(list(self.group.processes.values()))

    def _get_ready(self, processes: Sequence[SystemProcess]) -> None:
        for passing in self._start.get_ready(processes):
            self._passed(passing)

    def _passed(self, passing: PassingStatement) -> None:
        """Take note of what a statement did at the start of a process: that may be the work of its first round."""
        session = passing.session
        if isinstance(session, StoreLink):
            self._note_request(self.group.processes[session.actor], session)
            return
        sql = passing.batch.sql
        tags = session.take_tags()
        counts_as = session.counts_as(sql, "", tags)
        ends = any(tag.writes or tag.startswith("COMMIT") for tag in tags) or (not sql and counts_as.sql != "")
        session.wrote = None
        self._listening = self._listening or listens(passing.batch)
        if session.idle and ends:
            self.changes.write(session.actor)
            self.change(session.actor)
            if self._hooks is not None:
                self._hooks.end_statement(counts_as)

    def ask_at_rest(self, process: SystemProcess, data: bytes) -> HttpMessage | None:
        """Send a request outside of any run, at no gate; None where no answer comes by itself.

        Raises OSError where the process does not listen, SystemFileError where one ends meanwhile.
        """
        asked = self._start.ask(process, data)
        while True:
            try:
                self._passed(next(asked))
            except StopIteration as answered:
                message: HttpMessage | None = answered.value
                return message

    # actors -----------------------------------------------------------------------------------------------------------

    def join(self, kernel: Kernel, hooks: SystemHooks) -> None:
        """Become a carrier of this kernel, and let every process be an actor of it; `hooks` know what they do."""
        if self._kernel is None:
            self._kernel, self._hooks = kernel, hooks
            self._rounds = PollingRounds(self.group.processes, self.changes, hooks, upkeep=self.file.upkeep)
            kernel.carriers.append(self)

    @property
    def kernel(self) -> Kernel:
        """The kernel that it was joined to."""
        assert self._kernel is not None
        return self._kernel

    @property
    def hooks(self) -> SystemHooks:
        """Who knows what statements and calls mean, once it was joined."""
        assert self._hooks is not None
        return self._hooks

    @property
    def rounds(self) -> PollingRounds:
        """The rounds of loops, once it was joined."""
        assert self._rounds is not None
        return self._rounds

    def life(self, name: str) -> Callable[[], Frame]:
        """Return what the kernel calls to start a process, again after each crash."""
        return lambda: self._life(self.group.processes[name])

    def _life(self, process: SystemProcess) -> Frame:
        actor = self.kernel.actors[process.name]
        self.let_go(actor)  # What was paused was its restart.
        if self._start.is_over(process.name):
            return
        while not process.alive:
            self.group.start(process)
            self.change()
            try:
                self._get_ready([process])
            except SystemFileError as error:
                process.kill()
                self.hooks.end_process(process, ProcessEnd(1, error.message, told=False, back=True))
                yield Sleep(RESTART, "restarting")
        while True:
            yield _AT_WORK
            while self.kernel.rejoin(actor):
                yield _GOING_ON
            self.let_go(actor)

    def tasks(self, actor: Actor) -> Sequence[Actor]:
        """List what of a process stands at gates, in the order in which it came."""
        return list(self._tasks[actor.name])

    def _stands(self, process: SystemProcess, kind: Any) -> set[Any]:
        """Return what of a process stands at gates, of one kind."""
        return {task.about for task in self._tasks[process.name] if isinstance(task.about, kind)}

    def held(self, actor: Actor) -> None:
        """Let nothing of a process go on until `let_go`."""
        self._held.add(actor.name)
        self.group.pause(actor.name)

    def let_go(self, actor: Actor) -> None:
        """Let a held process go on."""
        if actor.name in self._held:
            self._held.discard(actor.name)
            self.group.resume(actor.name)

    def severed(self, actor: Actor) -> None:
        """Kill a process: its connections break, and what it had open in the database is undone."""
        process = self.group.processes[actor.name]
        self._held.discard(actor.name)
        self.rounds.forget(actor.name)
        tasks, self._tasks[actor.name] = self._tasks[actor.name], {}
        self._start.sever(actor.name)
        drop = None if self.coordinator is None else self.coordinator.sever(actor.name)
        process.end_program()
        if drop is not None:
            drop()
        process.kill()
        for task in tasks:
            task.end()
        for call in self.group.calls[actor.name]:
            call.close()
        self.group.calls[actor.name].clear()
        self.change()

    def change(self, by: str = "") -> None:
        """Note that something happened on which a round of a loop may depend, and which process did it, if one did."""
        self.changes.note(by)
        if by:
            self.requests.note_change(by)

    # settling ---------------------------------------------------------------------------------------------------------

    def next_wake(self) -> Instant | None:
        """Tell when the next timer of a process is due; rounds that would find nothing are left out.

        What processes do in silence happens before that.
        """
        found = self.rounds.wakes(self._at_work())
        wakes = found.at
        if found.upkeep:
            beside = self.kernel.wake_beside(self)
            until = min(wakes if beside is None else [*wakes, beside], default=None)
            if until is not None:
                wakes += self.rounds.upkeep_before(until, found.upkeep)
        own = min((*wakes, *found.mute), default=None)
        inside = self._due_inside(own)
        return min((each for each in (own, inside) if each is not None), default=None)

    def _due_inside(self, own: Instant | None) -> Instant | None:
        """Tell when processes have something to say before `own`; as long as that is nothing new, time passes."""
        standing = {task.about for tasks in self._tasks.values() for task in tasks}
        due = self.group.due_inside(standing)
        if due is None or self.kernel.ready or self._settling:
            return due
        ahead = self.group.now + (LOOK_AHEAD if self.kernel.interferences else FAR_AHEAD)
        wakes = (own, self.kernel.wake_beside(self), ahead)
        until = min(each for each in wakes if each is not None)
        while due is not None and due <= until and self.group.let_pass(until, standing, self._finds_nothing):
            due = self.group.due_inside(standing)
        return due

    def _finds_nothing(self, session: StoreSession, now: Instant) -> bool:
        """Whether what waits in a session was answered with nothing, and would be again."""
        known = session.found_nothing()
        if known is None or known[0] != self.changes.count or self._hooks is None:
            return False
        until = self._hooks.next_instant(known[1])
        return until is None or until > now

    def _at_work(self) -> Iterator[SystemProcess]:
        for name, process in self.group.processes.items():
            if process.alive and name not in self._held:
                yield process

    def come_to_rest(self, now: Instant) -> None:
        """Bring every clock to `now`, let everybody come to rest, and put what arrived at its gate."""
        if self._settling or self._kernel is None:
            return
        self.group.away_until = self._kernel.outages.get(EVERYBODY, 0)
        self._settling = True
        try:
            steady = self._steady_clocks()
            if steady != self._steady:  # What was not due may be by a clock that was set forward.
                self._steady = steady
                self.change()
            if now != self.group.now:
                self.rounds.pass_over(self._at_work(), now)
                self.group.now = now
            while True:
                try:
                    self.group.quiesce()
                except EndedByItself as ended:
                    self._ended(ended)
                    continue
                if not self._placed():
                    return
        finally:
            self._settling = False

    def _steady_clocks(self) -> dict[str, Duration]:
        """Tell how far each clock is ahead; one that drifts moves as time does, and is left out."""
        clocks = self.group.clocks
        drifting = clocks.drifts()
        ahead = {**clocks.offsets(), STORE: clocks.store_offset}
        return {whose: offset for whose, offset in ahead.items() if whose not in drifting}

    def _placed(self) -> bool:
        """Put what arrived at its gate. True: a process has to come to rest once more first."""
        self._forget_aborted()
        for process in self._at_work():
            if process.name in self.kernel.actors and (begun := self._start.take_over(process.name)) is not None:
                return self._talk(process, begun.session, begun.batch, begun.rest())
            standing = self._stands(process, DatabaseSession | StoreLink)
            for session in talks_of(process):
                if session.pending and session not in standing:
                    if self._is_passed_over(session):
                        return True
                    return self._talk(process, session, session.pending[0], session.carry_out().__await__())
            for call in self.group.calls[process.name]:
                if call.message is not None and not call.taken:
                    call.taken = True
                    self.rounds.note_call(process.name)
                    return self._place(process, call, self._call(process, call))
        if self._serve_requests():
            return True
        for process in self._at_work():
            if not any(map(_is_at_work, self._tasks[process.name])):
                self.rounds.close(process, self.group.now)
            timer = self.rounds.first_due(process, self.group.now)
            if timer is not None and not self._stands(process, ProcessTimer):
                return self._place(process, timer, self._timer(process, timer))
        return False

    def _place(self, process: SystemProcess, about: Any, steps: Frame) -> bool:
        """Let a task come to its first gate; it may have none."""
        task = _ProcessTask(self, self._tasks[process.name], process, about, steps)
        request = task.go()
        if request is not None:
            self.kernel.stand(task, request)
        return True

    def _serve_requests(self) -> bool:
        """Hand over a request that waits for a process which takes it now, or take a reply. True: there was one."""
        for sent in self.requests.waiting():
            if sent.name in self._held:
                continue
            self.group.tell_time(self.group.processes[sent.name])
            if self.requests.hand_over(sent):
                self.rounds.ask(sent.name)
            else:
                self._answer(sent)
            return True
        answered = self.requests.answered()
        if answered is not None:
            self._answer(answered)
        return answered is not None

    def _answer(self, sent: SentRequest) -> None:
        self.requests.forget(sent)
        if sent.actor.request is sent.waits:  # It may be cut off from what it asks, and at something else by now.
            self.kernel.stand(sent.actor, Point(f"reply of {sent.name}"))

    def _ended(self, ended: EndedByItself) -> None:
        """A process ended by itself."""
        process = ended.process
        actor = self.kernel.actors[process.name]
        said = process.printed.text
        clean = ended.code == 0 or process.terminated
        self._deaths[process.name] += not clean and self.group.away_until <= self.group.now
        back = not clean and self._deaths[process.name] <= RESTARTS
        told = process.terminated or ended.allowed
        self.hooks.end_process(process, ProcessEnd(ended.code, str(ended) + (f"\n{said}" if said else ""), told, back))
        self.kernel.crash(actor)
        if back:
            self.kernel.start_later(actor, RESTART)

    def _forget_aborted(self) -> None:
        """Tell of the calls that their processes have given up."""
        for name, calls in self.group.calls.items():
            for call in [each for each in calls if each.closed]:
                calls.remove(call)
                self.hooks.give_up_call(self.group.processes[name], call)

    # what stands at gates ---------------------------------------------------------------------------------------------

    def _talk(self, process: SystemProcess, session: StoreSession, batch: Any, steps: Iterator[Any]) -> bool:
        if isinstance(session, StoreLink):
            return self._place(process, session, self._request(process, session, batch, steps))
        return self._place(process, session, self._carry_out(process, session, batch, steps))

    def _is_passed_over(self, session: StoreSession) -> bool:
        """Whether a request was answered as before, at no gate, since no process stands at one that could change it."""
        if isinstance(session, DatabaseSession) or self.kernel.ready:
            return False
        if not self._finds_nothing(session, self.group.now):
            return False
        session.answer_again()
        return True

    def _request(self, process: SystemProcess, link: StoreLink, asked: Any, steps: Iterator[Any]) -> Frame:
        """Let the steps of a request be taken, and take note of what it did."""
        link.timekeeper = ProcessTime(self.group, process)
        before, came = self.changes.count, self.group.now
        yield from steps
        wrote = link.wrote
        self._note_request(process, link)
        if not wrote and self.changes.count == before:
            self.group.remember(link, asked, before, came)

    def _note_request(self, process: SystemProcess, link: StoreLink) -> None:
        """Take note of what was carried out over a connection; who listens for it hears it now."""
        process.stirred = True
        done, wrote = link.done, link.wrote
        link.done, link.wrote = None, False
        if done is not None:
            sent, answer = done[0]._replace(place=process.lines.place_at(link.key)), done[1]
            self._sent.append(sent)
            if wrote:
                self.changes.write(process.name)
            if self._rounds is not None and self._rounds.note_statement(
                process.name, (sent.gate, (Tag(answer),)), wrote=wrote
            ):
                self.change(process.name)
            if self._hooks is not None:
                self._hooks.end_statement(sent)
        for other in self.group.processes.values():
            for heard in links_of(other):
                other.stirred = heard.overhear_all() or other.stirred

    def fail_over(self) -> None:
        """Let Redis start anew with all that it has: connections break, scripts are forgotten."""
        if self.stores.redis is not None:
            self.stores.redis.restart()
            for process in self.group.processes.values():
                for link in links_of(process):
                    if link.fails_over:
                        link.close()
                        process.stirred = True
            self.change()

    def sent(self) -> list[Sent]:
        """Return what processes sent since this was last asked."""
        said, self._sent = self._sent, []
        return said if self.coordinator is None else [*self.coordinator.sent(), *said]

    def _carry_out(self, process: SystemProcess, session: DatabaseSession, batch: Batch, steps: Iterator[Any]) -> Frame:
        """Let the steps of a statement be taken, and take note of what it did."""
        line, opened = process.lines.place_at(session.key), session.idle
        before, came = self.changes.count, self.group.now
        session.timekeeper = ProcessTime(self.group, process)
        session.line = process.lines.line_of(line)
        session.coarse = self.file.gate == "transaction"
        session.database = self.stores.database
        if batch.sql:
            self.hooks.begin_statement(Sent(process.name, point_of(batch.sql), batch.sql, line))
        try:
            yield from steps
        except (psycopg.Error, OSError):  # The connection broke, by us or with its process.
            session.drop()
        process.stirred = True
        tags = tuple(session.take_tags())
        assert self.stores.database is not None
        wrote = session.idle and self.stores.database.wrote(told=session.wrote)
        session.wrote = None
        if wrote:
            self.changes.write(process.name)
        self._listening = self._listening or listens(batch)
        counts_as = session.counts_as(batch.sql, line, tags)
        if batch.sql and self.rounds.note_statement(process.name, (batch.sql, tags), wrote=wrote):
            self.change(process.name)
        if batch.sql or wrote:
            self.hooks.end_statement(counts_as)
        if session.idle and not (opened and not batch.sql):
            self.nudge()
        if self.changes.count == before:
            self.group.remember(session, batch, before, came)

    def nudge(self) -> None:
        """Let everybody who listens hear what was notified by now."""
        if not self._listening:
            return
        for process in self.group.processes.values():
            self.group.tell_time(process)
            for session in process.sessions:
                before = session.sent
                session.nudge()
                process.stirred = process.stirred or session.sent != before

    def _call(self, process: SystemProcess, call: OutsideCall) -> Frame:
        self.change(process.name)
        yield from self.hooks.take_call(process, call)
        if call in self.group.calls[process.name]:
            self.group.calls[process.name].remove(call)
        process.stirred = True
        self.change(process.name)

    def _timer(self, process: SystemProcess, timer: ProcessTimer) -> Frame:
        yield Point(f"timer {timer.place or format_duration(timer.wait)}")
        if any(each.number == timer.number for each in process.timers):
            self.rounds.begin(process, timer, self.group.now)
            process.moved.pop(timer.number, None)
            process.fire(timer, now=self.group.now, skew=self.group.skew(process))

    # the end ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every process, and what it had open. Never raises."""
        self.group.close()
        with suppress(psycopg.Error, EnvironmentUnavailable, Hung):
            if self.coordinator is not None:
                self.coordinator.close()


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


class ProcessRequests:
    """The requests to processes that are not answered yet."""

    def __init__(self, group: ProcessGroup[Any], changes: Changes) -> None:
        self._group = group
        self._changes = changes
        self._sent: list[SentRequest] = []
        self._turns: dict[str, int] = {}
        """By kind of process, how many requests it was sent."""

    def taker(self, kind: str) -> str:
        """Return the process that takes the next request to a kind of process: of several, each in its turn."""
        several: list[SystemProcess] = [
            process for process in self._group.processes.values() if process.program.kind.name == kind
        ]
        turn = self._turns[kind] = self._turns.get(kind, -1) + 1
        living = [process.name for process in several if process.alive]
        names = living or [process.name for process in several]
        return names[turn % len(names)]

    def ask(self, name: str, data: bytes, actor: Callable[[], Actor]) -> Generator[Request, Any, SentRequest]:
        """Send a request to a process, and stand aside until it is answered, or never will be."""
        sent = SentRequest(actor(), name, data, began=self._changes.count)
        if self._group.processes[name].alive:
            self._sent.append(sent)
            yield sent.waits
        sent.saw = self._changes.count if self._changes.count == sent.began + sent.own else sent.began
        return sent

    def note_change(self, by: str) -> None:
        """Note that a process changed something, on behalf of whom it serves."""
        served = [sent for sent in self._sent if sent.name == by and sent.link is not None]
        if len(served) == 1:  # Which of two was at work, and whether the other has seen it, is not known.
            served[0].own += 1

    def waiting(self) -> list[SentRequest]:
        """List the requests that no process has yet."""
        return [each for each in self._sent if each.link is None]

    def hand_over(self, sent: SentRequest) -> bool:
        """Send a request to its process. False: it does not listen."""
        process = self._group.processes[sent.name]
        try:
            if not process.alive:
                return False
            sent.link = ProcessRequest.sent_over(process.connect(), sent.data)
        except OSError:
            return False
        process.links.append(sent.link)
        process.stirred = True
        return True

    def answered(self) -> SentRequest | None:
        """Return a request that is answered, or never will be."""
        return next((sent for sent in self._sent if sent.link is not None and sent.link.over), None)

    def forget(self, sent: SentRequest) -> None:
        """Take note that who sent it goes on."""
        self._sent.remove(sent)


class _ProcessTask(Actor):
    """What stands at one gate of a process: a statement, a call to the outside, a timer."""

    __slots__ = ("_beside", "_steps", "about")

    def __init__(
        self, run: SystemRun, beside: dict[_ProcessTask, None], process: SystemProcess, about: Any, steps: Frame
    ) -> None:
        """Stand among what else of the process stands at gates; it is taken out of these once it is through."""
        root = run.kernel.actors[process.name]
        super().__init__(root.name, root.factory, root.order, process=True)
        self.root = root
        self.carrier = run
        self.about = about
        self.frames = [self]  # type: ignore[list-item]  # it has what the kernel asks of a frame
        self._steps = steps
        self._beside = beside
        beside[self] = None

    def go(self) -> Request | None:
        """Go on to the next gate; None: there is none."""
        try:
            return self._steps.send(None)
        except StopIteration:
            self._beside.pop(self, None)
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


def listens(batch: Batch) -> bool:
    """Whether a session listens for notifications after this."""
    return any(point_of(sql).startswith("listen ") for sql in batch.statements)


def _is_at_work(task: _ProcessTask) -> bool:
    """Whether something is under way at a store; a command that waits for others is not."""
    return isinstance(task.about, DatabaseSession | StoreLink) and type(task.request) is not Poll


def processes_of(file: SystemFile, database: SystemDatabase, workers: Sequence[str]) -> list[PreloadedProcess]:
    """Make the processes of a file; its workers have these names."""
    programs = programs_of(file)
    hosts = tuple(file.outside)
    made: list[PreloadedProcess] = []
    for kind in file.processes:
        for name in workers[: kind.instances] if kind.instances else (kind.name,):
            endpoint = PasswordEndpoint(
                name,
                database.pool,
                kind=DatabaseSession,
                backends=database.backends,
                called=file.database,
                replica=database.replica,
            )
            outside = socket.create_server(("127.0.0.1", 0), backlog=64)
            made.append(
                PreloadedProcess(name, programs[kind.name], endpoint, order=len(made), outside=outside, hosts=hosts)
            )
    return made
