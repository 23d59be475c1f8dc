"""What a release of pg-boss is: what it can do, what it asks for, where it differs, and what it keeps in its tables.

Each difference from this project's decisions names the place where pg-boss says so. From 12.23 at
the latest a worker may say `deadletter` of one job of a batch (src: types.d.ts, JobResult), which
is a final failure; fail(), by which jobs are failed here, cannot. Must not know: processes, verbs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from job_harness.core.model import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Duration, Settings
from job_harness.core.port import Capabilities, Contract
from job_harness.engines.pgboss.contract import (
    NO_CAP,
    NO_FINAL_FAILURE,
    STANDARD,
    Policy,
    first_delay,
    policy_suffix,
    split_policy,
)
from job_harness.engines.pgboss.contract import contract_of as contract_of_10
from job_harness.engines.pgboss.package import SCHEMA
from job_harness.engines.pgboss.translation import PgBossKeys, seconds_of
from job_harness.engines.releases import Runnable, numbers_of
from job_harness.errors import UsageError

if TYPE_CHECKING:
    from job_harness.worlds.wire.database import ForeignDatabase, Row

RELEASES: Final = Runnable("pgboss-node", "pg-boss", "10.0.0", "has a schema that this engine cannot read")
HEARTBEATS: Final = (12, 12)
"""The first release whose claims can be extended (docs: api/jobs, touch)."""
NODES: Final = {(12, 0): (22, 12), (11, 0): (22, 0), (10, 0): (20, 0)}
"""From which release on which Node is asked for (src: package.json, engines), the newest first."""
NEWEST_ASKS_FOR: Final = max(NODES.values())
"""The Node that the newest releases ask for."""
GROUPS: Final = (12, 8)
"""The first release that can limit how many jobs of a group run at once (docs: api/workers, groupConcurrency)."""
CACHED: Final = (11, 0)
"""The first release that keeps statistics of a queue, and decides by them which keys it passes over (src: plans,
cacheQueueStats and fetchNextJob)."""
FIRST_WITH_CAP: Final = 11
"""The first version that knows a longest retry delay (docs: api/jobs, send, retryDelayMax)."""
WINDOW: Final = MINUTE
"""For this long after it began a slot is due (src: timekeeper, shouldSendIt, lately dueOccurrences). It looks no more
back, unless a schedule asks for what was `missed` (src: types.d.ts, ScheduleOptions), which none here does."""
CRON_MINUTES: Final = tuple(count * MINUTE for count in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30))
CRON_HOURS: Final = tuple(count * HOUR for count in (1, 2, 3, 4, 6, 8, 12))
PERIODS: Final[tuple[Duration, ...]] = (*CRON_MINUTES, *CRON_HOURS, DAY)
"""What cron text says without a gap at the end of an hour or a day."""
FORWARDING: Final = "__pgboss__send-it"
"""A queue of pg-boss's own: jobs of schedules go through it."""
_COMMON: Final = (
    "id, name, data, state, priority, retry_limit, retry_count, start_after, started_on, singleton_key, created_on, "
    "completed_on, output, dead_letter"
)
_LEASES: Final = {
    "expire_in": "expire_in",
    "heartbeat_seconds": (
        "LEAST(started_on + make_interval(secs => expire_seconds), "
        "heartbeat_on + make_interval(secs => heartbeat_seconds)) - started_on AS expire_in"
    ),
    "expire_seconds": "make_interval(secs => expire_seconds) AS expire_in",
}
"""A column that a version has -> how long a claim of its lasts from its start; the first that is there counts."""
_COLUMNS: Final = b"""
SELECT attname AS column FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""


class Release:
    """One release, such as 12.38.0, with a policy of its queues, such as 12.38.0/exclusive."""

    def __init__(self, version: str) -> None:
        """Raise UsageError for a release whose schema is not read here."""
        self.version, self.policy = split_policy(version)
        self._number = numbers_of(RELEASES.checked(self.version))
        if self._number < self.policy.since:
            raise UsageError(
                f"pg-boss {self.version} has no queue policy {self.policy.name!r}",
                hint=f"Name a release from {'.'.join(map(str, self.policy.since))} on.",
            )

    @property
    def name(self) -> str:
        """The release and, where it is not the standard one, its policy."""
        return f"{self.version}{policy_suffix(self.policy)}"

    @property
    def keys(self) -> PgBossKeys:
        """How keys are said to this release under its policy."""
        return PgBossKeys(self.policy, groups=self.policy is STANDARD and self._number >= GROUPS)

    @property
    def refreshes(self) -> bool:
        """Whether its upkeep has something to do wherever a job changed: which keys are passed over is kept by it."""
        return self._number >= CACHED and self.policy.name in ("singleton", "stately")

    @property
    def major(self) -> int:
        """The first part of the number."""
        return self._number[0]

    @property
    def oldest_node(self) -> tuple[int, int]:
        """The Node that it asks for."""
        return next(node for since, node in NODES.items() if self._number >= since)

    @property
    def capabilities(self) -> Capabilities:
        """What a queue of this release can do."""
        return Capabilities(
            heartbeat=self._number >= HEARTBEATS,
            cancel=True,
            retry=True,
            priorities=True,
            start_after=True,
            virtual_time=True,
            fencing=True,
            unique=self.policy.unique,
            serial_keys=self.keys.serial,
            schedules=self.policy is STANDARD,
        )


def contract_of(major: int, policy: Policy = STANDARD) -> Contract:
    """Return the contract of a version whose queues have this policy, from its own documentation."""

    def effective(settings: Settings) -> Settings:
        """Whole seconds; version 10 has no longest retry delay."""
        cap = settings.retry_delay_max if major >= FIRST_WITH_CAP else NO_CAP
        return settings.changed(
            retry_delay=seconds_of(first_delay(settings)) * SECOND,
            retry_delay_max=seconds_of(cap) * SECOND,
            lease=seconds_of(settings.lease) * SECOND,
        )

    contract = contract_of_10(policy)
    differences = {**contract.differences, "schedules/a_failed_job_does_not_end_it": NO_FINAL_FAILURE}
    if major >= FIRST_WITH_CAP:
        del differences["retries/backoff_is_capped"]
        del differences["crashes/before_completing"]
    return replace(
        contract,
        known={},
        differences=differences,
        effective=effective,
        ignored={} if major >= FIRST_WITH_CAP else contract.ignored,
        period=period_of,
        slot_due=(MILLISECOND, WINDOW),
    )


def period_of(period: Duration) -> Duration:
    """Return the shortest period that cron text can say and that is not shorter; a day for what is longer."""
    return next((said for said in PERIODS if said >= period), DAY)


class NodeJobTables:
    """The tables of one installed version."""

    def __init__(self, database: ForeignDatabase) -> None:
        self._database = database
        columns = self._columns("job")
        self.heartbeats = "heartbeat_seconds" in columns
        """Whether a claim can be extended."""
        self.keeps_queues = bool(self._columns("archive"))
        """Version 10: a queue is a partition, dear to make, and has no state of its own."""
        lease = next(text for column, text in _LEASES.items() if column in columns)
        group = ", group_id" if "group_id" in columns else ""
        self.leased = f"{SCHEMA}.job" if lease in columns else f"(SELECT *, {lease} FROM {SCHEMA}.job) AS leased"
        """The table of jobs, in FROM, whose `expire_in` is how long a claim of theirs lasts from its start."""
        names = [f"{SCHEMA}.{name}" for name in ("job", "archive") if self._columns(name)]
        own = f"name <> '{FORWARDING}'"
        look = " UNION ALL ".join(f"SELECT {_COMMON}, {lease}{group} FROM {name} WHERE {own}" for name in names)
        self._look = f"{look} ORDER BY created_on, id".encode()
        self.keyed_schedules = "key" in self._columns("schedule")
        """From 11 on a queue may have several schedules."""
        self._emptied = [*names, f"{SCHEMA}.schedule", *([] if self.keeps_queues else [f"{SCHEMA}.queue"])]
        stamps = [name for name in sorted(self._columns("queue")) if name.startswith(("monitor_", "maintain_"))]
        stamps = [name for name in stamps if name.endswith("_on")]
        opened = ", ".join(f"{name} = NULL" for name in stamps)
        self._open_gates = f"UPDATE {SCHEMA}.queue SET {opened}".encode() if stamps else b""

    def _columns(self, table: str) -> frozenset[str]:
        rows = self._database.run(_COLUMNS, [f"{SCHEMA}.{table}"])
        return frozenset(row["column"] for row in rows)

    def jobs(self) -> list[Row]:
        """Read all jobs, archived ones too, oldest first."""
        return self._database.look(self._look)

    def open_gates(self) -> None:
        """Let the next supervision look at every queue, however short ago the last one was."""
        if self._open_gates:
            self._database.run(self._open_gates, prepare=True)

    def open_cron_gate(self) -> None:
        """Let schedules be looked at again, however recently that was done and by which instance."""
        self._database.run(f"UPDATE {SCHEMA}.version SET cron_on = NULL".encode(), prepare=True)

    def empty(self) -> None:
        """Delete every job and every schedule."""
        self._database.empty(*self._emptied, as_new=True)
