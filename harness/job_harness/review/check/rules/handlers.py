"""Rules about code in TypeScript that sends jobs and handles them, of whatever queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from job_harness.review.check.facts import GRAPHILE, LEFT, PGBOSS, UNCOMMITTED, Facts
from job_harness.review.check.finding import Breach, Related, Severity, tried_on
from job_harness.review.check.rules.calls import NOW, rule, weight_of


def _left(facts: Facts) -> Iterator[Breach]:
    for call in facts.calls:
        for value in [value for name, value in call.options.items() if name.startswith(LEFT)]:
            whose = f" of {call.queue!r}" if call.queue else ""
            yield Breach(
                value.place,
                f"the handler{whose} does not wait for {value.value}: the job completes before it is done, and an "
                "error in it ends the process instead of failing the job",
                "Write `await Promise.all(jobs.map(...))`, or a loop with await."
                if "forEach" in str(value.value) or ".map" in str(value.value)
                else "Write await before it.",
                (Related(call.place, f"{call.method}()"),),
                weight_of(call),
                subject=f"{call.queue or ''} {value.value}",
            )


def _uncommitted(facts: Facts) -> Iterator[Breach]:
    for call in facts.calls:
        around = call.options.get(UNCOMMITTED)
        if around is None:
            continue
        whose = f" of {call.queue!r}" if call.queue else ""
        yield Breach(
            call.place,
            f"the job{whose} is sent within {around.value}(), over another connection: a worker may take it before the "
            "rows are there, and does so also when the transaction is rolled back",
            "Send it after the transaction, or give send() the transaction as its option db."
            if call.library == PGBOSS
            else "Add it once the transaction has ended.",
            (Related(around.place, "the transaction"),),
            weight_of(call),
            subject=call.queue or "",
        )


RULES: Final = (
    rule(
        "job_sent_before_commit",
        Severity.WARNING,
        (
            "pg-boss and BullMQ: a job is sent after the transaction that writes its rows commits, or as part of it.",
            "A worker takes it before the rows exist, or for rows that never will.",
            "Send it after the transaction; to pg-boss give the transaction as db.",
        ),
        _uncommitted,
        scenario="transactions/rolled_back_job_never_runs.yaml",
        ran=(*tried_on(PGBOSS), *NOW),
    ),
    rule(
        "handler_promise_left",
        Severity.WARNING,
        (
            "A handler of pg-boss, BullMQ or graphile-worker waits for every async function that it calls.",
            "The job counts as completed while its work still runs: a crash loses the work, an error ends the process.",
            "Await it.",
        ),
        _left,
        scenario="crashes/every_attempt_crashes.yaml",
        ran=(*tried_on(PGBOSS, GRAPHILE), *NOW),
    ),
)
"""Rules about handlers."""
