"""What answers in its own order and offers no choice: a database that lets one of several waiters go first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Pick(NamedTuple):
    """A choice that was made outside: recorded like any other, checked when the tape is replayed."""

    label: str
    options: tuple[str, ...]
    """What could have been picked; the first is what is expected, and needs no mention on the tape."""
    option: str


class Outside(Protocol):
    """Where actors wait for answers that the kernel does not give."""

    def come_to_rest(self) -> Sequence[Pick]:
        """Wait until nothing is on its way any more; tell what was picked meanwhile.

        Raises LimitReached where something neither answers nor waits for one of the actors.
        """
