"""Rules about graphile-worker, each from what its library documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from job_harness.errors import did_you_mean
from job_harness.review.check.cron import problem_of
from job_harness.review.check.facts import GRAPHILE, Facts, Place
from job_harness.review.check.finding import Breach, Related, Severity, Tried, tried_on
from job_harness.review.check.rules.calls import calls_of, is_set, number_at, place_of, rule, weight_of

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


_PRESET: Final = frozenset({
    "connectionString", "schema", "preparedStatements", "crontabFile", "taskDirectory", "fileExtensions",
    "concurrentJobs", "maxPoolSize", "pollInterval", "gracefulShutdownAbortTimeout", "useNodeTime", "logger", "events",
    "minResetLockedInterval", "maxResetLockedInterval", "getQueueNameBatchDelay", "localQueue", "pgPool",
    "completeJobBatchDelay", "failJobBatchDelay",
})  # fmt: skip


def _graphile_options(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, GRAPHILE, "addJob", "run", "runOnce", "preset"):
        known = {"addJob": _SPEC, "preset": _PRESET}.get(call.method, _RUN)
        for name, value in call.options.items():
            if "." in name or name in known:
                continue
            alike = did_you_mean(name, known)
            right = {"attempts": "maxAttempts", "retries": "maxAttempts", "max_attempts": "maxAttempts",
                     "concurrentJobs": "concurrency", "concurrency": "concurrentJobs",
                     "delay": "runAt", "queue": "queueName"}.get(name)  # fmt: skip
            if not alike and right is None:
                continue
            yield Breach(
                value.place,
                f"graphile-worker knows no option {name!r} of {call.method}()"
                f"{alike if right is None else f' (did you mean {right!r}?)'} and ignores it, without a word",
                f"Write {right}." if right is not None else "Correct its name.",
                severity=weight_of(call),
                subject=f"{call.method} {name}",
            )


def _graphile_crontab(facts: Facts) -> Iterator[Breach]:
    seen: dict[str, Place] = {}
    for call in calls_of(facts, GRAPHILE, "cron"):
        written = call.options.get("line")
        problem = f"{str(written.value)!r} is not a line of a crontab" if written is not None else None
        if problem is None:
            schedule = call.options["schedule"].value
            wrong = problem_of(str(schedule))
            unknown = [name for name in call.options if name not in _CRON_KEYS]
            problem = f"the schedule {schedule!r} {wrong}" if wrong is not None else None
            if problem is None and unknown:
                problem = f"{unknown[0]!r} is not an option of a crontab{did_you_mean(unknown[0], _CRON_KEYS)}"
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
                severity=weight_of(call),
                subject=call.queue or "line",
            )


def _job_key_mode(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, GRAPHILE, "addJob"):
        mode = call.options.get("jobKeyMode")
        if mode is None or mode.value is None:
            continue
        if "jobKey" not in call.options and call.whole:
            yield Breach(
                mode.place,
                f"jobKeyMode of {call.queue!r} has no effect without a jobKey: each call adds another job",
                "Add the jobKey.",
                severity=weight_of(call),
                subject=call.queue or "",
            )
        elif mode.value == "unsafe_dedupe":
            yield Breach(
                mode.place,
                f"unsafe_dedupe of {call.queue!r}: while a job with this key runs, or has failed for good, no other is "
                "added, and changes made meanwhile are never processed",
                "Use the mode replace, or preserve_run_at.",
                severity=Severity.NOTE,
                subject=call.queue or "",
            )


UNREAD: Final = "taskList.unread"
"""The option that a reader notes where a task list has more than can be told."""


def _task_unknown(facts: Facts) -> Iterator[Breach]:
    runs = calls_of(facts, GRAPHILE, "run", "runOnce")
    lists = [call for call in runs if any(name.startswith("taskList.") for name in call.options)]
    if not lists or len(lists) != len(runs) or not all(call.whole and UNREAD not in call.options for call in lists):
        return
    known = {name.removeprefix("taskList.") for call in lists for name in call.options if name.startswith("taskList.")}
    seen: set[str] = set()
    in_sql = [call for added in facts.added_in_sql.values() for call in added]
    for call in (*calls_of(facts, GRAPHILE, "addJob", "cron"), *in_sql):
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
    for call in calls_of(facts, GRAPHILE, "run"):
        if is_set(call, "noHandleSignals", True) and not (GRAPHILE in facts.stopped and facts.listens_for_its_end):
            yield Breach(
                place_of(call, "noHandleSignals"),
                "noHandleSignals leaves SIGTERM to you: unless runner.stop() is called on it, a deploy kills "
                "running jobs, "
                "and others take them back only after four hours",
                "Call runner.stop() on SIGTERM, or leave noHandleSignals out.",
                severity=Severity.NOTE,
                subject="noHandleSignals",
            )


_ONE_OF: Final = (("taskList", "taskDirectory"), ("crontab", "crontabFile", "parsedCronItems"))


def _conflicts(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, GRAPHILE, "run", "runOnce"):
        for names in _ONE_OF:
            given = [name for name in names if name in call.options and call.options[name].value is not None]
            if len(given) > 1:
                yield Breach(
                    call.options[given[1]].place,
                    f"{call.method}() is given {' and '.join(given)}, which exclude each other: it raises, and no "
                    "worker "
                    "starts",
                    f"Give it one of {', '.join(names)}.",
                    severity=weight_of(call),
                    subject=" ".join(given),
                )


def _no_attempts(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, GRAPHILE, "addJob"):
        value = call.options.get("maxAttempts")
        if value is not None and value.value == 0 and not isinstance(value.value, bool):
            yield Breach(
                value.place,
                f"maxAttempts: 0 of {call.queue!r} counts as not set: the job is tried 25 times, over days",
                "Write maxAttempts: 1 for a job that is tried once.",
                severity=weight_of(call),
                subject=call.queue or "",
            )


MODES: Final = ("replace", "preserve_run_at", "unsafe_dedupe")


def _modes(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, GRAPHILE, "addJob"):
        mode = call.options.get("jobKeyMode")
        if mode is not None and isinstance(mode.value, str) and mode.value not in MODES and "jobKey" in call.options:
            yield Breach(
                mode.place,
                f"{mode.value!r} is not a jobKeyMode{did_you_mean(mode.value, MODES)}: addJob() raises, and there is "
                "no job",
                f"Write one of {', '.join(MODES)}.",
                severity=weight_of(call),
                subject=call.queue or "",
            )


POOL: Final = 10


def _pools(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, GRAPHILE, "run", "preset"):
        name = "concurrentJobs" if call.method == "preset" else "concurrency"
        jobs, pool = number_at(call, name), number_at(call, "maxPoolSize")
        size = POOL if pool is None and "maxPoolSize" not in call.options else pool
        if jobs is not None and size is not None and jobs > size and "pgPool" not in call.options and call.whole:
            yield Breach(
                place_of(call, name),
                f"{jobs:.15g} jobs at a time share {size:.15g} connections{'' if pool else ' (the default)'}: "
                "jobs wait for one another's, and to be completed",
                f"Set maxPoolSize above {jobs:.15g}.",
                severity=Severity.NOTE,
                subject=name,
            )


def _not_filled(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, GRAPHILE, "cron"):
        schedule = call.options.get("schedule")
        fields = str(schedule.value).split() if schedule is not None else []
        if (
            len(fields) == 5
            and all(re.fullmatch(r"[0-9]+", field) for field in fields[:2])
            and "fill" not in call.options
        ):
            yield Breach(
                call.place,
                f"{call.queue} has no fill: a run that is due while no worker is up, as during a deploy, never comes",
                "Write ?fill=1d after the task, if a late run is better than none.",
                severity=Severity.NOTE,
                subject=call.queue or "",
            )


RULES: Final = (
    rule(
        "graphile_option_unknown",
        Severity.WARNING,
        (
            "graphile-worker: every option of addJob() and run() is one that it knows.",
            "The default holds: 25 attempts over days, one job at a time.",
            "Correct the name.",
        ),
        _graphile_options,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
        ran=tried_on(GRAPHILE),
    ),
    rule(
        "graphile_crontab_refused",
        Severity.ERROR,
        (
            "graphile-worker: every crontab line is valid, has only known options, and has its own identifier.",
            "The worker does not start.",
            "Correct the line.",
        ),
        _graphile_crontab,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(GRAPHILE),
    ),
    rule(
        "job_key_mode_inert",
        Severity.WARNING,
        (
            "graphile-worker: a jobKeyMode stands beside a jobKey, and is not unsafe_dedupe.",
            "Duplicates are added, or a change is never processed.",
            "Add the jobKey, or use replace.",
        ),
        _job_key_mode,
        scenario="uniqueness/refused_while_the_first_waits.yaml",
        ran=tried_on(GRAPHILE),
    ),
    rule(
        "graphile_task_unknown",
        Severity.WARNING,
        (
            "graphile-worker: every task that is added is in a task list, if all task lists are written out.",
            "Its jobs are never taken.",
            "Add the task.",
        ),
        _task_unknown,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(GRAPHILE),
    ),
    rule(
        "graphile_signals_ignored",
        Severity.NOTE,
        (
            "graphile-worker: a worker stops on SIGTERM.",
            "A deploy kills running jobs, and they stay locked for four hours.",
            "Call runner.stop() on SIGTERM.",
        ),
        _signals,
        scenario="shutdown/running_job_is_finished.yaml",
        ran=tried_on(GRAPHILE),
    ),
    rule(
        "graphile_options_conflict",
        Severity.ERROR,
        (
            "graphile-worker: tasks come from one place, and crontabs from one.",
            "run() raises: no worker starts.",
            "Leave one out.",
        ),
        _conflicts,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(GRAPHILE),
    ),
    rule(
        "max_attempts_zero",
        Severity.WARNING,
        (
            "graphile-worker: maxAttempts is at least 1.",
            "A job that was meant never to be retried is tried 25 times.",
            "Write 1.",
        ),
        _no_attempts,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
        ran=tried_on(GRAPHILE),
    ),
    rule(
        "job_key_mode_refused",
        Severity.ERROR,
        (
            "graphile-worker: a jobKeyMode is replace, preserve_run_at or unsafe_dedupe.",
            "addJob() raises, and the job is lost.",
            "Correct it.",
        ),
        _modes,
        scenario="uniqueness/refused_while_the_first_waits.yaml",
        ran=tried_on(GRAPHILE),
    ),
    rule(
        "concurrency_above_pool",
        Severity.NOTE,
        (
            "graphile-worker: there are at least as many connections as concurrent jobs.",
            "Jobs wait for a connection while their time runs.",
            "Raise maxPoolSize.",
        ),
        _pools,
        scenario="expiry/hung_job_is_timed_out.yaml",
        ran=tried_on(GRAPHILE),
    ),
    rule(
        "cron_not_filled",
        Severity.NOTE,
        (
            "graphile-worker: a daily or rarer cron run is made up later if no worker was running.",
            "The nightly run that falls into a deploy never happens.",
            "Add fill.",
        ),
        _not_filled,
        scenario="maintenance/cron_is_late.yaml",
        ran=(Tried(GRAPHILE, ("0.18.0",)),),
    ),
)
"""Rules about graphile-worker."""
