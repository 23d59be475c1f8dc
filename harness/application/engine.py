"""Presents a user's application as an engine: what searches, replays and shrinks runs on queues does so on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from harness.application.driver import Driver, where_of
from harness.application.request import poll, step
from harness.application.stage import Stage
from harness.application.tables import InMemory, Tables, TableStore
from harness.errors import UsageError, did_you_mean
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks, QueueUnderTest
from harness.run.stock import request_of
from harness.run.world import World
from harness.scenario.job_plan import JobPlan
from harness.sim.request import Frame, Sleep

CAPABILITIES = Capabilities(heartbeat=True, maintenance=True, virtual_time=True)
"""What the generic workload may ask of any application: to honour its settings, and to keep two tables."""
NEEDED = ("actors", "send")


def as_application(made: object, *, name: str) -> Any:
    """Answer an object that has the two methods of an application.

    Raises UsageError that says which it lacks.
    """
    missing = [method for method in NEEDED if not callable(getattr(made, method, None))]
    if missing:
        raise UsageError(
            f"{name} answered {type(made).__name__}, which is no application: it has no {' and no '.join(missing)}",
            hint="An application has actors(stage) and send(stage, job); see docs/applications.md.",
        )
    return made


class ApplicationEngine:
    """Makes the application anew for every run, so that no run sees what another left behind."""

    def __init__(self, make: Callable[[], object], *, name: str, store: TableStore | None = None) -> None:
        """Make it once, to see that it can be made; `store` opens its tables (in memory, unless given).

        Raises UsageError where it cannot be made.
        """
        self.name = name
        self._store: TableStore = InMemory() if store is None else store
        self.owns_store = True
        """Whether the store is closed with it."""
        self.contract = self._store.contract
        self.capabilities = CAPABILITIES
        self._make = make
        application = self._made()
        self.settings: Settings = getattr(application, "settings", None) or Settings()
        """What the application runs under unless a scenario says otherwise."""
        self.safeguards: Mapping[str, Callable[[], object]] = dict(getattr(application, "safeguards", None) or {})
        """By name, the factory of the same application with one safeguard more."""

    def guarded(self, safeguard: str) -> ApplicationEngine:
        """Answer the same application with one safeguard switched on, on the same store: it lives as long as this one.

        Raises UsageError for a safeguard that it does not declare.
        """
        if safeguard not in self.safeguards:
            raise UsageError(
                f"{self.name} declares no safeguard {safeguard!r}{did_you_mean(safeguard, self.safeguards)}",
                hint=f"It declares {', '.join(self.safeguards) or 'none'}.",
            )
        guarded = ApplicationEngine(self.safeguards[safeguard], name=f"{self.name}+{safeguard}", store=self._store)
        guarded.owns_store = False
        return guarded

    @property
    def provenance(self) -> str:
        """Where the database of its tables came from; empty where there is none."""
        return self._store.provenance

    def _made(self) -> Any:
        try:
            made = self._make()
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{self.name} cannot be made: {type(error).__name__}: {error} (at {where_of(error)})",
                hint="It is called without arguments, once for every run.",
            ) from error
        return as_application(made, name=self.name)

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> QueueUnderTest:
        """Answer an application at its start, seen as a queue without verbs."""
        tables = self._store.open(settings, clocks.store, jitter)
        return cast(QueueUnderTest, ApplicationQueue(self._made(), self.name, tables, clocks.store))

    def close(self) -> None:
        """Give the store back, where it is its own."""
        if self.owns_store:
            self._store.close()


class ApplicationQueue:
    """What is seen of an application's tables; it has no verbs, for the application's own processes are at work."""

    capabilities = CAPABILITIES

    def __init__(self, application: Any, name: str, tables: Tables, clock: Callable[[], Instant]) -> None:
        own = getattr(application, "jobs", None)
        self.application = Staged(application, name, tables, clock, upkeep=own is None)
        self.jobs: Callable[[], Mapping[JobId, JobView]] = own or tables.jobs
        self.changed: Callable[[], Any] = (lambda: None) if own is not None else tables.changed

    def close(self) -> None:
        """Nothing to give back."""


class Staged:
    """An application on its stage, as the session starts it."""

    def __init__(
        self, application: Any, name: str, tables: Tables, clock: Callable[[], Instant], *, upkeep: bool
    ) -> None:
        self._application = application
        self._name = name
        self._tables = tables
        self._clock = clock
        self._upkeep = upkeep

    def clients(self, world: World) -> Mapping[str, Callable[[], Frame]]:
        """Answer nobody: the API is a process of the application, which may crash."""
        return {}

    def actors(self, world: World) -> Mapping[str, Callable[[], Frame]]:
        """Answer a factory for each request to the API, for each process, and for the queue's own upkeep."""
        stage = Stage(world, self._tables, self._clock)
        factories = {
            f"client-{plan.name}": self._client(world, stage, plan)
            for plan in world.scenario.jobs
            if not plan.held_back
        }
        processes = self._processes(stage)
        if self._upkeep and "queue" not in processes:
            processes = {**processes, "queue": lambda: upkeep(stage)}
        for order, (name, process) in enumerate(processes.items()):
            factories[name] = self._process(Driver(world, stage, name, order), process)
        return factories

    def _processes(self, stage: Stage) -> Mapping[str, Callable[[], Any]]:
        try:
            processes = self._application.actors(stage)
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{self._name}: actors(stage) raised {type(error).__name__}: {error} (at {where_of(error)})",
                hint="It answers a function for each process by name, and starts none itself.",
            ) from error
        if not isinstance(processes, Mapping) or not all(callable(process) for process in processes.values()):
            raise UsageError(
                f"{self._name}: actors(stage) answered {processes!r:.120}",
                hint="It must answer a mapping from the name of a process to a function that starts it.",
            )
        return processes

    @staticmethod
    def _process(driver: Driver, process: Callable[[], Any]) -> Callable[[], Frame]:
        return lambda: driver.forever(process)

    def _client(self, world: World, stage: Stage, plan: JobPlan) -> Callable[[], Frame]:
        """One client's requests. A request that died with its process is not made again."""
        driver = Driver(world, stage, f"client-{plan.name}", 0)
        sent: list[bool] = []

        def requests() -> Frame:
            if sent:
                return
            sent.append(True)
            if plan.at:
                yield Sleep(plan.at, f"waiting to send {plan.name}")
            for number, job in enumerate(plan.names()):
                if number and plan.every:
                    yield Sleep(plan.every, f"waiting to send {job}")
                request = request_of(plan, job, world, f"client-{plan.name}")
                yield from driver.once(partial(self._application.send, stage, request))

        return requests


async def upkeep(stage: Stage) -> None:
    """Take back what is overdue, as the queue's own supervisor does."""
    while True:
        await poll(stage.settings.expire_interval)
        await step("expire")
        stage.tables.expire()
