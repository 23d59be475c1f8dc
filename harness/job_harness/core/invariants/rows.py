"""Rows that must not be there: a SELECT of the user's own that returns none; and two places that must agree.

What it returns is looked for in the database of the run, by who knows that. Where statements are
told, the one after which a row appeared is named; else the verb is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from job_harness.core.history import DIFFER_OF, ROW_OF, Effect, Fault, Observed
from job_harness.core.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from job_harness.core.model import SECOND, Duration, Instant, format_duration

LONGEST: Final = 300
RECOVERED: Final[Duration] = 30 * SECOND
"""How long after a fault everybody who was struck is at work again."""
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
    """What shows pairs of `key` and `value`: a SELECT, a script that is run in Redis, or calls to a host outside."""

    text: str
    script: bool
    key: str = ""
    """Of calls, which field of their body is the key; empty: it shows no calls."""
    value: str = ""
    """Of calls, which field is the value; empty: there is none."""


@dataclass(frozen=True, slots=True)
class AgreePromise:
    """Two places that show the same values for the same keys."""

    name: str
    each: ShownBy
    other: ShownBy
    both: bool
    """Whether the other shows no more keys than the first does."""
    within: Duration | None
    """How long a key may differ; None: until everything is done."""
    place: str


def disagreements(each: Mapping[str, str], other: Mapping[str, str], *, both: bool) -> dict[str, str] | None:
    """Return the keys whose values differ, each in words; None where there is no key."""
    keys = [*each, *(key for key in other if key not in each)] if both else list(each)
    differing = [key for key in keys if each.get(key) != other.get(key)]
    told = {
        key: f"{key} is {each.get(key, 'nothing')}, and in the other {other.get(key, 'nothing')}"[:LONGEST]
        for key in differing
    }
    return told if keys else None


def words_of(rows: list[dict[str, Any]]) -> str:
    """Return the first of these rows in words; nothing where there is none."""
    return ", ".join(f"{name} {value}" for name, value in rows[0].items())[:LONGEST] if rows else ""


def _sent(event: Effect) -> str:
    """Say which statement it was, who sent it, and from which line."""
    at = f" at {event.data['at']}" if event.data["at"] else ""
    return f"{event.data['after']!r} of {event.actor}{at}"


def agree(promise: AgreePromise, look: Callable[[], dict[str, str] | None]) -> Invariant:
    """Return the invariant; `look` tells the keys whose values differ, or None where no key was shown.

    With `within`, effects tell which keys differ whenever these are others. What a fault took does
    not count.
    """

    class Agree(Monitor):
        def __init__(self, rules: Rules, breach: Reporter) -> None:
            super().__init__(rules, breach)
            self._compared = False
            self._since: dict[str, Instant] = {}
            """By key that differs, since when."""
            self._struck_until: Instant = 0

        def on_fault(self, event: Fault) -> None:
            took = event.data.get("for", 0) if isinstance(event.data, dict) else 0
            self._struck_until = max(self._struck_until, event.at + took + RECOVERED)

        def on_effect(self, event: Effect) -> None:
            if event.name != DIFFER_OF + promise.name or promise.within is None:
                return
            for key in [key for key in self._since if key not in event.data]:
                took = event.at - max(self._since.pop(key), self._struck_until)
                if took > promise.within:
                    told = f"the two sides differed in {key!r} for {format_duration(took)}"
                    self.breach(promise.name, f"{told}; at most {format_duration(promise.within)} is promised")
            for key in event.data:
                self._since.setdefault(key, event.at)

        @property
        def idle(self) -> bool:
            return not self._compared

        def at_rest(self, views: Mapping[Any, Any]) -> None:
            told = look()
            self._compared = self._compared or told is not None
            if told:
                self.breach(promise.name, f"at rest: {next(iter(told.values()))}")

    return Invariant(
        id=promise.name,
        sentence=f"Both sides of {promise.name!r} in the file come to show the same values.",
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
