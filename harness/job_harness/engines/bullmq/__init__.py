"""Real BullMQ under test: its own code in a Node child, on a PostgreSQL or a Redis whose clock is ours.

`bullmq@VERSION` is on PostgreSQL, which BullMQ has from 6 on; `bullmq-redis@VERSION` is on Redis.
"""

from __future__ import annotations

from typing import Any, Final

from job_harness.core.model import MILLISECOND, Settings
from job_harness.core.port import Contract, Known
from job_harness.engines.bullmq.queue import BullQueue, contract
from job_harness.engines.bullmq.redis import REDIS, RedisBullQueue
from job_harness.engines.foreign_queue import ForeignEngine, ForeignRelease, Opened, flush, in_node
from job_harness.engines.releases import Runnable
from job_harness.worlds.peers import newest_npm

PACKAGE: Final = "bullmq"
ON_POSTGRES: Final = Runnable(
    PACKAGE, PACKAGE, "6.0.10", "has no PostgreSQL, or none that starts without a driver for Redis beside it"
)
ON_REDIS: Final = Runnable(
    f"{PACKAGE}-redis", PACKAGE, "5.59.0", "fails stalled jobs in a way that this engine cannot see"
)
"""Before, the check for stalled jobs failed one that had stalled too often; since, the worker that takes it does."""
PG, IOREDIS = "pg@8", "ioredis@5"
"""BullMQ's drivers, packages of their own."""
NODE: Final = (20, 0)
TABLES: Final = tuple(
    f"bullmq.{table}"
    for table in (
        "job_log", "job_dependency", "job", "event", "metrics", "rate_limit", "dedup", "dedup_next", "scheduler",
        "meta",
    )
)  # fmt: skip

LOOK: Final = b"""
SELECT data, name, state::text AS state, priority, attempts_started AS started, attempts_made AS made,
       return_value AS output, failed_reason AS error, stalled_count AS stalled,
       lock_token AS token, locked_until_ms AS locked_until, dedup_id AS key, added_at_ms AS added,
       process_at_ms AS due, processed_at_ms AS started_at, finished_at_ms AS ended_at
FROM bullmq.job ORDER BY seq
"""
RESTART: Final = b"SELECT setval('bullmq.job_seq', 1, false), setval('bullmq.event_seq', 1, false)"

_NUL: Final = Known(frozenset({"outcome_lost"}), "scenarios/findings/bullmq/a_nul_loses_the_outcome.yaml")
POSTGRES: Final[Contract] = contract(
    {
        "hostile/error_with_lone_surrogate": _NUL,
        "hostile/error_with_nul": _NUL,
        "zombies/late_release": Known(
            frozenset({"stale_release"}), "scenarios/findings/bullmq/a_late_release_is_told_that_it_is_done.yaml"
        ),
        "uniqueness/retry_is_refused_while_another_has_the_key": Known(
            frozenset({"unique_key_shared"}), "scenarios/findings/bullmq/a_retry_does_not_ask_for_its_key.yaml"
        ),
    }
)


def _queue(opened: Opened) -> BullQueue:
    return BullQueue(opened, look=lambda: opened.database.run(LOOK, prepare=True))


def _empty(opened: Opened) -> None:
    opened.database.empty(*TABLES)
    opened.database.run(RESTART)


def _reset(opened: Opened) -> dict[str, Any]:
    return {"concurrency": POSTGRES.effective(opened.settings).concurrency}


def open_engine(version: str = "latest", *, dsn: str | None = None) -> ForeignEngine:
    """Return the engine of a release: `latest`, `6`, `6.7.0`.

    Raises UsageError for a release that has no PostgreSQL, and if it is not a version.
    """
    whole = ON_POSTGRES.checked(newest_npm(PACKAGE, version))
    return ForeignEngine(
        ForeignRelease(
            package=PACKAGE,
            version=whole,
            queue=_queue,
            capabilities=BullQueue.capabilities,
            contract=POSTGRES,
            start=in_node(__file__, PACKAGE, whole, PG, oldest=NODE),
            asked={"store": "postgres"},
            empty=_empty,
            reset=_reset,
            proven_under=Settings(),
            resolution=MILLISECOND,
            gated=False,  # A claim of two is two calls: the first one's lock runs while the second waits at its gate.
        ),
        dsn=dsn,
    )


def open_redis_engine(version: str = "latest") -> ForeignEngine:
    """Return the engine of a release on Redis: `latest`, `5`, `5.81.5`.

    Raises UsageError for a release before 5.59, and if it is not a version.
    """
    whole = ON_REDIS.checked(newest_npm(PACKAGE, version))
    from job_harness.worlds.redis import RedisStore

    return ForeignEngine(
        ForeignRelease(
            package=f"{PACKAGE}-redis",
            version=whole,
            queue=RedisBullQueue,
            capabilities=BullQueue.capabilities,
            contract=REDIS,
            start=in_node(__file__, PACKAGE, whole, IOREDIS, oldest=NODE),
            asked={"store": "redis"},
            empty=flush,
            reset=_reset,
            proven_under=Settings(),
            resolution=MILLISECOND,
            store=RedisStore,
            fails_over=RedisStore.fail_over,
            gated=False,
        )
    )
