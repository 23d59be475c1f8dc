"""A pg-boss process driven by a virtual loop: its next timer is one of the loop's, its rows are what is observed.

pg-boss is asked nothing about its jobs: what it did is read from the rows, and written down as
calls and outcomes.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from job_harness.core.history import DONE, Outcome, done
from job_harness.core.model import SECOND, Instant, JobId, JobView, Json, Status
from job_harness.core.port import Claim, JobRequest
from job_harness.core.run.observation import Observation, Recorder
from job_harness.core.sim.loop import VirtualLoop
from job_harness.engines.pgboss.translation import view_of
from job_harness.engines.pgboss.work import (
    LIMIT,
    NEVER,
    SUPERVISION,
    HandlerCall,
    WorkProcess,
    WorkTurn,
    next_due,
    poll_of,
)
from job_harness.errors import HarnessError


class HandlerCaller(Protocol):
    """Who runs the handlers."""

    def take_call(self, call: HandlerCall, claims: tuple[Claim, ...]) -> None:
        """Run a handler that pg-boss calls, with these claims."""


class DrivenProcess:
    """Asks the process in turns, writes down what its rows say after each, and wakes it when its timers are due."""

    def __init__(
        self,
        process: WorkProcess,
        loop: VirtualLoop,
        *,
        observation: Observation[WorkRows],
        seed: int,
        caller: HandlerCaller,
    ) -> None:
        """Begin on empty tables. Raises EnvironmentUnavailable, VirtualClockError."""
        self.process = process
        self.rows = observation.queue
        self.told = DrivenRowReader(self.rows, observation.recorder)
        """Writes down what is asked for and what changed."""
        self._board = observation.job_index
        self.claims: dict[JobId, Claim] = {}
        """The last claim of every job."""
        self.allowance: int | None = 0
        """How many jobs may still be fetched; None is any number."""
        self._caller = caller
        self.broken: Exception | None = None
        """What ended it."""
        self.said: dict[str, None] = {}
        """The errors and warnings that pg-boss emitted, each once."""
        self._loop = loop
        self._settings = observation.settings
        self._clocks = observation.clocks
        self._jitter = random.Random(seed).random
        self._turn = threading.RLock()
        """A test that is a coroutine may enqueue while its harness works on another thread."""
        self._timer: asyncio.TimerHandle | None = None
        self._timers = process.begin(seed=seed).timers

    def ask(self, question: str, *, told: Callable[[WorkTurn], None] = lambda turn: None, **arguments: Any) -> WorkTurn:
        """Ask something now; `told` writes down what was asked for, the rest that happened is pg-boss's own doing."""
        with self._turn:
            return self._hear(self.process.ask(question, self._clocks.now, **arguments), told)

    def send(self, *, told: Callable[[WorkTurn], None], **arguments: Any) -> WorkTurn:
        """Send a job now."""
        with self._turn:
            return self._hear(self.process.send(self._clocks.now, **arguments), told)

    def reply(self, call: HandlerCall, *, told: Callable[[WorkTurn], None], **said: Any) -> WorkTurn:
        """Let a handler that was called end."""
        with self._turn:
            return self._hear(self.process.reply(call.number, self._clocks.now, **said), told)

    def _hear(self, turn: WorkTurn, told: Callable[[WorkTurn], None] = lambda turn: None) -> WorkTurn:
        """Take over what happened in a turn."""
        for line in turn.trouble:
            self.said.setdefault(f"{self.process.name}: {line}")
        self._timers = turn.timers
        if turn.stirred or turn.calls:
            self.rows.read()
        told(turn)
        for call in turn.calls:
            self._called(call)
        self._notice(turn.outcome.value)
        if self._loop.is_running() and not self._loop.is_in_this_thread():
            self._loop.call_soon_threadsafe(self.plan, context=contextvars.Context())
        else:
            self.plan()
        return turn

    def plan(self) -> None:
        """Set the loop's timer to when the process is next to be woken."""
        self.rest()
        due = next_due(self._timers, self._skip())
        if due is not None and self.broken is None:
            self._timer = self._loop.call_at(due / SECOND, self._tick, context=contextvars.Context())

    def rest(self) -> None:
        """Let no timer of the process fire until `plan`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def draw(self) -> None:
        """Let PostgreSQL's next random number be ours, where a failure may ask for one."""
        if self._settings.retry_backoff and any(v.status is Status.PROCESSING for v in self._board.live.values()):
            self.process.draw(self._clocks.now, fraction=self._jitter())

    def reopen(self) -> None:
        """Go on in a forked child on the process that was made ready for it. Raises EnvironmentUnavailable."""
        self.process = self.process.in_child()
        self.rows.stand_on(self.process)

    def kill(self) -> None:
        """End the process with SIGKILL. It is asked nothing until `restart`."""
        self.rest()
        self.process.kill()

    def restart(self) -> None:
        """Start another process on the same database; where that fails, it is `broken`."""
        try:
            with self._turn:
                self._hear(self.process.restart(self._clocks.now))
        except HarnessError as error:
            self.broken = error

    def holds(self, claim: Claim) -> bool:
        """Whether an attempt is still the one that its row is about."""
        view = self._board.views.get(claim.job)
        return view is not None and view.status is Status.PROCESSING and view.attempts == claim.attempt

    def due(self) -> list[JobView]:
        """List what could be fetched now."""
        now = self._clocks.now
        return [v for v in self._board.live.values() if v.status is Status.PENDING and v.start_after <= now]

    def tools_due(self) -> list[str]:
        """List the tools of what could be fetched now, the tool of the first job first."""
        first = sorted(self.due(), key=lambda view: (-view.priority, view.created_at))
        return list(dict.fromkeys(view.tool for view in first))

    def _called(self, call: HandlerCall) -> None:
        views = self.rows.jobs()
        claims = tuple(self._claim(views[job]) for job in call.jobs)
        self.claims |= {claim.job: claim for claim in claims}
        self.told.claimed(list(claims))
        if self.allowance is not None:
            self.allowance -= len(claims)
        self._caller.take_call(call, claims)

    def _claim(self, view: JobView) -> Claim:
        until = view.lease_until if view.lease_until is not None else self._clocks.now
        return Claim(view.id, view.attempts, view.token, self.rows.worker, view.tool, until)

    def _notice(self, fired: Any) -> None:
        """Write down what changed unasked: a worker gave up waiting, or the supervision took back."""
        known = self._board.views
        rest = []
        for job in self.rows.differing(known):
            before, after, claim = known.get(job), self.rows.jobs().get(job), self.claims.get(job)
            if fired == LIMIT and claim is not None and before is not None and timed_out(before, after):
                self.told.record_ending("fail", claim, (after.error if after else None) or "timed out", False)
            else:
                rest.append(job)
        if rest:
            self.told.supervised(rest)

    def _tick(self) -> None:
        try:
            with self._turn:
                self.draw()
                self._hear(self.process.tick(self._clocks.now, skip=self._skip()))
        except HarnessError as error:
            self.broken = error

    def _skip(self) -> dict[str, Instant]:
        """Tell from when on each round would find something to do."""
        live = self._board.live.values()
        overdue = [view.lease_until for view in live if view.lease_until is not None]
        overdue += [view.start_after + self._settings.retention for view in live if view.status is Status.PENDING]
        skip = {timer.round: NEVER for timer in self._timers if timer.period is not None}
        skip[SUPERVISION] = min(overdue, default=NEVER)
        if self.allowance == 0:
            return skip
        for view in live:
            if view.status is Status.PENDING:
                poll = poll_of(view.tool)
                skip[poll] = min(skip.get(poll, NEVER), view.start_after)
        return skip


TEST: Final = "test"
"""The actor that enqueues, cancels and retries."""
SUPERVISOR: Final = "supervision"


class WorkRows:
    """The rows as they were last read, in views."""

    def __init__(self, process: WorkProcess) -> None:
        self._process = process
        self.worker = ""
        """Whose claim a new one is."""
        self._granted: dict[JobId, int] = {}
        self.inputs: dict[JobId, Json] = {}
        self._workers: dict[tuple[JobId, int], str] = {}
        self._views: dict[JobId, JobView] = {}
        self._shown: list[JobId] = []

    def stand_on(self, process: WorkProcess) -> None:
        """Read from another database, which has the same rows."""
        self._process = process

    def read(self) -> None:
        """Read all rows."""
        self._views = {}
        for row in self._process.tables.jobs():
            job = row["data"]["job"]
            self.inputs[job] = row["data"]["input"]
            worker = None
            if row["state"] == "active":
                worker = self._workers.setdefault((job, row["retry_count"]), self.worker)
            granted, process = self._granted.get(job, 0), self._process
            view = view_of(row, worker=worker, granted=granted, strictly=process.strictly, keys=process.keys)
            self._views[job] = view

    def grant(self, job: JobId, attempt: int) -> None:
        """Know that a resume allows a job this attempt, whatever its limit."""
        self._granted[job] = attempt
        self.read()

    def differing(self, known: Mapping[JobId, JobView]) -> list[JobId]:
        """List the jobs that are not as they were known, gone ones too."""
        views = self._views
        return [job for job in {**known, **views} if known.get(job) != views.get(job)]

    def show(self, *jobs: JobId) -> None:
        """Let the recorder see what became of these, and of no others."""
        self._shown = list(jobs)

    def jobs(self) -> dict[JobId, JobView]:
        """Return the views."""
        return self._views

    def changed(self) -> list[JobId]:
        """Return which of them are shown."""
        return self._shown


class DrivenRowReader:
    """Turns rows that changed into calls, what was seen, and outcomes."""

    def __init__(self, rows: WorkRows, recorder: Recorder) -> None:
        self._rows = rows
        self._recorder = recorder

    def enqueued(self, request: JobRequest, outcome: Outcome) -> None:
        """A job was sent."""
        self._record_verb(TEST, "enqueue", outcome, shown=(request.id,), arguments=(request,), job=request.id)

    def operated(self, verb: str, job: JobId, outcome: Outcome) -> None:
        """An operator cancelled or retried a job."""
        self._record_verb(TEST, verb, outcome, shown=(job,), arguments=(job,), job=job)

    def claimed(self, claims: list[Claim]) -> None:
        """A worker fetched a batch."""
        worker = claims[0].worker
        jobs = [claim.job for claim in claims]
        self._record_verb(worker, "claim", done(claims), shown=tuple(jobs), arguments=(worker, len(claims)))
        for claim in claims:
            self._recorder.effect(worker, claim.job, claim.attempt, claim.token, "claimed")

    def record_ending(self, verb: str, claim: Claim, *rest: Any, outcome: Outcome = DONE) -> None:
        """A worker completed or failed a job of its batch."""
        about: dict[str, Any] = {"job": claim.job, "token": claim.token, "arguments": (claim, *rest)}
        self._record_verb(claim.worker, verb, outcome, shown=(claim.job,), **about)

    def supervised(self, jobs: list[JobId]) -> None:
        """The supervision, or another process that is not a worker, changed these."""
        for verb, gone in (("expire", False), ("purge", True)):
            shown = tuple(job for job in jobs if (job not in self._rows.jobs()) is gone)
            if shown:
                self._record_verb(SUPERVISOR, verb, done(list(shown)), shown=shown)

    def _record_verb(self, actor: str, verb: str, outcome: Outcome, *, shown: tuple[JobId, ...], **about: Any) -> None:
        self._rows.show(*shown)
        self._recorder.record_call(actor, verb, outcome, **about)


def timed_out(before: JobView, after: JobView | None) -> bool:
    """Whether an attempt ended without an answer of its handler."""
    return before.status is Status.PROCESSING and after is not None and after.status is not Status.PROCESSING
