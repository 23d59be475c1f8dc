"""Rules about PgQueuer, each from what its library documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.lint.facts import Facts
from harness.lint.finding import Breach, Severity
from harness.lint.rules.calls import (
    PGQUEUER,
    calls_of,
    rule,
)


def _never_retried(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, PGQUEUER, "task"):
        if not {"executor_factory", "on_failure", "retry_timer"} & task.options.keys():
            yield Breach(
                task.place,
                f"an exception ends a job of {task.queue!r} for good: PgQueuer writes it to its log and retries "
                "nothing",
                "Give the entrypoint an executor_factory that retries, or on_failure='hold' to look at it later.",
                severity=Severity.NOTE,
                subject=task.queue or "",
            )


RULES: Final = (
    rule(
        "pgqueuer_never_retried",
        Severity.NOTE,
        (
            "PgQueuer: an entrypoint says what happens to a job that fails.",
            "A failed job is gone: one line in a log is all that is left.",
            "Give the entrypoint an executor that retries.",
        ),
        _never_retried,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
    ),
)
"""Rules about PgQueuer."""
