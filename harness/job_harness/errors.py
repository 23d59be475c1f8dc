"""What can go wrong in the harness itself. Knows nothing but words and exit codes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """What a command answers to its caller."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    ENVIRONMENT = 4


class HarnessError(Exception):
    """Anything that stops the harness: what happened, and in `hint` what to do about it."""

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, hint: str = "") -> None:
        message = bounded(message)
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(HarnessError):
    """The caller asked for something that does not exist or makes no sense."""


class Misdescribed(UsageError):
    """A file describes a queue otherwise than its SQL does it: what follows in the run says nothing of the queue."""


class EnvironmentUnavailable(HarnessError):
    """Something that the machine has to provide is missing, broken, or went away."""

    exit_code = ExitCode.ENVIRONMENT


class ProgramMissing(EnvironmentUnavailable):
    """A program that the machine would need, such as Node, is not here, or is too old: a test that needs it skips."""


class NothingToJudge(HarnessError):
    """What was asked about is not there to be judged: neither a pass nor a fail."""

    exit_code = ExitCode.INCONCLUSIVE


class LimitReached(HarnessError):
    """A declared limit was reached; the message names it."""

    exit_code = ExitCode.FAIL


class Hung(LimitReached):
    """A processor never yields, or loops endlessly: the run ends there, and what it left unfinished is not judged."""


class StepsSpent(LimitReached):
    """A run took as many steps as it may, and was still at work."""


_LONG: Final = re.compile(r"[^\s'\"]{400,}|'[^'\n]{400,}'|\"[^\"\n]{400,}\"")


def bounded(message: str) -> str:
    """Leave out the middle of every name in a message that is too long to be read."""
    return _LONG.sub(lambda name: f"{name[0][:80]} ... {name[0][-40:]} ({len(name[0])} characters)", message)


LONGEST_NAME: Final = 200
"""Beyond this, a name is near nothing, and comparing takes long."""


def clipped(value: object, *, longest: int = 80) -> str:
    """Return the value as Python writes it, a long one with its middle left out and its length given."""
    whole = repr(value)
    if len(whole) <= longest:
        return whole
    half = longest // 2
    return f"{whole[:half]} ... {whole[-half // 2 :]} ({len(whole)} characters)"


@contextmanager
def at_place(place: str) -> Iterator[None]:
    """Say where it was written what makes no sense, unless that is said already; an empty place adds nothing."""
    try:
        yield
    except UsageError as error:
        if place and not error.message.startswith(place):
            error.message = f"{place}: {error.message}"
        raise


SHORT_LIST: Final = 12
"""Names that are all listed; of more, only the closest are."""
CLOSEST: Final = 5


def available(names: Iterable[str], *, near: str = "", listed: str = "") -> str:
    """Return `Available: a, b.`; of a long list the closest to `near`, how many more, and where all are `listed`."""
    known = list(names)
    if len(known) <= SHORT_LIST:
        return f"Available: {', '.join(known) or 'none'}."
    short = near if len(near) <= LONGEST_NAME else ""
    shown = difflib.get_close_matches(short, known, n=CLOSEST, cutoff=0.0)
    where = f" ({listed})" if listed else ""
    return f"Available: {', '.join(shown)} and {len(known) - len(shown)} more{where}."


def missing_attribute(of: object, name: str) -> AttributeError:
    """Return what Python raises for an attribute that there is not, with the nearest public one.

    Python itself only suggests one where it prints the traceback, and under pytest it does not.
    """
    known = [] if name.startswith("_") else [each for each in dir(type(of)) if not each.startswith("_")]
    return AttributeError(f"{type(of).__name__!r} object has no attribute {name!r}{did_you_mean(name, known)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for a near miss, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6) if len(name) <= LONGEST_NAME else []
    return f" (did you mean {close[0]!r}?)" if close else ""
