"""Whether PostgreSQL is there: one rule for what any driver says, in any language, and one error where it is not.

A server that shuts down, refuses connections or breaks them says nothing about the queue that uses
it. What it says on the way reaches us as an exception of psycopg, or as words and a code that a
peer reports of its own driver's error. Must not know: queues, peers, runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import psycopg
from psycopg import generators, pq
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import wait

from job_harness.errors import EnvironmentUnavailable, HarnessError, LimitReached
from job_harness.worlds.patience import Deadline

if TYPE_CHECKING:
    from job_harness.worlds.postgres.cluster import Cluster

T = TypeVar("T")

ANSWER_SECONDS: Final = 20.0
"""Real seconds for which a statement of the harness's own may stay unanswered."""
LOOK_SECONDS: Final = 0.1
"""Real seconds between looks at how long a statement is unanswered. Unless told, psycopg 3.3 looks without a pause."""
PING_SECONDS: Final = 2
"""Real seconds within which a server that is there answers a new connection; libpq takes no fewer."""
_CODES: Final = re.compile(r"08...|57P0[1-5]|53300|ECONN\w+|EPIPE|ENOENT|ENOTFOUND|ETIMEDOUT|E(HOST|NET)(UNREACH|DOWN)")
"""SQLSTATE's connection exceptions, shutdowns and `too_many_connections`; what Node and Python call an `errno`."""
_WORDS: Final = re.compile(
    r"terminating connection"
    r"|the database system is (starting up|shutting down|in recovery mode)"
    r"|connection terminated"
    r"|(server|connection) (was )?closed (the connection|in the middle)"
    r"|connection (is|was) (closed|lost|bad)"
    r"|connection (refused|reset)"
    r"|(lost|broken) connection"
    r"|connection error and is not queryable"
    r"|timeout exceeded when trying to connect"
    r"|connection timeout"
    r"|couldn't get a connection",
    re.IGNORECASE,
)
"""Of drivers that give no code: pg, pg-pool, psycopg, psycopg_pool, asyncpg, in their releases of 2023 to 2026."""
HINT: Final = "It was stopped or killed while in use: nothing can be said about this run. Start it again."


def means_absence(words: str, *, code: str = "") -> bool:
    """Whether an error of a driver says that PostgreSQL is not there, rather than that it refused a statement.

    A `code` is an SQLSTATE or the name of an errno; words count only without one.
    """
    return bool(_CODES.fullmatch(code)) if code else bool(_WORDS.search(words))


def absent(words: object, *, when: str = "", tail: str = "", server: str = "PostgreSQL") -> EnvironmentUnavailable:
    """Return the error that says so: `when` is what was done, `tail` the end of the server's log."""
    told = " ".join(str(words).split())
    moment = f" {when}" if when else ""
    return EnvironmentUnavailable(f"{server} went away{moment}: {told}" + (f"\n{tail}" if tail else ""), hint=HINT)


def classify_error(error: psycopg.Error, *, when: str, cluster: Cluster, broken: bool) -> Exception:
    """Return what an error of psycopg comes to: that PostgreSQL is absent, or the error itself, which it refused by."""
    if broken or (error.sqlstate and means_absence("", code=error.sqlstate)):
        return absent(error, when=when, tail=cluster.log_tail())
    return error


class PatientConnection(psycopg.Connection[Any]):
    """A connection of the harness's own: no statement of it is waited for without end.

    A server that is stopped or out of reach ends as its absence; one that answers others has a
    statement that does not end. Both leave the connection closed.
    """

    url = ""

    @classmethod
    def to(cls, url: str, **options: Any) -> Self:
        """Connect to `url`, in autocommit mode."""
        connection = cls.connect(url, autocommit=True, **options)
        connection.url = url
        return connection

    def wait(self, gen: Generator[Any, Any, T], *rest: Any, **more: Any) -> T:
        """Send a statement, and wait for its answer. Raises EnvironmentUnavailable or LimitReached where none comes."""
        return super().wait(_bounded(gen, self.pgconn, self.url), *rest, **more)

    def confirm(self, *, tail: Callable[[], str] = str) -> None:
        """Look whether the server is there as it was when this was opened. Raises EnvironmentUnavailable otherwise."""
        if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            if (why := silence_of(self.url)) is not None:
                raise absent(why, tail=tail())
            return
        try:
            self.execute(b"SELECT")
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise absent(error, when="in the course of the run", tail=tail()) from error


def answered(session: PGconn, sql: bytes, *, url: str) -> PGresult:
    """Send SQL that never waits for a lock over a bare session, and return the last answer; bounded like the above."""
    session.send_query(sql)
    results: list[PGresult] = wait(_bounded(generators.execute(session), session, url), session.socket, LOOK_SECONDS)
    return results[-1]


def _bounded(steps: Generator[Any, Any, T], session: PGconn, url: str) -> Generator[Any, Any, T]:
    deadline = Deadline(ANSWER_SECONDS)
    try:
        wants = next(steps)
        while True:
            ready = yield wants
            if not ready and deadline.passed:
                session.finish()
                raise _unanswered(url)
            wants = steps.send(ready)
    except StopIteration as end:
        value: T = end.value
        return value


def _unanswered(url: str) -> HarnessError:
    seconds = f"{ANSWER_SECONDS:g} s of real time"
    if (why := silence_of(url)) is not None:
        return absent(f"a statement was not answered for {seconds}, and neither is a new connection: {why}")
    return LimitReached(
        f"a statement has had no reply for {seconds}, although PostgreSQL answers others",
        hint="It waits for something that does not come, or does not end: look at it in pg_stat_activity.",
    )


def silence_of(url: str) -> str | None:
    """Say why a new connection to `url` is not answered within `PING_SECONDS`; None: it is."""
    try:
        psycopg.connect(url, connect_timeout=PING_SECONDS).close()
    except psycopg.Error as error:
        return " ".join(str(error).split())
    return None
