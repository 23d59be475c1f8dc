"""The three answers of a verb: done, refused, unknown."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NamedTuple

DEADLOCK_SIGNS: Final = ("DeadlockDetected", "40P01")
"""How drivers name it: psycopg and asyncpg by the error's class, others by its SQLSTATE."""
ACCEPTED: Final = "accepted"
"""The reason of what is done where it has yet to happen: a cancel that a worker hears of later."""
ABORTED: Final = "canceling statement (a fault of this run)"
"""What PostgreSQL says of a statement that a fault aborts."""


class OutcomeKind(StrEnum):
    """Whether the effect happened: yes, no, or unknown."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


_DONE: Final = OutcomeKind.DONE
REFUSED: Final = OutcomeKind.REFUSED
UNKNOWN: Final = OutcomeKind.UNKNOWN
"""By themselves: asked for at every event, and looked up at the enumeration they are slow on Python up to 3.11."""


class Outcome(NamedTuple):
    """The answer of a verb."""

    kind: OutcomeKind
    value: Any = None
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether the effect certainly happened."""
        return self.kind is _DONE

    @property
    def deadlocked(self) -> bool:
        """Whether the database threw it out of a circle of waiting transactions: it had no effect."""
        return self.kind is UNKNOWN and any(sign in self.reason for sign in DEADLOCK_SIGNS)

    @property
    def thrown_out(self) -> bool:
        """Whether the database threw it out, by a deadlock or by a fault: it had no effect, and may be tried again."""
        return self.deadlocked or (self.kind is UNKNOWN and ABORTED in self.reason)

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
    return tuple.__new__(Outcome, (_DONE, value, ""))  # without its constructor: every claim comes through here
