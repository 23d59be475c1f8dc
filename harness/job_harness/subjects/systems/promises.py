"""What a system file promises beyond the catalogue: calls that must not come twice, SELECTs that must return no row.

Each is an invariant (`Invariant`) of the engine's own. What a SELECT returns is looked for by who
changes rows, and told as an effect of the history, with the statement that was sent; at rest the
monitor looks by itself. Must not know: processes, connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg

from job_harness.core.invariants import Invariant
from job_harness.core.invariants.deploys import deploys_cost_no_attempt
from job_harness.core.invariants.effects import at_most_once
from job_harness.core.invariants.outages import outages_cost_no_job
from job_harness.core.invariants.rows import (
    AgreePromise,
    NoRowPromise,
    ShownBy,
    agree,
    disagreements,
    no_row,
    words_of,
)
from job_harness.subjects.systems.document import SystemFile, SystemFileError

THERE = "there"
"""The value of a key that is shown alone."""
Look = Callable[[str], list[dict[str, Any]]]
Read = Callable[[ShownBy], list[dict[str, Any]]]


def promised(file: SystemFile, look: Look, read: Read) -> tuple[Invariant, ...]:
    """Return the invariants of a file; `look` runs a SELECT in the database of the run, `read` also a script."""
    calls = [at_most_once(each.call, per=each.per) for each in file.at_most_once]
    deploys = [deploys_cost_no_attempt(max(kind.grace for kind in file.processes))] if file.deploys_are_free else []
    outlasted = {name: host.rides_out for name, host in file.outside.items() if host.rides_out}
    outages = [outages_cost_no_job(outlasted)] if outlasted else []
    agreeing = [agree(each, partial(differing, each, read)) for each in file.agree]
    return (
        *calls,
        *deploys,
        *outages,
        *agreeing,
        *(no_row(each, partial(first_row, each, look)) for each in file.no_row),
    )


def differing(promise: AgreePromise, read: Read) -> dict[str, str] | None:
    """Return the keys for which both sides show something else, each in words.

    None: neither shows any. Raises SystemFileError where a side is refused, or shows a key twice or
    none at all.
    """
    where = f"{promise.place}: promises.agree.{promise.name}"
    try:
        each, other = (_by_key(read(side), where) for side in (promise.each, promise.other))
    except psycopg.Error as error:
        told = f"{where}: PostgreSQL refuses it: {str(error).splitlines()[0]}"
        raise SystemFileError(told, hint="The SELECT is run in the migrated database.") from None
    return disagreements(each, other, both=promise.both)


def _by_key(rows: list[dict[str, Any]], where: str) -> dict[str, str]:
    hint = (
        "Each side shows `key`, once each, and `value` if there is one: SELECT id AS key, state AS value FROM orders."
    )
    shown: dict[str, str] = {}
    for row in rows:
        if "key" not in row:
            raise SystemFileError(f"{where}: a side shows no 'key'", hint=hint)
        if str(row["key"]) in shown:
            raise SystemFileError(f"{where}: a side shows the key {str(row['key'])!r:.80} twice", hint=hint)
        shown[str(row["key"])] = str(row.get("value", THERE))
    return shown


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
    return words_of(rows)


def broken(file: SystemFile, look: Look) -> Iterator[tuple[str, str]]:
    """Tell which promises are broken now, each with the row that shows it, whenever they have to hold."""
    for promise in file.no_row:
        if row := first_row(promise, look):
            yield promise.name, row
