"""Opens pg-boss queues: `pgboss-node@12.38.0` is that release, in a Node peer, on a PostgreSQL provided for it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from job_harness.core.model import Settings
from job_harness.engines.foreign_queue import ForeignEngine, ForeignRelease, in_node
from job_harness.engines.pgboss.contract import known_of, policy_suffix, split_policy
from job_harness.engines.pgboss.node.queue import SchedulingQueue
from job_harness.engines.pgboss.node.release import NodeJobTables, Release, contract_of
from job_harness.engines.pgboss.package import SCHEMA
from job_harness.worlds.peers import newest_npm

PACKAGE: Final = "pg-boss"


def open_engine(version: str = "latest", *, dsn: str | None = None) -> ForeignEngine:
    """Return the engine of a release: `latest`, `12`, `10.4.2`; after a slash, its queues' policy: `10.4.2/stately`.

    Raises UsageError for a release before 10, and for an unknown version or policy. Schedules are
    not at work where every actor has a session.
    """
    wanted, policy = split_policy(version)
    number = newest_npm(PACKAGE, wanted)
    able = Release(f"{number}{policy_suffix(policy)}")

    return ForeignEngine(
        ForeignRelease(
            package="pgboss-node",
            version=able.name,
            queue=partial(SchedulingQueue, release=able),
            capabilities=able.capabilities,
            contract=replace(contract_of(able.major, policy), known=known_of(number)),
            start=in_node(__file__, PACKAGE, number, oldest=able.oldest_node),
            empty=lambda opened: opened.schema.empty(),
            reset=lambda opened: {"keep": opened.schema.keeps_queues},
            asked={"schema": SCHEMA},
            read=NodeJobTables,
            proven_under=Settings(),
            keeps_sessions=False,  # A session remembers which queues the database knows.
            next_upkeep=lambda queue: queue.next_upkeep(),
            with_sessions={"capabilities": replace(able.capabilities, schedules=False)},
        ),
        dsn=dsn,
    )
