"""Wrong workers on a right queue: one step of a worker's own loop is wrong, or it stops and forgets what it holds."""

from __future__ import annotations

from typing import Final

from job_harness.core.history import DONE, Outcome
from job_harness.core.model import SECOND, Duration, Settings
from job_harness.core.port import Claim
from job_harness.core.run.insisting import Steps
from job_harness.core.run.worker import Worker
from job_harness.core.scenario.job_plan import Ending
from job_harness.core.sim import Sleep, VerbCall
from job_harness.engines.memory import MemoryQueue
from job_harness.search.wrong_queues.wrong_queue import BlindSpot, Mistake, Theme

# a release that does nothing ------------------------------------------------------------------------------------------


class ReleaseForgotten(MemoryQueue):
    """Giving back is confirmed, and does nothing."""

    def release(self, claim: Claim) -> Outcome:
        return DONE


SHUTDOWN: Final = Theme.of(
    "a shutdown that gives back what it holds",
    Mistake(
        name="release-forgotten",
        sentence="Release is confirmed, but does nothing: the job waits until its lease runs out.",
        source="pgqueuer PR#693",
        finds=("claim_left_behind",),
        queue=ReleaseForgotten,
    ),
)


# a worker's own loop --------------------------------------------------------------------------------------------------


class GivesUpAtOnce(Worker):
    """graphile-batch-complete-never-retried: a loop of tries that leaves after the first."""

    def insist(self, call: VerbCall) -> Steps:
        outcome: Outcome = yield call
        return outcome


class BeatsTooRarely(Worker):
    """pgqueuer-heartbeat-cadence: the interval and the delay of the buffer add up to more than the lease."""

    def beat_interval(self) -> Duration:
        return self.world.settings.lease + SECOND if super().beat_interval() else 0


class BeatsEndAtShutdown(Worker):
    """solidqueue-heartbeat-stops-before-drain: the heartbeat ends as the shutdown begins, and jobs run on."""

    def heartbeats(self, claims: list[Claim]) -> Steps:
        if not self.world.told_to_stop(self.name):
            yield from super().heartbeats(claims)


class StrandsItsBatch(Worker):
    """pgqueuer-batch-stranded-on-shutdown: leaves the loop over the batch, and forgets the batch."""

    def give_back(self, claims: list[Claim]) -> Steps:
        claims.clear()
        yield from ()


class ConsumesWhileDisabled(Worker):
    """monoscope-disabled-worker-consumes: the flag guards the body of the handler, not the claim."""

    @classmethod
    def wanted(cls, settings: Settings) -> bool:
        return True

    def run_one(self, claims: list[Claim]) -> Steps:
        if self.world.settings.workers_enabled:
            yield from super().run_one(claims)
            return
        claim = claims.pop(0)
        yield from self.insist(VerbCall("complete", (claim, None), claim.job, claim.token))


class HangsOnAnError(Worker):
    """dramatiq-async-timeouterror-hang: the processor's error is taken for the end of a wait, which starts again."""

    def report_ending(self, claim: Claim, ending: Ending | None) -> Steps:
        while ending is Ending.FAIL:
            yield Sleep(self.world.settings.job_timeout, f"waiting for {claim.job}")
        yield from super().report_ending(claim, ending)


class FailureHookRaises(Worker):
    """delayedjob-failure-hook-kills-worker: what a final failure calls comes before its record, and raises."""

    def report_ending(self, claim: Claim, ending: Ending | None) -> Steps:
        if ending is not Ending.FAIL_FINALLY:
            yield from super().report_ending(claim, ending)
            return
        self.world.effect(self.name, claim, "ended", "failure")


WORKERS: Final = Theme.of(
    "a worker that reports, gives back and keeps alive what it holds",
    Mistake(
        name="worker-gives-up-at-once",
        sentence="A worker does not repeat a report that was lost, although its loop looks as if it did.",
        source="graphile/worker#636",
        finds=("outcome_lost",),
        worker=GivesUpAtOnce,
        stands_for=BlindSpot.OUTAGES,
    ),
    Mistake(
        name="worker-beats-too-rarely",
        sentence="A worker's heartbeats are further apart than the length of a lease: two timers add up.",
        source="pgqueuer#430, pgqueuer#323",
        finds=("healthy_claim_taken_back",),
        worker=BeatsTooRarely,
    ),
    Mistake(
        name="heartbeats-end-at-shutdown",
        sentence="A worker that is told to stop ends its heartbeats at once, although its job keeps running.",
        source="solid_queue#568",
        finds=("healthy_claim_taken_back",),
        worker=BeatsEndAtShutdown,
    ),
    Mistake(
        name="worker-strands-its-batch",
        sentence="A worker that is stopped neither runs nor gives back the jobs that it has claimed but not started.",
        source="pgqueuer PR#693",
        finds=("claim_left_behind",),
        worker=StrandsItsBatch,
    ),
    Mistake(
        name="disabled-worker-consumes",
        sentence="A worker that is switched off still claims jobs, skips their work, and completes them.",
        source="monoscope PR#521",
        finds=("silent_success",),
        worker=ConsumesWhileDisabled,
    ),
    Mistake(
        name="worker-hangs-on-an-error",
        sentence="A worker takes the error of its processor for the end of a wait, and keeps waiting forever.",
        source="dramatiq#791",
        finds=("job_never_run",),
        worker=HangsOnAnError,
    ),
    Mistake(
        name="failure-hook-comes-first",
        sentence="The hook for a final failure runs before the failure is recorded; if the hook raises, nothing "
        "is recorded.",
        source="delayed_job PR#276, rq#2184",
        finds=("outcome_lost",),
        worker=FailureHookRaises,
    ),
)
