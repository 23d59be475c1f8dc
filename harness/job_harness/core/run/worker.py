"""The stock worker, step by step. A wrong worker is a subclass with one step written otherwise."""

from __future__ import annotations

from typing import Final

from job_harness.core.history import REFUSED, Outcome
from job_harness.core.model import SECOND, Design, Duration, Settings, json_problem
from job_harness.core.port import Claim
from job_harness.core.run.context import ProcessorAttempt, RunContext
from job_harness.core.run.insisting import RETRY_PAUSE, TRIES, Steps, insist
from job_harness.core.scenario.job_plan import ERRORS, OUTPUTS, Ending
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim import Point, Poll, Sleep, VerbCall


class Worker:
    """Claims, runs and settles. It remembers nothing itself: what it knows is in the frame of `work`."""

    def __init__(self, world: RunContext, name: str) -> None:
        self.world = world
        self.name = name

    def insist(self, call: VerbCall) -> Steps:
        """Report until it is known what that came to; a call in its own process is made once."""
        return insist(call, TRIES if self.world.capabilities.remote else 1)

    @classmethod
    def wanted(cls, settings: Settings) -> bool:
        """Say whether workers are to be started at all."""
        return settings.workers_enabled

    def work(self) -> Steps:
        """Claim a batch, run it one by one under the timeout, settle each."""
        world, settings = self.world, self.world.settings
        tools = world.scenario.serves.get(self.name)
        wanted = (self.name, settings.batch_size) if tools is None else (self.name, settings.batch_size, tools)
        origin = first_look(self.name, world.scenario)
        vain, hope = 0, 0 if world.capabilities.sessions else HOPE
        tireless = world.searched and not world.capabilities.takes_back_in_claim
        while True:
            if vain <= hope:
                world.anew(self.name)
            if world.told_to_stop(self.name):
                break
            outcome: Outcome = yield VerbCall("claim", wanted)
            vain = 0 if outcome.value or tireless else vain + 1
            claims: list[Claim] = list(outcome.value or ()) if outcome.done else []
            for claim in claims:
                world.effect(self.name, claim, "claimed")
            while claims:
                if world.told_to_stop(self.name) and world.capabilities.release:
                    yield from self.give_back(claims)
                    break
                yield from self.run_one(claims)
            if not outcome.value:
                yield Poll(settings.poll_interval * patience(vain - hope), world.next_claim_of(tools), origin=origin)
        world.stopped(self.name)

    def give_back(self, claims: list[Claim]) -> Steps:
        """Release what was claimed and not started."""
        while claims:
            claim = claims.pop(0)
            yield from self.insist(VerbCall("release", (claim,), claim.job, claim.token))

    def run_one(self, claims: list[Claim]) -> Steps:
        """Run the first claim of the batch, keep the leases of all, settle it."""
        claim = claims[0]
        if self.world.settings.heartbeat_interval and self.world.settings.batch_size > 1:
            yield from self.heartbeats(claims)
            if claim not in claims:
                return
        if self.finds_no_attempt_left(claim):
            claims.remove(claim)
            yield from self.insist(failure(claim, "no attempt left", final=True))
            return
        yield Point(f"start {claim.job}")
        attempt = self.world.begin(claim)
        self.world.effect(self.name, claim, "started")
        if attempt is not None:
            yield from self.run_real(claims, attempt)
            return
        ending = self.world.plan(claim.job).ending(claim.attempt)
        finished = yield from self.run_for(claim, claims)
        if finished is None:
            self.world.effect(self.name, claim, "ended", "lease lost")
            return
        claims.remove(claim)
        if finished and ending is Ending.EXIT:
            self.world.died(self.name, f"running {claim.job}")
            yield Sleep(RETRY_PAUSE, "restarting")
            claims.clear()
            return
        yield from self.report_ending(claim, ending if finished else None)

    def finds_no_attempt_left(self, claim: Claim) -> bool:
        """Say whether a job is not to be run, where a claim leaves that to the worker."""
        view = self.world.job_index.views.get(claim.job)
        checks = Design.CHECKS_AFTER_THE_CLAIM in self.world.contract.designs
        return checks and view is not None and claim.attempt > view.max_attempts

    def allowed(self, claim: Claim) -> Duration:
        """Return how long the processor of a claim may run: as its job asked, else as the settings say."""
        return self.world.plan(claim.job).allowed(self.world.settings)

    def run_for(self, claim: Claim, claims: list[Claim]) -> Steps:
        """Let the processor's time pass. True: it ended; False: it was timed out; None: the lease was lost."""
        settings = self.world.settings
        plan = self.world.plan(claim.job)
        allowed = self.allowed(claim)
        hangs = plan.ending(claim.attempt) is Ending.HANG
        duration = allowed + 1 if hangs else plan.duration(claim.attempt, settings)
        left = min(duration, allowed)
        while left > 0:
            slice_ = min(left, self.beat_interval() or left)
            started = self.world.now(self.name) if duration > allowed else 0
            yield Sleep(slice_, f"running {claim.job}")
            left -= max(slice_, self.world.now(self.name) - started) if duration > allowed else slice_
            if left > 0:
                yield from self.heartbeats(claims)
                if claim not in claims:
                    return None
        return duration <= allowed

    def run_real(self, claims: list[Claim], attempt: ProcessorAttempt) -> Steps:
        """Let a real processor work on the first claim under the timeout, keep the leases of all, settle it."""
        claim = claims[0]
        left = self.allowed(claim)
        wait = attempt.move(0)
        if attempt.ended is not None:
            yield Point(f"running {claim.job}")
        while attempt.ended is None and left > 0:
            slice_ = min(length for length in (left, wait, self.beat_interval()) if length)
            began = self.world.now(self.name)
            yield Sleep(slice_, f"running {claim.job}")
            passed = max(slice_, self.world.now(self.name) - began)
            left -= passed
            wait = attempt.move(passed)
            if attempt.ended is None and left > 0:
                yield from self.heartbeats(claims)
                if claim not in claims:
                    attempt.abandon()
                    self.world.effect(self.name, claim, "ended", "lease lost")
                    return
        claims.remove(claim)
        yield from self.settle_real(claim, attempt)

    def settle_real(self, claim: Claim, attempt: ProcessorAttempt) -> Steps:
        """Report how a real processor ended; one that did not is abandoned."""
        ended = attempt.ended
        if ended is None:
            attempt.abandon()
            self.world.effect(self.name, claim, "ended", "timeout")
            yield from self.insist(failure(claim, "timed out", final=False))
            return
        problem = json_problem(ended.output) if ended.success else None
        if ended.success and not problem:
            self.world.effect(self.name, claim, "ended", "success")
            yield from self.insist(VerbCall("complete", (claim, ended.output), claim.job, claim.token))
            return
        self.world.effect(self.name, claim, "ended", "bad output" if problem else "failure")
        error = f"the output is no JSON: {problem}" if problem else ended.error
        yield from self.insist(failure(claim, error, final=ended.final))

    def beat_interval(self) -> Duration:
        """Return how long it waits from one heartbeat to the next; 0: it sends none while a job runs."""
        return self.world.settings.heartbeat_interval

    def heartbeats(self, claims: list[Claim]) -> Steps:
        """Extend every lease that is held; drop what was taken back."""
        for claim in list(claims):
            outcome: Outcome = yield VerbCall("heartbeat", (claim,), claim.job, claim.token)
            if outcome.kind is REFUSED:
                claims.remove(claim)

    def report_ending(self, claim: Claim, ending: Ending | None) -> Steps:
        """Report how a run ended. None is a timeout; an output that JSON cannot hold is a failure."""
        if ending is None:
            self.world.effect(self.name, claim, "ended", "timeout")
            yield from self.insist(failure(claim, "timed out", final=False))
        elif ending is Ending.SUCCEED:
            self.world.effect(self.name, claim, "ended", "success")
            output = {"attempt": claim.attempt, "by": self.name}
            yield from self.insist(VerbCall("complete", (claim, output), claim.job, claim.token))
        elif ending in OUTPUTS:
            output = OUTPUTS[ending]
            self.world.effect(self.name, claim, "ended", "bad output")
            outcome: Outcome = yield from self.insist(VerbCall("complete", (claim, output), claim.job, claim.token))
            if not outcome.done:
                yield from self.insist(failure(claim, f"the output is no JSON: {json_problem(output)}", final=False))
        else:
            self.world.effect(self.name, claim, "ended", "failure")
            yield from self.insist(failure(claim, ERRORS[ending], final=ending is Ending.FAIL_FINALLY))


HOPE: Final = 30
"""A worker bears this many empty polls in a row while no lock explains them; a queue that gives nothing ends sooner."""


def first_look(worker: str, scenario: Scenario) -> Duration:
    """Return when a worker looks first: all of them look by turns, in whole seconds."""
    names = scenario.workers
    order = names.index(worker) if worker in names else 0
    return order * scenario.settings.poll_interval // max(1, len(names)) // SECOND * SECOND


def patience(vain: int) -> int:
    """Return how many polls to skip after this many empty ones: a dead actor may lock what is due for long."""
    return 1 if vain <= 3 else 1 << min(vain - 3, 6)


def failure(claim: Claim, error: str, *, final: bool) -> VerbCall:
    """Return the call that reports a failure."""
    return VerbCall("fail", (claim, error, final), claim.job, claim.token)
