"""What is wrong in a database now, the first cause first: stuck, orphaned, diverged, overdue, never started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from psycopg.sql import SQL, Composed, Literal

from job_harness.review.check.cron import maintenance_period
from job_harness.review.check.database import (
    LIMIT_SECONDS,
    JobTable,
    JobTables,
    ReadOnlySession,
    TableChoice,
    TooSlow,
    find_tables,
    read_settings,
)
from job_harness.review.check.facts import Facts, Place, SettingSource, Value
from job_harness.review.check.finding import CheckFinding, Related
from job_harness.review.check.rules.application import LIVE
from job_harness.review.check.settings import FLAG, EffectiveSettings, meaning_of, standings, write_seconds, write_value

DUE_SECONDS: Final = 60.0
"""A due job that no worker took for this long is waiting; polls come every few seconds."""
STUCK_SECONDS: Final = 1800.0
EXPIRY_SECONDS: Final = 900.0
QUEUE_INTERVAL_SECONDS: Final = 120.0
KEPT_SECONDS: Final = 86_400.0
EXAMPLES: Final = 3

STATUSES: Final = frozenset({"PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED"})
WAITING: Final[LiteralString] = "('created', 'retry')"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings, the first cause first, and what could not be judged."""

    findings: tuple[CheckFinding, ...]
    uncovered: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    """What was not looked at because it is not there, with the reason."""


DEFAULT: Final = "table tool_job, the default of --table"


def diagnose(session: ReadOnlySession, facts: Facts, *, choice: TableChoice | None = None) -> Diagnosis:
    """Look at both tables. What the database sets itself is added to the facts.

    Raises UsageError where the table that is asked for is not there.
    """
    try:
        tables = find_tables(session, choice)
        if tables.users is None and tables.queue is None:
            return Diagnosis((), (f"the database has neither a queue's job table nor {DEFAULT}",))
        read_settings(session, tables, facts)
    except TooSlow:
        return Diagnosis((), (f"the database: its tables were locked, or not read within {LIMIT_SECONDS} s",))
    return _Doctor(session, facts, tables).examine()


class _Doctor:
    def __init__(self, session: ReadOnlySession, facts: Facts, tables: JobTables) -> None:
        self._session = session
        self._facts = facts
        self._tables = tables
        self._standing: EffectiveSettings = standings(facts)[0]
        self._grace = 2 * maintenance_period(facts) + DUE_SECONDS
        self._uncovered: list[str] = []
        self._skipped: list[str] = []

    def examine(self) -> Diagnosis:
        users, queue = self._tables.users, self._tables.queue
        findings: list[CheckFinding] = []
        waiting = self._try("waiting jobs", self._waiting)
        findings += waiting
        stopped = any(finding.rule == "workers_not_running" for finding in waiting)
        if queue is None:
            self._skipped.append("leases and queues: the database has no job table of a queue")
        else:
            findings += self._try("leases", self._leases)
        if users is None:
            self._skipped.append(f"stuck, diverged and orphaned rows: there is no {DEFAULT}; name yours with it")
        elif self._speaks(users):
            findings += self._try("stuck jobs", self._stuck)
            findings += self._try("attempts", self._attempts)
        if users is not None and queue is not None:
            findings += self._try("partners", self._partners)
        if not stopped:
            findings += self._try("queues without a worker", self._unserved)
        findings += self._differences()
        if users is not None and self._speaks(users):
            findings += self._try("deletion", self._kept)
        return Diagnosis(tuple(findings), tuple(self._uncovered), tuple(dict.fromkeys(self._skipped)))

    def _speaks(self, users: JobTable) -> bool:
        """Whether the rows have the five statuses that rules know; the reason is kept where they have not."""
        if not users.has("status"):
            self._skipped.append(f"stuck and diverged rows: {users.name} has no column status")
            return False
        query = SQL("SELECT DISTINCT t.status::text AS status FROM {table} t LIMIT 50").format(table=users.full)
        try:
            told = {str(row["status"]) for row in self._session.rows(query)}
        except TooSlow:
            return False
        others = sorted(told - STATUSES)
        if others:
            self._skipped.append(f"stuck and diverged rows: {users.name} has statuses of its own ({', '.join(others)})")
        return not others

    def _try(self, what: str, look: Callable[[], Iterator[CheckFinding]]) -> list[CheckFinding]:
        try:
            return list(look())
        except TooSlow:
            self._uncovered.append(f"{what}: not judged within {LIMIT_SECONDS} s")
            return []

    def _seconds(self, name: str, otherwise: float) -> float:
        setting = self._standing.get(name)
        return otherwise if setting is None else setting.value

    def _finding(
        self, rule: str, place: Place, message: str, *, repair: str = "", related: Sequence[Related] = ()
    ) -> CheckFinding:
        known = LIVE[rule]
        return CheckFinding(rule, known.severity, place, message, repair or known.repair, tuple(related))

    def _due(self, table: JobTable, alias: str) -> Composed:
        """Write when a job became due: its start, or else its creation."""
        return SQL("coalesce({}, {})").format(table.column(alias, "start_after"), table.column(alias, "created"))

    def _waiting(self) -> Iterator[CheckFinding]:
        """Nothing due was taken for longer than a poll: with something started since, workers are behind; else off."""
        source = self._source()
        if source is None:
            return
        table, due, where, started = source
        query = SQL(
            "SELECT count(*) AS many, extract(epoch FROM now() - min({due}))::float8 AS oldest, "
            "extract(epoch FROM now() - (SELECT max({started}) FROM {table} q))::float8 AS last "
            "FROM {table} q WHERE {where} AND {due} <= now() - make_interval(secs => %(wait)s)"
        ).format(due=due, started=started, table=table.full, where=SQL(where))
        wait = max(DUE_SECONDS, 5 * self._seconds("polling_interval", 2.0))
        row = self._session.rows(query, {"wait": wait})[0]
        if not row["many"]:
            return
        many, oldest = _jobs(row["many"]), write_seconds(int(row["oldest"]))
        if row["last"] is None or row["last"] > row["oldest"] or row["last"] > STUCK_SECONDS:
            flag = self._flag()
            when = "nothing was ever started" if row["last"] is None else f"the last start was {_ago(row['last'])}"
            cause = f"workers are not running{'' if flag is None else f': {FLAG} is not true ({flag.place})'}"
            yield self._finding(
                "workers_not_running",
                table.place,
                f"{cause}; {many} due, the oldest for {oldest}, and {when}",
                related=() if flag is None else (flag,),
            )
        else:
            yield self._finding(
                "overdue_now",
                table.place,
                f"{many} due and not taken, the oldest for {oldest}; the last start was {_ago(row['last'])}",
            )

    def _source(self) -> tuple[JobTable, Composed, LiteralString, Composed] | None:
        """Choose the table that tells when jobs are due and when one was started last."""
        users, queue = self._tables.users, self._tables.queue
        if queue is not None and queue.has("start_after", "started"):
            return queue, self._due(queue, "q"), f"q.state::text IN {WAITING}", queue.column("q", "started")
        if users is not None and users.has("created", "started"):
            due = users.column("q", "created")
            return users, due, "q.status::text = 'PENDING'", users.column("q", "started")
        return None

    def _flag(self) -> Related | None:
        for service in self._facts.services:
            value = service.values.get(FLAG)
            if value is not None and isinstance(value.value, str):
                if value.value == "true":
                    return None
                return Related(value.place, f"{FLAG} is {value.value!r}")
        complete = [one for one in self._facts.services if one.complete]
        return Related(complete[0].place, f"{FLAG} is not set") if complete else None

    def _leases(self) -> Iterator[CheckFinding]:
        queue = self._tables.queue
        assert queue is not None
        if not queue.has("started") and not queue.has("lease_until"):
            return
        seconds = queue.column("q", "expire_seconds", "int4")
        until = SQL(
            "coalesce({lease}, {started} + coalesce({interval}, make_interval(secs => {seconds}), "
            "make_interval(secs => %(expiry)s)))"
        ).format(
            lease=queue.column("q", "lease_until"),
            started=queue.column("q", "started"),
            interval=queue.column("q", "expire_in", "interval"),
            seconds=seconds,
        )
        query = SQL(
            "SELECT count(*) AS many, extract(epoch FROM now() - min({until}))::float8 AS oldest, "
            "(array_agg(q.id::text ORDER BY {until}))[1:3] AS examples "
            "FROM {table} q WHERE q.state::text = 'active' AND {until} < now() - make_interval(secs => %(wait)s)"
        ).format(until=until, table=queue.full)
        wait = self._seconds("maintenance_interval", QUEUE_INTERVAL_SECONDS) + DUE_SECONDS
        row = self._session.rows(query, {"wait": wait, "expiry": self._seconds("expiry", EXPIRY_SECONDS)})[0]
        if row["many"]:
            yield self._finding(
                "lease_overdue_now",
                queue.place,
                f"{_jobs(row['many'])} active past the expiry, the oldest for {write_seconds(int(row['oldest']))} "
                f"({_some(row['examples'])}): the queue's own maintenance does not take them back",
            )

    def _stuck(self) -> Iterator[CheckFinding]:
        users = self._tables.users
        assert users is not None
        limit = self._seconds("stuck_timeout", STUCK_SECONDS)
        since = SQL("coalesce({}, {}, {})").format(
            users.column("t", "started"), users.column("t", "updated"), users.column("t", "created")
        )
        query = SQL(
            "SELECT count(*) AS many, extract(epoch FROM now() - min({since}))::float8 AS oldest, "
            "(array_agg(t.id::text ORDER BY {since}))[1:3] AS examples "
            "FROM {table} t WHERE t.status::text = 'PROCESSING' AND {since} < now() - make_interval(secs => %(wait)s)"
        ).format(since=since, table=users.full)
        row = self._session.rows(query, {"wait": limit + self._grace})[0]
        if row["many"]:
            yield self._finding(
                "stuck_now",
                users.place,
                f"{_jobs(row['many'])} PROCESSING for longer than the stuck timeout of {write_seconds(limit)}, the "
                f"oldest for {write_seconds(int(row['oldest']))} ({_some(row['examples'])}): maintenance does not "
                "run, or frees nothing",
            )

    def _attempts(self) -> Iterator[CheckFinding]:
        users = self._tables.users
        assert users is not None
        if not users.has("attempts", "max_attempts"):
            return
        query = SQL(
            "SELECT count(*) AS many, (array_agg(t.id::text))[1:3] AS examples FROM {table} t WHERE {used} > {allowed}"
        ).format(
            table=users.full,
            used=users.column("t", "attempts", "int4"),
            allowed=users.column("t", "max_attempts", "int4"),
        )
        row = self._session.rows(query)[0]
        if row["many"]:
            yield self._finding(
                "attempts_over_limit_now",
                users.place,
                f"{_jobs(row['many'])} delivered more often than maxAttempts ({_some(row['examples'])})",
            )

    def _partners(self) -> Iterator[CheckFinding]:
        users, queue = self._tables.users, self._tables.queue
        assert users is not None
        assert queue is not None
        if (users.has("link") or self._tables.by_data) and self._speaks(users):
            yield from self._linked(users, queue)
        if queue.has("data"):
            yield from self._ownerless(users, queue)

    def _linked(self, users: JobTable, queue: JobTable) -> Iterator[CheckFinding]:
        touched = SQL("coalesce({}, {}, {}, '-infinity')").format(
            users.column("t", "updated"), users.column("t", "started"), users.column("t", "created")
        )
        joined = SQL("q.id::text = {}").format(users.column("t", "link", "text"))
        if self._tables.by_data:
            joined = SQL("q.data ->> {} = t.id::text").format(Literal(self._tables.choice.data_key))
        query = SQL(_PARTNERS).format(users=users.full, queue=queue.full, joined=joined, touched=touched)
        rows = self._session.rows(query, {"grace": self._grace})
        orphans = [row for row in rows if row["state"] is None]
        if orphans:
            many = sum(row["many"] for row in orphans)
            told = ", ".join(f"{row['many']} {row['status']}" for row in orphans)
            yield self._finding(
                "orphaned_now",
                users.place,
                f"{_jobs(many)} ({told}) without a row in {queue.schema}.{queue.name} "
                f"({_some(orphans[0]['examples'])}): nothing will ever run them",
            )
        for row in rows:
            if row["state"] is not None:
                yield self._finding(
                    "diverged_now",
                    users.place,
                    f"{_jobs(row['many'])} {row['status']}, and {row['state']} in {queue.schema}.{queue.name} "
                    f"({_some(row['examples'])})",
                )

    def _ownerless(self, users: JobTable, queue: JobTable) -> Iterator[CheckFinding]:
        query = SQL(
            "SELECT count(*) AS many, (array_agg(q.id::text))[1:3] AS examples FROM {queue} q "
            "WHERE q.state::text IN ('created', 'retry', 'active') AND q.data ->> {key} IS NOT NULL "
            "AND NOT EXISTS (SELECT FROM {users} t WHERE t.id::text = q.data ->> {key})"
        ).format(queue=queue.full, users=users.full, key=Literal(self._tables.choice.data_key))
        row = self._session.rows(query)[0]
        if row["many"]:
            yield self._finding(
                "orphaned_now",
                queue.place,
                f"{_jobs(row['many'])} in the queue for rows of {users.name} that are gone ({_some(row['examples'])}): "
                "a worker will run them although no user can see the result",
            )

    def _differences(self) -> Iterator[CheckFinding]:
        """Compare what the code gives to a queue with what its row holds."""
        held = {
            (value.queue, meaning.setting): (value, _scaled(value, meaning.unit))
            for value in self._facts.values
            if value.source is SettingSource.DATABASE and (meaning := meaning_of(value.name, option=True)) is not None
        }
        given = [
            (value, meaning)
            for value in self._facts.values
            if value.source in (SettingSource.QUEUE, SettingSource.UPDATE)
            and (meaning := meaning_of(value.name, option=True)) is not None
        ]
        updated = {(value.queue, meaning.setting) for value, meaning in given if value.source is SettingSource.UPDATE}
        for value, meaning in given:
            if value.source is SettingSource.QUEUE and (value.queue, meaning.setting) in updated:
                continue  # updateQueue wins, so the row never holds what createQueue says.
            wanted = _scaled(value, meaning.unit)
            for (queue, setting), (other, has) in held.items():
                if setting != meaning.setting or value.queue not in ("", queue) or None in (wanted, has):
                    continue
                if wanted != has:
                    yield self._finding(
                        "queue_options_differ_now",
                        value.place,
                        f"{value.name} is {write_value(value.value)} here, and {other.name} of the queue {queue!r} "
                        f"in the database is {write_value(other.value)}",
                        related=(Related(other.place, f"{other.name} = {write_value(other.value)}"),),
                    )

    def _unserved(self) -> Iterator[CheckFinding]:
        """Look at the tools of the user's table and at the queues: a queue may hold jobs that no row speaks of."""
        users, queue = self._tables.users, self._tables.queue
        seen: set[str] = set()
        if users is not None and users.has("slug", "created", "started", "status"):
            name, where = users.column("q", "slug", "text"), SQL("q.status::text = 'PENDING'")
            yield from self._never(users, name, where, users.column("q", "created"), seen)
        if queue is not None and queue.has("start_after", "started"):
            name, where = queue.column("q", "name", "text"), SQL("q.state::text IN " + WAITING)
            yield from self._never(queue, name, where, self._due(queue, "q"), seen)

    def _never(
        self, table: JobTable, name: Composed, where: SQL, due: Composed, seen: set[str]
    ) -> Iterator[CheckFinding]:
        query = SQL(
            "SELECT {name}::text AS name, count(*) FILTER (WHERE {where}) AS many, "
            "extract(epoch FROM now() - min({due}) FILTER (WHERE {where}))::float8 AS oldest "
            "FROM {table} q GROUP BY 1 "
            "HAVING count({started}) = 0 AND count(*) FILTER (WHERE {where} "
            "AND {due} < now() - make_interval(secs => %(wait)s)) > 0 ORDER BY 1 LIMIT 20"
        ).format(name=name, where=where, due=due, table=table.full, started=table.column("q", "started"))
        for row in self._session.rows(query, {"wait": self._grace}):
            if row["name"] in seen:
                continue
            seen.add(row["name"])
            listed = {slug.name for slug in self._facts.listed}
            why = ", which TOOL_SLUGS does not list" if listed and row["name"] not in listed else ""
            yield self._finding(
                "never_started_now",
                table.place,
                f"no job of {row['name']!r}{why} was ever started; {_jobs(row['many'])} waiting, the oldest for "
                f"{write_seconds(int(row['oldest']))}",
            )

    def _kept(self) -> Iterator[CheckFinding]:
        users = self._tables.users
        assert users is not None
        if not users.has("expires"):
            return
        query = SQL(
            "SELECT count(*) AS many, extract(epoch FROM now() - min({expires}))::float8 AS oldest FROM {table} t "
            "WHERE t.status::text IN ('COMPLETED', 'FAILED', 'CANCELLED') "
            "AND {expires} < now() - make_interval(secs => %(wait)s)"
        ).format(expires=users.column("t", "expires"), table=users.full)
        row = self._session.rows(query, {"wait": KEPT_SECONDS})[0]
        if row["many"]:
            yield self._finding(
                "kept_too_long_now",
                users.place,
                f"{_jobs(row['many'])} past expiresAt, the oldest for {write_seconds(int(row['oldest']))}: maintenance "
                "deletes nothing",
            )


_PARTNERS: Final = """
  SELECT t.status::text AS status, q.state::text AS state, count(*) AS many,
         (array_agg(t.id::text ORDER BY t.id))[1:3] AS examples
    FROM {users} t
    LEFT JOIN {queue} q ON {joined}
   WHERE {touched} < now() - make_interval(secs => %(grace)s)
     AND (q.id IS NOT NULL OR t.status::text IN ('PENDING', 'PROCESSING'))
     AND NOT coalesce(CASE t.status::text
           WHEN 'PENDING' THEN q.state::text IN ('created', 'retry')
           WHEN 'PROCESSING' THEN q.state::text = 'active'
           WHEN 'COMPLETED' THEN q.state::text = 'completed'
           WHEN 'FAILED' THEN q.state::text IN ('failed', 'expired')
           WHEN 'CANCELLED' THEN q.state::text = 'cancelled'
           ELSE true END, false)
   GROUP BY 1, 2
   ORDER BY 1, 2
"""


def _scaled(value: Value, unit: float) -> float | None:
    return value.value * unit if isinstance(value.value, (int, float)) else None


def _jobs(many: int) -> str:
    return f"{many} job{' is' if many == 1 else 's are'}"


def _ago(seconds: float) -> str:
    return f"{write_seconds(int(seconds))} ago"


def _some(examples: Sequence[Any] | None) -> str:
    return "such as " + ", ".join(map(str, (examples or ())[:EXAMPLES]))
