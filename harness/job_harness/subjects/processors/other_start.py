"""A run with other chance, at another time: what it draws and when it begins, as one deviation of its tape.

Two runs of one tape, of which one begins like that, differ only in what comes from chance or from a
clock. So it tells whether the key of a side effect does. Knows no campaign.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Self

from job_harness.core.model import SECOND, Duration, Instant, JobId, format_duration, parse_duration
from job_harness.core.sim import Choices, Deviation, Replay
from job_harness.engines.reference.application import START
from job_harness.subjects.processors.chance import SEED

LABEL: Final = "chance and start"
LAST: Final = 10 * SECOND
"""How long before the end: a worker may poll a little later there, and another attempt comes much later."""
_WORDS: Final = re.compile(r"others, ((?:\d{1,3}[dhms])+) later(?:, to vary (.+))?", re.DOTALL)


class OtherStart(NamedTuple):
    """How far from where runs usually are."""

    later: Duration
    varies: str = ""
    """The side effect whose key is known to be another one there in each attempt; empty: a search is about to try."""

    @classmethod
    def of(cls, choices: Choices) -> Self | None:
        """Return what a tape that is replayed says; None: it is where runs usually are."""
        words = choices.expected(LABEL, 1) if isinstance(choices, Replay) else None
        found = _WORDS.fullmatch(words) if words is not None else None
        return None if found is None else cls(parse_duration(found[1]), found[2] or "")

    @classmethod
    def before_a_year_ends(cls, at: Instant) -> Self:
        """Return where what usually happens at this instant happens in the last seconds of a year."""
        ends = datetime(START.year + 1, 1, 1, tzinfo=START.tzinfo) - START
        later = ends // timedelta(microseconds=1) - at - LAST
        return cls(max(SECOND, later - later % SECOND))

    def varying(self, effect: str) -> Self:
        """Return the same, where it is known which side effect has another key in each attempt."""
        return self._replace(varies=effect)

    @property
    def deviation(self) -> Deviation:
        """What stands on the tape."""
        return Deviation(
            LABEL, 1, f"others, {format_duration(self.later)} later" + (f", to vary {self.varies}" * bool(self.varies))
        )


def seed_of(choices: Choices) -> int:
    """Return from what processors draw in a run."""
    return SEED if OtherStart.of(choices) is None else SEED + 1


class EffectKey(NamedTuple):
    """What tells a side effect from others of its name."""

    effect: str
    job: JobId
    attempt: int
    at: Instant
    key: str
    is_judged: bool
    """Whether an invariant asks about it."""

    def __str__(self) -> str:
        return f"{self.effect}({self.key}) in attempt {self.attempt} of {self.job}"
