"""Bugs of queues on Redis that are known from public trackers, each in a release that has it and in one that has not.

The list was written before any of them was tried. Each is looked for by the right program of its library, at default
settings; nothing here is a script for a bug.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Known(NamedTuple):
    """One bug, and the releases."""

    url: str
    about: str
    library: str
    affected: tuple[str, ...]
    """What is installed: releases, the library's own first."""
    fixed: tuple[str, ...]
    """The same in a release without it; empty where there is none."""
    shows: frozenset[str]
    """The anomalies by any of which it shows."""
    mistake: str = ""
    """The form of the program that runs into it; documented behaviour where it is not empty."""


_WAITS: Final = frozenset(("job_never_run", "job_stuck"))

KNOWN: Final = (
    Known(
        "https://github.com/rq/rq/issues/1461",
        "the job of a killed worker is failed at once, though it has retries left",
        "rq",
        ("1.8.0", "redis==4.6.0"),
        ("1.8.1", "redis==4.6.0"),
        frozenset(("failed_early",)),
    ),
    Known(
        "https://github.com/rq/rq/issues/1758",
        "a retry waits for ever once the scheduler of the worker that took the lock has ended",
        "rq",
        ("1.12.0", "redis==4.6.0"),
        ("1.13.0", "redis==4.6.0"),
        _WAITS,
    ),
    Known(
        "https://github.com/rq/rq/issues/2022",
        "the lock of the maintenance stays for 15 minutes, so the jobs of dead workers come back late",
        "rq",
        ("1.15.1",),
        ("2.0.0",),
        _WAITS,
    ),
    Known(
        "https://github.com/rq/rq/issues/2289",
        "a job that has succeeded is moved to the failed ones as abandoned",
        "rq",
        ("2.4.0",),
        ("2.6.0",),
        frozenset(("terminal_job_rewritten", "terminal_job_revived", "illegal_transition")),
    ),
    Known(
        "https://github.com/rq/rq/issues/2424",
        "the same, with a leftover of an execution",
        "rq",
        ("2.10.0",),
        ("3.0.0",),
        frozenset(("terminal_job_rewritten", "terminal_job_revived", "illegal_transition")),
    ),
    Known(
        "https://github.com/taskforcesh/bullmq/issues/4585",
        "a worker takes no job any more after Redis was away longer than it waits for one",
        "bullmq",
        ("6.1.2", "ioredis@5"),
        ("6.3.3", "ioredis@5"),
        _WAITS,
    ),
    Known(
        "https://github.com/taskforcesh/bullmq/issues/4479",
        "a worker takes no job any more after its connection was reset",
        "bullmq",
        ("5.81.3", "ioredis@5"),
        ("5.81.5", "ioredis@5"),
        _WAITS,
    ),
    Known(
        "https://github.com/taskforcesh/bullmq/issues/2466",
        "a worker takes no job any more after Redis was started again",
        "bullmq",
        ("5.7.8",),
        ("5.81.5", "ioredis@5"),
        _WAITS,
    ),
    Known(
        "https://github.com/celery/celery/issues/8091",
        "a worker connects again after Redis was away, and takes no task any more",
        "celery",
        ("5.4.0", "kombu==5.3.7", "redis==5.0.8"),
        ("5.4.0", "kombu==5.4.0", "redis==5.0.8"),
        _WAITS,
    ),
    Known(
        "https://github.com/celery/celery/issues/10205",
        "the same, after its connection was reset",
        "celery",
        ("5.6.2", "kombu==5.6.1", "redis==5.3.1"),
        ("5.7.0", "redis==8.1.0", "packaging==25.0"),
        _WAITS,
    ),
    Known(
        "https://github.com/celery/celery/issues/5306",
        "a task that takes longer than the visibility timeout runs twice (6229 too; documented)",
        "celery",
        ("5.7.0", "redis==8.1.0", "packaging==25.0"),
        (),
        frozenset(("effect_repeated",)),
        "twice by timeout",
    ),
    Known(
        "https://github.com/celery/celery/issues/9339",
        "the task of a dead worker comes back long after the visibility timeout, or not at all (documented)",
        "celery",
        ("5.7.0", "redis==8.1.0", "packaging==25.0"),
        (),
        _WAITS,
        "stuck after a kill",
    ),
    Known(
        "https://github.com/chrisguidry/docket/issues/245",
        "a task that is retried as its redelivery is due runs twice at once",
        "pydocket",
        ("0.15.6",),
        ("0.27.0",),
        frozenset(("effect_repeated", "double_claim")),
        "twice by timeout",
    ),
    Known(
        "https://github.com/PrefectHQ/prefect/issues/22212",
        "a worker goes on with its heartbeats and runs nothing after Redis was away",
        "pydocket",
        ("0.22.0",),
        ("0.27.0",),
        _WAITS,
    ),
    Known(
        "https://github.com/python-arq/arq/issues/386",
        "a worker dies of a connection that broke",
        "arq",
        ("0.28.0",),
        (),
        frozenset(("unhandled_error", "process_died")),
    ),
)
"""Celery 6760 is not here: it is about RabbitMQ."""
