"""The stock actors: a queue plus these is an application. Written as a careful author would write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.model.duration import SECOND
from harness.port import JobRequest, Schedule
from harness.run.context import RunContext
from harness.run.insisting import Steps, insist
from harness.run.worker import Worker
from harness.scenario.job_plan import JobPlan
from harness.scenario.scenario import SCHEDULERS
from harness.sim.request import Frame, Poll, Sleep, VerbCall


@dataclass(frozen=True, slots=True)
class StockApplication:
    """Workers, the queue's own upkeep, the maintenance cron, schedulers, and a client for each planned job."""

    worker: type[Worker] = Worker
    """What the workers do; a wrong worker is another class."""

    def actors(self, world: RunContext) -> Mapping[str, Callable[[], Frame]]:
        """Return a factory for each process by name; clients come from `clients`."""
        factories = dict(self.workers(world)) if self.worker.wanted(world.settings) else {}
        if not world.capabilities.takes_back_in_claim:
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
        return {
            f"client-{plan.name}": lambda plan=plan: client(world, plan)  # type: ignore[misc]
            for plan in world.scenario.jobs
            if not plan.held_back
        }


def request_of(plan: JobPlan, name: str, world: RunContext, actor: str) -> JobRequest:
    """Return what a client sends; start times are instants of the client's own clock."""
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


def client(world: RunContext, plan: JobPlan) -> Steps:
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
        send = VerbCall("enqueue", (request_of(plan, name, world, me),), name)
        yield from insist(send) if plan.transaction is None else in_transaction(plan, send)
    if plan.cancel_after is not None:
        yield Sleep(plan.cancel_after, f"waiting to cancel {plan.name}")
        yield from insist(VerbCall("cancel", (plan.name,), plan.name))
    if plan.retry_after is not None:
        yield Sleep(plan.retry_after, f"waiting to retry {plan.name}")
        yield from insist(VerbCall("retry", (plan.name,), plan.name))


def in_transaction(plan: JobPlan, send: VerbCall) -> Steps:
    """Send inside a transaction of its own, keep that open for a while, and end it as planned."""
    name = send.job
    assert name is not None
    yield from insist(VerbCall("begin", (name,), name))
    yield from insist(send)
    if plan.open_for:
        yield Sleep(plan.open_for, f"before the end of the transaction of {name}")
    yield from insist(VerbCall(str(plan.transaction), (name,), name))


def scheduled(world: RunContext, plan: JobPlan) -> Steps:
    """Set a schedule, and end it half a period after its last slot."""
    me, period = f"client-{plan.name}", plan.every
    assert period is not None
    schedule = Schedule(plan.name, period, request_of(plan, plan.name, world, me))
    world.board.timetable.set(schedule, world.now(me))
    yield from insist(VerbCall("schedule", (schedule,), plan.name))
    now = world.now(me)
    yield Sleep(schedule.latest(now) + plan.count * period + period // 2 - now, f"waiting to unschedule {plan.name}")
    yield from insist(VerbCall("unschedule", (plan.name,), plan.name))
    world.board.timetable.end(plan.name)


def scheduler(world: RunContext, me: str) -> Steps:
    """One of two: makes what is due by schedules, on a grid of its own."""
    interval = world.settings.tick_interval
    origin = SCHEDULERS.index(me) * interval // len(SCHEDULERS)
    early = interval // 2
    seen = -1
    while True:
        yield Poll(interval, lambda seen=seen: world.board.timetable.next_look(seen, early), origin=origin)  # type: ignore[misc]
        seen = world.now(me)
        yield VerbCall("tick", (me,))


def upkeep(world: RunContext) -> Steps:
    """The queue's own supervisor: takes back what is overdue."""
    while True:
        world.anew("queue")
        yield Poll(world.settings.expire_interval, world.next_upkeep, origin=SECOND)
        yield VerbCall("expire", ())


def maintenance(world: RunContext) -> Steps:
    """The cron: reconcile, rescue, purge."""
    while True:
        world.anew("maintenance")
        yield Poll(world.settings.cron_period, world.board.next_maintenance, origin=0)
        for verb in ("reconcile", "rescue", "purge"):
            yield VerbCall(verb, ())
