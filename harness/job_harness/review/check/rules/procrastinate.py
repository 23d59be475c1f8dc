"""Rules about procrastinate, each from what its library documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from job_harness.errors import did_you_mean
from job_harness.review.check.facts import PROCRASTINATE, Facts, QueueCall
from job_harness.review.check.finding import Breach, Related, Severity, tried_on
from job_harness.review.check.rules.calls import calls_of, is_set, is_unknown, number_at, place_of, rule, weight_of
from job_harness.review.check.settings import write_seconds

MONTH_SECONDS: Final = 30 * 86_400.0


def _unserved(facts: Facts) -> Iterator[Breach]:
    workers = calls_of(facts, PROCRASTINATE, "worker")
    if not workers or not all(worker.possible and worker.whole for worker in workers):
        return
    served = {queue for worker in workers for queue in worker.possible}
    by_queue: dict[str, list[QueueCall]] = {}
    for task in calls_of(facts, PROCRASTINATE, "task"):
        value = task.options.get("queue")
        name = "default" if value is None else value.value
        if isinstance(name, str) and name not in served and task.whole:
            by_queue.setdefault(name, []).append(task)
    for queue, tasks in by_queue.items():
        first = tasks[0]
        told = ", ".join(sorted(served))
        yield Breach(
            place_of(first, "queue"),
            f"{first.queue} is a task of the queue {queue!r}{did_you_mean(queue, served)}, and every worker "
            "names its "
            f"queues ({told}) without it: its jobs stay todo forever",
            f"Add {queue!r} to the queues of a worker.",
            tuple(Related(worker.place, "a worker's queues") for worker in workers[:3]),
            Severity.WARNING if not first.aside else Severity.NOTE,
            subject=queue,
        )


def _reversed(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, PROCRASTINATE, "cron"):
        if "below" in call.options:
            yield Breach(
                call.place,
                f"@app.periodic of {call.queue} stands below @app.task: it receives a function instead of a task, and "
                "importing the module raises AttributeError",
                "Put @app.periodic above @app.task.",
                severity=weight_of(call),
                subject=call.queue or "",
            )


def _timestamp(facts: Facts) -> Iterator[Breach]:
    periodic = {(call.queue, call.place.file) for call in calls_of(facts, PROCRASTINATE, "cron")}
    for task in calls_of(facts, PROCRASTINATE, "task"):
        if (task.queue, task.place.file) not in periodic:
            continue
        context = 1 if is_set(task, "pass_context", True) else 0
        parameters = number_at(task, "body.parameters")
        if parameters is not None and parameters < context + 1 and not is_unknown(task, "pass_context") and task.whole:
            yield Breach(
                task.place,
                f"the periodic task {task.queue} takes no timestamp, which procrastinate hands to it: every run "
                "fails with "
                "TypeError",
                "Add a parameter `timestamp: int`.",
                severity=weight_of(task),
                subject=task.queue or "",
            )


def _locks(facts: Facts) -> Iterator[Breach]:
    tasks = {(task.queue, task.place.file): task for task in calls_of(facts, PROCRASTINATE, "task")}
    for call in calls_of(facts, PROCRASTINATE, "cron"):
        task = tasks.get((call.queue, call.place.file))
        if task is not None and task.whole and not {"queueing_lock", "lock"} & {*task.options, *call.options}:
            yield Breach(
                call.place,
                f"the periodic task {call.queue} has no queueing_lock: any worker adds a job at each tick, also "
                "while those of its queue are down or busy, and all run one after the other then",
                f'Write queueing_lock="{call.queue}", where one waiting job is enough.',
                severity=Severity.NOTE,
                subject=call.queue or "",
            )


_WAITS: Final = ("retry.wait", "retry.linear_wait", "retry.exponential_wait")


def _at_once(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, PROCRASTINATE, "task"):
        retry = task.options.get("retry")
        forever = is_set(task, "retry", True) or (
            retry is not None and any(name in task.options for name in _WAITS) is False and "retry.retry_exceptions" in
            task.options and "retry.max_attempts" not in task.options
        )  # fmt: skip
        if forever and retry is not None and not any(name in task.options for name in _WAITS):
            yield Breach(
                retry.place,
                f"{task.queue} is retried forever and at once: a job that cannot succeed keeps a worker busy "
                "without end",
                "Write RetryStrategy(max_attempts=5, exponential_wait=3), or other values that suit the task.",
                severity=weight_of(task, Severity.WARNING),
                subject=task.queue or "",
            )


def _explodes(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, PROCRASTINATE, "task"):
        base, most = number_at(task, "retry.exponential_wait"), number_at(task, "retry.max_attempts")
        if base is None or base <= 1 or is_unknown(task, "retry.max_attempts"):
            continue
        if most is None:
            yield Breach(
                place_of(task, "retry.exponential_wait"),
                f"exponential_wait without max_attempts: the wait of {task.queue} grows as a power without end, until "
                "PostgreSQL cannot hold the date and the job fails (procrastinate#1375)",
                "Set max_attempts.",
                severity=weight_of(task, Severity.WARNING),
                subject=task.queue or "",
            )
            continue
        longest = base ** min(int(most), 100)
        if longest > MONTH_SECONDS:
            yield Breach(
                place_of(task, "retry.exponential_wait"),
                f"exponential_wait is the base of a power, not a factor: the last of {most:.15g} retries of "
                f"{task.queue} waits "
                f"{base:.15g}^{most:.15g} seconds, {write_seconds(min(longest, 3e9))}",
                "Take a small base, such as 3, or wait and linear_wait.",
                severity=weight_of(task, Severity.WARNING),
                subject=task.queue or "",
            )


def _stalled(facts: Facts) -> Iterator[Breach]:
    tasks = [task for task in calls_of(facts, PROCRASTINATE, "task") if not task.aside]
    if not tasks or calls_of(facts, PROCRASTINATE, "stalled"):
        return
    yield Breach(
        tasks[0].place,
        "nothing looks for stalled jobs: one whose worker was killed stays doing forever",
        "Add a periodic task that calls job_manager.get_stalled_jobs() and retries each.",
        severity=Severity.NOTE,
        subject="stalled",
    )


def _locked(facts: Facts) -> list[QueueCall]:
    """List the tasks and defers that take a lock."""
    found = calls_of(facts, PROCRASTINATE, "task", "defer", "cron")
    return [call for call in found if "lock" in call.options and not call.aside]


def _kept_locks(facts: Facts) -> Iterator[Breach]:
    locked = _locked(facts)
    if not locked or calls_of(facts, PROCRASTINATE, "stalled"):
        return
    first = locked[0]
    yield Breach(
        place_of(first, "lock"),
        f"{first.queue} takes a lock, and nothing looks for stalled jobs: one whose worker was killed stays doing and "
        "keeps its lock, and every later job with it stays todo forever",
        "Add a periodic task that calls job_manager.get_stalled_jobs() and retries each.",
        tuple(Related(place_of(call, "lock"), f"{call.queue} takes a lock too") for call in locked[1:4]),
        subject="lock",
    )


def _already(facts: Facts) -> Iterator[Breach]:
    held = {task.queue for task in calls_of(facts, PROCRASTINATE, "task") if "queueing_lock" in task.options}
    seen: set[str | None] = set()
    for call in calls_of(facts, PROCRASTINATE, "defer"):
        locked = "queueing_lock" in call.options or call.queue in held
        if locked and is_set(call, "caught", False) and call.queue not in seen:
            seen.add(call.queue)
            yield Breach(
                call.place,
                f"{call.queue} has a queueing_lock, and nothing here catches AlreadyEnqueued: while one waits, this "
                "raises "
                "and the caller who asked for it gets an error",
                "Catch procrastinate.exceptions.AlreadyEnqueued where one waiting job is enough.",
                severity=Severity.NOTE,
                subject=call.queue or "",
            )


def _scheduled_twice(facts: Facts) -> Iterator[Breach]:
    seen: dict[tuple[str, str | None, object], QueueCall] = {}
    for call in calls_of(facts, PROCRASTINATE, "cron"):
        told = call.options.get("periodic_id")
        key = (call.place.file, call.queue, "" if told is None else told.value)
        if key in seen and not is_unknown(call, "periodic_id"):
            yield Breach(
                call.place,
                f"a second @app.periodic of {call.queue} has the same periodic_id: importing the module raises "
                "TaskAlreadyRegistered, and no worker starts",
                "Give each its own periodic_id.",
                (Related(seen[key].place, "the other one"),),
                weight_of(call),
                subject=call.queue or "",
            )
        seen.setdefault(key, call)


def _named_twice(facts: Facts) -> Iterator[Breach]:
    seen: dict[tuple[str, object], QueueCall] = {}
    for task in calls_of(facts, PROCRASTINATE, "task"):
        told = task.options.get("name")
        name = task.queue if told is None else told.value
        key = (task.place.file, name)
        if key in seen and isinstance(name, str) and task.whole:
            yield Breach(
                task.place,
                f"a second task is called {name!r}: importing the module raises TaskAlreadyRegistered, and no worker "
                "starts",
                "Give it another name.",
                (Related(seen[key].place, "the other one"),),
                weight_of(task),
                subject=name,
            )
        seen.setdefault(key, task)


RULES: Final = (
    rule(
        "queue_unserved",
        Severity.WARNING,
        (
            "procrastinate: if all workers name their queues, every task's queue is among them.",
            "Its jobs stay todo forever, and nothing says so.",
            "Add the queue to a worker.",
        ),
        _unserved,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
    rule(
        "periodic_below_task",
        Severity.ERROR,
        (
            "procrastinate: @app.periodic stands above @app.task.",
            "Importing the module raises AttributeError: no worker starts.",
            "Swap the decorators.",
        ),
        _reversed,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
    rule(
        "periodic_without_timestamp",
        Severity.ERROR,
        (
            "procrastinate: a periodic task accepts the timestamp that it is given.",
            "Every run fails with TypeError.",
            "Add the parameter `timestamp`.",
        ),
        _timestamp,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
    rule(
        "periodic_without_lock",
        Severity.NOTE,
        (
            "procrastinate: a periodic task has a queueing lock.",
            "After an hour in which its queue was not worked, sixty copies run one after the other.",
            "Set queueing_lock.",
        ),
        _locks,
        scenario="maintenance/running_twice_changes_nothing_more.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
    rule(
        "retry_at_once",
        Severity.WARNING,
        (
            "procrastinate: a task that is retried without limit waits between retries.",
            "A job that cannot succeed keeps a worker busy forever.",
            "Give it a wait and a limit.",
        ),
        _at_once,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
    rule(
        "backoff_explodes",
        Severity.WARNING,
        (
            "procrastinate: the longest exponential wait is within a month; exponential_wait is the base of a power.",
            "The last retries are years away: the job is neither done nor failed.",
            "Take a small base.",
        ),
        _explodes,
        scenario="retries/backoff_doubles.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
    rule(
        "stalled_never_retried",
        Severity.NOTE,
        (
            "procrastinate: something retries the jobs of workers that died.",
            "A job whose worker was killed stays doing forever.",
            "Add a periodic task for stalled jobs.",
        ),
        _stalled,
        scenario="maintenance/rescues_stuck_job.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
    rule(
        "lock_of_a_dead_worker",
        Severity.WARNING,
        (
            "procrastinate: if jobs take locks, something retries the jobs of workers that died.",
            "The lock is never free again: all later jobs with it stay todo forever.",
            "Add a periodic task for stalled jobs.",
        ),
        _kept_locks,
        scenario="maintenance/rescues_stuck_job.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
    rule(
        "already_enqueued_raises",
        Severity.NOTE,
        (
            "procrastinate: code that defers a task with a queueing lock handles AlreadyEnqueued.",
            "The second request fails, although one job should serve both.",
            "Catch AlreadyEnqueued.",
        ),
        _already,
        scenario="uniqueness/refused_while_the_first_waits.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
    rule(
        "periodic_twice",
        Severity.ERROR,
        (
            "procrastinate: two schedules of a task have two periodic_ids.",
            "Importing the module raises TaskAlreadyRegistered: no worker starts.",
            "Give each its own periodic_id.",
        ),
        _scheduled_twice,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
    rule(
        "task_named_twice",
        Severity.ERROR,
        (
            "procrastinate: no two tasks of a module have one name.",
            "Importing the module raises TaskAlreadyRegistered: no worker starts.",
            "Rename one.",
        ),
        _named_twice,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(PROCRASTINATE),
    ),
)
"""Rules about procrastinate."""
