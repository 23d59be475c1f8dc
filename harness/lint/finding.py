"""What a rule found: one sentence, where, what else has to do with it, and what to change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from harness.lint.place import Place


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
class Finding:
    """One thing that is wrong at one place."""

    rule: str
    severity: Severity
    place: Place
    message: str
    repair: str
    related: tuple[Related, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Answer what stays the same when lines move: a baseline remembers this. What a database shows ages."""
        message = "" if self.place.file.startswith("database/") else self.message
        return (self.rule, self.place.file, message)
