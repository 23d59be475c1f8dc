"""Where a setting is written, and what it is set to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a file; lines count from 1, files are relative to the root of the repository."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Unknown(Enum):
    """What files cannot tell: a value that a secret store or a platform's dashboard holds."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN

Scalar: TypeAlias = str | int | float | bool | Unknown | None


class Source(Enum):
    """What sets a value; a later one is outranked by an earlier one."""

    SEND = "send()"
    WORK = "work()"
    DATABASE = "the queue's row in the database"
    QUEUE = "the queue's options"
    CONSTRUCTOR = "the constructor's options"
    CONSTANT = "a constant"
    ENVIRONMENT = "the environment"
    COLUMN = "a column default"
    LIBRARY = "the library's default"


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as one place has it.

    `service` is whose environment it is; `queue` the queue it holds for, empty for all; `variable` the environment
    variable that outranks `value` where it is set.
    """

    name: str
    value: Scalar
    place: Place
    source: Source
    service: str = ""
    queue: str = ""
    variable: str = ""
    factor: float = 1.0
    """What the variable's number is multiplied with."""
    call: Place | None = None
    """The one call that it holds for; none where it holds for all."""
