"""Watches one job in the user's table until it ends or its time is up. Reads only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from psycopg.sql import SQL

from harness.errors import EnvironmentUnavailable, UsageError
from harness.lint.live.session import LIMIT_SECONDS, TooSlow, read_only
from harness.lint.live.tables import Table, find_tables
from harness.postgres.patience import Deadline
from harness.verify.budget import shown, within_budget

LOOK_EVERY_SECONDS: Final = 0.05
_MOST: Final = SQL("2000")
"""Characters that are read of what the system wrote."""
ENDS: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


class Seen(NamedTuple):
    """One status, and the seconds after the job's creation at which it was first seen."""

    status: str
    after: float


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen of the job."""

    statuses: tuple[Seen, ...]
    started: bool
    """Whether the row says that it was ever started; a short run may pass between two looks."""
    error: str | None
    in_time: bool
    """Whether it ended before its time was up."""

    @property
    def last(self) -> str | None:
        """The last status."""
        return self.statuses[-1].status if self.statuses else None


def watch(
    dsn: str, job: str, *, start_within: float, end_within: float, told: Callable[[Seen], None] = lambda seen: None
) -> Watched:
    """Look at the job until it ends; it has so many seconds to start, and then so many to end.

    Raises EnvironmentUnavailable without the database, UsageError where it has no `tool_job`.
    """
    users = within_budget(lambda: _users(dsn), what="the database")
    if users is None:
        raise UsageError(
            "the database has no table tool_job with an id and a status",
            hint="Name the database that the api-server writes to with --dsn.",
        )
    statuses: list[Seen] = []
    whole = Deadline(start_within + end_within)
    deadline = Deadline(start_within)
    row: dict[str, Any] = {}
    while True:
        row = _row(dsn, users, job) or row
        status = _text(row.get("status"))
        if status is not None and (not statuses or statuses[-1].status != status):
            statuses.append(Seen(status, whole.seconds - whole.left))
            told(statuses[-1])
            if status == "PROCESSING" and len(statuses) <= len(("PENDING", "PROCESSING")):
                deadline = Deadline(end_within)
        if status in ENDS or deadline.passed:
            return Watched(
                tuple(statuses), row.get("started") is not None, _text(row.get("error")), in_time=status in ENDS
            )
        deadline.pause(LOOK_EVERY_SECONDS)


def _users(dsn: str) -> Table | None:
    with read_only(dsn) as session:
        return find_tables(session).users


def _row(dsn: str, users: Table, job: str) -> dict[str, Any] | None:
    error = SQL("left(t.error::text, {most})").format(most=_MOST) if "error" in users.defaults else SQL("null::text")
    query = SQL(
        "SELECT left(t.status::text, {most}) AS status, {started} AS started, {error} AS error "
        "FROM {table} t WHERE {id}"
    ).format(
        started=users.column("t", "started"),
        error=error,
        table=users.full,
        id=SQL("{}::text = %(job)s").format(users.column("t", "id")),
        most=_MOST,
    )

    def look() -> list[dict[str, Any]]:
        with read_only(dsn) as session:
            return session.rows(query, {"job": job})

    try:
        rows = within_budget(look, what="the database")
    except TooSlow:
        raise EnvironmentUnavailable(
            f"the database took more than {LIMIT_SECONDS} s to show the job {job}",
            hint="Is tool_job locked, or without an index on its id?",
        ) from None
    return rows[0] if rows else None


def _text(value: Any) -> str | None:
    return None if value is None else shown(value)
