"""Whether a run can be had again: the same seed must give the same history, whatever ran before it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from harness.history.event import Event
from harness.model.duration import format_duration

EVERY = 100
"""Every so many runs one is done twice."""


@dataclass(frozen=True, slots=True)
class Unsteady:
    """Two histories of one run, up to where they part."""

    number: int
    """Of the run, from 0."""
    seed: int
    index: int
    """Of the first event that differs."""
    one: str
    other: str
    later: bool = False
    """Whether other runs lay between the two: then the target carries state from run to run."""

    def __str__(self) -> str:
        """Say what differs."""
        between = "at the end of the campaign" if self.later else "at once"
        return (
            f"run {self.number} (seed {self.seed}), done again {between}, gives another history. "
            f"First difference, event {self.index}: {self.one} | {self.other}"
        )


def first_difference(one: list[Event], other: list[Event]) -> tuple[int, str, str] | None:
    """Answer the index of the first event that differs, and both in words; None where all are the same."""
    for index, (left, right) in enumerate(zip_longest(one, other)):
        if left == right:
            continue
        texts = _told(left, right)
        if texts is not None:
            return index, *texts
    return None


def perturbed(number: int) -> list[object]:
    """Answer what lies on the heap while a run is repeated, so that addresses are other ones."""
    return [object() for _ in range(1_000 + number % 977)]


def _told(left: Event | None, right: Event | None) -> tuple[str, str] | None:
    """Both events in words; None where they only hold values that know no equality and read the same."""
    if left is None or right is None or type(left) is not type(right):
        return _text(left), _text(right)
    if repr(left) == repr(right):
        return None
    for name, one, other in zip(left._fields, left, right, strict=True):
        if one != other:
            return f"{_text(left)}: {name} {_clip(one)}", f"{name} {_clip(other)}"
    return None


def _text(event: Event | None) -> str:
    if event is None:
        return "no event"
    parts = [str(getattr(event, name)) for name in ("actor", "verb", "name", "job") if getattr(event, name, None)]
    return f"{format_duration(event.at)} {type(event).__name__.lower()} {' '.join(parts)}"


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:159] + "…"
