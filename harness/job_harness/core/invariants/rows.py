"""Rows that must not be there: a SELECT of the user's own that returns none; and two places that must agree.

What it returns is looked for in the database of the run, by who knows that. Where statements are told, the one after
which a row appeared is named; else the verb is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from job_harness.core.history.event import ROW_OF, Effect, Observed
from job_harness.core.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules

LONGEST: Final = 300
Look: TypeAlias = Callable[[], str]
"""Returns the first row, in words; nothing where there is none."""


@dataclass(frozen=True, slots=True)
class NoRowPromise:
    """A SELECT that must return no row."""

    name: str
    sql: str
    always: bool
    """After every change; else at rest alone."""
    place: str


@dataclass(frozen=True, slots=True)
class ShownBy:
    """What shows pairs of `key` and `value`: a SELECT, or a script that is run in Redis."""

    text: str
    script: bool


@dataclass(frozen=True, slots=True)
class AgreePromise:
    """Two places that show the same values for the same keys."""

    name: str
    each: ShownBy
    other: ShownBy
    both: bool
    """Whether the other shows no more keys than the first does."""
    place: str


def disagreement(each: Mapping[str, str], other: Mapping[str, str], *, both: bool) -> str | None:
    """Return the first key whose values differ, in words: nothing where there is none, None where there is no key."""
    keys = [*each, *(key for key in other if key not in each)] if both else list(each)
    for key in keys:
        if each.get(key) != other.get(key):
            one, two = (side.get(key, "nothing") for side in (each, other))
            return f"{key} is {one}, and in the other {two}"[:LONGEST]
    return "" if keys else None


def words_of(rows: list[dict[str, Any]]) -> str:
    """Return the first of these rows in words; nothing where there is none."""
    return ", ".join(f"{name} {value}" for name, value in rows[0].items())[:LONGEST] if rows else ""


def _sent(event: Effect) -> str:
    """Say which statement it was, who sent it, and from which line."""
    at = f" at {event.data['at']}" if event.data["at"] else ""
    return f"{event.data['after']!r} of {event.actor}{at}"


def agree(promise: AgreePromise, look: Callable[[], str | None]) -> Invariant:
    """Return the invariant; `look` tells the first key whose values differ, or None where no key was shown."""

    class Agree(Monitor):
        def __init__(self, rules: Rules, breach: Reporter) -> None:
            super().__init__(rules, breach)
            self._compared = False

        @property
        def idle(self) -> bool:
            return not self._compared

        def at_rest(self, views: Mapping[Any, Any]) -> None:
            told = look()
            self._compared = self._compared or told is not None
            if told:
                self.breach(promise.name, f"at rest: {told}")

    return Invariant(
        id=promise.name,
        sentence=f"At rest both sides of {promise.name!r} in the file show the same values.",
        kind=Kind.EVENTUALLY,
        anomalies=(AnomalyKind(promise.name, Guarantee.OWN, "Two stores that must agree do not."),),
        make=Agree,
    )


def no_row(promise: NoRowPromise, look: Look, *, after_verbs: bool = False) -> Invariant:
    """Return the invariant; with `after_verbs` it looks by itself after each, as no statements are told."""

    class NoRow(Monitor):
        def __init__(self, rules: Rules, breach: Reporter) -> None:
            super().__init__(rules, breach)
            self._told = False
            self._since = ""

        def on_observed(self, event: Observed) -> None:
            if after_verbs and promise.always and not self._told and (row := look()):
                self._told = True
                self.breach(promise.name, f"after {event.verb} of {event.actor}: {row}", job=event.job)

        def on_effect(self, event: Effect) -> None:
            if event.name != ROW_OF + promise.name:
                return
            self._since = f", since {_sent(event)}"
            if promise.always and not self._told:
                self._told = True
                self.breach(promise.name, f"after {_sent(event)}: {event.data['row']}")

        def at_rest(self, views: Mapping[Any, Any]) -> None:
            row = "" if self._told else look()
            if row:
                self.breach(promise.name, f"at rest{self._since}: {row}")

    return Invariant(
        id=promise.name,
        sentence=f"The SELECT {promise.name!r} of the file returns no row.",
        kind=Kind.ALWAYS if promise.always else Kind.EVENTUALLY,
        anomalies=(AnomalyKind(promise.name, Guarantee.OWN, "A SELECT that must return no row returned one."),),
        make=NoRow,
    )
