"""What a rule is, and what it found: one sentence, where, what else has to do with it, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

from job_harness.review.check.facts import Facts, Place


class Severity(IntEnum):
    """How much it matters: an error loses or repeats jobs, a warning may, a note is worth knowing."""

    NOTE = 1
    WARNING = 2
    ERROR = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Related:
    """Another place that has to do with a finding."""

    place: Place
    message: str


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One thing that is wrong at one place."""

    rule: str
    severity: Severity
    place: Place
    message: str
    repair: str
    related: tuple[Related, ...] = ()

    subject: str = ""
    """What it is about within its file: a queue, a call, an option. Never prose."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what stays the same when lines move and sentences change: a baseline remembers this."""
        return (self.rule, self.place.file, self.subject)


class Breach(NamedTuple):
    """A breach of the rule at one place; `severity` only where it differs from the rule's."""

    place: Place
    message: str
    repair: str
    related: tuple[Related, ...] = ()
    severity: Severity | None = None
    subject: str = ""


RELEASES: Final[Mapping[str, tuple[str, ...]]] = {
    "pg-boss": ("9.0.3", "10.4.2", "11.1.2", "12.27.0", "12.28.0", "12.38.0"),
    "graphile-worker": ("0.13.0", "0.16.6", "0.18.0"),
    "bullmq": ("1.91.1", "4.18.2", "5.79.0", "6.7.0"),
    "celery": ("5.2.7", "5.4.0", "5.7.0"),
    "procrastinate": ("2.15.1", "3.2.2", "3.10.0"),
    "pgqueuer": ("0.26.3", "1.0.2", "1.6.0"),
}
"""Library -> the releases on which what the rules claim of it is run."""


class Tried(NamedTuple):
    """Releases of one library."""

    library: str
    versions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.library} {', '.join(self.versions)}"


def tried_on(*libraries: str) -> tuple[Tried, ...]:
    """Name all releases of these libraries."""
    return tuple(Tried(library, RELEASES[library]) for library in libraries)


Check: TypeAlias = Callable[[Facts], Iterable[Breach]]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold.

    `sentence` says it, `prevents` what a user sees otherwise, `repair` what to change, `scenario` is a file below
    `scenarios/` with the same failure in a run.
    """

    id: str
    severity: Severity
    sentence: str
    prevents: str
    repair: str
    scenario: str
    check: Check
    ran: tuple[Tried, ...] = ()
    """The releases on which its claim was tried by running them (`make rules`)."""

    def findings(self, facts: Facts) -> Iterator[CheckFinding]:
        """List the breaches, each once."""
        seen: set[tuple[Place, str]] = set()
        for hit in self.check(facts):
            if (hit.place, hit.message) not in seen:
                seen.add((hit.place, hit.message))
                related = tuple(other for other in hit.related if other.place != hit.place)
                weight = hit.severity or self.severity
                yield CheckFinding(self.id, weight, hit.place, hit.message, hit.repair, related, hit.subject)
