"""The three answers of a verb: done, refused, unknown."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple


class OutcomeKind(StrEnum):
    """Whether the effect happened: yes, no, or nobody knows."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Outcome(NamedTuple):
    """The answer of a verb."""

    kind: OutcomeKind
    value: Any = None
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether the effect certainly happened."""
        return self.kind is OutcomeKind.DONE

    @classmethod
    def refused(cls, reason: str, value: Any = None) -> Outcome:
        """Nothing happened, and why."""
        return cls(OutcomeKind.REFUSED, value, reason)

    @classmethod
    def unknown(cls, reason: str) -> Outcome:
        """The reply was lost: the effect may have happened."""
        return cls(OutcomeKind.UNKNOWN, None, reason)


DONE = Outcome(OutcomeKind.DONE)


def done(value: Any = None) -> Outcome:
    """The effect happened."""
    return Outcome(OutcomeKind.DONE, value)
