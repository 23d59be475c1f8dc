"""The stock actors: a queue plus these is an application. Written as a careful author would write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from job_harness.core.history import UNKNOWN, Outcome
from job_harness.core.model import SECOND, Design, Instant
from job_harness.core.port import JobRequest, Schedule
from job_harness.core.run.context import RunContext
from job_harness.core.run.insisting import RETRY_PAUSE, Steps, insist
from job_harness.core.run.worker import Worker
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import SCHEDULERS, PausePlan
from job_harness.core.sim import Frame, Poll, Sleep, VerbCall


@dataclass(frozen=True, slots=True)
class StockApplication:
    """Workers, the queue's own upkeep, the maintenance cron, schedulers, and a client for each planned job."""

    worker: type[Worker] = Worker
    """What the workers do; a wrong worker is another class."""

    def actors(self, world: RunContext) -> Mapping[str, Callable[[], Frame]]:
        """Return a factory for each process by name; clients come from `clients`."""
        factories = dict(self.workers(world)) if self.worker.wanted(world.settings) else {}
        buries = Design.BURIES_BY_SWEEP in world.contract.designs
        if buries or not world.capabilities.takes_back_in_claim:
            factories["queue"] = lambda: upkeep(world)
        if world.capabilities.maintenance:
            factories["maintenance"] = lambda: maintenance(world)
        if any(plan.scheduled for plan in world.scenario.jobs):
            for name in SCHEDULERS:
                factories[name] = lambda name=name: scheduler(world, name)  # type: ignore[misc]
        return factories

    def workers(self, world: RunContext) -> Mapping[str, Callable[[], Frame]]:
        """Return a factory for each worker by name."""
        return {name: lambda name=name: self.worker(world, name).work() for name in world.scenario.workers}  # type: ignore[misc]

    def clients(self, world: RunContext) -> Mapping[str, Callable[[], Frame]]:
        """Return a factory for each client by name."""
        scenario = world.scenario
        presets = {"client-presets": lambda: preset(world)} if scenario.presets else {}
        pauses = {
            f"client-pause-{number}": lambda pause=pause: pausing(world, pause)
            for number, pause in enumerate(scenario.pauses, start=1)
        }
        jobs = {
            f"client-{plan.name}": lambda plan=plan: client(world, plan) for plan in scenario.jobs if not plan.held_back
        }
        return presets | jobs | pauses


def request_of(plan: JobPlan, name: str, world: RunContext, actor: str) -> JobRequest:
    """Return what a client sends; start times are instants of the client's own clock."""
    start_after = None if plan.start_after is None else world.now(actor) + plan.start_after
    mates = [] if plan.group is None else [each for each in world.scenario.jobs if each.group == plan.group]
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
        transaction=None if plan.transaction is None else plan.name,
        lease=plan.lease,
        retry_delay=plan.retry_delay,
        unique_for=plan.unique_for,
        depends_on=plan.depends_on,
        parent=plan.parent,
        group=plan.group,
        group_size=sum(len(each.names()) for each in mates),
        children=plan.children,
    )


def client(world: RunContext, plan: JobPlan) -> Steps:
    """Send what was planned, and ask of the job what an operator was planned to."""
    yield from until_sent(world, plan)
    if plan.scheduled:
        yield from scheduled(world, plan)
        return
    if plan.transaction is None:
        yield from sending(world, plan)
    else:
        yield from in_transaction(world, plan)
    for verb, after in plan.operated():
        yield Sleep(after, f"waiting to {verb} {plan.name}")
        if verb == "send":
            yield from sending(world, replace(plan, transaction=None))
        else:
            yield from insist(VerbCall(verb, (plan.name,), plan.name))


def until_sent(world: RunContext, plan: JobPlan) -> Steps:
    """Wait for the time at which a client sends, and for the jobs after which it does."""
    if plan.at:
        yield Sleep(plan.at, f"waiting to send {plan.name}")
    if plan.after is not None:
        yield Poll(SECOND, world.ended_at(plan.after), origin=0, point=f"waiting for the end of {plan.after}")
    if plan.depends_on:
        yield Poll(SECOND, world.sent(plan.depends_on), origin=0, point=f"waiting for what {plan.name} depends on")
    if plan.parent is not None:
        yield Poll(SECOND, world.sent((plan.parent,)), origin=0, point=f"waiting for the parent of {plan.name}")


def sending(world: RunContext, plan: JobPlan) -> Steps:
    """Send one job, or several so far apart as planned."""
    for number, name in enumerate(plan.names()):
        if number and plan.every:
            yield Sleep(plan.every, f"waiting to send {name}")
        yield from insist(VerbCall("enqueue", (request_of(plan, name, world, f"client-{plan.name}"),), name))


def in_transaction(world: RunContext, plan: JobPlan) -> Steps:
    """Send inside a transaction of its own, keep that open for a while, and end it as planned."""
    name = plan.name
    yield from insist(VerbCall("begin", (name,), name))
    yield from sending(world, plan)
    if plan.open_for:
        yield Sleep(plan.open_for, f"before the end of the transaction of {name}")
    yield from insist(VerbCall(str(plan.transaction), (name,), name))


def preset(world: RunContext) -> Steps:
    """Set the counters of the queue ahead, before the first client sends."""
    for counter, value in world.scenario.presets.items():
        yield VerbCall("preset", (counter, value), counter)


def pausing(world: RunContext, plan: PausePlan) -> Steps:
    """Hold back a tool for a while; the operator who paused it asks until it is let go."""
    yield Sleep(plan.at, f"waiting to pause {plan.tool}")
    yield from insist(VerbCall("pause", (plan.tool,), plan.tool))
    world.job_index.pause(plan.tool)
    yield Sleep(plan.lasts, f"waiting to unpause {plan.tool}")
    yield from persist(VerbCall("unpause", (plan.tool,), plan.tool))
    world.job_index.unpause(plan.tool)


def persist(call: VerbCall) -> Steps:
    """Make a call again until its outcome is known, however long the store is away, at ever longer intervals."""
    pause = RETRY_PAUSE
    while True:
        outcome: Outcome = yield from insist(call)
        if outcome.kind is not UNKNOWN:
            return
        yield Sleep(pause, f"retrying {call.point}")
        pause *= 2


def scheduled(world: RunContext, plan: JobPlan) -> Steps:
    """Set a schedule, and end it half a period after its last slot."""
    me, period = f"client-{plan.name}", plan.every or 0
    job = request_of(plan, plan.name, world, me)
    schedule = Schedule(plan.name, period, job, cron=plan.cron or "", zone=plan.zone, missed=plan.missed)
    world.job_index.timetable.set(schedule, world.now(me))
    yield from insist(VerbCall("schedule", (schedule,), plan.name))
    now = world.now(me)
    last = schedule.latest(now)
    for _ in range(plan.count):
        last = schedule.following(last)
    half = period // 2 if period else min(world.settings.cron_period, schedule.following(last) - last) // 2
    yield Sleep(max(last + half - now, 0), f"waiting to unschedule {plan.name}")
    yield from persist(VerbCall("unschedule", (plan.name,), plan.name))
    world.job_index.timetable.end(plan.name)


def scheduler(world: RunContext, me: str) -> Steps:
    """One of two: makes what is due by schedules, on a grid of its own."""
    interval = world.settings.tick_interval
    origin = SCHEDULERS.index(me) * interval // len(SCHEDULERS)
    early, life = interval // 2, world.contract.alive_for
    seen = -1

    def due() -> Instant | None:
        slot = world.job_index.timetable.next_look(seen, early)
        return slot if slot is None or life is None else min(slot, seen + max(life - interval, 0))

    while True:
        yield Poll(interval, due, origin=origin)
        seen = world.now(me)
        yield VerbCall("tick", (me,))


def upkeep(world: RunContext) -> Steps:
    """The queue's own supervisor: takes back what is overdue."""
    rounds = _Rounds(world, "queue", world.next_upkeep)
    while True:
        world.anew("queue")
        yield Poll(world.settings.expire_interval, rounds.due, origin=SECOND)
        yield VerbCall("expire", ())


def maintenance(world: RunContext) -> Steps:
    """Maintenance: reconcile, rescue, purge."""
    rounds = _Rounds(world, "maintenance", world.job_index.next_maintenance)
    while True:
        world.anew("maintenance")
        yield Poll(world.settings.cron_period, rounds.due, origin=0)
        for verb in ("reconcile", "rescue", "purge"):
            yield VerbCall(verb, ())


class _Rounds:
    """When an actor next looks: when something is due, and where the scenario says so, half-way to that as well."""

    def __init__(self, world: RunContext, actor: str, due: Callable[[], Instant | None]) -> None:
        self._world = world
        self._actor = actor
        self._due = due
        self._expected: Instant | None = None
        self._early: Instant = 0
        self.due = self._half_way if world.scenario.early_rounds else due

    def _half_way(self) -> Instant | None:
        due, now = self._due(), self._world.now(self._actor)
        if due is None or due <= now:
            return due
        if due != self._expected:
            self._expected, self._early = due, (now + due) // 2
        return self._early if self._early > now else due
