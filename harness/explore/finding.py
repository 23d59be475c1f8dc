"""A breach that was found, and what a search came to."""

from __future__ import annotations

from dataclasses import dataclass

from harness.run.verdict import Run
from harness.scenario.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Finding:
    """The smallest known run that shows an anomaly."""

    anomaly: str
    scenario: Scenario
    """Replays the run: its tape is part of it."""
    run: Run
    seed: int
    """The seed of the run in which it was first seen."""
    runs: int
    """How many runs it took to see it."""
    shrink_runs: int
    minimal: bool = True
    """False where shrinking was interrupted."""
    drawn: str = ""
    """How the run in which it was first seen was drawn."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a search looked at and what it found."""

    engine: str
    seed: int
    runs: int
    steps: int
    finding: Finding | None
    interrupted: bool = False
