"""Rules about code in TypeScript that sends jobs and handles them, of whatever queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from job_harness.review.check.facts import BULLMQ, FLAGGED, GRAPHILE, LEFT, PGBOSS, ROW_FIRST, UNCOMMITTED, Facts
from job_harness.review.check.finding import Breach, Related, Severity, tried_on
from job_harness.review.check.rules.calls import NOW, calls_of, rule, weight_of


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


_STOPS: Final = {
    PGBOSS: ("work", "boss.stop()", "they stay active until they expire, after 15 minutes where nothing else is set"),
    BULLMQ: ("new Worker", "worker.close()", "they count as stalled, and run again from their beginning"),
}
"""By library, what starts its workers, what stops them, and what becomes of their jobs otherwise."""


def _never_stopped(facts: Facts) -> Iterator[Breach]:
    for library, (method, stop, what) in _STOPS.items():
        workers = [one for one in calls_of(facts, library, method) if not one.aside and "nest" not in one.options]
        if not workers or (library in facts.stopped and facts.listens_for_its_end):
            continue
        lacks = (
            f"nothing listens for SIGTERM, on which {stop} is due"
            if library in facts.stopped
            else f"nothing calls {stop}"
        )
        yield Breach(
            workers[0].place,
            f"{lacks}: a deploy ends this process in the middle of its jobs, and {what}",
            f"Call {stop} on SIGTERM, and wait for it before the process ends.",
            tuple(Related(one.place, "another worker") for one in workers[1:4]),
            subject=library,
        )


def _row_first(facts: Facts) -> Iterator[Breach]:
    for call in facts.calls if not facts.rescues else ():
        row = call.options.get(ROW_FIRST)
        if row is None or call.aside:
            continue
        whose = f" of {call.queue!r}" if call.queue else ""
        yield Breach(
            call.place,
            f"the row that {row.value}() writes is there before the job{whose} is: a process that ends between the two "
            "leaves a row that no job is for, and nothing here looks for such rows",
            "Write both in one transaction, by the option db of send(), or send again on a schedule what was left.",
            (Related(row.place, "the row"),),
            subject=call.queue or "",
        )


def _flagged(facts: Facts) -> Iterator[Breach]:
    for call in facts.calls:
        for value in [value for name, value in call.options.items() if name.startswith(FLAGGED)]:
            if call.aside or facts.cleared.get(str(value.value), set()) - {value.place.file}:
                continue
            whose = f" of {call.queue!r}" if call.queue else ""
            yield Breach(
                value.place,
                f"the handler{whose} gives up where {value.value} is set, which it sets and clears itself: if its "
                "process ends in between, the flag stays, and each later job completes without having done anything",
                "Write down until when the flag holds, and pass over it after that; or clear it where a worker starts.",
                (Related(call.place, f"{call.method}()"),),
                subject=f"{call.queue or ''} {value.value}",
            )


RULES: Final = (
    rule(
        "queue_never_stopped",
        Severity.WARNING,
        (
            "pg-boss and BullMQ: a process that works jobs stops its library when it is told to stop.",
            "Each deploy cuts running jobs off; they wait for their expiry, and lose an attempt.",
            "Call boss.stop() or worker.close() on SIGTERM.",
        ),
        _never_stopped,
        scenario="shutdown/running_job_is_finished.yaml",
        ran=(*tried_on(PGBOSS), *NOW),
    ),
    rule(
        "row_written_before_send",
        Severity.NOTE,
        (
            "pg-boss: a row and the job for it are written together, or something looks for rows that have no job.",
            "A crash between the two leaves a row that waits forever.",
            "Give send() the transaction as db, or send again on a schedule what was left.",
        ),
        _row_first,
        scenario="findings/guide/an_api_that_dies_leaves_an_orphan.yaml",
        ran=tried_on(PGBOSS),
    ),
    rule(
        "flag_left_by_crash",
        Severity.NOTE,
        (
            "A handler of pg-boss or BullMQ gives up at a flag in a row only for as long as its holder may live.",
            "After a crash the flag stays: later jobs complete, and do nothing.",
            "Store a time beside the flag, or clear it where a worker starts.",
        ),
        _flagged,
        scenario="crashes/while_running.yaml",
        ran=(*tried_on(PGBOSS), *NOW),
    ),
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
