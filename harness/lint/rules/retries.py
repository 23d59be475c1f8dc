"""Attempts and retries: deliveries in total on one side, retries on the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.lint.effective import Setting, Standing, spoken, standings
from harness.lint.facts import Facts
from harness.lint.finding import Severity
from harness.lint.place import Place
from harness.lint.rule import Hit, Rule


def _attempts(facts: Facts) -> Iterator[Hit]:
    for standing in standings(facts):
        limit, attempts = standing.get("retry_limit"), standing.get("max_attempts")
        if limit is None or attempts is None or limit.value + 1 == attempts.value:
            continue
        of = f" ({limit.queue})" if limit.queue else ""
        yield Hit(
            limit.place or attempts.place or Place(".", 1),
            f"{limit}{of} counts retries, so the queue delivers a job {limit.value + 1:g} times; "
            f"{attempts} allows {attempts.value:g}",
            f"Set {limit.name} to {max(0, attempts.value - 1):g}: one less than {attempts.name}.",
            standing.related(limit, attempts),
        )


def longest_seconds(standing: Standing) -> float | None:
    """Answer how long a job may take from its first attempt to its last, with pg-boss's backoff at its longest."""
    limit, delay = standing.get("retry_limit"), standing.get("retry_delay")
    if limit is None:
        return None
    backoff, cap = standing.get("retry_backoff"), standing.get("retry_delay_max")
    attempt = standing.get("expiry") or standing.get("job_timeout")
    each = attempt.value if attempt is not None else 0.0
    first = delay.value if delay is not None else 0.0
    total = each * (limit.value + 1)
    for number in range(min(int(limit.value), 64)):
        grown = first * 2 ** (number + 1) if backoff is not None and backoff.value else first
        total += min(grown, cap.value) if cap is not None else grown
    return total


def _retention(facts: Facts) -> Iterator[Hit]:
    for standing in standings(facts):
        limit = standing.get("retry_limit")
        kept: Setting | None = standing.get("queue_retention") or standing.get("retention")
        total = longest_seconds(standing)
        if kept is None or limit is None or total is None or total <= kept.value:
            continue
        delay, backoff = standing.get("retry_delay"), standing.get("retry_backoff")
        yield Hit(
            limit.place or kept.place or Place(".", 1),
            f"the last attempt may begin {spoken(total)} after the first ({limit}), and the queue keeps a job for "
            f"{kept.length}",
            "Retry less often, cap the delay, or keep jobs longer.",
            standing.related(limit, delay, backoff, kept),
        )


RULES: Final = (
    Rule(
        "attempts_disagree",
        Severity.ERROR,
        "Retries are attempts less one: retry_limit + 1 = maxAttempts.",
        "The queue delivers a job more often than its row allows, or gives up early: FAILED jobs run again.",
        "Set retry_limit to maxAttempts - 1.",
        "retries/fails_until_attempts_are_used_up.yaml",
        _attempts,
    ),
    Rule(
        "backoff_outlives_retention",
        Severity.WARNING,
        "All attempts of a job with their longest waits fit into the time that the queue keeps it.",
        "A job is deleted or archived between two attempts; its row stays PENDING for ever.",
        "Cap the retry delay, or raise the queue's retention.",
        "maintenance/retention_spares_what_waits.yaml",
        _retention,
    ),
)
"""Rules about attempts."""
