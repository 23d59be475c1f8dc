"""Rules about PgQueuer, each from what its library documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from job_harness.errors import did_you_mean
from job_harness.review.check.facts import PGQUEUER, Facts, QueueCall
from job_harness.review.check.finding import Breach, Related, Severity, tried_on
from job_harness.review.check.releases import release_of
from job_harness.review.check.rules.calls import calls_of, is_set, is_unknown, number_at, place_of, rule, weight_of


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


GONE: Final = {
    "retry_timer": "heartbeat_timeout of run()",
    "requests_per_second": "a limit of your own in the function",
    "serialized_dispatch": "concurrency_limit=1",
}
"""Options of an entrypoint that 1.0 no longer takes, and what to write."""
_OPTIONS: Final = frozenset({"concurrency_limit", "accepts_context", "on_failure", "executor_factory", *GONE})


def _major(facts: Facts, call: QueueCall) -> int | None:
    release = release_of(facts, call.place.file, PGQUEUER)
    return None if release is None else release.major


def _refused(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, PGQUEUER, "task"):
        for name, value in task.options.items():
            gone = name in GONE and (_major(facts, task) or 0) >= 1
            if gone or ("." not in name and name not in _OPTIONS):
                why = "PgQueuer 1 takes no" if gone else "PgQueuer knows no"
                near = "" if gone else did_you_mean(name, _OPTIONS)
                yield Breach(
                    value.place,
                    f"{why} {name} of an entrypoint{near}: TypeError, and the worker does not start",
                    f"Write {GONE[name]}." if gone else "Correct its name.",
                    severity=weight_of(task),
                    subject=f"{task.queue} {name}",
                )


def _plain_functions(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, PGQUEUER, "task"):
        if is_set(task, "body.async", False) and (_major(facts, task) or 0) >= 1:
            yield Breach(
                task.place,
                f"the entrypoint {task.queue!r} is a plain function: PgQueuer 1 raises TypeError, and the worker does "
                "not start",
                "Write async def, and await asyncio.to_thread(...) for what blocks.",
                severity=weight_of(task),
                subject=task.queue or "",
            )


def _factories(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, PGQUEUER, "factory"):
        if (_major(facts, call) or 0) >= 1:
            yield Breach(
                call.place,
                f"{call.queue}() returns its PgQueuer: `pgq run` of PgQueuer 1 wants an async context manager, raises "
                "TypeError and runs nothing",
                "Decorate it with @asynccontextmanager, and yield instead of return.",
                severity=weight_of(call, Severity.WARNING),
                subject=call.queue or "",
            )


def _registered_twice(facts: Facts) -> Iterator[Breach]:
    seen: dict[tuple[str, str, str, object], QueueCall] = {}
    for call in calls_of(facts, PGQUEUER, "task", "cron"):
        told = call.options.get("schedule")
        if call.queue is None or is_unknown(call, "schedule"):
            continue
        key = (call.place.file, call.method, call.queue, "" if told is None else told.value)
        if key in seen:
            yield Breach(
                call.place,
                f"{call.queue!r} is registered twice: RuntimeError, and the worker does not start",
                "Give each its own name.",
                (Related(seen[key].place, "the other one"),),
                weight_of(call),
                subject=call.queue,
            )
        seen.setdefault(key, call)


def _nobodys(facts: Facts) -> Iterator[Breach]:
    tasks = calls_of(facts, PGQUEUER, "task")
    if not tasks or any(task.queue is None for task in tasks):
        return
    known = sorted({task.queue for task in tasks if task.queue is not None})
    seen: set[str] = set()
    for call in calls_of(facts, PGQUEUER, "enqueue"):
        if call.queue is not None and call.queue not in known and call.queue not in seen:
            seen.add(call.queue)
            yield Breach(
                call.place,
                f"no entrypoint is called {call.queue!r}{did_you_mean(call.queue, known)}: its jobs stay queued for "
                "ever",
                f"Register an entrypoint {call.queue!r}.",
                tuple(Related(task.place, f"the entrypoint {task.queue!r}") for task in tasks[:3]),
                weight_of(call),
                subject=call.queue,
            )


def _payloads(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, PGQUEUER, "enqueue"):
        kind = call.options.get("payload.kind")
        many = call.options.get("entrypoint.kind")
        if kind is not None and kind.value in ("str", "dict", "int", "float", "bool") and (
            many is None or many.value != "list"
        ):  # fmt: skip
            yield Breach(
                kind.place,
                f"the payload of {call.queue!r} is a {kind.value}, and the column holds bytes: enqueue() raises, and "
                "there "
                "is no job",
                "Encode it: json.dumps(...).encode().",
                severity=weight_of(call),
                subject=call.queue or "",
            )


BATCH: Final = 10


def _batches(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, PGQUEUER, "run"):
        most, batch = number_at(call, "max_concurrent_tasks"), number_at(call, "batch_size")
        size = BATCH if batch is None and "batch_size" not in call.options else batch
        if most and size is not None and most < 2 * size:
            yield Breach(
                place_of(call, "max_concurrent_tasks"),
                f"max_concurrent_tasks is {most:.15g}, and the batch size {size:.15g}: run() raises RuntimeError "
                "below twice the batch",
                f"Set max_concurrent_tasks to {2 * size:.15g}, or a smaller batch_size.",
                severity=weight_of(call),
                subject="max_concurrent_tasks",
            )


def _killed(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, PGQUEUER, "task"):
        if _major(facts, task) == 0 and "retry_timer" not in task.options:
            yield Breach(
                task.place,
                f"the entrypoint {task.queue!r} has no retry_timer: a job whose worker was killed stays picked for "
                "ever",
                "Set retry_timer above its longest run, or upgrade to PgQueuer 1.",
                severity=weight_of(task, Severity.WARNING),
                subject=task.queue or "",
            )


def _duplicates(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, PGQUEUER, "enqueue"):
        if "dedupe_key" in call.options and "on_conflict" not in call.options and is_set(call, "caught", False):
            yield Breach(
                call.place,
                f"enqueue() of {call.queue!r} has a dedupe_key, and nothing here catches DuplicateJobError: the "
                "second one "
                "raises while the first waits or runs",
                "Catch DuplicateJobError, or from PgQueuer 1.4 on write on_conflict='skip'.",
                severity=Severity.NOTE,
                subject=call.queue or "",
            )


RULES: Final = (
    rule(
        "pgqueuer_never_retried",
        Severity.NOTE,
        (
            "PgQueuer: an entrypoint says what happens to a job that fails.",
            "A failed job is gone; only a line in a log is left.",
            "Give the entrypoint an executor that retries.",
        ),
        _never_retried,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
        ran=tried_on(PGQUEUER),
    ),
    rule(
        "pgqueuer_option_refused",
        Severity.ERROR,
        (
            "PgQueuer: its release accepts every option of an entrypoint.",
            "TypeError: the worker does not start.",
            "Write an option that this release accepts.",
        ),
        _refused,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PGQUEUER),
    ),
    rule(
        "pgqueuer_entrypoint_not_async",
        Severity.ERROR,
        (
            "PgQueuer 1: an entrypoint is an async function.",
            "TypeError: the worker does not start.",
            "Write async def.",
        ),
        _plain_functions,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PGQUEUER),
    ),
    rule(
        "pgqueuer_factory_refused",
        Severity.WARNING,
        (
            "PgQueuer 1: the factory given to `pgq run` returns an async context manager.",
            "TypeError: the worker does not start after an upgrade.",
            "Use @asynccontextmanager and yield.",
        ),
        _factories,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PGQUEUER),
    ),
    rule(
        "pgqueuer_registered_twice",
        Severity.ERROR,
        (
            "PgQueuer: every entrypoint and schedule is registered once.",
            "RuntimeError: the worker does not start.",
            "Rename one.",
        ),
        _registered_twice,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PGQUEUER),
    ),
    rule(
        "pgqueuer_entrypoint_unknown",
        Severity.ERROR,
        (
            "PgQueuer: every enqueued job has an entrypoint.",
            "The job stays queued forever, and nothing says so.",
            "Register the entrypoint.",
        ),
        _nobodys,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PGQUEUER),
    ),
    rule(
        "pgqueuer_payload_refused",
        Severity.ERROR,
        (
            "PgQueuer: a payload is bytes.",
            "enqueue() raises, and the job is lost.",
            "Encode the payload.",
        ),
        _payloads,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PGQUEUER),
    ),
    rule(
        "pgqueuer_batch_refused",
        Severity.ERROR,
        (
            "PgQueuer: max_concurrent_tasks is at least twice the batch size.",
            "RuntimeError: the worker does not start.",
            "Raise it, or take smaller batches.",
        ),
        _batches,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PGQUEUER),
    ),
    rule(
        "pgqueuer_killed_stays_picked",
        Severity.WARNING,
        (
            "PgQueuer before 1.0: an entrypoint has a retry_timer.",
            "A job whose worker was killed stays picked forever.",
            "Set retry_timer, or upgrade.",
        ),
        _killed,
        scenario="maintenance/rescues_stuck_job.yaml",
        ran=tried_on(PGQUEUER),
    ),
    rule(
        "pgqueuer_duplicate_raises",
        Severity.NOTE,
        (
            "PgQueuer: code that enqueues with a dedupe_key handles DuplicateJobError.",
            "The second request fails, although one job should serve both.",
            "Catch it, or use on_conflict.",
        ),
        _duplicates,
        scenario="uniqueness/refused_while_the_first_waits.yaml",
        ran=tried_on(PGQUEUER),
    ),
)
"""Rules about PgQueuer."""
