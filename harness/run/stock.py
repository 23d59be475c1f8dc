"""The stock actors: a queue plus these is an application. Written as a careful author would write them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from harness.history.outcome import Outcome, OutcomeKind
from harness.model.duration import SECOND, Duration
from harness.model.json_value import json_problem
from harness.port import Claim, JobRequest, Schedule
from harness.run.processing import ProcessorAttempt
from harness.run.world import World
from harness.scenario.job_plan import ERRORS, OUTPUTS, Ending, JobPlan
from harness.scenario.scenario import SCHEDULERS
from harness.sim.request import Call, Frame, Point, Poll, Sleep

TRIES = 3
"""How often a call is made whose outcome stays unknown."""
RETRY_PAUSE: Duration = SECOND

Steps = Generator[Any, Any, Any]


class StockApplication:
    """Workers, the queue's own upkeep, the maintenance cron, schedulers, and a client for each planned job."""

    def actors(self, world: World) -> Mapping[str, Callable[[], Frame]]:
        """Answer a factory for each process by name; clients come from `clients`."""
        factories: dict[str, Callable[[], Frame]] = {}
        if world.settings.workers_enabled:
            for name in world.scenario.workers:
                factories[name] = lambda name=name: worker(world, name)  # type: ignore[misc]
        factories["queue"] = lambda: upkeep(world)
        if world.capabilities.maintenance:
            factories["maintenance"] = lambda: maintenance(world)
        if any(plan.scheduled for plan in world.scenario.jobs):
            for name in SCHEDULERS:
                factories[name] = lambda name=name: scheduler(world, name)  # type: ignore[misc]
        return factories

    def clients(self, world: World) -> Mapping[str, Callable[[], Frame]]:
        """Answer a factory for each client by name."""
        return {
            f"client-{plan.name}": lambda plan=plan: client(world, plan)  # type: ignore[misc]
            for plan in world.scenario.jobs
            if not plan.held_back
        }


def insist(call: Call) -> Steps:
    """Make a call again while its outcome stays unknown; a repeat that is refused was done before."""
    outcome: Outcome = yield call
    for _ in range(TRIES - 1):
        if outcome.kind is not OutcomeKind.UNKNOWN:
            break
        yield Sleep(RETRY_PAUSE, f"retrying {call.point}")
        outcome = yield call
    return outcome


def request_of(plan: JobPlan, name: str, world: World, actor: str) -> JobRequest:
    """Answer what a client sends; start times are instants of the client's own clock."""
    start_after = None if plan.start_after is None else world.now(actor) + plan.start_after
    return JobRequest(
        id=name,
        tool=plan.tool,
        input=plan.sent,
        priority=plan.priority,
        max_attempts=plan.max_attempts,
        start_after=start_after,
        unique_key=plan.unique_key,
        serial_key=plan.serial_key,
        dead_letter=plan.dead_letter,
        transaction=None if plan.transaction is None else name,
    )


def client(world: World, plan: JobPlan) -> Steps:
    """Send what was planned; cancel and retry where that was planned."""
    me = f"client-{plan.name}"
    if plan.at:
        yield Sleep(plan.at, f"waiting to send {plan.name}")
    if plan.scheduled:
        yield from scheduled(world, plan)
        return
    for number, name in enumerate(plan.names()):
        if number and plan.every:
            yield Sleep(plan.every, f"waiting to send {name}")
        send = Call("enqueue", (request_of(plan, name, world, me),), name)
        yield from insist(send) if plan.transaction is None else in_transaction(plan, send)
    if plan.cancel_after is not None:
        yield Sleep(plan.cancel_after, f"waiting to cancel {plan.name}")
        yield from insist(Call("cancel", (plan.name,), plan.name))
    if plan.retry_after is not None:
        yield Sleep(plan.retry_after, f"waiting to retry {plan.name}")
        yield from insist(Call("retry", (plan.name,), plan.name))


def in_transaction(plan: JobPlan, send: Call) -> Steps:
    """Send inside a transaction of its own, keep that open for a while, and end it as planned."""
    name = send.job
    assert name is not None
    yield from insist(Call("begin", (name,), name))
    yield from insist(send)
    if plan.open_for:
        yield Sleep(plan.open_for, f"before the end of the transaction of {name}")
    yield from insist(Call(str(plan.transaction), (name,), name))


def scheduled(world: World, plan: JobPlan) -> Steps:
    """Set a schedule, and end it half a period after its last slot."""
    me, period = f"client-{plan.name}", plan.every
    assert period is not None
    schedule = Schedule(plan.name, period, request_of(plan, plan.name, world, me))
    world.board.timetable.set(schedule, world.now(me))
    yield from insist(Call("schedule", (schedule,), plan.name))
    now = world.now(me)
    yield Sleep(schedule.latest(now) + plan.count * period + period // 2 - now, f"waiting to unschedule {plan.name}")
    yield from insist(Call("unschedule", (plan.name,), plan.name))
    world.board.timetable.end(plan.name)


def scheduler(world: World, me: str) -> Steps:
    """One of two: makes what is due by schedules, on a grid of its own."""
    interval = world.settings.tick_interval
    origin = SCHEDULERS.index(me) * interval // len(SCHEDULERS)
    early = interval // 2
    seen = -1
    while True:
        yield Poll(interval, lambda seen=seen: world.board.timetable.next_look(seen, early), origin=origin)  # type: ignore[misc]
        seen = world.now(me)
        yield Call("tick", (me,))


def upkeep(world: World) -> Steps:
    """The queue's own supervisor: takes back what is overdue."""
    while True:
        world.anew("queue")
        yield Poll(world.settings.expire_interval, world.board.next_expiry, origin=SECOND)
        yield Call("expire", ())


def maintenance(world: World) -> Steps:
    """The cron: reconcile, rescue, purge."""
    while True:
        world.anew("maintenance")
        yield Poll(world.settings.cron_period, world.board.next_maintenance, origin=0)
        for verb in ("reconcile", "rescue", "purge"):
            yield Call(verb, ())


def worker(world: World, me: str) -> Steps:
    """Claim a batch, run it one by one under the timeout, settle each."""
    settings = world.settings
    order = world.scenario.workers.index(me) if me in world.scenario.workers else 0
    origin = order * settings.poll_interval // max(1, len(world.scenario.workers)) // SECOND * SECOND
    vain = 0
    while True:
        if not vain:
            world.anew(me)
        if world.told_to_stop(me):
            break
        outcome: Outcome = yield Call("claim", (me, settings.batch_size))
        vain = 0 if outcome.value or not world.capabilities.sessions else vain + 1
        claims: list[Claim] = list(outcome.value or ()) if outcome.done else []
        for claim in claims:
            world.effect(me, claim, "claimed")
        while claims:
            if world.told_to_stop(me) and world.capabilities.release:
                yield from give_back(claims)
                break
            yield from run_one(world, me, claims)
        if not outcome.value:
            yield Poll(settings.poll_interval * patience(vain), world.board.next_claim, origin=origin)
    world.stopped(me)


def patience(vain: int) -> int:
    """Answer how many polls to let pass after so many in vain: what is due may be locked for long by somebody dead."""
    return 1 << min(max(0, vain - 3), 6)


def give_back(claims: list[Claim]) -> Steps:
    """Release what was claimed and not started."""
    while claims:
        claim = claims.pop(0)
        yield from insist(Call("release", (claim,), claim.job, claim.token))


def run_one(world: World, me: str, claims: list[Claim]) -> Steps:
    """Run the first claim of the batch, keep the leases of all, settle it."""
    claim = claims[0]
    if world.settings.heartbeat_interval and world.settings.batch_size > 1:
        yield from heartbeats(claims)
        if claim not in claims:
            return
    yield Point(f"start {claim.job}")
    attempt = world.begin(claim)
    world.effect(me, claim, "started")
    if attempt is not None:
        yield from run_real(world, me, claims, attempt)
        return
    ending = world.plan(claim.job).ending(claim.attempt)
    finished = yield from run_for(world, me, claim, claims)
    if finished is None:
        world.effect(me, claim, "ended", "lease lost")
        return
    claims.remove(claim)
    if finished and ending is Ending.EXIT:
        world.died(me, f"running {claim.job}")
        yield Sleep(RETRY_PAUSE, "restarting")
        claims.clear()
        return
    yield from settle(world, me, claim, ending if finished else None)


def run_for(world: World, me: str, claim: Claim, claims: list[Claim]) -> Steps:
    """Let the processor's time pass. True: it ended; False: it was timed out; None: the lease was lost."""
    settings = world.settings
    plan = world.plan(claim.job)
    hangs = plan.ending(claim.attempt) is Ending.HANG
    duration = settings.job_timeout + 1 if hangs else plan.duration(claim.attempt, settings)
    left = min(duration, settings.job_timeout)
    while left > 0:
        slice_ = min(left, settings.heartbeat_interval or left)
        started = world.now(me) if duration > settings.job_timeout else 0
        yield Sleep(slice_, f"running {claim.job}")
        left -= max(slice_, world.now(me) - started) if duration > settings.job_timeout else slice_
        if left > 0:
            yield from heartbeats(claims)
            if claim not in claims:
                return None
    return duration <= settings.job_timeout


def run_real(world: World, me: str, claims: list[Claim], attempt: ProcessorAttempt) -> Steps:
    """Let a real processor work on the first claim under the timeout, keep the leases of all, settle it."""
    settings = world.settings
    claim = claims[0]
    left = settings.job_timeout
    wait = attempt.move(0)
    if attempt.ended is not None:
        yield Point(f"running {claim.job}")
    while attempt.ended is None and left > 0:
        slice_ = min(length for length in (left, wait, settings.heartbeat_interval) if length)
        began = world.now(me)
        yield Sleep(slice_, f"running {claim.job}")
        passed = max(slice_, world.now(me) - began)
        left -= passed
        wait = attempt.move(passed)
        if attempt.ended is None and left > 0:
            yield from heartbeats(claims)
            if claim not in claims:
                attempt.abandon()
                world.effect(me, claim, "ended", "lease lost")
                return
    claims.remove(claim)
    yield from settle_real(world, me, claim, attempt)


def settle_real(world: World, me: str, claim: Claim, attempt: ProcessorAttempt) -> Steps:
    """Report how a real processor ended; one that did not is abandoned."""
    ended = attempt.ended
    if ended is None:
        attempt.abandon()
        world.effect(me, claim, "ended", "timeout")
        yield from insist(_fail(claim, "timed out", final=False))
        return
    problem = json_problem(ended.output) if ended.success else None
    if ended.success and not problem:
        world.effect(me, claim, "ended", "success")
        yield from insist(Call("complete", (claim, ended.output), claim.job, claim.token))
        return
    world.effect(me, claim, "ended", "bad output" if problem else "failure")
    error = f"the output is no JSON: {problem}" if problem else ended.error
    yield from insist(_fail(claim, error, final=ended.final))


def heartbeats(claims: list[Claim]) -> Steps:
    """Extend every lease that is held; drop what was taken back."""
    for claim in list(claims):
        outcome: Outcome = yield Call("heartbeat", (claim,), claim.job, claim.token)
        if outcome.kind is OutcomeKind.REFUSED:
            claims.remove(claim)


def settle(world: World, me: str, claim: Claim, ending: Ending | None) -> Steps:
    """Report how a run ended. None is a timeout; an output that JSON cannot hold is a failure."""
    if ending is None:
        world.effect(me, claim, "ended", "timeout")
        yield from insist(_fail(claim, "timed out", final=False))
    elif ending is Ending.SUCCEED:
        world.effect(me, claim, "ended", "success")
        output = {"attempt": claim.attempt, "by": me}
        yield from insist(Call("complete", (claim, output), claim.job, claim.token))
    elif ending in OUTPUTS:
        output = OUTPUTS[ending]
        world.effect(me, claim, "ended", "bad output")
        outcome: Outcome = yield from insist(Call("complete", (claim, output), claim.job, claim.token))
        if not outcome.done:
            yield from insist(_fail(claim, f"the output is no JSON: {json_problem(output)}", final=False))
    else:
        world.effect(me, claim, "ended", "failure")
        yield from insist(_fail(claim, ERRORS[ending], final=ending is Ending.FAIL_FINALLY))


def _fail(claim: Claim, error: str, *, final: bool) -> Call:
    return Call("fail", (claim, error, final), claim.job, claim.token)
