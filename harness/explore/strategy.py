"""Who draws a run: the strategies of sampling, and the portfolio that takes turns among them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.explore.priorities import Priorities
from harness.explore.swarm import SwarmChoices, SwarmDrawing
from harness.sim.choices import Choices, Uniform

RATES = (0.02, 0.1, 0.25)
"""How often a run deviates at a gate; one of them a run."""
APART = 0x5DEECE66D
"""Keeps the numbers that draw a workload apart from those that disturb it."""


class Strategy(StrEnum):
    """How a run is drawn."""

    UNIFORM = "uniform"
    """Everything uniformly, deviations at one of three rates."""
    POS = "pos"
    """The order of steps by partial-order sampling, the rest uniformly."""
    SWARM = "swarm"
    """A random part of faults, job kinds and settings, by random weights, perhaps with a slow actor."""
    PORTFOLIO = "portfolio"
    """All three by turns."""


TURNS = (Strategy.UNIFORM, Strategy.POS, Strategy.UNIFORM, Strategy.SWARM)
"""The portfolio's turns."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Who draws the workload of one run, and who disturbs it."""

    strategy: Strategy
    drawing: Choices
    choices: Choices

    @property
    def about(self) -> str:
        """Say how the run was drawn."""
        told = f": {self.choices.told()}" if isinstance(self.choices, SwarmChoices) else ""
        return f"{self.strategy}{told}"


def trial(strategy: Strategy, seed: int) -> Trial:
    """Answer who draws the run of a seed; the same seed gives the same run."""
    if strategy is Strategy.PORTFOLIO:
        strategy = TURNS[seed % len(TURNS)]
    rate = RATES[(seed // len(TURNS)) % len(RATES)]
    disturbing = seed ^ APART
    if strategy is Strategy.SWARM:
        return Trial(strategy, SwarmDrawing(seed), SwarmChoices(disturbing))
    if strategy is Strategy.POS:
        return Trial(strategy, Uniform(seed), Priorities(disturbing, rate=rate))
    return Trial(strategy, Uniform(seed), Uniform(disturbing, rate=rate))
