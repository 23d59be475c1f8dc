"""What a stretch of runs came to, in a form that can be sent from one process to another."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

from harness.errors import EnvironmentUnavailable, ExitCode, HarnessError
from harness.explore.coverage import Coverage
from harness.explore.steadiness import Unsteady
from harness.extras import missing_extra


@dataclass(frozen=True, slots=True)
class Hit:
    """A run that showed an anomaly."""

    number: int
    """Of the run, from 0."""
    anomaly: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """What kept a search from going on."""

    message: str
    hint: str = ""
    code: ExitCode = ExitCode.ENVIRONMENT

    @classmethod
    def of(cls, error: BaseException, *, engine: str) -> Trouble:
        """Take what an engine raised."""
        if not isinstance(error, HarnessError):
            error = broken_engine(engine, error)
        return cls(error.message, error.hint, error.exit_code)


def broken_engine(name: str, error: BaseException) -> EnvironmentUnavailable:
    """Say which engine raised what, and where."""
    if (lacking := missing_extra(error)) is not None:
        return lacking
    frames = traceback.extract_tb(error.__traceback__)
    at = f" in {frames[-1].name} at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return EnvironmentUnavailable(
        f"the engine {name} broke: {type(error).__name__}: {error}{at}",
        hint="What the other cases found is kept. Look at the engine, then run this one again.",
    )


@dataclass(slots=True)
class Tally:
    """Grows run by run."""

    first: int
    runs: int = 0
    steps: int = 0
    cut: int = 0
    """Runs that reached their limit of steps while stock actors were at work: how they end is not known."""
    hits: list[Hit] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    unsteady: Unsteady | None = None
    trouble: Trouble | None = None
    stock: bool = True
    """Whether the actors were the stock ones: situations are demanded of no others."""
