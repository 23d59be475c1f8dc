"""What a release of pg-boss can do, and which Node it asks for, by its number. Knows no process and no database."""

from __future__ import annotations

import re
from typing import Final

from harness.adapters.pgboss.contract import STANDARD, policy_suffix, split_policy
from harness.adapters.pgboss.translation import PgBossKeys
from harness.errors import UsageError
from harness.port import Capabilities

OLDEST: Final = (10, 0)
HEARTBEATS: Final = (12, 12)
"""The first release whose claims can be extended (docs: api/jobs, touch)."""
NODES: Final = {(12, 0): (22, 12), (11, 0): (22, 0), OLDEST: (20, 0)}
"""From which release on which Node is asked for (src: package.json, engines), the newest first."""
GROUPS: Final = (12, 8)
"""The first release that can limit how many jobs of a group run at once (docs: api/workers, groupConcurrency)."""
CACHED: Final = (11, 0)
"""The first release that keeps statistics of a queue, and decides by them which keys it passes over (src: plans,
cacheQueueStats and fetchNextJob)."""


class Release:
    """One release, such as 12.38.0, with a policy of its queues, such as 12.38.0/exclusive."""

    def __init__(self, version: str) -> None:
        """Raise UsageError for a release whose schema is not read here."""
        self.version, self.policy = split_policy(version)
        self._number = tuple(int(part) for part in re.findall(r"\d+", self.version)[:2])
        if self._number < OLDEST:
            raise UsageError(
                f"pg-boss {self.version} has another schema than this engine reads",
                hint="Name a release from 10 on, such as pgboss-node@10.4.2 or pgboss-node@12.",
            )
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
