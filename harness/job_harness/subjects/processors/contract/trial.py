"""What can be asked of a processor in any language, what happened then, and what a check is. Values only.

A `Runner` carries out a `TrialPlan` and returns a `TrialRecord`; a `Probe` remembers each that was
tried, and judges nothing; a `Check` judges what a probe knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

from job_harness.core.model import Json
from job_harness.subjects.processors.assertions import write_value
from job_harness.subjects.processors.contract.inputs import hostile_inputs
from job_harness.subjects.processors.observed.account import ObservedEffect


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """One job, delivered once or more to a processor whose surroundings are fresh, and what disturbs it.

    A *moment* is when something of the first delivery is about to go on: it starts, wakes up, or
    has just declared a side effect. Moments are numbered from 1. At most one disturbance.
    """

    input: Json
    deliveries: int = 1
    """One after the other, each to its end."""
    crash_at: int | None = None
    """At this moment the process of the first delivery dies; then the job is delivered again."""
    forgets: bool = False
    """Whether the death takes with it what the processor's module remembers in plain data, as a real one does."""
    pause_at: int | None = None
    """At this moment the first delivery stalls; the job is delivered again, to its end; then the first goes on."""
    cancel_at: int | None = None
    """Right after this moment the first delivery is cancelled."""


@dataclass(frozen=True, slots=True)
class DeliveryEnding:
    """How one delivery ended."""

    how: str
    """`answered`, `raised`, `no result`, `cancelled`, `severed`, `over time`, `never`, `spins`, `died`, `blocked`."""
    success: bool | None = None
    error: str | None = None
    """The failure's text as answered, or what was raised."""
    final: bool = False
    """Whether that was a NonRetryableError: it says that no attempt is left, and is an answer."""
    told: str = ""
    """What there is to say about it: the value that is no result, the line at which it waits."""
    output: str = ""
    """The output, shortened."""
    misfit: str | None = None
    """Why JSONB cannot hold the output or the error."""
    mutated: str | None = None
    """How the input differs from what was given."""
    effects: tuple[tuple[str, Any], ...] = ()
    observed: tuple[ObservedEffect, ...] = ()
    """What it did outside, declared or not."""
    reached_out: bool = False
    """Whether it called what reaches out of its process and is watched, be it only to look."""
    left: dict[str, int] = field(default_factory=dict)
    """How many bytes each file that it wrote has in the end; -1 where it is gone."""
    held: bool = False
    """Whether it stopped with a transaction open."""
    released: bool = False
    """Whether that was aborted, as its twin waited for it."""
    seconds: float = 0.0
    """Virtual."""
    moments: int = 0
    stopped_after: float | None = None
    """Virtual seconds from its cancellation to its end."""
    place: str = ""
    """Where it was when it was disturbed."""
    in_vain: str | None = None
    """What a delivery that died was waiting for, where a new process would not wait."""

    @property
    def succeeded(self) -> bool:
        """Whether the queue would record a success."""
        return self.how == "answered" and self.success is True and self.misfit is None

    @property
    def answers(self) -> bool:
        """Whether it says itself how the job ended."""
        return self.how == "answered" or self.final

    @property
    def kept_to_itself(self) -> bool:
        """Whether it ended at once, waited for nothing and reached out for nothing: no later delivery can notice it."""
        return self.how in ("answered", "raised", "no result") and self.moments <= 1 and not self.reached_out

    @property
    def came_to_an_end(self) -> bool:
        """Whether it ended by itself, one way or another."""
        return self.how in ("answered", "raised", "no result", "cancelled", "died")

    @property
    def words(self) -> str:
        """What happened, in a few words."""
        match self.how:
            case "answered" if self.misfit is not None:
                return f"it returned what cannot be stored: {self.misfit}"
            case "answered" if self.success:
                return "it returned success"
            case "answered":
                return (
                    f"it returned success: false, {self.error}"
                    if self.error
                    else "it returned success: false, no error"
                )
            case "raised":
                return f"it raised {self.error}"
            case _:
                return self.told or self.how


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """What one plan came to."""

    endings: tuple[DeliveryEnding, ...] = ()
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
    outlived: tuple[str, ...] = ()
    """What a delivery that died or stalls left in its processor's module: another process would be without it."""
    printed: int = 0
    """Characters written to the standard streams."""

    @property
    def first(self) -> DeliveryEnding:
        """The first delivery; one that never ended where the process did not live to tell."""
        if self.endings:
            return self.endings[0]
        return DeliveryEnding("never", told=self.died or self.hung or "nothing was delivered")

    @property
    def last(self) -> DeliveryEnding:
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
    def of_json(cls, value: dict[str, Any]) -> TrialRecord:
        """Read what another process said."""
        endings = tuple(
            DeliveryEnding(
                **{
                    **each,
                    "effects": tuple((name, data) for name, data in each["effects"]),
                    "observed": tuple(ObservedEffect(**effect) for effect in each["observed"]),
                }
            )
            for each in value["endings"]
        )
        lists = {key: tuple(value[key]) for key in ("leaks", "blocked", "notes", "outlived")}
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

    def run(self, plan: TrialPlan) -> TrialRecord:
        """Carry out one plan. Never raises because of what the processor does, and never hangs."""

    def run_each(self, plans: list[TrialPlan]) -> list[TrialRecord]:
        """Carry out many plans; they may share a world."""


@dataclass(frozen=True, slots=True)
class TriedDelivery:
    """One input and its outcome."""

    about: str
    input: Any
    world: TrialRecord


class Probe:
    """Asks a runner, and remembers."""

    def __init__(
        self,
        runner: Runner,
        examples: list[Any],
        *,
        timeout_seconds: float,
        repeatable: frozenset[str] = frozenset(),
        idempotent: Sequence[str] = (),
        pure: bool = False,
    ) -> None:
        self.runner = runner
        self.examples = examples
        self.timeout_seconds = timeout_seconds
        self.repeatable = repeatable
        """Declared side effects that may happen more than once for a job."""
        self.idempotent = tuple(idempotent)
        """Patterns of what was seen and may happen more than once."""
        self.pure = pure
        """Whether its author says that it does nothing outside."""

    @cached_property
    def plain(self) -> list[TriedDelivery]:
        """Every declared input, undisturbed."""
        worlds = self._each_alone([TrialPlan(example) for example in self.examples])
        return [
            TriedDelivery(f"input {write_value(example)}", example, world)
            for example, world in zip(self.examples, worlds, strict=True)
        ]

    @cached_property
    def hostile(self) -> list[TriedDelivery]:
        """Invalid inputs."""
        if not any(tried.world.endings and tried.world.first.came_to_an_end for tried in self.plain):
            return []  # What ends on no declared input is not tried on worse ones.
        inputs = hostile_inputs(self.examples[0])
        worlds = self._each_alone([TrialPlan(value) for _, value in inputs])
        tried = zip(inputs, worlds, strict=True)
        return [TriedDelivery(f"hostile input: {what}", value, world) for (what, value), world in tried]

    def _each_alone(self, plans: list[TrialPlan]) -> list[TrialRecord]:
        """Try inputs in one world; those after which all is not well, again in worlds of their own.

        An earlier input may have left a connection open, on whose lock a later one waits. What
        raises at once, where none before it did more than that, is taken at its word: most
        processors do so on most hostile inputs, and a world for each of them was two fifths of what
        a contract costs.
        """
        judged, quiet = [], True
        for number, (plan, world) in enumerate(zip(plans, self.runner.run_each(plans), strict=True)):
            well = world.first.answers and not world.leaks
            kept_to_itself = world.first.kept_to_itself and not world.leaks
            sure = number == 0 or world.broken or well or (quiet and kept_to_itself)
            judged.append(world if sure else self.runner.run(plan))
            quiet = quiet and kept_to_itself
        return judged

    @cached_property
    def good(self) -> TriedDelivery | None:
        """The first declared input on which it succeeds."""
        return next((tried for tried in self.plain if tried.world.first.succeeded), None)

    @cached_property
    def twice(self) -> TrialRecord:
        """The good input, delivered twice, one after the other."""
        assert self.good is not None
        return self.runner.run(TrialPlan(self.good.input, deliveries=2))

    @cached_property
    def cancelled(self) -> list[tuple[int, TrialRecord]]:
        """The good input, cancelled at each moment."""
        return [(at, self.runner.run(TrialPlan(self._input, cancel_at=at))) for at in self.positions(first=1)]

    @cached_property
    def crashed(self) -> list[tuple[int, TrialRecord]]:
        """The good input, its process killed at each moment, and delivered again."""
        return [(at, self.runner.run(TrialPlan(self._input, crash_at=at))) for at in self.positions(first=2)]

    @cached_property
    def forgotten(self) -> list[tuple[int, TrialRecord]]:
        """As `crashed`, where that left something in the processor's module, which is forgotten here."""
        moments = [at for at, world in self.crashed if world.outlived]
        return [(at, self.runner.run(TrialPlan(self._input, crash_at=at, forgets=True))) for at in moments]

    @cached_property
    def stalled(self) -> list[tuple[int, TrialRecord]]:
        """The good input, stalled at each moment, delivered to a twin, and then let go on."""
        return [(at, self.runner.run(TrialPlan(self._input, pause_at=at))) for at in self.positions(first=2)]

    def positions(self, *, first: int) -> list[int]:
        """Return the moments to disturb it at, spread over all of them."""
        assert self.good is not None
        last = self.good.world.first.moments
        most = self.runner.abilities.most_positions
        moments = list(range(first, last + 1))
        if len(moments) <= most:
            return moments
        return sorted({moments[round(index * (len(moments) - 1) / (most - 1))] for index in range(most)})

    def coverage(self, positions: int, *, first: int) -> str:
        """Say at how many of the moments it was disturbed."""
        assert self.good is not None
        there = max(0, self.good.world.first.moments + 1 - first)
        moments = f"{there} moment{'' if there == 1 else 's'}"
        return moments if positions == there else f"{positions} of {moments}"

    @property
    def _input(self) -> Any:
        assert self.good is not None
        return self.good.input


class CheckOutcome(StrEnum):
    """What a check comes to."""

    PASSED = "passed"
    FAILED = "failed"
    WAIVED = "waived"
    NOT_APPLICABLE = "not applicable"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class ContractFinding:
    """A check's outcome with what there is to say."""

    outcome: CheckOutcome
    lines: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines)


@dataclass(frozen=True, slots=True)
class Check:
    """One clause of the contract."""

    id: str
    sentence: str
    repair: str
    """What to do where it fails."""
    judge: Callable[[Probe], ContractFinding]
    needs_success: bool = False
    """Whether nothing can be said unless a declared input succeeds."""
    typescript: str = ""
    """What to do in TypeScript, where that reads differently."""

    def in_typescript(self) -> Check:
        """Return the same check with what to do in TypeScript."""
        return replace(self, repair=self.typescript or self.repair)


MOST_SHOWN = 4


def passed(*notes: str) -> ContractFinding:
    """Pass, with what there is to add."""
    return ContractFinding(CheckOutcome.PASSED, notes)


def inconclusive(*lines: str) -> ContractFinding:
    """Nothing was shown, one way or the other."""
    return ContractFinding(CheckOutcome.INCONCLUSIVE, lines)


def not_applicable(why: str) -> ContractFinding:
    """The check makes no sense here."""
    return ContractFinding(CheckOutcome.NOT_APPLICABLE, (why,))


def failed_unless_empty(problems: list[str], *notes: str) -> ContractFinding:
    """Fail with the problems, each once and only the first few, or pass."""
    if not problems:
        return passed(*notes)
    different = list(dict.fromkeys(problems))
    more = len(different) - MOST_SHOWN
    lines = different[:MOST_SHOWN] + ([f"and {more} more"] if more > 0 else [])
    return ContractFinding(CheckOutcome.FAILED, tuple(lines))
