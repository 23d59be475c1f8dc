"""How a search or a replay plays a `JobHarness`: with gates that something decides, until everything is at rest."""

from __future__ import annotations

from job_harness.core.faults import FaultPlan
from job_harness.core.invariants.effects import KEY_VARIES
from job_harness.core.sim import Choices
from job_harness.core.sim.descriptors import LockWaiters
from job_harness.errors import HarnessError, UsageError
from job_harness.subjects.processors.bench import Bench
from job_harness.subjects.processors.chance import seed_shared_generators
from job_harness.subjects.processors.harness_review import HarnessReview
from job_harness.subjects.processors.module_state import ModuleMemory, modules_of_project
from job_harness.subjects.processors.other_start import OtherStart, seed_of
from job_harness.subjects.processors.own_checks import OwnChecks

REST_SECONDS = 90 * 24 * 3600.0
"""Virtual seconds within which every job of an explored test has to end once nothing goes wrong any more."""
LAST_TURNS_SECONDS = 1.0
"""Virtual seconds in which threads that take turns finish what they are at when the last job has ended."""
EXPLORED_ANSWER_SECONDS = 2.5
"""Real seconds for which an outstanding answer holds time in an explored run, as long as in a contract: it may be kept
back by a lock of a paused worker, which goes on only when time does."""


class HarnessPlay:
    """Plays one harness, whose test is the script."""

    def __init__(self, bench: Bench, checks: OwnChecks, review: HarnessReview) -> None:
        self._bench = bench
        self._checks = checks
        self._review = review
        self.locks: LockWaiters | None = None
        """The database of the test, if it has one: an answer that waits there for a lock is not waited for."""
        self._forgotten: frozenset[str] = frozenset()
        """What of the modules of the project is set back where a worker dies."""
        self._varies = ""
        """The side effect whose key is known to be another one in each attempt, of the run that is replayed."""

    def reopen(self, choices: Choices, faults: FaultPlan, *, forked: bool = True, remembers: bool = False) -> None:
        """Decide every gate by these choices. In a forked child, what a parent shares with it is made anew.

        With `remembers`, look at what deliveries leave in the modules of their processors.
        """
        bench = self._bench
        if forked:
            bench.loop.after_fork()
            bench.application.reopen()
        bench.loop.expect_answers_within(EXPLORED_ANSWER_SECONDS)
        bench.demands.answer_by(choices)
        bench.session.disturb(bench.demands, faults)
        if (other := OtherStart.of(choices)) is not None:
            choices.pick(other.deviation.label, ("", other.deviation.option))
            self._varies = other.varies
            seed_shared_generators(seed_of(choices))
            bench.jump(other.later)
        bench.running.watch_waits()
        bench.loop.order_answers(self.locks)
        bench.running.compared = bench.registered if remembers else None
        bench.node.explore(bench.running.stand)

    def forget_on_crash(self) -> None:
        """Let plain data in the modules of the project be as it is now whenever a worker has died, as in a new process.

        Not what modules of tests hold, which may stand for the world outside.
        """
        memory = ModuleMemory(modules_of_project(self._bench.registered))
        self._bench.session.companions.insert(0, memory)
        self._forgotten = memory.names

    @property
    def remembered(self) -> list[str]:
        """What of the modules of processors their deliveries have changed: it outlives a crash here."""
        return [name for name in self._bench.running.remembered if name not in self._forgotten]

    def come_to_rest(self) -> None:
        """Let nothing go wrong any more, work until every job has ended, and judge what must hold then.

        Raises Hung if a processor hung, or if a check of `always` has judged nothing, as one that
        looks at what the test has closed.
        """
        try:
            self._rest()
        except Exception:
            if self._checks.raised is None:
                raise
        if self._checks.raised is not None:
            raise self._checks.raised

    def _rest(self) -> None:
        bench = self._bench
        bench.session.heal()
        job_index, end = bench.session.job_index, bench.loop.time() + REST_SECONDS
        while self._work_until(end) and job_index.live and bench.loop.time() < end:
            pass  # What was still at work, as where a job was delivered twice, has sent another one in its last turns.
        bench.session.recorder.phase("judge")
        bench.session.judge.rest(job_index.views)
        if self._varies:
            self._judge_key()
        if self._checks:
            self._checks.judge(at_rest=True)

    def _work_until(self, end: float) -> bool:
        """Work until every job has ended; return whether that went well."""
        bench, went_well = self._bench, True
        try:
            if (job_index := bench.session.job_index).live:
                bench.work(None, lambda: not job_index.live or bench.loop.time() >= end, at_once=False)
        except (HarnessError, UsageError) as error:
            if bench.loop.broken is not None:
                raise  # It does not come to rest, so nothing can be said of what holds there.
            bench.leaks.note(f"rest: {type(error).__name__}: {error}")
            went_well = False
        if bench.guests.is_process and bench.loop.broken is None:
            bench.drive(lambda: bench.loop.advance(LAST_TURNS_SECONDS))
        return went_well and bench.loop.broken is None

    def _judge_key(self) -> None:
        """Report the side effect whose key is known to be another one in each attempt."""
        keys = {each.key: each for each in reversed(self._review.keys) if each.effect == self._varies}
        if len(keys) > 1:
            again, first = list(keys.values())[-2:]
            why = "both keys come from chance or a clock (with other draws, at another time, both are others)"
            told = f"{again} after {first}: {why}, so neither tells a repetition"
            self._bench.session.judge.report(KEY_VARIES.name, KEY_VARIES.name, told, job=again.job)

    @property
    def unforkable(self) -> str:
        """Why a forked child cannot play this test; empty where it can."""
        if worked := self._bench.node.worked:
            return (
                f"a fixture has run {worked[0]} on a job already, and what its module remembers is in a Node process "
                "that a forked run cannot share; run that job in the test itself"
            )
        return self._bench.application.unforkable
