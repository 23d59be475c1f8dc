"""What the processes of an application see of a run, and what they can wait for.

Hides the observation and the kernel: a process asks its stage for settings, rows, time and work,
and yields what it waits for (`step`, `sleep`, `poll`). Must not know who searches the application.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, NamedTuple

from job_harness.core.model import MINUTE, PENDING, TERMINAL, Duration, Instant, JobId, Json, parse_duration
from job_harness.core.own_code import CodeLine
from job_harness.core.port import Claim
from job_harness.core.run.context import RunContext
from job_harness.core.scenario.job_plan import ERRORS, OUTPUTS, Ending, JobPlan
from job_harness.core.sim import Point, Poll
from job_harness.core.sim.user_code import is_others, line_calling
from job_harness.engines.two_tables import Tables

OURS: Final = __file__
"""What stands between an application's line and what it says of itself."""


class WorkFailed(Exception):
    """The processor failed; `final` where trying again makes no sense."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class TimedOut(WorkFailed):
    """The processor was stopped after `job_timeout`."""


class LeaseLost(WorkFailed):
    """The heartbeat returned False: another worker may have the job."""


class LastLook(NamedTuple):
    """When a process last looked for work."""

    events: int
    """How much had been observed by then."""
    at: Instant
    vain: int = 0
    """How many looks in a row changed nothing before it."""

    def again(self, events: int, at: Instant) -> LastLook:
        """Return the next look."""
        return LastLook(events, at, self.vain + 1 if events == self.events else 0)


MOST_DOUBLINGS = 12


class Work:
    """A run of a processor; to be awaited, or `yield from`ed."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Callable[[], Generator[Any, Any, Json]]) -> None:
        self._steps = steps

    def __iter__(self) -> Generator[Any, Any, Json]:
        """Run it."""
        return self._steps()

    __await__ = __iter__


class Stage:
    """Handed to every process. What it says is done, the monitors believe; what the rows say, they see themselves."""

    def __init__(self, world: RunContext, tables: Tables, clock: Callable[[], Instant]) -> None:
        self._world = world
        self._runs: dict[JobId, int] = {}
        self.settings = world.settings
        self.tables = tables
        """The two tables, empty at the start of the run. An application with a state of its own leaves them alone."""
        self.now = clock
        """Reads the store's clock, in microseconds from the start of the run."""
        self.workers: tuple[str, ...] = world.scenario.workers if world.settings.workers_enabled else ()
        """The workers that this run wants, by name."""

    def stopping(self, worker: str) -> bool:
        """Say whether this worker was told to shut down gracefully."""
        return worker in self._world.stopping

    # the work itself ------------------------------------------------------------------------------------------------

    def work(
        self,
        worker: str,
        row: Any,
        *,
        every: str | Duration = 0,
        beat: Callable[[], object] | None = None,
        cancellable: bool = True,
    ) -> Work:
        """Run the processor as the workload has it: `output = await stage.work(name, row)`.

        `row` has the attributes `job`, `attempt` and `token`. With `beat`, that is called `every` so often meanwhile,
        and awaited where it is an `async def`; where it returns False the run is given up. A processor that is not
        `cancellable` lives on after its timeout, beside the worker that runs the job next, until it ends by itself.
        Raises WorkFailed, TimedOut, LeaseLost.
        """
        slice_ = length(every) if beat is not None else 0
        return Work(lambda: self._work(worker, row, slice_, beat, cancellable=cancellable))

    def _work(
        self, worker: str, row: Any, every: Duration, beat: Callable[[], object] | None, *, cancellable: bool
    ) -> Generator[Any, Any, Json]:
        number = self._runs[row.job] = self._runs.get(row.job, 0) + 1
        plan = self._world.plan(row.job)
        ending = plan.ending(number)
        self.started(worker, row)
        left = self._allowed(plan, number)
        while left > 0:
            slice_ = min(left, every or left)
            yield Rest(slice_, f"running {row.job}")
            left -= slice_
            if left > 0 and beat is not None:
                yield StatementPoint("heartbeat", row.job)
                answer = beat()
                if isinstance(answer, Awaitable):
                    answer = yield from answer.__await__()
                if answer is False:
                    self.ended(worker, row, "lease lost")
                    raise LeaseLost(f"the lease of {row.job} was lost")
        if ending is Ending.HANG or plan.duration(number, self.settings) > self.settings.job_timeout:
            if cancellable:
                self.ended(worker, row, "timeout")
            elif ending is not Ending.HANG:
                self._live_on(worker, row, plan.duration(number, self.settings) - self.settings.job_timeout)
            raise TimedOut("timed out")
        if ending is Ending.EXIT:
            yield Exit(f"running {row.job}")
        return self._ending(worker, row, ending)

    def _live_on(self, worker: str, row: Any, rest: Duration) -> None:
        """Let a run that was given up come to its end all the same, unless the whole run is over by then."""

        def end() -> None:
            if not self._world.closed:
                self.ended(worker, row, "timeout")

        self._world.services.later(f"handler of {row.job}", rest, end)

    def _allowed(self, plan: JobPlan, number: int) -> Duration:
        if plan.ending(number) is Ending.HANG:
            return self.settings.job_timeout
        return min(plan.duration(number, self.settings), self.settings.job_timeout)

    def _ending(self, worker: str, row: Any, ending: Ending) -> Json:
        if ending in ERRORS:
            self.ended(worker, row, "failure")
            raise WorkFailed(ERRORS[ending], final=ending is Ending.FAIL_FINALLY)
        if ending in OUTPUTS:
            self.ended(worker, row, "bad output")
            return OUTPUTS[ending]
        self.ended(worker, row, "success")
        return {"run": self._runs[row.job], "by": worker}

    def started(self, worker: str, row: Any) -> None:
        """Declare that a processor of your own starts now."""
        self._world.effect(worker, _claim(row, worker), "started", line=line_calling(sys._getframe(1), folder=OURS))

    def ended(self, worker: str, row: Any, result: str = "success") -> None:
        """Declare how it ended: `success` is the one word that makes a COMPLETED job true."""
        line = line_calling(sys._getframe(1), folder=OURS)
        self._world.effect(worker, _claim(row, worker), "ended", result, line)

    # polling --------------------------------------------------------------------------------------------------------

    def tick(self, look: Look, order: int, *, since: LastLook) -> Poll:
        """Return the wait until the next tick at which there may be something that was not there when it looked."""
        slow = look.interval >= self.settings.cron_period

        def due() -> Instant | None:
            live = self._world.job_index.live
            if self._world.events != since.events or (slow and (live or self._world.job_index.apart)):
                return 0
            ahead = [at for at in self._instants() if at > since.at]
            if self._waits():  # It may be held back by a time that only its process knows, such as a limit of a rate.
                ahead.append(since.at + (look.interval << min(since.vain, MOST_DOUBLINGS)))
            return min(ahead, default=None)

        return Poll(look.interval, due, origin=order * look.interval // 8)

    def _waits(self) -> bool:
        """Whether a job that is due was left untaken."""
        now = self.now()
        return any(view.status is PENDING and view.start_after <= now for view in self._world.job_index.live.values())

    def _instants(self) -> list[Instant]:
        """When time alone changes what a statement sees."""
        stuck = self.settings.stuck_timeout
        found: list[Instant | None] = []
        for view in self._world.job_index.views.values():
            if view.status in TERMINAL:
                found.append(view.expires_at)
            elif view.started_at is not None:
                found.append(view.started_at + stuck)
            found += (view.start_after, view.lease_until)
        return [at for at in found if at is not None]


def _claim(row: Any, worker: str) -> Claim:
    return Claim(row.job, row.attempt, row.token, worker, "", 0)


class Ask:
    """A place at which a process suspends. To be awaited by a coroutine, or yielded by a generator."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Suspend a coroutine."""
        return (yield self)


class StatementPoint(Point):
    """Before one statement: others may act here, and the process may be crashed or paused here."""

    __slots__ = ("name",)

    def __init__(self, name: str, job: str | None = None, line: Callable[[], CodeLine | None] | None = None) -> None:
        super().__init__(name if job is None else f"{name} {job}", line)
        self.name = name
        """The name without the job; what is done after it is told under this name."""


class Rest(Ask):
    """Time passes for this process."""

    __slots__ = ("duration", "point")

    def __init__(self, duration: Duration, point: str) -> None:
        self.duration = duration
        self.point = point


class Look(Ask):
    """The next tick of a process that looks for work every so often."""

    __slots__ = ("interval",)

    def __init__(self, interval: Duration) -> None:
        self.interval = interval


class Exit(Ask):
    """The process dies here, by what it ran."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


def step(name: str, job: str | None = None) -> StatementPoint:
    """Name the statement that comes next; `job` says which job it is about."""
    if not isinstance(name, str) or not name.strip():
        raise TypeError(f'step({name!r}): a step has a name, such as step("update tool_job")')
    frame = sys._getframe(1)
    code, number = frame.f_code.co_filename, frame.f_lineno
    return StatementPoint(name, job, lambda: None if is_others(code) else CodeLine(code, number))


def sleep(duration: str | Duration, why: str = "sleeping") -> Rest:
    """Let time pass: `"30s"`, or whole microseconds."""
    return Rest(length(duration), why)


def poll(interval: str | Duration) -> Look:
    """Wait for the next tick of this interval; ticks before anything changed or fell due are skipped."""
    found = length(interval)
    if found <= 0:
        raise ValueError(f"poll({interval!r}): the interval must be longer than 0")
    return Look(found)


def minutes(number: float) -> Duration:
    """Return this many minutes, in the microseconds that settings are kept in."""
    return round(number * MINUTE)


def length(duration: str | Duration) -> Duration:
    """Read a duration: text with a unit, or whole microseconds.

    Raises TypeError or ValueError that says what would have been accepted.
    """
    if isinstance(duration, str):
        return parse_duration(duration)
    if isinstance(duration, int) and not isinstance(duration, bool) and duration >= 0:
        return duration
    raise TypeError(f'{duration!r} is not a duration: write text with a unit ("30s"), or whole microseconds')
