"""A rule: what must hold between settings, what goes wrong otherwise, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from harness.lint.facts import Facts
from harness.lint.finding import Finding, Related, Severity
from harness.lint.place import Place


class Hit(NamedTuple):
    """A breach of the rule at one place; `severity` only where it differs from the rule's."""

    place: Place
    message: str
    repair: str
    related: tuple[Related, ...] = ()
    severity: Severity | None = None


Check: TypeAlias = Callable[[Facts], Iterable[Hit]]


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

    def findings(self, facts: Facts) -> Iterator[Finding]:
        """List the breaches, each once."""
        seen: set[tuple[Place, str]] = set()
        for hit in self.check(facts):
            if (hit.place, hit.message) not in seen:
                seen.add((hit.place, hit.message))
                related = tuple(other for other in hit.related if other.place != hit.place)
                yield Finding(self.id, hit.severity or self.severity, hit.place, hit.message, hit.repair, related)
