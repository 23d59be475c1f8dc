"""What a system file promises beyond the catalogue: calls that must not come twice, SELECTs that must return no row.

Each is an invariant (`Invariant`) of the engine's own. What a SELECT returns is looked for by who changes rows, and
told as an effect of the history, with the statement that was sent; at rest the monitor looks by itself. Must
not know: processes, connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg

from job_harness.core.history.event import ROW_OF, Effect
from job_harness.core.invariants import AnomalyKind, Guarantee, Invariant, Kind, Monitor
from job_harness.core.invariants.effects import at_most_once
from job_harness.core.invariants.property import Reporter, Rules
from job_harness.subjects.systems.document import NoRowPromise, SystemFile, SystemFileError

LONGEST: Final = 300

Look = Callable[[str], list[dict[str, Any]]]


def promised(file: SystemFile, look: Look) -> tuple[Invariant, ...]:
    """Return the invariants of a file; `look` runs a SELECT in the database of the run."""
    calls = [at_most_once(each.call, per=each.per) for each in file.at_most_once]
    return (*calls, *(_no_row(each, look) for each in file.no_row))


def first_row(promise: NoRowPromise, look: Look) -> str:
    """Return the first row of a SELECT that must return none, in words; nothing where it returns none.

    Raises SystemFileError where PostgreSQL refuses it.
    """
    try:
        rows = look(promise.sql)
    except psycopg.Error as error:
        message = (
            f"{promise.place}: promises.no_row.{promise.name}: PostgreSQL refuses it: {str(error).splitlines()[0]}"
        )
        raise SystemFileError(message, hint="The SELECT is run in the migrated database.") from None
    return ", ".join(f"{name} {value}" for name, value in rows[0].items())[:LONGEST] if rows else ""


def broken(file: SystemFile, look: Look) -> Iterator[tuple[str, str]]:
    """Tell which promises are broken now, each with the row that shows it, whenever they have to hold."""
    for promise in file.no_row:
        if row := first_row(promise, look):
            yield promise.name, row


def _sent(event: Effect) -> str:
    """Say which statement it was, who sent it, and from which line."""
    at = f" at {event.data['at']}" if event.data["at"] else ""
    return f"{event.data['after']!r} of {event.actor}{at}"


def _no_row(promise: NoRowPromise, look: Look) -> Invariant:
    class NoRow(Monitor):
        def __init__(self, rules: Rules, breach: Reporter) -> None:
            super().__init__(rules, breach)
            self._told = False
            self._since = ""

        def on_effect(self, event: Effect) -> None:
            if event.name != ROW_OF + promise.name:
                return
            self._since = f", since {_sent(event)}"
            if promise.always and not self._told:
                self._told = True
                self.breach(promise.name, f"after {_sent(event)}: {event.data['row']}")

        def at_rest(self, views: Any) -> None:
            row = "" if self._told else first_row(promise, look)
            if row:
                self.breach(promise.name, f"at rest{self._since}: {row}")

    return Invariant(
        id=promise.name,
        sentence=f"The SELECT {promise.name!r} of the system file returns no row.",
        kind=Kind.ALWAYS if promise.always else Kind.EVENTUALLY,
        anomalies=(AnomalyKind(promise.name, Guarantee.OWN, "A SELECT that must return no row returned one."),),
        make=NoRow,
    )
