"""The runs of a processor in another process, which moves with the virtual time of one harness.

Each run is an actor of a peer. What the peer waits for outside itself is a gate, which is passed
when it was answered; its next timer is a timer of the harness's loop. A promise cannot be
cancelled: a run that is given up lives on, and what it still does is reported. Hides: turns,
timers, gates of an explored run, how errors of JavaScript read in Python. Must not know: workers,
jobs' lifecycle, and how a peer is started.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeAlias

from job_harness.core.own_code import CodeLine
from job_harness.core.sim.lifetime import LIFETIME, Lifetime, Severed
from job_harness.core.sim.loop import Callback, VirtualLoop
from job_harness.core.sim.watchdog import Repeats
from job_harness.engines.reference.application import JobResult, NonRetryableError, ToolJob
from job_harness.errors import Hung
from job_harness.subjects.processors.delivery import Delivery, delivery_of
from job_harness.worlds.peers.peer import PeerLost, Report, TurnTaker

Guard: TypeAlias = Callable[[str, "Lifetime | None", Callback], Callback]
"""Takes a place, the delivery that comes to it, and what goes on from there; returns that behind a gate."""
TICKS: Final = 100_000
"""Timers of one attempt, one after the other; a loop of `setTimeout(0)`, a millisecond each, takes some seconds."""
JUST_BEFORE: Final = 0.001
"""Virtual seconds before the job timeout at which a blocked processor is given up, so that its own error is kept."""
BLOCKED_AFTER_SECONDS: Final = 10.0
"""Real seconds without an answer after which a processor counts as blocked."""


@dataclass(slots=True)
class PeerNotes:
    """What was noticed in a peer besides the results of its runs."""

    findings: dict[str, str] = field(default_factory=dict)
    """By what was noticed, each once, with whose it was: notes, deaths, what abandoned attempts still did."""
    blocked: list[str] = field(default_factory=list)
    """How attempts hung, each of which was ended by a limit in real time."""


@dataclass(slots=True)
class RunBounds:
    """How long a run may take in virtual time, and how long timers alone may keep it going in real time."""

    timeout_seconds: float
    busy_seconds: float
    ticks: Repeats = field(default_factory=Repeats)

    def tick(self) -> bool:
        """Count a timer that fires. True: timers fire without end."""
        self.ticks.count += 1
        return self.ticks.count > TICKS or (self.ticks.count > TICKS // 100 and self.ticks.seconds > self.busy_seconds)


class PeerRuns:
    """Runs jobs in a peer; a subclass says which peer that is, and what is called when it stands at a gate."""

    def __init__(
        self, *, loop: VirtualLoop, start: datetime, timeout_seconds: float, busy_seconds: float, guard: Guard | None
    ) -> None:
        """Let timers of the peer be timers of this loop. `start` is the time of day at the loop's 0.

        Timers alone may keep a run going for `busy_seconds` of real time.
        """
        self.notes = PeerNotes()
        self.guard = guard
        """Puts a gate before each of its timers and before the reply of each stub; None while nothing is explored."""
        self._loop = loop
        self._start_ms = start.timestamp() * 1000
        self._bounds = RunBounds(timeout_seconds, busy_seconds)
        self._peer: TurnTaker | None = None
        self._runs: dict[str, ProcessorRun] = {}
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self.waiting_stubs: dict[asyncio.Future[Any], str] = {}
        """The stubs of the test that have not answered yet, by name."""
        self._asked: set[int] = set()
        """The calls that await a stub's answer."""
        self._at_gate = False
        """Whether its next timer stands at a gate."""
        self._worker = contextvars.Context()
        """The context of the worker whose process the peer is part of: what it plans stands still with that worker."""

    # what differs between peers -------------------------------------------------------------------------------------

    def _called_name(self, run: ProcessorRun | None) -> str:
        """Return what messages call the processor of this run; None: of any."""
        raise NotImplementedError

    def _answer(self, name: str, args: list[Any]) -> Any:
        """Return what a run gets at the gate of this name, or what can be awaited for it."""
        raise NotImplementedError

    def _alive(self, actor: str | None) -> ProcessorRun | None:
        """Return the run of this name that may still do something."""
        return self._runs.get(actor or "")

    def _arrived(self, gate: Report, run: ProcessorRun) -> None:
        """Act on a run that has come to a gate, before it is answered there."""

    def _reported(self, report: Report) -> None:
        """Act on an effect of a kind of the peer's own."""

    def _let_go(self) -> None:
        """Do without the peer from now on."""
        self._forget_turn()

    # runs -----------------------------------------------------------------------------------------------------------

    async def _perform(self, run: ProcessorRun) -> JobResult:
        """Wait for the end of a run. Cancelled, it is abandoned: it lives on, and what it still does is reported."""
        try:
            while run.ending is None:
                run.moved = self._loop.create_future()
                await run.moved
        except BaseException:
            if run.ending is None:
                run.abandoned = True
            raise
        if isinstance(run.ending, Exception):
            raise run.ending
        return run.ending

    def _begin(self, job: ToolJob, **arguments: Any) -> ProcessorRun:
        self._number += 1
        self._worker = worker_context(LIFETIME.get())
        name = str(self._number)
        run = self._runs[name] = ProcessorRun(job, name, began=self._loop.time())
        self._act(lambda peer, now: peer.go("run", {"job": job_row(job), **arguments}, actor=name, now=now))
        return run

    def _act(self, turn: Callable[[TurnTaker, float], list[Report]]) -> None:
        """Let the peer, while there is one, take a turn; one that is lost in it is what its runs come to."""
        peer = self._peer
        if peer is not None:
            with suppress(PeerLost):
                self._turn(lambda now: turn(peer, now))

    def _turn(self, turn: Callable[[float], list[Report]]) -> list[Report]:
        """Take a turn at the present time, act on what is reported, and plan when the peer next wants to be woken."""
        try:
            said = turn(self._now_ms())
        except PeerLost as lost:
            self._hear(lost.said)
            self._lost(lost)
            raise
        self._hear(said)
        return said

    def _hear(self, said: Sequence[Report]) -> None:
        peer = self._peer
        for report in said:
            if self._peer is not peer:
                return  # A stub was a place at which the worker died: nothing after it happened.
            if "gate" in report:
                self._called(report)
            elif "idle" in report:
                self._plan(report)
                if report["next"] is None and not self._asked:
                    self._nothing_comes()
            elif report["effect"] == "ended":
                self._ended(report["actor"], report["data"])
            elif report["effect"] == "note":
                self._find(self._runs.get(report["actor"] or ""), report["data"]["what"])
            else:
                self._reported(report)
        for run in self._runs.values():
            run.wake()

    def _plan(self, idle: Report) -> None:
        """Set the loop's timer to when the peer next wants to be woken, behind a gate where that is explored."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        next_ms = idle["next"]
        if next_ms is None or self._at_gate:
            return  # What stands at a gate plans anew once it has passed.
        run = self._runs.get(idle.get("actor") or "")
        tick: Callback = partial(self._tick, next_ms)
        if self.guard is not None and run is not None:
            tick = self._gated(idle, run, next_ms)
        when = max((next_ms - self._start_ms) / 1000, self._loop.time())
        self._timer = self._loop.call_at(when, tick, context=self._worker)

    def _gated(self, idle: Report, run: ProcessorRun, due_ms: float) -> Callback:
        peer = self._peer

        def passed() -> None:
            if self._peer is peer:
                self._at_gate = False
                self._tick(due_ms)

        def due() -> None:
            assert self.guard is not None
            self._at_gate = True
            stand_at(idle, run)
            self.guard(idle["point"], run.life, passed)()

        return due

    def _tick(self, due_ms: float) -> None:
        if self._bounds.tick():
            self._goes_round()
            return
        one = {} if self.guard is None else {"one": True}
        self._act(lambda peer, now: peer.time(max(due_ms, now), **one))

    def _goes_round(self) -> None:
        """End what only sets timers: the run is broken, for its outcome is unknown."""
        jobs = ", ".join(run.job for run in self._runs.values()) or "no job any more"
        self._loop.break_with(
            Hung(
                f"the processor {self._called_name(None)} ({jobs}) set {self._bounds.ticks.count} timers, one after "
                "the other, and did not end",
                hint="A loop of setTimeout(0) takes a millisecond each time round: await what it waits for instead.",
            )
        )
        self._let_go()
        self._runs.clear()

    def _forget_turn(self) -> None:
        """Plan and await nothing of the peer any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at_gate = False
        self._asked.clear()

    def _now_ms(self) -> float:
        return round(self._start_ms + self._loop.time() * 1000, 3)

    # what it says ---------------------------------------------------------------------------------------------------

    def _ended(self, actor: str, ending: Mapping[str, Any]) -> None:
        self._bounds.ticks.begin()
        run = self._runs.pop(actor, None)
        if run is None:
            self._find(None, "an attempt ended that was not running: something answered twice")
            return
        run.ending = ending_of(ending)
        if "input" in ending:
            self._find(run, "it changed its input")
            _change(run.input, ending["input"])
        if run.abandoned:
            how = "a result" if isinstance(run.ending, JobResult) else f"{type(run.ending).__name__}: {run.ending}"
            self._find(run, f"it was abandoned, and ended later with {how}, which is ignored")
        run.wake()

    def _nothing_comes(self) -> None:
        for run in self._runs.values():
            self._find(run, "it waits for something that never comes: no timer, no stub and no I/O is left")

    def _called(self, gate: Report) -> None:
        """Call the stub at whose gate a run stands."""
        self._asked.add(gate["gate"])
        name, args = gate["point"], list(gate["with"])
        run = self._alive(gate["actor"])
        if run is not None and run.abandoned:
            self._find(run, f"it was abandoned, and still called {name}({', '.join(map(repr, args))[:200]})")
        if run is not None:
            stand_at(gate, run)
            self._arrived(gate, run)
        try:
            context = contextvars.copy_context() if run is None else run.context
            answer = context.run(self._answer, name, args)
        except Severed:  # Its worker died there: nothing waits for the answer, and whose turn it was goes on.
            return
        except Exception as error:  # noqa: BLE001 - what a stub raises, the processor catches
            self._loop.call_soon(self._replying(gate, run), None, error, context=self._worker)
            return
        if not inspect.isawaitable(answer):
            self._loop.call_soon(self._replying(gate, run), answer, None, context=self._worker)
            return
        task = context.run(asyncio.ensure_future, answer, loop=self._loop)
        self.waiting_stubs[task] = name
        reply = self._replying(gate, run)
        task.add_done_callback(lambda done: self._awaited(done, reply))

    def _awaited(self, task: asyncio.Future[Any], reply: Callback) -> None:
        self.waiting_stubs.pop(task, None)
        if not task.cancelled():
            error = task.exception()
            reply(None if error else task.result(), error)

    def _replying(self, gate: Report, run: ProcessorRun | None) -> Callback:
        """Return what brings a stub's answer to the peer that asked, and to no later one; explored, behind a gate."""
        peer = self._peer

        def reply(answer: Any, error: BaseException | None) -> None:
            if self._peer is peer:
                self._reply(gate["gate"], gate["point"], answer, error)

        place = self._reply_place(gate)
        if self.guard is None or run is None or not place:
            return reply
        return self.guard(place, run.life, reply)

    def _reply_place(self, gate: Report) -> str:
        """Return the name of the gate before the answer of a stub; empty if there is none."""
        return f"reply of {gate['point']}()"

    def _value(self, name: str, answer: Any, gate: int) -> Any:
        """Return what the run gets for what was answered at its gate."""
        return answer

    def _reply(self, gate: int, name: str, answer: Any, error: BaseException | None) -> None:
        self._asked.discard(gate)
        try:
            if error is not None:
                raise error
            value = self._value(name, answer, gate)
            self._act(lambda peer, now: peer.go_on(gate, value=value, now=now))
        except Exception as failed:  # noqa: BLE001 - also an answer that JSON cannot hold
            kind = "TypeError" if name == "fetch" else type(failed).__name__
            text = f"fetch failed: {failed}" if name == "fetch" else str(failed)
            raised = {"name": kind, "message": text}
            self._act(lambda peer, now: peer.go_on(gate, error=raised, now=now))

    def _find(self, run: ProcessorRun | None, what: str) -> None:
        where = "" if run is None else f" {run.job}, attempt {run.attempt}"
        finding = f"{self._called_name(run)}{where}: {what}"
        if self.notes.findings.setdefault(what, finding) is finding:
            tell(f"job-harness: {finding}")

    def _lost(self, lost: PeerLost) -> None:
        self._let_go()
        what, actor = lost.what, None
        for report in lost.said:
            if report.get("effect") == "fatal":
                error, actor = report["data"]["error"], report["actor"]
                what = f"{report['data']['kind']}: {error.get('name')}: {error.get('message')}; it ends a Node process"
                break
        self._find(self._runs.get(actor or ""), f"{lost.kind}: {what}")
        if lost.kind == "blocked":
            jobs = ", ".join(run.job for run in self._runs.values())
            self.notes.blocked.append(f"the processor {self._called_name(None)} ({jobs}): {what}, and was killed")
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            if lost.kind == "blocked":
                until = max(run.began + self._bounds.timeout_seconds - JUST_BEFORE, self._loop.time())
                self._loop.call_at(until, run.end, ProcessorBlocked(f"{what} (an endless loop?) and was killed"))
            else:
                run.end(ProcessDied(what))


def stand_at(report: Report, run: ProcessorRun) -> None:
    """Let the delivery of a run know the line of the user's at which it is."""
    match report.get("line"), delivery_of(run.life):
        case [str(file), int(line), *by], Delivery() as delivery:
            delivery.line = CodeLine(file, line, CodeLine(*by) if by else None)


def tell(line: str) -> None:
    """Show a line beside the results of the tests."""
    print(line, file=sys.stderr)


class ProcessorRun:
    """One attempt in the peer."""

    __slots__ = ("abandoned", "attempt", "began", "context", "ending", "input", "job", "life", "moved", "name", "tool")

    def __init__(self, job: ToolJob, name: str, *, began: float) -> None:
        self.name = name
        """What the peer calls it."""
        self.job = job.id
        self.tool = job.tool_slug
        self.attempt = job.attempts
        self.input = job.input
        self.began = began
        self.context = contextvars.copy_context()
        """What a stub does for this attempt, belongs to it."""
        self.life = LIFETIME.get()
        self.abandoned = False
        self.ending: JobResult | Exception | None = None
        self.moved: asyncio.Future[None] | None = None

    def end(self, ending: Exception) -> None:
        """Let it end so."""
        self.ending = ending
        self.wake()

    def wake(self) -> None:
        """Let the caller look again: each turn is a point at which it may be crashed."""
        if self.moved is not None and not self.moved.done():
            self.moved.set_result(None)


def worker_context(life: Lifetime | None) -> contextvars.Context:
    """Return a context that belongs to the worker around a delivery."""
    if life is None:
        return contextvars.Context()
    while life.parent is not None:
        life = life.parent
    return life.context()


def _change(given: Any, changed: Any) -> None:
    """Do to the input here what was done to it there, so that a comparison sees it."""
    if isinstance(given, dict) and isinstance(changed, dict):
        given.clear()
        given.update(changed)
    elif isinstance(given, list) and isinstance(changed, list):
        given[:] = changed


def ending_of(message: Mapping[str, Any]) -> JobResult | Exception:
    """Return how a run ended: what it answered, or what it threw."""
    if "bad" in message:
        return (NoJobResult if message.get("none") else InvalidResult)(str(message["bad"]))
    if "threw" in message:
        return thrown(message["threw"])
    result = message["result"]
    return JobResult(
        success=result["success"], output=result["output"], error=result["error"], retryable=result["retryable"]
    )


def job_row(job: ToolJob) -> dict[str, Any]:
    """Say a job as the row that a TypeScript processor receives."""

    def moment(at: datetime | None) -> float | None:
        return None if at is None else at.timestamp() * 1000

    return {
        "id": job.id,
        "toolSlug": job.tool_slug,
        "status": str(job.status),
        "priority": job.priority,
        "input": job.input,
        "output": job.output,
        "error": job.error,
        "userId": job.user_id,
        "sessionId": job.session_id,
        "pgBossJobId": job.pgboss_job_id,
        "attempts": job.attempts,
        "maxAttempts": job.max_attempts,
        "startedAt": moment(job.started_at),
        "completedAt": moment(job.completed_at),
        "expiresAt": moment(job.expires_at),
        "createdAt": moment(job.created_at),
        "updatedAt": moment(job.updated_at),
    }


# what a processor can come to besides an answer -----------------------------------------------------------------------


class InvalidResult(Exception):
    """What it returned is not a JobResult, or not JSON."""


class NoJobResult(InvalidResult):
    """What it returned is not a JobResult: there is no `success` that is true or false."""


class ProcessorBlocked(Exception):
    """It gave no sign of life for ten real seconds and was killed; the attempt lasted until the job timeout."""


class ProcessDied(Exception):
    """Its Node process ended: an exit, a kill, an unhandled rejection."""


class JavaScriptError(Exception):
    """What the processor threw. The class has the name that the error has in JavaScript."""

    stack = ""


def thrown(error: Mapping[str, Any]) -> Exception:
    """Return a JavaScript error as one that reads the same when a worker records it."""
    name = str(error.get("name") or "Error")
    message = str(error.get("message") or "")
    if error.get("final"):
        return NonRetryableError(message)
    if not re.fullmatch(r"[A-Za-z_$][\w$]{0,99}", name):
        name, message = "Error", f"{name}: {message}"
    raised: JavaScriptError = type(name, (JavaScriptError,), {})(message)
    raised.stack = str(error.get("stack") or "")
    for line in own_lines(raised.stack):
        raised.add_note(f"    {line}")
    return raised


def own_lines(stack: str) -> list[str]:
    """Return the lines of a stack that say where, without those of Node and of the runner."""
    lines = [line.strip() for line in stack.splitlines()]
    places = [line for line in lines if line.startswith("at ") or "file://" in line]
    return [line for line in places if not any(theirs in line for theirs in _NOT_OWN)]


_NOT_OWN = ("node:internal", "/job_harness/worlds/", "/job_harness/subjects/", "/job-harness/lib/")
"""Found in the lines of a stack that lie in Node, in the runner and in the npm client."""
