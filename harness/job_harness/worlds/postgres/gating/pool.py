"""Sessions of one database that outlive a run, and the one that watches them: who waits for whom, and whom to end.

Hides how a session is cleaned when it is given back, and how PostgreSQL is asked for lock waits.
Knows no actors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGconn

from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.worlds.patience import Deadline
from job_harness.worlds.postgres.absence import PatientConnection, absent, answered

if TYPE_CHECKING:
    from job_harness.worlds.postgres.gating.connection import GatedConnection

# who waits for whom ---------------------------------------------------------------------------------------------------


OLDEST: Final = 140000
"""Of the versions that PostgreSQL maintains."""
_WAITING: Final = "SELECT pid, pg_blocking_pids(pid) FROM pg_locks WHERE NOT granted AND pid = ANY(%s)"
_DOING: Final = (
    "SELECT concat_ws(' ', state, 'and waits for ' || wait_event_type || ': ' || wait_event) "
    "FROM pg_stat_activity WHERE pid = %s"
)
_ADVISORY: Final = (
    "SELECT pid, count(*) FROM pg_locks WHERE granted AND locktype = 'advisory' AND pid = ANY(%s) GROUP BY 1"
)
GONE_SECONDS: Final = 10.0
"""How long a session that was ended may take to vanish; usually it is a millisecond."""


class LockMonitor:
    """One connection that never waits for a lock itself."""

    def __init__(self, url: str) -> None:
        """Connect to the database at `url`; raises psycopg's error where it cannot, UsageError where it is too old."""
        self._connection = PatientConnection.to(url)
        version = self._connection.info.server_version
        if version < OLDEST:
            self._connection.close()
            raise UsageError(
                f"statement gating needs PostgreSQL 14 or newer; this one is {version // 10000}",
                hint="Choose the engine 'postgres', which keeps to one session.",
            )

    @property
    def pid(self) -> int:
        """The server's process behind this session."""
        return self._connection.info.backend_pid

    @property
    def lost(self) -> bool:
        """Whether the server was seen not to answer."""
        return self._connection.closed

    def waiting(self, pids: Iterable[int]) -> Mapping[int, tuple[int, ...]]:
        """Return which of these sessions wait for a lock, and for whose."""
        return {pid: tuple(blockers) for pid, blockers in self._ask(_WAITING, [list(pids)])}

    def doing(self, pid: int) -> str:
        """Say in words what a session is doing now."""
        rows = self._ask(_DOING, [pid])
        return str(rows[0][0]) if rows else "gone"

    def advisory_locks(self, pids: Iterable[int]) -> Mapping[int, int]:
        """Return how many advisory locks each of these sessions holds, where it holds any."""
        return dict(self._ask(_ADVISORY, [list(pids)]))

    def may_set(self, setting: str, value: str) -> bool:
        """Say whether this role may set a setting for its sessions."""
        try:
            self._connection.execute("SELECT set_config(%s, %s, false)", [setting, value])
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    def seconds(self, setting: str) -> float:
        """Read a setting that is a length of time."""
        rows = self._ask("SELECT extract(epoch FROM current_setting(%s)::interval)", [setting])
        return float(rows[0][0])

    def end(self, pid: int) -> None:
        """End a session and wait until its locks are free.

        Raises EnvironmentUnavailable where it does not end.
        """
        deadline = Deadline(GONE_SECONDS)
        while self._ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s", [pid]):
            if deadline.passed:
                raise EnvironmentUnavailable(
                    f"PostgreSQL's session {pid} did not end within {GONE_SECONDS:g} s, although it was told to",
                    hint="Look at it in pg_stat_activity; provision a new PostgreSQL.",
                )
            deadline.pause(0.0005)

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def _ask(self, query: str, values: list[Any]) -> list[Any]:
        try:
            return self._connection.execute(query.encode(), values).fetchall()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise absent(error, when="while statements were gated") from error


# the sessions ---------------------------------------------------------------------------------------------------------


DEADLOCK_SECONDS: Final = 0.001
"""After this a session that waits for a lock looks whether it waits in a circle; the least that PostgreSQL takes."""
_TELLING: Final = {
    "deadlock_timeout": f"{int(DEADLOCK_SECONDS * 1000)}ms",
    "log_lock_waits": "on",
    "client_min_messages": "log",
    "lc_messages": "C",
    "log_min_messages": "fatal",
}
"""Makes a session that waits for a lock look for a circle at once, and say so to its client and nowhere else."""
_CLEAN: Final = b"SELECT pg_advisory_unlock_all(); UNLISTEN *; CLOSE ALL; RESET ALL; DISCARD TEMP"


class PooledSession(NamedTuple):
    """A session, and what psycopg remembers of the statements that are prepared in it (None: of a new one)."""

    session: PGconn
    prepared: Any = None


class SessionPool:
    """Opens `pq` connections with the settings that gating needs. One coordinator at a time draws from it."""

    def __init__(self, url: str, *, settings: str = "") -> None:
        """Connect to the database at `url`; `settings` is SQL that every session runs first.

        Raises EnvironmentUnavailable where there is nothing to connect to.
        """
        self.url = url
        self._settings = settings.encode()
        self._clean = b"; ".join(filter(None, (_CLEAN, self._settings)))
        self._idle: list[PooledSession] = []
        try:
            self.monitor = LockMonitor(url)
        except psycopg.OperationalError as error:
            raise _unreachable(str(error)) from error
        self.deadlock_seconds: float = DEADLOCK_SECONDS
        """How long this PostgreSQL lets a circle of waiting sessions be."""
        self.tells: bool = all(self.monitor.may_set(name, value) for name, value in _TELLING.items())
        """Whether a waiting session tells when it has looked for a circle: where the role may ask that of it."""
        self.options: str = " ".join(f"-c {name}={value}" for name, value in _TELLING.items()) if self.tells else ""
        """What a session is opened with, so that it tells when it waits."""
        if not self.tells:
            self.deadlock_seconds = self.monitor.seconds("deadlock_timeout")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def take(self) -> PooledSession:
        """Return a clean session, a new one where none is idle."""
        while self._idle:
            pooled = self._idle.pop()
            if pooled.session.status == pq.ConnStatus.OK:
                return pooled
            pooled.session.finish()
        return PooledSession(self._opened())

    def _opened(self) -> PGconn:
        given: dict[str, Any] = conninfo_to_dict(self.url)
        options = " ".join(part for part in (given.pop("options", ""), self.options) if part)
        conninfo = make_conninfo("", **given, **({"options": options} if options else {}))
        session = pq.PGconn.connect(conninfo.encode())
        if session.status != pq.ConnStatus.OK:
            raise _unreachable(session.get_error_message())
        self._prepare(session)
        return session

    def _prepare(self, session: PGconn) -> None:
        """Run the caller's settings, as cleaning does."""
        if self._settings:
            result = session.exec_(self._settings)
            if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
                raise EnvironmentUnavailable(
                    f"a session's settings were refused: {session.get_error_message()}",
                    hint="Correct the SQL given as `settings`.",
                )

    def give_back(self, connection: GatedConnection) -> None:
        """Keep a session for the next run, cleaned; one that is in the middle of something is ended."""
        session = connection.pgconn
        if session.status != pq.ConnStatus.OK or self.monitor.lost:
            session.finish()
            return
        if self._cleaned(session):
            self._idle.append(PooledSession(session, connection.prepared))
        else:
            self.drop(session)

    def _cleaned(self, session: PGconn) -> bool:
        try:
            if session.transaction_status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
                answered(session, b"ROLLBACK", url=self.url)
            if session.transaction_status != pq.TransactionStatus.IDLE:
                return False
            return answered(session, self._clean, url=self.url).status != pq.ExecStatus.FATAL_ERROR
        except psycopg.Error:
            return False

    def drop(self, session: PGconn) -> None:
        """End a session, whatever it is doing; its locks are free afterwards."""
        pid = session.backend_pid if session.status == pq.ConnStatus.OK and not self.monitor.lost else 0
        try:
            if pid:
                self.monitor.end(pid)
        finally:
            session.finish()

    def close(self) -> None:
        """End all sessions."""
        for pooled in self._idle:
            pooled.session.finish()
        self._idle.clear()
        self.monitor.close()


def _unreachable(reason: str) -> EnvironmentUnavailable:
    return EnvironmentUnavailable(
        f"no session with PostgreSQL: {' '.join(reason.split())}",
        hint="Check that it runs and has connections to spare: gating needs one for each actor.",
    )
