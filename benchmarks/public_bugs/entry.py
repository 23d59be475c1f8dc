"""One public bug: the releases that have it, and how it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from job_harness.core.scenario.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Shape:
    """What the smallest scenario of this bug has, and that of another one with the same anomaly has not."""

    about: str
    """In words, as in "two jobs with one unique key"."""
    holds: Callable[[Scenario], bool]


@dataclass(frozen=True, slots=True)
class Entry:
    """A bug in one release of one engine, and the search for it.

    Nothing here may be a script for the bug: `options` are those of `job-harness explore`.
    """

    bug: str
    """As in `detection.bugs`, where it has a wrong queue."""
    known_as: str
    """In its project's tracker, as in "pgqueuer#475"; or who does not know it."""
    url: str
    about: str
    """What goes wrong, in one clause."""
    affected: str
    """An engine with its version."""
    anomalies: tuple[str, ...]
    """By any of which it shows."""
    fixed: str | None = None
    """The same engine in the first release without it that is known; None where there is none."""
    options: tuple[str, ...] = ()
    runs: int = 2_000
    """At most, for one seed."""
    seconds: int = 120
    """At most, for one seed; making it small is not stopped."""
    shape: Shape | None = None
    missed: str = ""
    """Why some searches miss it, where that is known."""

    @property
    def key(self) -> tuple[str, str]:
        """Tell it from all others."""
        return self.bug, self.affected
