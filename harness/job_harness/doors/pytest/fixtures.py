"""What the pytest plugin's fixtures hand out, and what a whole test session shares. Imported when first used."""

from __future__ import annotations

import os
import random
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

from job_harness.core.model import Settings
from job_harness.core.printable import printable
from job_harness.core.sim.watchdog import WATCHDOG
from job_harness.core.target import Target
from job_harness.errors import EnvironmentUnavailable, ExitCode, UsageError, available, did_you_mean
from job_harness.search.targets import Engines, check, checked

if TYPE_CHECKING:
    import pytest

    from job_harness.core.port import Engine, EngineClocks, QueueUnderTest
    from job_harness.engines.pgboss.work import WorkProcess
    from job_harness.subjects.processors.workplace import MakeWorkplace
    from job_harness.worlds.postgres import Cluster, KeptDatabase, Reset

DSN_VARIABLE = "JOB_HARNESS_DSN"
OWN_WORKERS = frozenset({"pgboss", "pgboss-node"})
"""Engines whose own worker runs the processors of `job_harness`; on all others that is the reference's, in memory."""


@contextmanager
def exits_are_told(test: pytest.Item) -> Iterator[None]:
    """Let what ends the test run at once do so in words and with a code that is no pass: pytest would say nothing.

    That is `os._exit`, or a processor that keeps control and cannot be interrupted. A child that
    was forked leaves as it wants to.
    """
    owner, leave, say = os.getpid(), os._exit, WATCHDOG.say

    def tell(words: str) -> None:
        capture = test.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            # A worker of pytest-xdist speaks to its controller through standard output, which is not read as text.
            stream = sys.stderr if hasattr(test.config, "workerinput") else sys.stdout
            print(f"\njob-harness: {printable(f'{test.nodeid}: {words}')}", file=stream, flush=True)

    def tell_and_leave(status: int) -> NoReturn:
        if os.getpid() == owner:
            tell(f"something that it ran called os._exit({status}); nothing more was judged")
            status = status or ExitCode.INCONCLUSIVE
        leave(status)

    os._exit = tell_and_leave
    WATCHDOG.say = tell
    try:
        yield
    finally:
        os._exit = leave
        WATCHDOG.say = say


class Shared:
    """Engines and the PostgreSQL of one test process: opened when first needed, closed at the end."""

    def __init__(self, *, dsn: str | None) -> None:
        """Use the server at `dsn`, or one that is provided here."""
        self._engines = Engines()
        self._dsn = dsn
        self._dsn_before = os.environ.get(DSN_VARIABLE)
        if dsn is not None:
            os.environ[DSN_VARIABLE] = dsn  # There every engine that needs a PostgreSQL finds it.
        self._cluster: Cluster | None = None
        self._missing: EnvironmentUnavailable | None = None
        self._processes: dict[str, WorkProcess] = {}

    @property
    def dsn_given(self) -> bool:
        """Whether the server was named by the user: then it has to answer."""
        return bool(self._dsn or self._dsn_before)

    def provenance(self, *, whole: bool) -> str:
        """Where the PostgreSQL came from, and with `whole` also how, and what else was tried; empty without one."""
        if self._cluster is None:
            return ""
        return str(self._cluster.provenance) if whole else self._cluster.provenance.short

    def cluster(self) -> Cluster:
        """Return the session's PostgreSQL; engines find it too. Raises EnvironmentUnavailable, each time alike."""
        if self._missing is not None:
            raise self._missing
        if self._cluster is None:
            from job_harness.worlds.postgres import provision

            try:
                self._cluster = provision(self._dsn)
            except EnvironmentUnavailable as error:
                self._missing = error
                raise
            os.environ[DSN_VARIABLE] = self._cluster.url()
        return self._cluster

    def get(self, target: Target) -> Engine:
        """Return the engine of a target. Raises UsageError, NotApplicable, EnvironmentUnavailable."""
        check(target)
        if target.place == "postgres":
            self.cluster()
        return self._engines.get(target)

    def workplace(self, name: str) -> MakeWorkplace:
        """Return what a `JobHarness` stands on: pg-boss's own work() loop, or the reference queue in memory.

        Raises UsageError for what is not a version of pg-boss.
        """
        from job_harness.engines.reference.application import ReferenceApplication

        if not works_by_itself(name):
            return ReferenceApplication
        from job_harness.subjects.processors.pgboss import work_process, workplace_of

        if name not in self._processes:
            self._processes[name] = work_process(name, dsn=self._dsn)
        return workplace_of(self._processes[name])

    def drop(self, target: Target) -> None:
        """Close an engine that broke or is needed only once."""
        self._engines.drop(target)

    def close(self) -> None:
        """Give everything back. Never raises."""
        self._engines.close()
        for process in self._processes.values():
            process.close()
        self._processes.clear()
        if self._cluster is not None:
            self._cluster.stop()
            self._cluster = None
        if self._dsn_before is None:
            os.environ.pop(DSN_VARIABLE, None)
        else:
            os.environ[DSN_VARIABLE] = self._dsn_before


def works_by_itself(name: str) -> bool:
    """Whether an engine has a worker of its own that a `JobHarness` can stand on."""
    return name.partition("@")[0] in OWN_WORKERS and "+" not in name


def workplaces(names: Iterable[str]) -> tuple[str, ...]:
    """Return what tests of `job_harness` run on: each engine that works by itself, and memory for all others.

    Raises UsageError for an engine that does not exist.
    """
    names = tuple(names)
    for name in names:
        checked(name)
    return tuple(dict.fromkeys(name if works_by_itself(name) else "memory" for name in names))


class JobPostgres:
    """A database of this test process; `reset` empties it, and every test finds it as the first one did."""

    def __init__(self, cluster: Cluster, prepare: Callable[[str], object]) -> None:
        """Let `prepare` fill a template, given its connection string, and clone that."""
        from job_harness.worlds.postgres import Resetter

        template_url = cluster.create_database()
        prepare(template_url)
        template = _database_of(template_url)
        self.url = cluster.create_database(template=template)
        """The connection string."""
        database = _database_of(self.url)
        with Resetter(cluster, database, template=template) as looking:
            seeds = looking.filled()
        self._resetter = Resetter(cluster, database, template=template, keep=seeds)
        self._cluster, self._database, self._template = cluster, database, template
        self._looking: tuple[int, Any] = 0, None
        """A connection, and the process that has opened it."""

    @property
    def descriptor(self) -> int:
        """That of the connection which resets it."""
        return self._resetter.descriptor

    def kept(self) -> KeptDatabase:
        """Keep it as it is now, to be made so again."""
        from job_harness.worlds.postgres import KeptDatabase

        return KeptDatabase(self._cluster, self._database, template=self._template)

    def lock_waiters(self) -> int:
        """Count the sessions here that wait for a lock, over a connection that no other process has."""
        import psycopg

        if self._looking[0] != os.getpid():  # Beside the database: one that is cloned anew must have no session.
            self._looking = os.getpid(), psycopg.connect(self._cluster.url(), autocommit=True)
        # Giving a lock back grants it to the next session at once, long before that one looks awake.
        waiting = (
            "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE NOT granted AND datname = %s"
        )
        found = self._looking[1].execute(waiting, [self._database]).fetchone()
        return 0 if found is None else int(found[0])

    def reset(self, *, keep: Iterable[str] = ()) -> Reset:
        """Empty all tables but those in `keep` and those that were filled from the start.

        After DDL the database is cloned anew. Raises UsageError for an unknown table or a lock
        still held.
        """
        return self._resetter.reset(keep=keep)

    def close(self) -> None:
        """Close the connections; the database goes with its server or with the session."""
        self._resetter.close()
        if self._looking[0] == os.getpid():
            self._looking[1].close()

    def drop(self) -> None:
        """Give the database back now, and its template."""
        self.close()
        for name in (self._database, self._template):
            self._cluster.drop_database(name)


class JobPostgresDatabases:
    """One `JobPostgres` for each function that migrates one: two test modules may each bring a schema of their own.

    A database is kept as long as pytest keeps its function: where the fixture that returns it is
    not of the session, each test has a function of its own.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._made: list[tuple[Callable[[], object], JobPostgres | Exception]] = []

    def migrated_by(self, prepare: Callable[[str], object]) -> JobPostgres:
        """Return its database, made when first asked for; raises what `prepare` raised then."""
        found = next((made for function, made in self._made if function() is prepare), None)
        if found is None:
            self._drop_those_of_functions_gone()
            try:
                found = JobPostgres(self._cluster, prepare)
            except Exception as error:  # noqa: BLE001 - the user's migration may raise anything
                found = error
            self._made.append((_reference(prepare), found))
        if isinstance(found, Exception):
            raise found
        return found

    def _drop_those_of_functions_gone(self) -> None:
        gone = [made for function, made in self._made if function() is None]
        self._made = [(function, made) for function, made in self._made if made not in gone]
        for made in gone:
            if isinstance(made, JobPostgres):
                made.drop()

    def close(self) -> None:
        """Close their connections."""
        for _, database in self._made:
            if isinstance(database, JobPostgres):
                database.close()


def _reference(prepare: Callable[[str], object]) -> Callable[[], object]:
    """Refer to a function without keeping it, where its type allows that."""
    try:
        return weakref.ref(prepare)
    except TypeError:
        return lambda: prepare


def _database_of(url: str) -> str:
    from psycopg.conninfo import conninfo_to_dict

    return str(conninfo_to_dict(url)["dbname"])


def open_queue(engine: Engine, *, settings: Settings, clocks: EngineClocks, seed: int) -> QueueUnderTest:
    """Return an empty queue whose retry delays are jittered by `seed`."""
    return engine.open(settings, clocks, random.Random(seed).random)


def changed_settings(settings: Settings, changes: Mapping[str, Any], *, named: Callable[[str], str] = str) -> Settings:
    """Apply what a `job_settings` marker says; durations are text, seconds or a timedelta.

    `named` spells a setting as the user does. Raises UsageError for a setting that does not exist, and where a backoff
    that is asked for lengthens no wait.
    """
    from job_harness.core.model import moot_backoff
    from job_harness.subjects.processors.length import read_length

    known = Settings.names()
    for name in changes:
        if name not in known:
            raise UsageError(
                f"job_settings: there is no setting {name!r}{did_you_mean(name, known)}",
                hint=available(known, near=name, listed="job-harness docs scenarios"),
            )
    durations = Settings.duration_names()
    told = settings.changed(
        **{name: read_length(value) if name in durations else value for name, value in changes.items()}
    )
    if changes.get("retry_backoff") and (moot := moot_backoff(told, named=named)):
        raise UsageError(moot[0], hint=f"{moot[1][0].upper()}{moot[1][1:]}.")
    return told
