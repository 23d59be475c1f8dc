"""A user's application as an engine: what searches, replays and shrinks runs on queues does so on it.

Hides how its processes are driven: after each of their steps the rows are compared with what was
known, and what a process raises is observed instead of ending the run. Must not know any particular
application.
"""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

from job_harness.core.history.answers import declared_settings
from job_harness.core.model import SECOND, Duration, Instant, JobId, JobView, Settings
from job_harness.core.own_code import PACKAGE, CodeLine
from job_harness.core.port import (
    ALL_SHOWN,
    Capabilities,
    Contract,
    EngineClocks,
    EngineInfo,
    QueueUnderTest,
    ShownFacts,
)
from job_harness.core.run.context import RunContext
from job_harness.core.run.stock import request_of, until_sent
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.sim import Frame, Point, Request, Sleep
from job_harness.core.sim.user_code import is_others
from job_harness.engines.two_tables import InMemory, Tables, TableStore
from job_harness.errors import UsageError, did_you_mean
from job_harness.subjects.applications.stage import Exit, LastLook, Look, Rest, Stage, poll, step

CAPABILITIES = Capabilities(heartbeat=True, maintenance=True, virtual_time=True)
"""What the generic workload may ask of any application: to honour its settings, and to keep two tables."""
NEEDED = ("actors", "send")
T = TypeVar("T")


def as_application(made: object, *, name: str) -> Any:
    """Return an object that has the two methods of an application.

    Raises UsageError that says which it lacks.
    """
    missing = [method for method in NEEDED if not callable(getattr(made, method, None))]
    if missing:
        raise UsageError(
            f"{name} returned {type(made).__name__}, which is not an application: it has no {' and no '.join(missing)}",
            hint="An application has actors(stage) and send(stage, job); see docs/applications.md.",
        )
    return made


def _declared(application: object, what: str, kind: type[T], name: str) -> T | None:
    """Return what an application says of itself; None: nothing. Raises UsageError where that is of another kind."""
    value = getattr(application, what, None)
    if value is not None and not isinstance(value, kind):
        raise UsageError(
            f"{name}: {what} is {value!r:.80}, and has to be a {kind.__name__}",
            hint=f"Write {what} = {kind.__name__}(...), from job_harness.core.port; see docs/applications.md.",
        )
    return value


class ApplicationEngine:
    """Makes the application anew for every run, so that no run sees what another left behind."""

    def __init__(self, make: Callable[[], object], *, name: str, store: TableStore | None = None) -> None:
        """Make it once, to see that it can be made; `store` opens its tables (in memory, unless given).

        Raises UsageError where it cannot be made.
        """
        self._name = name
        self._store: TableStore = InMemory() if store is None else store
        self.owns_store = True
        """Whether the store is closed with it."""
        self._make = make
        application = self._made()
        shown = _declared(application, "shows", ShownFacts, name) or ALL_SHOWN
        self._safeguards: Mapping[str, Callable[[], object]] = dict(getattr(application, "safeguards", None) or {})
        """By name, the factory of the same application with one safeguard more."""
        usual, own = Settings(), getattr(application, "settings", None) or Settings()
        given = {setting for setting in Settings.names() if getattr(own, setting) != getattr(usual, setting)}
        limited = replace(CAPABILITIES, **own.limits())
        self.info = EngineInfo(
            name,
            _declared(application, "capabilities", Capabilities, name) or limited,
            contract=_declared(application, "contract", Contract, name) or self._store.contract,
            settings=own,
            declared=tuple(declared_settings(given, own)),
            processes=lambda queue: queue.application,
            shows=lambda: shown,
            provenance=lambda: self._store.provenance,
            confirm=lambda: self._store.confirm(),
            safeguards={safeguard: partial(self.guarded, safeguard) for safeguard in self._safeguards},
        )

    def guarded(self, safeguard: str) -> ApplicationEngine:
        """Return the same application with one safeguard switched on, on the same store: it lives as long as this one.

        Raises UsageError for a safeguard that it does not declare.
        """
        if safeguard not in self._safeguards:
            raise UsageError(
                f"{self._name} declares no safeguard {safeguard!r}{did_you_mean(safeguard, self._safeguards)}",
                hint=f"It declares {', '.join(self._safeguards) or 'none'}.",
            )
        guarded = ApplicationEngine(self._safeguards[safeguard], name=f"{self._name}+{safeguard}", store=self._store)
        guarded.owns_store = False
        return guarded

    def _made(self) -> Any:
        try:
            made = self._make()
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{self._name}() raised {type(error).__name__}: {error} ({where_of(error)})",
                hint="It is called without arguments, once for every run.",
            ) from error
        return as_application(made, name=self._name)

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> QueueUnderTest:
        """Return an application at its start, seen as a queue without verbs."""
        tables = self._store.open(settings, clocks.store, jitter)
        queue = ApplicationQueue(self._made(), self._name, tables, clocks.store)
        queue.capabilities = self.info.capabilities
        return cast(QueueUnderTest, queue)

    def close(self) -> None:
        """Give the store back, where it is its own."""
        if self.owns_store:
            self._store.close()


class ApplicationQueue:
    """What is seen of an application's tables; it has no verbs, for the application's own processes are at work."""

    capabilities: Capabilities = CAPABILITIES

    def __init__(self, application: Any, name: str, tables: Tables, clock: Callable[[], Instant]) -> None:
        own = getattr(application, "jobs", None)
        self.application = Staged(application, name, tables, clock, upkeep=own is None)
        self._own: Callable[[], Mapping[JobId, JobView]] | None = own
        self._tables = tables

    def jobs(self) -> Mapping[JobId, JobView]:
        """Ask the application itself, where it can show its jobs; else read its tables."""
        return self._tables.jobs() if self._own is None else self._own()

    def changed(self) -> Any:
        """Return which jobs changed, where the tables know it."""
        return self._tables.changed() if self._own is None else None

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

    def clients(self, world: RunContext) -> Mapping[str, Callable[[], Frame]]:
        """Return no clients: the API is a process of the application, which may crash."""
        return {}

    def actors(self, world: RunContext) -> Mapping[str, Callable[[], Frame]]:
        """Return a factory for each request to the API, for each process, and for the queue's own upkeep."""
        stage = Stage(world, self._tables, self._clock)
        factories = {
            f"client-{plan.name}": self._client(world, stage, plan)
            for plan in world.scenario.jobs
            if not plan.held_back
        }
        processes = self._processes(stage)
        world.acted.update(dict.fromkeys(processes.keys() - set(stage.workers), False))
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
                hint="It returns a function for each process by name, and does not start them.",
            ) from error
        if not isinstance(processes, Mapping) or not all(callable(process) for process in processes.values()):
            raise UsageError(
                f"{self._name}: actors(stage) returned {processes!r:.120}",
                hint="It must return a mapping from the name of a process to a function that starts it.",
            )
        return processes

    @staticmethod
    def _process(driver: Driver, process: Callable[[], Any]) -> Callable[[], Frame]:
        return lambda: driver.forever(process)

    def _client(self, world: RunContext, stage: Stage, plan: JobPlan) -> Callable[[], Frame]:
        """One client's requests. A request that died with its process is not made again."""
        driver = Driver(world, stage, f"client-{plan.name}", 0)
        sent: list[bool] = []

        def requests() -> Frame:
            if sent:
                return
            sent.append(True)
            yield from until_sent(world, plan)
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


RESTART: Duration = 5 * SECOND
"""How long a platform takes to bring a process back that died of itself."""
RESTARTS = 3
"""How often it does for a process that raised."""
End: TypeAlias = Literal["ended", "raised", "killed"]
"""Of itself, of what it raised, or by the job that it ran."""
END: Final = object()
IMPORTING = ("<frozen ", str(Path(importlib.__file__).parent) + os.sep)
"""Frames of an import itself, in which nothing of a user's is wrong."""


class Driver:
    """One process by name. Its code is called anew after each death."""

    def __init__(self, world: RunContext, stage: Stage, name: str, order: int) -> None:
        self._world = world
        self._stage = stage
        self._name = name
        self._order = order
        self._at = "starting"
        self._stands: Point | None = None
        """The step that it does."""
        self._looked = LastLook(-1, -1)
        """Unless it has looked for work since, there may be some."""

    def forever(self, factory: Callable[[], Any]) -> Frame:
        """Run a process; where it dies of itself, bring it back a few times."""
        raised = 0
        while raised <= RESTARTS:
            end = yield from self.once(factory)
            if end == "ended":
                return
            raised += end == "raised"
            yield Sleep(RESTART, "restarting")

    def once(self, factory: Callable[[], Any]) -> Generator[Request, Any, End]:
        """Run a process until it ends; return how it ended."""
        self._at = "starting"
        self._looked = LastLook(-1, -1)
        frame: Any = None
        try:
            frame = factory()
            while True:
                asked = self._next(frame)
                if asked is END:
                    return "ended"
                if type(asked) is Exit:
                    self._world.services.sever(frame)
                    frame = None
                    self._world.died(self._name, asked.why)
                    return "killed"
                yield self._request(asked)
                if type(asked) is Look:
                    self._looked = self._looked.again(self._world.events, self._stage.now())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's code raises is an observation
            _close(frame)
            self._observe()
            self._world.raised(
                self._name, self._at, f"{type(error).__name__}: {error}", where_of(error), line=line_of(error)
            )
            return "raised"
        finally:
            _close(frame)

    def _next(self, frame: Any) -> Any:
        """Let it act up to the next place at which it suspends, or to its end."""
        if frame is not None and not hasattr(frame, "send"):
            kind = type(frame).__name__
            raise TypeError(f"{self._name} returned a {kind}: write an async def or a generator, or return nothing")
        self._stage.tables.wrote = None
        try:
            asked = END if frame is None else frame.send(None)
        except StopIteration:
            asked = END
        if self._stage.tables.within:
            raise RuntimeError(
                f"{self._name} suspends in a transaction, at {getattr(asked, 'point', 'a poll')!r}: others would see "
                "changes that it may undo. Leave `with tables.transaction()` before you await a step, a sleep, a "
                "poll or work"
            )
        self._observe()
        return asked

    def _observe(self) -> None:
        """Look what it has done since it last stood somewhere: at the line that wrote, or that of its step."""
        wrote = self._stage.tables.wrote
        if wrote is None and self._stands is not None and self._stands.line is not None:
            wrote = self._stands.line()
        before = self._world.events
        self._world.observe(self._name, self._at, wrote)
        if self._world.events > before:
            self._acts()

    def _acts(self) -> None:
        """Note that it does something, where that is of interest."""
        if self._name in self._world.acted:
            self._world.acted[self._name] = True

    def _request(self, asked: Any) -> Request:
        self._stands = asked if isinstance(asked, Point) else None
        if isinstance(asked, Point):
            self._at = f"step {getattr(asked, 'name', asked.point)}"
            self._acts()
            return asked
        if type(asked) is Rest:
            self._at = asked.point
            return Sleep(asked.duration, asked.point)
        if type(asked) is Look:
            self._at = "polling"
            return self._stage.tick(asked, self._order, since=self._looked)
        raise TypeError(
            f"{self._name} waits for a {type(asked).__name__}, which nothing here answers: "
            "await step(...), sleep(...) or poll(...) of job_harness.subjects.applications"
        )


def _close(frame: Any) -> None:
    """Close what a process has left suspended. What it does or raises meanwhile is of no interest any more."""
    with suppress(Exception):
        if hasattr(frame, "close"):
            frame.close()


def where_of(error: BaseException, *, own: bool = True) -> str:
    """Return `file:line` of the innermost frame that is not ours, else, if `own`, of the innermost; or nothing."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(IMPORTING)]
    theirs = [frame for frame in frames if not frame.filename.startswith(PACKAGE)] or (frames if own else [])
    if not theirs:
        return ""
    path = theirs[-1].filename
    inside = os.path.relpath(path)
    return f"{path if inside.startswith(os.pardir) else inside}:{theirs[-1].lineno}"


def line_of(error: BaseException) -> CodeLine | None:
    """Return the innermost line that is the user's, and no library's; or nothing."""
    frames = traceback.walk_tb(error.__traceback__)
    theirs = [(frame.f_code.co_filename, line) for frame, line in frames if not is_others(frame.f_code.co_filename)]
    written = [CodeLine(file, line) for file, line in theirs if os.path.isabs(file)]
    return written[-1] if written else None
