"""What a check is, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.processors.contract.probe import Probe


class Outcome(StrEnum):
    """What a check comes to."""

    PASSED = "passed"
    FAILED = "failed"
    WAIVED = "waived"
    NOT_APPLICABLE = "not applicable"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Finding:
    """A check's outcome with what there is to say."""

    outcome: Outcome
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
    judge: Callable[[Probe], Finding]
    needs_success: bool = False
    """Whether nothing can be said unless a declared input succeeds."""
    typescript: str = ""
    """What to do in TypeScript, where that reads differently."""

    def in_typescript(self) -> Check:
        """Answer the same check with what to do in TypeScript."""
        return replace(self, repair=self.typescript or self.repair)


MOST_SHOWN = 4


def passed(*notes: str) -> Finding:
    """Pass, with what there is to add."""
    return Finding(Outcome.PASSED, notes)


def not_applicable(why: str) -> Finding:
    """The check makes no sense here."""
    return Finding(Outcome.NOT_APPLICABLE, (why,))


def failed_unless_empty(problems: list[str], *notes: str) -> Finding:
    """Fail with the problems, each once and only the first few, or pass."""
    if not problems:
        return passed(*notes)
    different = list(dict.fromkeys(problems))
    more = len(different) - MOST_SHOWN
    lines = different[:MOST_SHOWN] + ([f"and {more} more"] if more > 0 else [])
    return Finding(Outcome.FAILED, tuple(lines))
