"""Rules about graphile-worker, procrastinate, PgQueuer, BullMQ and Celery, each from what its library documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from harness.errors import did_you_mean
from harness.lint.cron import problem_of
from harness.lint.facts import UNKNOWN, Facts, Place, QueueCall, Value
from harness.lint.finding import Breach, Related, Rule, Severity
from harness.lint.releases import release_of
from harness.lint.settings import number_of, spoken

CELERY: Final = "celery"
PROCRASTINATE: Final = "procrastinate"
PGQUEUER: Final = "pgqueuer"
GRAPHILE: Final = "graphile-worker"
BULLMQ: Final = "bullmq"
CELERY_VISIBILITY_SECONDS: Final = 3600.0
"""What Redis waits for an acknowledgement where nothing is set; SQS half an hour."""
SQS_VISIBILITY_SECONDS: Final = 1800.0
CELERY_PREFETCH: Final = 4
MONTH_SECONDS: Final = 30 * 86_400.0
BULLMQ_LOCK_MS: Final = 30_000.0


def _calls(facts: Facts, library: str, *methods: str) -> list[QueueCall]:
    return [call for call in facts.calls if call.library == library and call.method in methods]


def _weight(call: QueueCall, severity: Severity | None = None) -> Severity | None:
    return Severity.NOTE if call.aside else severity


def _number(call: QueueCall, name: str) -> float | None:
    value = call.options.get(name)
    return None if value is None or isinstance(value.value, bool) else number_of(value.value)


def _place(call: QueueCall, *names: str) -> Place:
    return next((call.options[name].place for name in names if name in call.options), call.place)


def _is(call: QueueCall, name: str, wanted: object) -> bool:
    return name in call.options and call.options[name].value is wanted


def _unknown(call: QueueCall, *names: str) -> bool:
    return any(name in call.options and call.options[name].value is UNKNOWN for name in names)


# Celery


class _Celery:
    """What holds for the tasks of a repository: the settings of its app, and those of each task above them."""

    def __init__(self, facts: Facts) -> None:
        self.settings: dict[str, Value] = {}
        for call in _calls(facts, CELERY, "settings"):
            self.settings.update(call.options)
        self.tasks = _calls(facts, CELERY, "task")
        self.sends = _calls(facts, CELERY, "apply_async")

    def of(self, task: QueueCall, name: str) -> Value | None:
        """Return an option of a task, or the setting behind it."""
        return task.options.get(name, self.settings.get(f"task_{name}"))

    def number(self, name: str) -> float | None:
        """Return a setting as a number."""
        value = self.settings.get(name)
        return None if value is None or isinstance(value.value, bool) else number_of(value.value)

    @property
    def broker(self) -> str:
        """The scheme of the broker's URL; empty where that is not told."""
        url = self.settings.get("broker_url")
        return url.value.partition(":")[0].lower() if url is not None and isinstance(url.value, str) else ""

    @property
    def visibility(self) -> float | None:
        """The seconds after which an unacknowledged message is delivered again; None where that is not known."""
        told = self.number("broker_transport_options.visibility_timeout")
        if told is not None or "broker_transport_options.visibility_timeout" in self.settings:
            return told
        if self.broker.startswith("redis"):
            return CELERY_VISIBILITY_SECONDS
        return SQS_VISIBILITY_SECONDS if self.broker == "sqs" else None


def _killed(facts: Facts) -> Iterator[Breach]:
    celery = _Celery(facts)
    late, reject = celery.settings.get("task_acks_late"), celery.settings.get("task_reject_on_worker_lost")
    if late is not None and late.value is True and (reject is None or reject.value in (False, None)):
        yield _killed_at(late.place, "every task", "task_reject_on_worker_lost = True", "", late.name)
    for task in celery.tasks:
        own, told = task.options.get("acks_late"), celery.of(task, "reject_on_worker_lost")
        if own is not None and own.value is True and (told is None or told.value in (False, None)) and task.whole:
            repair = "reject_on_worker_lost=True"
            yield _killed_at(own.place, f"the task {task.queue}", repair, task.queue or "", "acks_late", _weight(task))


def _killed_at(
    place: Place, whose: str, repair: str, subject: str, name: str, weight: Severity | None = None
) -> Breach:
    return Breach(
        place,
        f"{name} of {whose} promises another run after a crash, and a worker process that is killed (out of memory, "
        "SIGKILL) acknowledges the task all the same: it is lost",
        f"Set {repair} too, if the task may run twice; or say that it is not repeated, without acks_late.",
        severity=weight,
        subject=subject,
    )


def _visible(facts: Facts) -> Iterator[Breach]:
    celery = _Celery(facts)
    limit = celery.visibility
    if limit is None:
        return
    told = celery.settings.get("broker_transport_options.visibility_timeout")
    related = () if told is None else (Related(told.place, f"visibility_timeout is {spoken(limit)}"),)
    repair = "Set visibility_timeout of broker_transport_options above it."
    for send in celery.sends:
        countdown = _number(send, "countdown")
        if countdown is not None and countdown > limit:
            yield Breach(
                _place(send, "countdown"),
                f"{send.queue} is sent {spoken(countdown)} ahead, and the broker delivers what is not "
                "acknowledged within "
                f"{spoken(limit)} again, to one worker after the other: it runs several times",
                repair,
                related,
                _weight(send),
                subject=f"countdown {send.queue}",
            )
    for task in celery.tasks:
        late, hard = celery.of(task, "acks_late"), celery.of(task, "time_limit")
        seconds = None if hard is None else number_of(hard.value)
        if late is not None and late.value is True and hard is not None and seconds is not None and seconds > limit:
            yield Breach(
                hard.place,
                f"{task.queue} may run for {spoken(seconds)} before it is acknowledged, and the broker delivers "
                "it again "
                f"after {spoken(limit)}: it runs twice at a time",
                repair,
                related,
                _weight(task),
                subject=f"time_limit {task.queue}",
            )


def _prefetched(facts: Facts) -> Iterator[Breach]:
    celery = _Celery(facts)
    late = celery.settings.get("task_acks_late")
    told = celery.settings.get("worker_prefetch_multiplier")
    multiplier = CELERY_PREFETCH if told is None else celery.number("worker_prefetch_multiplier")
    if late is None or late.value is not True or multiplier is None or multiplier == 1:
        return
    place = late.place if told is None else told.place
    many = "without a limit" if multiplier == 0 else f"{multiplier:g} for each process"
    yield Breach(
        place,
        f"with task_acks_late a worker holds tasks that it has not begun, {many}"
        f"{' by default' if told is None else ''}: they wait behind its running one while other workers are idle",
        "Set worker_prefetch_multiplier = 1.",
        (Related(late.place, "task_acks_late = True"),),
        subject="prefetch",
    )


def _limits(facts: Facts) -> Iterator[Breach]:
    celery = _Celery(facts)
    pairs = [(celery.settings.get("task_soft_time_limit"), celery.settings.get("task_time_limit"), "", None)]
    for task in celery.tasks:
        if "soft_time_limit" in task.options or "time_limit" in task.options:
            soft, hard = celery.of(task, "soft_time_limit"), celery.of(task, "time_limit")
            pairs.append((soft, hard, task.queue or "", _weight(task)))  # type: ignore[arg-type]
    for soft, hard, whose, weight in pairs:
        first = None if soft is None else number_of(soft.value)
        last = None if hard is None else number_of(hard.value)
        if soft is not None and hard is not None and first and last and first >= last:
            yield Breach(
                soft.place,
                f"the soft limit {f'of {whose} ' if whose else ''}is {spoken(first)}, and the worker is killed after "
                f"{spoken(last)}: SoftTimeLimitExceeded is never raised, and nothing is cleaned up",
                "Set the soft limit below the hard one.",
                (Related(hard.place, f"the hard limit is {spoken(last)}"),),
                weight,
                subject=whose,
            )


def _mixed(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, CELERY, "settings"):
        names = [value.name for key, value in call.options.items() if "." not in key]
        old = [name for name in names if name.isupper()]
        new = [name for name in names if name.islower()]
        if old and new:
            first = next(value for value in call.options.values() if value.name == old[0])
            yield Breach(
                first.place,
                f"{old[0]} is a name of Celery 3 and {new[0]} one of Celery 4: together Celery refuses to start "
                "(ImproperlyConfigured)",
                "Write all settings by their new names, in lower case.",
                subject="names",
            )


def _every_minute(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, CELERY, "crontab"):
        names = ("hour", "day_of_week", "day_of_month", "month_of_year")
        others = [name for name in names if name in call.options and call.options[name].value != "*"]
        if others and "minute" not in call.options:
            told = ", ".join(f"{name}={call.options[name].value}" for name in others)
            yield Breach(
                call.place,
                f"crontab({told}) leaves minute at '*': the task is sent every minute of it, 60 times an hour",
                "Add minute=0.",
                severity=_weight(call),
                subject=told,
            )


_RANGES: Final = {
    "minute": (0, 59),
    "hour": (0, 23),
    "day_of_month": (1, 31),
    "month_of_year": (1, 12),
    "day_of_week": (0, 7),
}


def _celery_range(call: QueueCall) -> str | None:
    for name, (low, high) in _RANGES.items():
        value = call.options.get(name)
        written = str(value.value) if value is not None and isinstance(value.value, (int, str)) else ""
        if re.fullmatch(r"[0-9]{1,4}", written) and not low <= int(written) <= high:
            return f"has {written} as {name}, which is between {low} and {high}"
    return None


def _crons(facts: Facts) -> Iterator[Breach]:
    for call in facts.calls:
        if call.library == CELERY and call.method == "crontab":
            problem: str | None = _celery_range(call)
            place, text = call.place, "crontab(...)"
        elif call.method == "cron" and "schedule" in call.options and call.library != GRAPHILE:
            value = call.options["schedule"]
            if not isinstance(value.value, str):
                continue
            place, text, problem = value.place, repr(value.value), problem_of(value.value, seconds=True)
        else:
            continue
        if problem is not None:
            whose = f" of {call.queue!r}" if call.queue else ""
            yield Breach(
                place,
                f"the schedule {text}{whose} {problem}: {call.library} refuses it, or never runs it",
                "Write five fields, minute first: `*/5 * * * *` is every five minutes.",
                severity=_weight(call),
                subject=call.queue or text,
            )


def _subtasks(facts: Facts) -> Iterator[Breach]:
    for task in _calls(facts, CELERY, "task"):
        waits = task.options.get("body.get")
        if waits is not None:
            line = int(number_of(waits.value) or task.place.line)
            yield Breach(
                Place(task.place.file, line),
                f"the task {task.queue} waits for another task's result: a prefork worker raises RuntimeError, and in "
                "others all workers may wait for one another",
                "Chain the tasks, or give the second one a callback.",
                severity=_weight(task),
                subject=task.queue or "",
            )


def _for_ever(facts: Facts) -> Iterator[Breach]:
    for task in _calls(facts, CELERY, "task"):
        retries = "autoretry_for" in task.options or "body.retry" in task.options
        most = task.options.get("max_retries")
        if retries and most is not None and most.value is None:
            yield Breach(
                most.place,
                f"max_retries=None of {task.queue}: a task that cannot succeed is tried for ever",
                "Set a number, and look at what failed for good.",
                severity=Severity.NOTE,
                subject=task.queue or "",
            )


def _expired(facts: Facts) -> Iterator[Breach]:
    for send in _calls(facts, CELERY, "apply_async"):
        countdown, expires = _number(send, "countdown"), _number(send, "expires")
        if countdown is not None and expires is not None and expires <= countdown:
            yield Breach(
                _place(send, "expires"),
                f"{send.queue} starts after {spoken(countdown)} and expires after {spoken(expires)}: it is "
                "always revoked",
                "Let it expire later than it starts.",
                severity=_weight(send),
                subject=send.queue or "",
            )


# procrastinate and PgQueuer


def _unserved(facts: Facts) -> Iterator[Breach]:
    workers = _calls(facts, PROCRASTINATE, "worker")
    if not workers or not all(worker.possible and worker.whole for worker in workers):
        return
    served = {queue for worker in workers for queue in worker.possible}
    by_queue: dict[str, list[QueueCall]] = {}
    for task in _calls(facts, PROCRASTINATE, "task"):
        value = task.options.get("queue")
        name = "default" if value is None else value.value
        if isinstance(name, str) and name not in served and task.whole:
            by_queue.setdefault(name, []).append(task)
    for queue, tasks in by_queue.items():
        first = tasks[0]
        told = ", ".join(sorted(served))
        yield Breach(
            _place(first, "queue"),
            f"{first.queue} is deferred to the queue {queue!r}{did_you_mean(queue, served)}, and every worker "
            "names its "
            f"queues ({told}) without it: its jobs stay todo for ever",
            f"Add {queue!r} to the queues of a worker.",
            tuple(Related(worker.place, "a worker's queues") for worker in workers[:3]),
            Severity.WARNING if not first.aside else Severity.NOTE,
            subject=queue,
        )


def _reversed(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, PROCRASTINATE, "cron"):
        if "below" in call.options:
            yield Breach(
                call.place,
                f"@app.periodic of {call.queue} stands below @app.task: it is handed a function and not a task, and "
                "importing the module raises AttributeError",
                "Put @app.periodic above @app.task.",
                severity=_weight(call),
                subject=call.queue or "",
            )


def _timestamp(facts: Facts) -> Iterator[Breach]:
    periodic = {(call.queue, call.place.file) for call in _calls(facts, PROCRASTINATE, "cron")}
    for task in _calls(facts, PROCRASTINATE, "task"):
        if (task.queue, task.place.file) not in periodic:
            continue
        context = 1 if _is(task, "pass_context", True) else 0
        parameters = _number(task, "body.parameters")
        if parameters is not None and parameters < context + 1 and not _unknown(task, "pass_context") and task.whole:
            yield Breach(
                task.place,
                f"the periodic task {task.queue} takes no timestamp, which procrastinate hands to it: every run "
                "fails with "
                "TypeError",
                "Add a parameter `timestamp: int`.",
                severity=_weight(task),
                subject=task.queue or "",
            )


def _locks(facts: Facts) -> Iterator[Breach]:
    tasks = {(task.queue, task.place.file): task for task in _calls(facts, PROCRASTINATE, "task")}
    for call in _calls(facts, PROCRASTINATE, "cron"):
        task = tasks.get((call.queue, call.place.file))
        if task is not None and task.whole and not {"queueing_lock", "lock"} & {*task.options, *call.options}:
            yield Breach(
                call.place,
                f"the periodic task {call.queue} has no queueing_lock: while no worker runs, each tick adds a "
                "job, and all "
                "run one after the other once a worker is back",
                f'Write queueing_lock="{call.queue}", where one waiting job is enough.',
                severity=Severity.NOTE,
                subject=call.queue or "",
            )


_WAITS: Final = ("retry.wait", "retry.linear_wait", "retry.exponential_wait")


def _at_once(facts: Facts) -> Iterator[Breach]:
    for task in _calls(facts, PROCRASTINATE, "task"):
        retry = task.options.get("retry")
        forever = _is(task, "retry", True) or (
            retry is not None and any(name in task.options for name in _WAITS) is False and "retry.retry_exceptions" in
            task.options and "retry.max_attempts" not in task.options
        )  # fmt: skip
        if forever and retry is not None and not any(name in task.options for name in _WAITS):
            yield Breach(
                retry.place,
                f"{task.queue} is retried for ever and at once: a job that cannot succeed keeps a worker busy "
                "without end",
                "Write RetryStrategy(max_attempts=5, exponential_wait=3), or whatever suits.",
                severity=_weight(task, Severity.WARNING),
                subject=task.queue or "",
            )


def _explodes(facts: Facts) -> Iterator[Breach]:
    for task in _calls(facts, PROCRASTINATE, "task"):
        base, most = _number(task, "retry.exponential_wait"), _number(task, "retry.max_attempts")
        if base is None or base <= 1 or _unknown(task, "retry.max_attempts"):
            continue
        if most is None:
            yield Breach(
                _place(task, "retry.exponential_wait"),
                f"exponential_wait without max_attempts: the wait of {task.queue} grows as a power without end, until "
                "PostgreSQL cannot hold the date and the job fails (procrastinate#1375)",
                "Set max_attempts.",
                severity=_weight(task, Severity.WARNING),
                subject=task.queue or "",
            )
            continue
        longest = base ** min(int(most), 100)
        if longest > MONTH_SECONDS:
            yield Breach(
                _place(task, "retry.exponential_wait"),
                f"exponential_wait is the base of a power, not a factor: the last of {most:g} retries of "
                f"{task.queue} waits "
                f"{base:g}^{most:g} seconds, {spoken(min(longest, 3e9))}",
                "Take a small base, such as 3, or wait and linear_wait.",
                severity=_weight(task, Severity.WARNING),
                subject=task.queue or "",
            )


def _stalled(facts: Facts) -> Iterator[Breach]:
    tasks = [task for task in _calls(facts, PROCRASTINATE, "task") if not task.aside]
    if not tasks or _calls(facts, PROCRASTINATE, "stalled"):
        return
    yield Breach(
        tasks[0].place,
        "nothing looks for stalled jobs: one whose worker was killed stays doing for ever",
        "Add a periodic task that calls job_manager.get_stalled_jobs() and retries each.",
        severity=Severity.NOTE,
        subject="stalled",
    )


def _never_retried(facts: Facts) -> Iterator[Breach]:
    for task in _calls(facts, PGQUEUER, "task"):
        if not {"executor_factory", "on_failure", "retry_timer"} & task.options.keys():
            yield Breach(
                task.place,
                f"an exception ends a job of {task.queue!r} for good: PgQueuer writes it to its log and retries "
                "nothing",
                "Give the entrypoint an executor_factory that retries, or on_failure='hold' to look at it later.",
                severity=Severity.NOTE,
                subject=task.queue or "",
            )


# graphile-worker

_SPEC: Final = frozenset({
    "queueName", "runAt", "maxAttempts", "jobKey", "jobKeyMode", "priority", "flags", "identifier", "payload",
})  # fmt: skip
_RUN: Final = frozenset({
    "concurrency", "pollInterval", "taskList", "taskDirectory", "crontab", "crontabFile", "parsedCronItems",
    "connectionString", "pgPool", "maxPoolSize", "preparedStatements", "schema", "logger", "events", "forbiddenFlags",
    "noHandleSignals", "noPreparedStatements", "useNodeTime", "minResetLockedInterval", "maxResetLockedInterval",
    "gracefulShutdownAbortTimeout", "preset", "localQueue", "completeJobBatchDelay", "failJobBatchDelay",
    "fileExtensions",
})  # fmt: skip
_CRON_KEYS: Final = frozenset({"id", "fill", "max", "queue", "jobKey", "jobKeyMode", "priority", "schedule"})


def _graphile_options(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, GRAPHILE, "addJob", "run", "runOnce"):
        known = _SPEC if call.method == "addJob" else _RUN
        for name, value in call.options.items():
            if "." in name or name in known:
                continue
            alike = did_you_mean(name, known)
            right = {"attempts": "maxAttempts", "retries": "maxAttempts", "max_attempts": "maxAttempts",
                     "concurrentJobs": "concurrency", "delay": "runAt", "queue": "queueName"}.get(name)  # fmt: skip
            if not alike and right is None:
                continue
            yield Breach(
                value.place,
                f"graphile-worker knows no option {name!r} of {call.method}()"
                f"{alike if right is None else f' (did you mean {right!r}?)'} and ignores it, without a word",
                f"Write {right}." if right is not None else "Correct its name.",
                severity=_weight(call),
                subject=f"{call.method} {name}",
            )


def _graphile_crontab(facts: Facts) -> Iterator[Breach]:
    seen: dict[str, Place] = {}
    for call in _calls(facts, GRAPHILE, "cron"):
        written = call.options.get("line")
        problem = f"{str(written.value)!r} is no line of a crontab" if written is not None else None
        if problem is None:
            schedule = call.options["schedule"].value
            wrong = problem_of(str(schedule))
            unknown = [name for name in call.options if name not in _CRON_KEYS]
            problem = f"the schedule {schedule!r} {wrong}" if wrong is not None else None
            if problem is None and unknown:
                problem = f"{unknown[0]!r} is no option of a crontab{did_you_mean(unknown[0], _CRON_KEYS)}"
        if problem is None:
            told = call.options.get("id")
            identity = str(told.value) if told is not None else call.queue or ""
            if identity in seen and seen[identity].file == call.place.file:
                problem = f"a second line for {identity!r} has the same identifier; write ?id= to tell them apart"
            seen.setdefault(identity, call.place)
        if problem is not None:
            yield Breach(
                call.place,
                f"{problem}: the worker refuses its crontab and does not start",
                "Write five numeric fields and a task, as `*/5 * * * * task ?max=3`.",
                severity=_weight(call),
                subject=call.queue or "line",
            )


def _job_key_mode(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, GRAPHILE, "addJob"):
        mode = call.options.get("jobKeyMode")
        if mode is None or mode.value is None:
            continue
        if "jobKey" not in call.options and call.whole:
            yield Breach(
                mode.place,
                f"jobKeyMode of {call.queue!r} has no effect without a jobKey: each call adds another job",
                "Add the jobKey.",
                severity=_weight(call),
                subject=call.queue or "",
            )
        elif mode.value == "unsafe_dedupe":
            yield Breach(
                mode.place,
                f"unsafe_dedupe of {call.queue!r}: while a job with this key runs, or has failed for good, no other is "
                "added, and what changed meanwhile is never processed",
                "Use the mode replace, or preserve_run_at.",
                severity=Severity.NOTE,
                subject=call.queue or "",
            )


def _task_unknown(facts: Facts) -> Iterator[Breach]:
    runs = _calls(facts, GRAPHILE, "run", "runOnce")
    lists = [call for call in runs if any(name.startswith("taskList.") for name in call.options)]
    if not lists or len(lists) != len(runs) or not all(call.whole for call in lists):
        return
    known = {name.removeprefix("taskList.") for call in lists for name in call.options if name.startswith("taskList.")}
    seen: set[str] = set()
    for call in _calls(facts, GRAPHILE, "addJob", "cron"):
        if call.queue is not None and call.queue not in known and call.queue not in seen:
            seen.add(call.queue)
            yield Breach(
                call.place,
                f"no task list has {call.queue!r}{did_you_mean(call.queue, known)}: its jobs are never taken",
                f"Add {call.queue!r} to the task list of a worker.",
                tuple(Related(one.place, "a task list") for one in lists[:3]),
                Severity.NOTE if call.aside else Severity.WARNING,
                subject=call.queue,
            )


def _signals(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, GRAPHILE, "run"):
        if _is(call, "noHandleSignals", True):
            yield Breach(
                _place(call, "noHandleSignals"),
                "noHandleSignals leaves SIGTERM to you: unless runner.stop() is called on it, a deploy kills "
                "running jobs, "
                "and others take them back only after four hours",
                "Call runner.stop() on SIGTERM, or leave noHandleSignals out.",
                severity=Severity.NOTE,
                subject="noHandleSignals",
            )


# BullMQ


def _defaults(facts: Facts, queue: str | None, name: str) -> bool:
    """Tell whether a default of the queue, or of all queues, sets an option of its jobs."""
    for call in _calls(facts, BULLMQ, "new Queue", "forRoot"):
        mine = call.method == "forRoot" or queue is None or call.queue in (None, queue)
        if mine and (f"defaultJobOptions.{name}" in call.options or not call.whole):
            return True
        whole = call.options.get("defaultJobOptions")
        if mine and whole is not None and not any(key.startswith("defaultJobOptions.") for key in call.options):
            return True
    return False


def _backoff(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, BULLMQ, "add", "new Queue", "forRoot"):
        prefix = "" if call.method == "add" else "defaultJobOptions."
        if f"{prefix}backoff" not in call.options:
            continue
        attempts = call.options.get(f"{prefix}attempts")
        if attempts is None and (
            call.method == "forRoot" or not call.whole or _defaults(facts, call.queue, "attempts")
        ):
            continue
        if attempts is not None and attempts.value != 1:
            continue
        once = attempts is not None
        yield Breach(
            call.options[f"{prefix}backoff"].place,
            f"a backoff {f'of {call.queue!r} ' if call.queue else ''}without "
            f"attempts{' (attempts: 1)' if once else ''}: BullMQ tries a job once, and the backoff never counts",
            "Set attempts to the number of tries.",
            severity=Severity.NOTE if once or call.aside else Severity.WARNING,
            subject=call.queue or "",
        )


_MISPLACED: Final = {
    "new Queue": {
        "limiter": "limiter of the Worker",
        "attempts": "defaultJobOptions.attempts",
        "backoff": "defaultJobOptions.backoff",
        "removeOnComplete": "defaultJobOptions.removeOnComplete",
        "removeOnFail": "defaultJobOptions.removeOnFail",
        "concurrency": "concurrency of the Worker",
        "lockDuration": "lockDuration of the Worker",
    },
    "new Worker": {
        "attempts": "attempts of the job, in add() or defaultJobOptions",
        "backoff": "backoff of the job, in add() or defaultJobOptions",
        "defaultJobOptions": "defaultJobOptions of the Queue",
        "settings.lockDuration": "lockDuration beside settings",
        "settings.stalledInterval": "stalledInterval beside settings",
        "settings.maxStalledCount": "maxStalledCount beside settings",
    },
    "add": {
        "concurrency": "concurrency of the Worker",
        "lockDuration": "lockDuration of the Worker",
    },
}  # fmt: skip


def _misplaced(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, BULLMQ, "new Queue", "new Worker", "add"):
        for name, right in _MISPLACED[call.method].items():
            if name in call.options:
                yield _ignored(call, name, f"Write it as {right}.", "the default holds")
        for name in ("timeout", "defaultJobOptions.timeout"):
            if name in call.options and call.method != "new Worker":
                told = "Stop the work in the processor, as with AbortSignal.timeout()."
                yield _ignored(call, name, told, "no job is ever stopped (Bull did that)")


def _ignored(call: QueueCall, name: str, repair: str, outcome: str) -> Breach:
    return Breach(
        call.options[name].place,
        f"BullMQ ignores {name} in {call.method}, without a word: {outcome}",
        repair,
        severity=_weight(call),
        subject=f"{call.method} {call.queue or ''} {name}",
    )


def _renewed(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, BULLMQ, "new Worker"):
        lock = _number(call, "lockDuration")
        renew = _number(call, "lockRenewTime")
        lasts = BULLMQ_LOCK_MS if lock is None and "lockDuration" not in call.options else lock
        if renew is not None and lasts is not None and renew >= lasts:
            yield Breach(
                _place(call, "lockRenewTime"),
                f"the lock of a job is renewed every {spoken(renew / 1000)} and ends after "
                f"{spoken(lasts / 1000)}: every "
                "longer job counts as stalled and runs twice",
                "Leave lockRenewTime out (it is half of lockDuration), or set it below.",
                severity=_weight(call),
                subject=call.queue or "",
            )


def _redis_retries(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, BULLMQ, "new Worker"):
        retries = call.options.get("connection.new.maxRetriesPerRequest")
        release = release_of(facts, call.place.file, BULLMQ)
        if retries is None or not isinstance(retries.value, int) or not retries.value or release is None:
            continue
        if release.major >= 5:
            yield Breach(
                retries.place,
                f"this connection gives up after {retries.value} retries, and a Worker waits in blocking "
                "requests: BullMQ "
                "raises 'Your redis options maxRetriesPerRequest must be null'",
                "Make the connection with maxRetriesPerRequest: null.",
                (Related(call.place, "the Worker"),),
                _weight(call),
                subject=call.queue or "",
            )


def _job_ids(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, BULLMQ, "add"):
        identity = call.options.get("jobId")
        if identity is None or identity.value is None:
            continue
        text = identity.value if isinstance(identity.value, str) else ""
        release = release_of(facts, call.place.file, BULLMQ)
        refused = text.isascii() and (text.isdigit() or (":" in text and text.count(":") != 2))
        if text and refused and release is not None and release.major >= 5:
            yield Breach(
                identity.place,
                f"add() raises at the jobId {text!r}: BullMQ 5 takes neither a number nor a colon",
                "Write a word before the number, and '-' for ':'.",
                severity=_weight(call),
                subject=call.queue or "",
            )
        elif _stays(facts, call):
            yield Breach(
                identity.place,
                "while a job with this jobId is kept, also one that has completed or failed, add() does "
                "nothing and says "
                "nothing: a later one is lost",
                "Let jobs with an id of their own be removed (removeOnComplete: true, removeOnFail: true), or add what "
                "makes the occasion unique to the id.",
                severity=Severity.NOTE,
                subject=f"kept {call.queue or ''}",
            )


def _stays(facts: Facts, call: QueueCall) -> bool:
    if not call.whole:
        return False
    own = [call.options.get(name) for name in ("removeOnComplete", "removeOnFail")]
    if all(value is not None and value.value is True for value in own):
        return False
    for queue in _calls(facts, BULLMQ, "new Queue"):
        named = queue.queue is not None and call.queue is not None and queue.queue == call.queue
        removed = [queue.options.get(f"defaultJobOptions.{name}") for name in ("removeOnComplete", "removeOnFail")]
        if (named or call.queue is None) and any(value is not None and value.value is True for value in removed):
            return False
    return True


def _not_numbers(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, BULLMQ, "add", "new Queue"):
        for name in ("attempts", "defaultJobOptions.attempts"):
            value = call.options.get(name)
            if value is not None and value.variable and value.factor == 1.0 and not isinstance(value.value, str):
                continue
            if value is not None and isinstance(value.value, str) and value.value.isascii() and value.value.isdigit():
                yield Breach(
                    value.place,
                    f"attempts is the text {value.value!r}, and BullMQ compares it with a number",
                    "Write Number(...) around it.",
                    severity=Severity.NOTE,
                    subject=call.queue or "",
                )


def _removed_before_read(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts, BULLMQ, "getJob", "getCompleted"):
        if call.queue is None:
            continue
        for queue in _calls(facts, BULLMQ, "new Queue", "add"):
            name = "removeOnComplete" if queue.method == "add" else "defaultJobOptions.removeOnComplete"
            if queue.queue == call.queue and _is(queue, name, True):
                yield Breach(
                    call.place,
                    f"{call.method}() of {call.queue!r} finds no job that completed: "
                    f"{queue.options[name].place} removes "
                    "them at once, so that a success looks like a job that never was",
                    "Keep completed jobs for a while: removeOnComplete: { age: 3600 }.",
                    (Related(queue.options[name].place, "removeOnComplete: true"),),
                    _weight(call, Severity.WARNING),
                    subject=call.queue,
                )
                break


def _schedulers(facts: Facts) -> Iterator[Breach]:
    made = [one for one in facts.calls if one.library == BULLMQ and one.method == "new QueueScheduler"]
    for call in _calls(facts, BULLMQ, "add", "new Queue"):
        release = release_of(facts, call.place.file, BULLMQ)
        if release is None or release.major >= 2 or made:
            continue
        names = [
            name for name in call.options if name.removeprefix("defaultJobOptions.") in ("delay", "backoff", "repeat")
        ]
        if names:
            yield Breach(
                call.options[names[0]].place,
                f"BullMQ {release.written} needs a QueueScheduler for {names[0]}, and none is made: delayed jobs and "
                "retries with a backoff never run",
                "Make a QueueScheduler for the queue, or upgrade to BullMQ 2, which needs none.",
                severity=_weight(call),
                subject=call.queue or "",
            )


def _rule(
    identity: str,
    severity: Severity,
    texts: Iterable[str],
    check: object,
    *,
    scenario: str,
    ran: str = "",
) -> Rule:
    sentence, prevents, repair = texts
    return Rule(identity, severity, sentence, prevents, repair, scenario, check, ran)  # type: ignore[arg-type]


RULES: Final = (
    _rule(
        "acks_late_loses_killed",
        Severity.WARNING,
        (
            "Celery: a task that is acknowledged late is also rejected when its worker process is lost.",
            "The task is lost when its process is killed, which is what late acknowledgement was meant for.",
            "Set task_reject_on_worker_lost.",
        ),
        _killed,
        scenario="crashes/every_attempt_crashes.yaml",
    ),
    _rule(
        "visibility_timeout_too_short",
        Severity.ERROR,
        (
            "Celery on Redis or SQS: the visibility timeout is longer than the longest countdown and time limit.",
            "The broker hands the task to a second worker while the first one has it: it runs twice.",
            "Raise visibility_timeout.",
        ),
        _visible,
        scenario="expiry/hung_job_is_timed_out.yaml",
    ),
    _rule(
        "late_acks_with_prefetch",
        Severity.NOTE,
        (
            "Celery: with late acknowledgement a worker takes one task at a time.",
            "Tasks wait behind a long one although other workers are idle, and a crash redelivers them all.",
            "Set worker_prefetch_multiplier = 1.",
        ),
        _prefetched,
        scenario="configuration/batch_outlives_lease.yaml",
    ),
    _rule(
        "soft_limit_not_below_hard",
        Severity.WARNING,
        (
            "Celery: the soft time limit is below the hard one.",
            "The task is killed without SoftTimeLimitExceeded: what it holds is never released.",
            "Set the soft limit below the hard one.",
        ),
        _limits,
        scenario="configuration/expiry_leaves_room_to_settle.yaml",
    ),
    _rule(
        "celery_names_mixed",
        Severity.ERROR,
        (
            "Celery: all settings have old names, or all have new ones.",
            "Celery refuses to start.",
            "Write the new names, in lower case.",
        ),
        _mixed,
        scenario="configuration/workers_disabled.yaml",
        ran="Celery 5.7.0",
    ),
    _rule(
        "crontab_every_minute",
        Severity.WARNING,
        (
            "Celery: a crontab that names an hour or a day names the minute too.",
            "crontab(hour=3) is every minute from 3:00 to 3:59: the nightly job runs sixty times.",
            "Add minute=0.",
        ),
        _every_minute,
        scenario="maintenance/running_twice_changes_nothing_more.yaml",
        ran="Celery 5.7.0",
    ),
    _rule(
        "celery_waits_for_subtask",
        Severity.ERROR,
        (
            "Celery: no task waits for the result of another.",
            "A prefork worker raises RuntimeError; in others all workers wait for one another.",
            "Use a chain or a callback.",
        ),
        _subtasks,
        scenario="expiry/hung_job_is_timed_out.yaml",
    ),
    _rule(
        "celery_retries_forever",
        Severity.NOTE,
        (
            "Celery: a task that retries has an end.",
            "A task that cannot succeed is tried for ever.",
            "Set max_retries.",
        ),
        _for_ever,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
    ),
    _rule(
        "expires_before_start",
        Severity.ERROR,
        (
            "Celery: a task expires later than its countdown ends.",
            "Every such task is revoked before it starts.",
            "Raise expires above countdown.",
        ),
        _expired,
        scenario="configuration/workers_disabled.yaml",
        ran="Celery 5.7.0",
    ),
    _rule(
        "code_cron_invalid",
        Severity.ERROR,
        (
            "A schedule in code is a cron expression (pg-boss, BullMQ, procrastinate, PgQueuer, Celery).",
            "The job is never sent, or the process does not start.",
            "Write five fields, minute first.",
        ),
        _crons,
        scenario="maintenance/cron_is_late.yaml",
        ran="Celery 5.7.0, procrastinate 3.10.0",
    ),
    _rule(
        "queue_unserved",
        Severity.WARNING,
        (
            "procrastinate: where all workers name their queues, every task's queue is among them.",
            "Its jobs stay todo for ever, and nothing says so.",
            "Add the queue to a worker.",
        ),
        _unserved,
        scenario="configuration/workers_disabled.yaml",
    ),
    _rule(
        "periodic_below_task",
        Severity.ERROR,
        (
            "procrastinate: @app.periodic stands above @app.task.",
            "Importing the module raises AttributeError: no worker starts.",
            "Swap the decorators.",
        ),
        _reversed,
        scenario="configuration/workers_disabled.yaml",
        ran="procrastinate 3.10.0",
    ),
    _rule(
        "periodic_without_timestamp",
        Severity.ERROR,
        (
            "procrastinate: a periodic task takes the timestamp that it is handed.",
            "Every run fails with TypeError.",
            "Add the parameter `timestamp`.",
        ),
        _timestamp,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
    ),
    _rule(
        "periodic_without_lock",
        Severity.NOTE,
        (
            "procrastinate: a periodic task has a queueing lock.",
            "After an hour without workers, sixty copies run one after the other.",
            "Set queueing_lock.",
        ),
        _locks,
        scenario="maintenance/running_twice_changes_nothing_more.yaml",
    ),
    _rule(
        "retry_at_once",
        Severity.WARNING,
        (
            "procrastinate: a task that is retried without end waits in between.",
            "A job that cannot succeed keeps a worker busy for ever.",
            "Give it a wait and a limit.",
        ),
        _at_once,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
    ),
    _rule(
        "backoff_explodes",
        Severity.WARNING,
        (
            "procrastinate: the longest exponential wait is within a month; exponential_wait is the base of a power.",
            "The last retries are years away: the job is neither done nor failed.",
            "Take a small base.",
        ),
        _explodes,
        scenario="retries/backoff_doubles.yaml",
        ran="procrastinate 3.10.0",
    ),
    _rule(
        "stalled_never_retried",
        Severity.NOTE,
        (
            "procrastinate: something retries the jobs of workers that died.",
            "A job whose worker was killed stays doing for ever.",
            "Add a periodic task for stalled jobs.",
        ),
        _stalled,
        scenario="maintenance/rescues_stuck_job.yaml",
    ),
    _rule(
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
    _rule(
        "graphile_option_unknown",
        Severity.WARNING,
        (
            "graphile-worker: every option of addJob() and run() is one that it knows.",
            "The default holds: 25 attempts over days, one job at a time.",
            "Correct the name.",
        ),
        _graphile_options,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
    ),
    _rule(
        "graphile_crontab_refused",
        Severity.ERROR,
        (
            "graphile-worker: every line of a crontab is one, with options that it knows and an identifier of its own.",
            "The worker does not start.",
            "Correct the line.",
        ),
        _graphile_crontab,
        scenario="configuration/workers_disabled.yaml",
        ran="graphile-worker 0.13.0, 0.18.0",
    ),
    _rule(
        "job_key_mode_inert",
        Severity.WARNING,
        (
            "graphile-worker: a jobKeyMode stands beside a jobKey, and is not unsafe_dedupe.",
            "Duplicates are added, or a change is never processed.",
            "Add the jobKey, or use replace.",
        ),
        _job_key_mode,
        scenario="uniqueness/refused_while_the_first_waits.yaml",
    ),
    _rule(
        "graphile_task_unknown",
        Severity.WARNING,
        (
            "graphile-worker: every task that is added is in a task list, where all are written out.",
            "Its jobs are never taken.",
            "Add the task.",
        ),
        _task_unknown,
        scenario="configuration/workers_disabled.yaml",
    ),
    _rule(
        "graphile_signals_ignored",
        Severity.NOTE,
        (
            "graphile-worker: a worker stops when it is told to.",
            "A deploy kills running jobs, and they stay locked for four hours.",
            "Call runner.stop() on SIGTERM.",
        ),
        _signals,
        scenario="shutdown/running_job_is_finished.yaml",
    ),
    _rule(
        "backoff_without_attempts",
        Severity.WARNING,
        (
            "BullMQ: a job with a backoff has attempts.",
            "A job that fails once has failed: nothing is retried.",
            "Set attempts.",
        ),
        _backoff,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
    ),
    _rule(
        "bullmq_option_ignored",
        Severity.WARNING,
        (
            "BullMQ: every option stands where it is heeded.",
            "The default holds without a word: no rate limit, one attempt, a job that is never stopped.",
            "Write it where BullMQ reads it.",
        ),
        _misplaced,
        scenario="expiry/hung_job_is_timed_out.yaml",
    ),
    _rule(
        "lock_renewed_too_late",
        Severity.ERROR,
        (
            "BullMQ: a lock is renewed before it ends.",
            "Every longer job is taken for stalled, and a second worker runs it too.",
            "Leave lockRenewTime out.",
        ),
        _renewed,
        scenario="expiry/hung_job_is_timed_out.yaml",
    ),
    _rule(
        "redis_retries_refused",
        Severity.ERROR,
        (
            "BullMQ 5: the IORedis that a Worker is given has maxRetriesPerRequest: null.",
            "The Worker does not start.",
            "Set maxRetriesPerRequest: null.",
        ),
        _redis_retries,
        scenario="configuration/workers_disabled.yaml",
        ran="BullMQ 4.18.2, 5.79.0",
    ),
    _rule(
        "job_id_blocks_repeats",
        Severity.ERROR,
        (
            "BullMQ: a jobId of one's own is one that BullMQ takes, and its job does not stay.",
            "A later job with the same id is dropped in silence.",
            "Remove such jobs when they end.",
        ),
        _job_ids,
        scenario="uniqueness/refused_while_the_first_waits.yaml",
        ran="BullMQ 4.18.2, 5.79.0",
    ),
    _rule(
        "attempts_not_a_number",
        Severity.NOTE,
        ("BullMQ: attempts is a number.", "A text is compared with a number.", "Write Number(...)."),
        _not_numbers,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
    ),
    _rule(
        "job_removed_before_read",
        Severity.WARNING,
        (
            "BullMQ: jobs that the application looks up are kept when they complete.",
            "A success looks like a job that never was.",
            "Keep completed jobs for a while.",
        ),
        _removed_before_read,
        scenario="tables/purge_deletes_both_rows.yaml",
    ),
    _rule(
        "queue_scheduler_missing",
        Severity.ERROR,
        (
            "BullMQ 1: a queue with delays or backoffs has a QueueScheduler.",
            "Delayed jobs and retries never run.",
            "Make a QueueScheduler, or upgrade.",
        ),
        _schedulers,
        scenario="configuration/workers_disabled.yaml",
    ),
)
"""Rules about the other queues."""
