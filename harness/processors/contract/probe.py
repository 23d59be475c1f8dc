"""What is known of one processor so far: worlds that were tried, each once. Judges nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.processors.contract.inputs import hostile_inputs
from harness.processors.contract.trial import Plan, Runner, World
from harness.processors.enqueued import shown


@dataclass(frozen=True, slots=True)
class Tried:
    """One input and what came of it."""

    about: str
    input: Any
    world: World


class Probe:
    """Asks a runner, and remembers."""

    def __init__(
        self, runner: Runner, examples: list[Any], *, timeout_seconds: float, repeatable: frozenset[str] = frozenset()
    ) -> None:
        self.runner = runner
        self.examples = examples
        self.timeout_seconds = timeout_seconds
        self.repeatable = repeatable
        """Side effects that may happen more than once for a job."""

    @cached_property
    def plain(self) -> list[Tried]:
        """Every declared input, undisturbed."""
        worlds = self.runner.run_each([Plan(example) for example in self.examples])
        return [
            Tried(f"input {shown(example)}", example, world)
            for example, world in zip(self.examples, worlds, strict=True)
        ]

    @cached_property
    def hostile(self) -> list[Tried]:
        """Inputs that nobody should send."""
        if not any(tried.world.endings and tried.world.first.came_to_an_end for tried in self.plain):
            return []  # What ends on no declared input is not tried on worse ones.
        inputs = hostile_inputs(self.examples[0])
        worlds = self.runner.run_each([Plan(value) for _, value in inputs])
        tried = zip(inputs, worlds, strict=True)
        return [Tried(f"hostile input: {what}", value, world) for (what, value), world in tried]

    @cached_property
    def good(self) -> Tried | None:
        """The first declared input on which it succeeds."""
        return next((tried for tried in self.plain if tried.world.first.succeeded), None)

    @cached_property
    def twice(self) -> World:
        """The good input, delivered twice, one after the other."""
        assert self.good is not None
        return self.runner.run(Plan(self.good.input, deliveries=2))

    @cached_property
    def cancelled(self) -> list[tuple[int, World]]:
        """The good input, cancelled at each moment."""
        return [(at, self.runner.run(Plan(self._input, cancel_at=at))) for at in self.positions(first=1)]

    @cached_property
    def crashed(self) -> list[tuple[int, World]]:
        """The good input, its process killed at each moment, and delivered again."""
        return [(at, self.runner.run(Plan(self._input, crash_at=at))) for at in self.positions(first=2)]

    @cached_property
    def stalled(self) -> list[tuple[int, World]]:
        """The good input, stalled at each moment, delivered to a twin, and then let go on."""
        return [(at, self.runner.run(Plan(self._input, pause_at=at))) for at in self.positions(first=2)]

    def positions(self, *, first: int) -> list[int]:
        """Answer the moments to disturb it at, spread over all of them."""
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
        return f"{positions} moments" if positions == there else f"{positions} of {there} moments"

    @property
    def _input(self) -> Any:
        assert self.good is not None
        return self.good.input
