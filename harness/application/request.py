"""What an application's process says where others may act: `await step("name")`, or `yield step("name")`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from harness.model.duration import MINUTE, Duration, parse_duration
from harness.sim.request import Point


class Ask:
    """A place at which a process suspends. To be awaited by a coroutine, or yielded by a generator."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Suspend a coroutine."""
        return (yield self)


class Step(Point):
    """Before one statement: others may act here, and the process may be crashed or paused here."""

    __slots__ = ("name",)

    def __init__(self, name: str, job: str | None = None) -> None:
        super().__init__(name if job is None else f"{name} {job}")
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


def step(name: str, job: str | None = None) -> Step:
    """Name the statement that comes next; `job` says which job it is about."""
    if not isinstance(name, str) or not name.strip():
        raise TypeError(f'step({name!r}): a step has a name, such as step("update tool_job")')
    return Step(name, job)


def sleep(duration: str | Duration, why: str = "sleeping") -> Rest:
    """Let time pass: `"30s"`, or whole microseconds."""
    return Rest(length(duration), why)


def poll(interval: str | Duration) -> Look:
    """Wait for the next tick of this interval; ticks before anything changed or fell due are skipped."""
    found = length(interval)
    if found <= 0:
        raise ValueError(f"poll({interval!r}): the interval must be longer than nothing")
    return Look(found)


def minutes(number: float) -> Duration:
    """Answer so many minutes, in the microseconds that settings are kept in."""
    return round(number * MINUTE)


def length(duration: str | Duration) -> Duration:
    """Read a duration: text with a unit, or whole microseconds.

    Raises TypeError or ValueError that says what would have been accepted.
    """
    if isinstance(duration, str):
        return parse_duration(duration)
    if isinstance(duration, int) and not isinstance(duration, bool) and duration >= 0:
        return duration
    raise TypeError(f'{duration!r} is no duration: write text with a unit ("30s"), or whole microseconds')
