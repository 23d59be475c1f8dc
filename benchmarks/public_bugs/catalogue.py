"""All entries, engine by engine, and the bugs for which there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from public_bugs import bullmq, celery, chancy, dramatiq, graphile, pgboss, pgqueuer, procrastinate
from public_bugs.entry import Entry

ENTRIES: Final = (
    *pgboss.ENTRIES,
    *pgqueuer.ENTRIES,
    *procrastinate.ENTRIES,
    *graphile.ENTRIES,
    *bullmq.ENTRIES,
    *celery.ENTRIES,
    *dramatiq.ENTRIES,
    *chancy.ENTRIES,
)

NO_ENGINE: Final[Mapping[str, tuple[str, ...]]] = {
    "runs on Redis, where only BullMQ, Celery and Dramatiq have an engine": ("sidekiq-poller-pop-then-push",),
    "is written in Elixir": (
        "oban-attempts-beyond-max-on-crash", "oban-snooze-inflates-attempt", "oban-notify-payload-limit",
    ),
    "is written in Go": (
        "river-rescuer-steals-no-timeout-job", "river-two-leaders", "river-rescuer-pagination-starvation",
    ),
    "is written in Ruby": (
        "delayedjob-unlocks-others-lock", "rails-dual-write-rollback", "solidqueue-heartbeat-stops-before-drain",
        "good-job-advisory-lock-lost", "goodjob-cron-fires-early", "delayedjob-failure-hook-kills-worker",
    ),
    "is part of an application": ("unstract-nan-redispatch-loop", "monoscope-disabled-worker-consumes"),
    "has no engine here": (
        "dbos-dlq-blocks-queue", "saq-sweeper-sweeps-other-queues",
    ),
    "keeps its schema only in its repository: the packages of its first releases contain only a client": (
        "absurd-reclaim-undercounts",
    ),
}  # fmt: skip
"""Why there is no engine -> bugs."""

UNTRIED: Final[Mapping[str, str]] = {
    **pgboss.UNTRIED, **pgqueuer.UNTRIED, **graphile.UNTRIED, **bullmq.UNTRIED,
    **{bug: f"its queue {why}" for why, bugs in NO_ENGINE.items() for bug in bugs},
}  # fmt: skip
"""Bug -> why it is not looked for."""


def named(parts: Sequence[str]) -> list[Entry]:
    """Return the entries whose bug or release contains one of these; all, if there are none.

    Raises SystemExit for a part that is in no entry: nothing would be measured, and no one would notice.
    """
    for part in parts:
        if not any(part in " ".join(entry.key) for entry in ENTRIES):
            raise SystemExit(f"no entry has {part!r}; there are {', '.join(entry.bug for entry in ENTRIES)}")
    return [entry for entry in ENTRIES if not parts or any(part in " ".join(entry.key) for part in parts)]
