"""The verbs of the harness, asked of procrastinate in a child. Decides nothing: every rule is procrastinate's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar, Final

from harness.adapters.procrastinate.translation import LOOK, lock_of, view_of
from harness.foreign.asking_queue import AskingQueue, without_value
from harness.foreign.database import ForeignDatabase, timestamp_of
from harness.foreign.peer import Responder
from harness.history.outcome import Outcome, done
from harness.model.duration import SECOND, Instant
from harness.model.job import JobId, JobView, Json
from harness.model.lifecycle import Status
from harness.model.settings import Settings
from harness.port import Capabilities, Claim, Clocks, JobRequest

_NUMBER: Final = re.compile(r"job id: (\d+)")
BASE: Final = 2
"""Of the exponential wait."""
UNKNOWN_JOB: Final = Outcome.refused("unknown job")


class ProcrastinateQueue(AskingQueue):
    """A queue under test over procrastinate 3. A claim is told apart by the attempts of its row."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        heartbeat=True,
        cancel=True,
        retry=True,
        priorities=True,
        unique=True,
        start_after=True,
        virtual_time=True,
        fencing=True,
        results=False,
    )

    def __init__(
        self,
        child: Responder,
        database: ForeignDatabase,
        settings: Settings,
        clocks: Clocks,
        jitter: Callable[[], float],
        *,
        attended: bool = True,
    ) -> None:
        """Attended: whether somebody runs the manual's task for stalled jobs."""
        super().__init__(child, database, settings, clocks)
        self._attended = attended
        self._numbers: dict[JobId, int] = {}
        self._most: dict[JobId, int] = {}
        self._by_hand: dict[JobId, int] = {}
        """How often an operator retried a job: its row counts that as an attempt, and nothing was delivered."""
        self._granted: dict[JobId, int] = {}
        """The attempt that the last retry by hand allowed, whatever the limit."""
        self._workers: dict[tuple[JobId, int], str] = {}

    def _stamped(self, now: Instant) -> dict[str, Any]:
        return {"now": timestamp_of(now).isoformat()}

    def _told(self, reason: object) -> str:
        """Name a job as the harness does: its number in the database is another one in every run."""
        names = {str(number): job for job, number in self._numbers.items()}
        return _NUMBER.sub(lambda found: f"job id: {names.get(found[1], found[1])}", str(reason))

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        views = {}
        for row in self._database.run(LOOK, prepare=True):
            job = row["args"]["job"]
            worker = self._workers.get((job, row["attempts"] + 1))
            most = max(self._most.get(job, self._settings.max_attempts), self._granted.get(job, 0))
            by_hand = self._by_hand.get(job, 0)
            views[job] = view_of(row, most=most, lease=self._settings.lease, worker=worker, by_hand=by_hand)
        return views

    # producers and operators ----------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Outcome:
        """Defer a job to the queue of its tool."""
        if refusal := self._unacceptable(request, self._numbers):
            return refusal
        start = None if request.start_after is None else timestamp_of(request.start_after).isoformat()
        outcome = self._ask(
            "enqueue",
            tool=request.tool,
            args={"job": request.id, "input": request.input},
            priority=request.priority,
            queueing_lock=lock_of(request),
            start_after=start,
        )
        if not outcome.done:
            return outcome
        self._numbers[request.id] = outcome.value
        self._most[request.id] = request.max_attempts or self._settings.max_attempts
        return done(request.id)

    def cancel(self, job: JobId) -> Outcome:
        """Cancel what waits; what runs goes on."""
        return self._named("cancel", job)

    def retry(self, job: JobId) -> Outcome:
        """Retry what failed, once: its strategy has used up its attempts. What runs is left to the sweep."""
        before = self.jobs().get(job)
        if before is not None and before.status is not Status.FAILED:
            return Outcome.refused(f"the job is {before.status}")
        outcome = self._named("retry", job)
        if outcome.done and before is not None:
            self._by_hand[job] = self._by_hand.get(job, 0) + 1
            self._granted[job] = before.attempts + 1
        return outcome

    def _named(self, question: str, job: JobId) -> Outcome:
        number = self._numbers.get(job)
        return UNKNOWN_JOB if number is None else without_value(self._ask(question, id=number))

    # workers --------------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> Outcome:
        """Fetch, one job after the other."""
        outcome = self._ask("claim", worker=worker, limit=limit)
        return done([self._claim(job, worker) for job in outcome.value]) if outcome.done else outcome

    def _claim(self, job: dict[str, Any], worker: str) -> Claim:
        name, number = job["args"]["job"], job["attempts"] + 1
        self._workers[name, number] = worker
        attempt = number - self._by_hand.get(name, 0)
        return Claim(name, attempt, number, worker, job["tool"], self._clocks.store() + self._settings.lease)

    def heartbeat(self, claim: Claim) -> Outcome:
        """Show that the worker lives: it holds all its jobs by that, and is not told of any that it lost."""
        return without_value(self._ask("heartbeat", worker=claim.worker))

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Finish as succeeded; the output is not kept."""
        return self._settle("complete", claim)

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Retry or finish as failed, as the retry strategy decides; the error is not kept."""
        most = self._most.get(claim.job, self._settings.max_attempts)
        return self._settle("fail", claim, most=most, **self._waits())

    def _waits(self) -> dict[str, int]:
        """Say how long a retry waits, in whole seconds: first the delay, and with backoff ever longer."""
        wait = -(-self._settings.retry_delay // SECOND)
        if not self._settings.retry_backoff:
            return {"wait": wait, "exponential_wait": 0}
        return {"wait": max(0, wait - BASE), "exponential_wait": BASE}

    def _settle(self, question: str, claim: Claim, **arguments: Any) -> Outcome:
        about: dict[str, Any] = {"worker": claim.worker, "id": self._numbers[claim.job], "attempts": claim.token - 1}
        return without_value(self._ask(question, **about, **arguments))

    # upkeep ---------------------------------------------------------------------------------------------------------

    def expire(self) -> Outcome:
        """Retry the jobs of workers that went silent, as its manual tells its users to do."""
        if not self._attended:
            return done([])
        outcome = self._ask("expire", seconds=self._settings.lease / SECOND)
        names = {number: job for job, number in self._numbers.items()}
        return done([names[number] for number in outcome.value]) if outcome.done else outcome
