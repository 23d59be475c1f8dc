"""One pg-boss process after the other on a database of ours: asked in turns, killed, started anew."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.pgboss.contract import policy_suffix, split_policy
from harness.adapters.pgboss.node.contract import contract_of
from harness.adapters.pgboss.node.release import Release
from harness.adapters.pgboss.package import SCHEMA
from harness.adapters.pgboss.translation import PgBossKeys
from harness.adapters.pgboss.work.turn import Turn, ms_of, turn_of
from harness.errors import EnvironmentUnavailable
from harness.foreign import Child, npm, npm_package
from harness.foreign.node import find_node
from harness.model.duration import Duration, Instant
from harness.port import Contract
from harness.postgres.virtual_clock import VirtualClockError

if TYPE_CHECKING:
    from harness.adapters.pgboss.node.rows import Tables
    from harness.foreign.database import ForeignDatabase

PACKAGE: Final = "pg-boss"
PROOF: Final = "job-harness-proof"
SCRIPT: Final = Path(__file__).with_name("loop.mjs")
_BEHAVIOUR: Final[Mapping[str, Any]] = {
    "supervise": True,
    "schedule": False,
    "registerInstance": False,
    "monitorVacuum": False,
    "reindex": False,
}
"""Its own supervision is at work; what only watches the machine is not."""
_STAMPS: Final = b"""
SELECT attname AS column FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND atttypid = 'timestamptz'::regtype
"""


class WorkProcess:
    """pg-boss as an application starts it. Time stands still but for `tick`; the database's clock goes with it."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None) -> None:
        """Choose a release (`latest`, `12`, `10.4.2`), and a server instead of one started here.

        After a slash stands the policy of its queues: `10.4.2/stately`. Raises UsageError for a release before 10, and
        for what is no version or no policy.
        """
        wanted, policy = split_policy(version)
        self.keys = PgBossKeys(policy)
        """How unique keys are said under the policy of its queues; serial keys are not."""
        self.version = npm.newest(PACKAGE, wanted)
        self._release = Release(f"{self.version}{policy_suffix(policy)}")
        self.name = f"pg-boss {self._release.name}"
        self.contract: Contract = contract_of(self._release.major, policy)
        self._dsn = dsn
        self._child: Child | None = None
        self._database: ForeignDatabase | None = None
        self._tables: Tables | None = None
        self._seed = 0
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starts pg-boss")
        """Starts and kills: a child dies with the thread that started it, and who asks may be a processor's thread,
        which ends before it and whose sleep is virtual."""
        self.strictly: Duration = 0
        """How long after its time a job can be fetched, 0 or a microsecond: releases differ, so it is measured."""

    @property
    def database(self) -> ForeignDatabase:
        """The database; only between `begin` and `close`."""
        assert self._database is not None
        return self._database

    @property
    def tables(self) -> Tables:
        """The tables of this release; only between `begin` and `close`."""
        assert self._tables is not None
        return self._tables

    @property
    def pid(self) -> int | None:
        """The number of the present process, once there is one."""
        return None if self._child is None else self._child.pid

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return "" if self._database is None else str(self._database.cluster.provenance)

    def begin(self, *, seed: int = 0) -> Turn:
        """Start over at the instant 0, on empty tables, with nobody at work.

        Raises EnvironmentUnavailable without Node, npm or PostgreSQL, or where the release does not install;
        VirtualClockError where PostgreSQL keeps to the machine's time.
        """
        self._seed = seed
        if self._database is None:
            return self._begin_first()
        self.tables.empty()
        self._forget_rounds()
        if self._child is None or not self._child.alive:
            return self._start(0)
        return self._checked(self.ask("reset", 0, seed=seed))

    def kill(self) -> None:
        """End the process with SIGKILL, as a power cut would."""
        if self._child is not None:
            self._starter.submit(self._child.kill).result()

    def restart(self, now: Instant) -> Turn:
        """Start another process on the same database, once the one before is dead."""
        self.kill()
        return self._start(now)

    def ask(self, question: str, now: Instant, **arguments: Any) -> Turn:
        """Ask the process something at an instant. Raises EnvironmentUnavailable where it is gone."""
        if self._child is None:
            raise EnvironmentUnavailable(f"{self.name} is not at work", hint="Call begin() first.")
        self.database.set_now(now)
        return turn_of(self._child.ask(question, {"now": ms_of(now), **arguments}))

    def send(self, now: Instant, *, ago: Instant = 0, **arguments: Any) -> Turn:
        """Send a job; for the database, `ago` microseconds ago."""
        assert self._child is not None
        self.database.set_now(now - ago)
        return turn_of(self._child.ask("send", {"now": ms_of(now), **arguments}))

    def tick(self, now: Instant, *, skip: Mapping[str, Instant]) -> Turn:
        """Let the first timer fire that is due by now; rounds are left out before their instants in `skip`."""
        return self.ask("tick", now, skip={name: ms_of(until) for name, until in skip.items()})

    def close(self) -> None:
        """Stop what was started. Never raises."""
        if self._child is not None:
            self._child.close()
            self._child = None
        if self._database is not None:
            self._database.close()
            self._database = None
        self._starter.shutdown()

    def _begin_first(self) -> Turn:
        from harness.adapters.pgboss.node.rows import Tables
        from harness.foreign.database import ForeignDatabase

        packages = npm_package(PACKAGE, self.version)
        node = find_node(self._release.oldest_node, wanted_by=self.name)
        self._command = [node.path, str(SCRIPT), str(packages)]
        self._database = ForeignDatabase(self._dsn)
        try:
            self._start(0)
            self._database.check()
            self._tables = Tables(self._database)
            self.strictly = self._measured()
        except BaseException:
            self.close()
            raise
        return self.begin(seed=self._seed)

    def _measured(self) -> Duration:
        """Look whether a job can be fetched at the very instant for which it was sent."""
        self.ask("create", 0, queue=PROOF, options={})
        self.send(0, queue=PROOF, data={"job": PROOF, "input": None}, options={})
        for late in (0, 1):
            if self.ask("fetch", late, queue=PROOF).outcome.value:
                return late
        raise VirtualClockError(
            f"{self.name} does not follow the virtual clock: a job was not fetched when it was due",
            hint="This release reads a clock that is not the harness's: name another release.",
        )

    def _start(self, now: Instant) -> Turn:
        environment = {"NODE_OPTIONS": "", "NODE_NO_WARNINGS": "1", "TZ": "UTC"}
        self._child = self._starter.submit(Child, self._command, name=self.name, environment=environment).result()
        asked = {"url": self.database.url, "schema": SCHEMA, "seed": self._seed, "options": _BEHAVIOUR}
        return self._checked(self.ask("open", now, **asked))

    def _checked(self, turn: Turn) -> Turn:
        if not turn.outcome.done:
            raise EnvironmentUnavailable(f"{self.name} did not start: {turn.outcome.reason}")
        return turn

    def _forget_rounds(self) -> None:
        """Let no round of before seem to lie in the future."""
        found = self.database.run(_STAMPS, [f"{SCHEMA}.version"])
        if found:
            cleared = ", ".join(f"{row['column']} = NULL" for row in found)
            self.database.run(f"UPDATE {SCHEMA}.version SET {cleared}".encode())
