"""What can be asked of a processor, in whatever language it is written, and what is answered: values only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from harness.model.job import Json


@dataclass(frozen=True, slots=True)
class Plan:
    """One job, delivered once or more to a processor whose surroundings are fresh, and what disturbs it.

    A *moment* is when something of the first delivery is about to go on: it starts, wakes up, or has just declared a
    side effect. Moments are numbered from 1. At most one disturbance.
    """

    input: Json
    deliveries: int = 1
    """One after the other, each to its end."""
    crash_at: int | None = None
    """At this moment the process of the first delivery dies; then the job is delivered again."""
    pause_at: int | None = None
    """At this moment the first delivery stalls; the job is delivered again, to its end; then the first goes on."""
    cancel_at: int | None = None
    """Right after this moment the first delivery is cancelled."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How one delivery ended."""

    how: str
    """`answered`, `raised`, `no result`, `cancelled`, `severed`, `over time`, `never`, `spins`, `died`, `blocked`."""
    success: bool | None = None
    error: str | None = None
    """The failure's text as answered, or what was raised."""
    told: str = ""
    """What is to be said about it: the value that is no result, the line at which it waits."""
    output: str = ""
    """The output, shortened."""
    misfit: str | None = None
    """Why JSONB cannot hold the output or the error."""
    mutated: str | None = None
    """How the input differs from what was given."""
    effects: tuple[tuple[str, Any], ...] = ()
    seconds: float = 0.0
    """Virtual."""
    moments: int = 0
    stopped_after: float | None = None
    """Virtual seconds from its cancellation to its end."""
    place: str = ""
    """Where it was when it was disturbed."""
    in_vain: str | None = None
    """For what of a delivery that died before it waited in vain, where a new process would not."""

    @property
    def succeeded(self) -> bool:
        """Whether the queue would record a success."""
        return self.how == "answered" and self.success is True and self.misfit is None

    @property
    def came_to_an_end(self) -> bool:
        """Whether it ended by itself, one way or another."""
        return self.how in ("answered", "raised", "no result", "cancelled", "died")

    @property
    def words(self) -> str:
        """What happened, in a few words."""
        match self.how:
            case "answered" if self.misfit is not None:
                return f"it answered what cannot be stored: {self.misfit}"
            case "answered" if self.success:
                return "it answered success"
            case "answered":
                return (
                    f"it answered success: false, {self.error}"
                    if self.error
                    else "it answered success: false, no error"
                )
            case "raised":
                return f"it raised {self.error}"
            case _:
                return self.told or self.how


@dataclass(frozen=True, slots=True)
class World:
    """What one plan came to."""

    endings: tuple[Ending, ...] = ()
    leaks: tuple[str, ...] = ()
    """What was still running or replaced when all deliveries had ended."""
    blocked: tuple[str, ...] = ()
    """Where the event loop was kept from working."""
    notes: tuple[str, ...] = ()
    """What was not under control."""
    died: str | None = None
    """How the process ended, where the processor ended it."""
    hung: str | None = None
    """Where it was when a limit of real time was reached."""
    printed: int = 0
    """Characters written to the standard streams."""

    @property
    def first(self) -> Ending:
        """The first delivery; one that never came to an end where the process did not live to tell."""
        if self.endings:
            return self.endings[0]
        return Ending("never", told=self.died or self.hung or "nothing was delivered")

    @property
    def last(self) -> Ending:
        """The last delivery."""
        return self.endings[-1] if self.endings else self.first

    @property
    def broken(self) -> str | None:
        """Why nothing more can be said of it."""
        return self.died or self.hung

    @property
    def effects(self) -> list[tuple[str, Any]]:
        """The side effects of all deliveries."""
        return [effect for ending in self.endings for effect in ending.effects]

    def as_json(self) -> dict[str, Any]:
        """Say it for another process."""
        return asdict(self)

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> World:
        """Read what another process said."""
        endings = tuple(
            Ending(**{**each, "effects": tuple((name, data) for name, data in each["effects"])})
            for each in value["endings"]
        )
        lists = {key: tuple(value[key]) for key in ("leaks", "blocked", "notes")}
        return cls(**{**value, **lists, "endings": endings})


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a runner cannot do, and why, as data; None where it can."""

    cancel: str | None = None
    most_positions: int = 24
    """Moments at which one check disturbs a processor, spread over all of them."""


class Runner(Protocol):
    """Runs a processor as planned. Each plan finds the world as if no other had been: fakes, files, connections."""

    abilities: Abilities

    def run(self, plan: Plan) -> World:
        """Carry out one plan. Never raises because of what the processor does, and never hangs."""
        ...

    def run_each(self, plans: list[Plan]) -> list[World]:
        """Carry out many plans; they may share a world."""
        ...
