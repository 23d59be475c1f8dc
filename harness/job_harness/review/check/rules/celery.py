"""Rules about Celery, each from what its library documents."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from job_harness.errors import did_you_mean
from job_harness.review.check.celery_names import CONFIGURED, OF_OTHERS, PREFIXES, SETTINGS
from job_harness.review.check.facts import CELERY, Facts, Place, ProcessCommand, QueueCall, Value
from job_harness.review.check.finding import Breach, Related, Severity, tried_on
from job_harness.review.check.rules.calls import calls_of, is_set, number_at, place_of, rule, weight_of
from job_harness.review.check.settings import number_of, write_seconds

CELERY_VISIBILITY_SECONDS: Final = 3600.0
"""What Redis waits for an acknowledgement where nothing is set; SQS half an hour."""
SQS_VISIBILITY_SECONDS: Final = 1800.0
_LEASING: Final = ("redis", "sentinel", "sqs")
"""Brokers, by the scheme of their URL, that deliver again what is not acknowledged in time."""
VISIBILITY: Final = "broker_transport_options.visibility_timeout"
CELERY_PREFETCH: Final = 4


IN_ONE_PROCESS: Final = frozenset({"threads", "gevent", "eventlet", "solo"})
"""Pools whose tasks run in the process of the worker."""


class _Celery:
    """What holds for the tasks of a repository: the settings of its app, and those of each task above them."""

    def __init__(self, facts: Facts) -> None:
        self.settings: dict[str, Value] = {}
        self._by_file: dict[str, dict[str, Value]] = {}
        for call in sorted(calls_of(facts, CELERY, "settings"), key=lambda call: call.queue != CONFIGURED):
            self.settings.update(call.options)
            self._by_file.setdefault(call.place.file, {}).update(call.options)
        workers = [one for one in facts.commands if one.program == "worker"]
        for name in ("time_limit", "soft_time_limit"):
            told = [one.options[name] for one in workers if name in one.options]
            if told and len(told) == len(workers) and all(isinstance(one.value, float) for one in told):
                # Every worker has its own, which replaces the setting: any task may run for the shortest.
                self.settings[f"task_{name}"] = min(told, key=lambda value: number_of(value.value) or 0.0)
        self._workers = workers
        self.tasks = calls_of(facts, CELERY, "task")
        self.sends = calls_of(facts, CELERY, "apply_async")

    def of(self, task: QueueCall, name: str) -> Value | None:
        """Return an option of a task, or the setting behind it."""
        return task.options.get(name, self.settings.get(f"task_{name}"))

    def number(self, name: str) -> float | None:
        """Return a setting as a number."""
        value = self.settings.get(name)
        return None if value is None or isinstance(value.value, bool) else number_of(value.value)

    def _values_of(self, name: str) -> list[Value]:
        """List what each file that has a setting makes of it: several apps, or what one app is under several names."""
        return [options[name] for options in self._by_file.values() if name in options]

    @property
    def forks(self) -> bool:
        """Whether some worker runs tasks in processes of its own, as it does where nothing else is said."""
        told = {value.value for value in self._values_of("worker_pool")} or {"prefork"}
        given = [one.options.get("pool") for one in self._workers]
        pools = {pool for one in given for pool in (told if one is None else {one.value})}
        return not (pools or told) <= IN_ONE_PROCESS

    @property
    def brokers(self) -> set[str]:
        """The schemes of the brokers' URLs; none where none is told."""
        urls = [url.value for url in self._values_of("broker_url") if isinstance(url.value, str)]
        return {url.partition(":")[0].lower() for url in urls}

    @property
    def visibility(self) -> Value | float | None:
        """The seconds after which an unacknowledged message is delivered again, or the setting that says so.

        None where that is not known, where files name brokers of which one is of another kind, and
        for brokers that wait for the connection to end: RabbitMQ ignores the option. Of several
        settings the longest counts.
        """
        brokers, urls = self.brokers, self._values_of("broker_url")
        if not all(broker.startswith(_LEASING) for broker in brokers):
            return None
        told = self._values_of(VISIBILITY)
        if told:
            known = all(number_of(value.value) is not None for value in told)
            return max(told, key=lambda value: number_of(value.value) or 0.0) if known else None
        if not brokers or not all(isinstance(url.value, str) for url in urls):
            return None
        if "sqs" in brokers:
            return SQS_VISIBILITY_SECONDS if brokers == {"sqs"} else None
        return CELERY_VISIBILITY_SECONDS


def _killed(facts: Facts) -> Iterator[Breach]:
    celery = _Celery(facts)
    if not celery.forks:
        return  # What is killed is the whole worker: nothing is left that could acknowledge the task.
    reject = celery.settings.get("task_reject_on_worker_lost")
    for call in calls_of(facts, CELERY, "settings") if reject is None or reject.value in (False, None) else ():
        late = call.options.get("task_acks_late")
        if late is not None and late.value is True:
            repair = "task_reject_on_worker_lost = True"
            yield _killed_at(late.place, "every task", repair, "", late.name, weight_of(call))
    for task in celery.tasks:
        own, told = task.options.get("acks_late"), celery.of(task, "reject_on_worker_lost")
        if own is not None and own.value is True and (told is None or told.value in (False, None)) and task.whole:
            repair = "reject_on_worker_lost=True"
            yield _killed_at(
                own.place, f"the task {task.queue}", repair, task.queue or "", "acks_late", weight_of(task)
            )


def _killed_at(
    place: Place, whose: str, repair: str, subject: str, name: str, weight: Severity | None = None
) -> Breach:
    return Breach(
        place,
        f"{name} of {whose} promises another run after a crash, and a worker process that is killed (out of memory, "
        "SIGKILL) acknowledges the task all the same: it is lost",
        f"Set {repair} too, if the task may run twice; if it must not, remove acks_late.",
        severity=weight,
        subject=subject,
    )


class _HeldMessage(NamedTuple):
    """How long a message may stay unacknowledged: while a worker waits for its time, or runs its task."""

    call: QueueCall
    value: Value
    seconds: float
    what: str
    runs: bool = False

    @property
    def cause(self) -> tuple[Place, str]:
        """What messages have in common that one finding tells."""
        return self.value.place, self.what


def _redelivered(held: list[_HeldMessage], limit: float, repair: str, related: tuple[Related, ...]) -> Breach:
    """Say that the broker delivers meanwhile what one cause holds back."""
    first, tasks = held[0], sorted({str(one.call.queue) for one in held})
    alone = len(tasks) == 1
    if first.runs:
        again = f"before {'it is' if alone else 'they are'} acknowledged, and the broker delivers "
        again += f"{'it' if alone else 'them'} again after {write_seconds(limit)}: "
        again += "it runs twice at a time" if alone else f"each runs twice at a time ({', '.join(tasks)})"
    else:
        again = f"and the broker delivers what is not acknowledged within {write_seconds(limit)} again, "
        again += "to one worker after the other: it runs several times"
    said = f"{tasks[0] if alone else f'{len(tasks)} tasks'} {first.what}{' ' if first.runs else ', '}{again}"
    own = first.value in first.call.options.values()
    subject = f"{first.value.name} {first.call.queue}" if own else first.value.name
    weights = [weight_of(one.call) for one in held]
    return Breach(first.value.place, said, repair, related, None if None in weights else weights[0], subject)


def _visible(facts: Facts) -> Iterator[Breach]:
    celery = _Celery(facts)
    told = celery.visibility
    limit = number_of(told.value) if isinstance(told, Value) else told
    if limit is None:
        return
    related = (Related(told.place, f"visibility_timeout is {write_seconds(limit)}"),) if isinstance(told, Value) else ()
    held = list(_held(celery))
    causes: dict[tuple[Place, str], list[_HeldMessage]] = {}
    for one in held:
        if one.seconds > limit:
            causes.setdefault(one.cause, []).append(one)
    for together in causes.values():
        yield _redelivered(together, limit, _longer(together[0], held), related)


def _longer(one: _HeldMessage, held: list[_HeldMessage]) -> str:
    """Advise a timeout that is enough; for a long wait, another place to wait in."""
    waits = [other.seconds for other in held if not other.runs]
    most = max((other.seconds for other in held if other.runs), default=0.0)
    option = "visibility_timeout of broker_transport_options"
    if not one.runs and one.seconds > LONG_WAIT_SECONDS:
        least = max(waits) + most  # Late acknowledgement comes after both, the wait and the run.
        lead = (
            ""
            if one.call.method == "apply_async"
            else f"Retry sooner, within {write_seconds(LONG_WAIT_SECONDS)}. Or keep"
        )
        return (
            f"{lead or 'Keep'} a wait of {write_seconds(one.seconds)} out of the broker: write into a table when "
            f"the task is due, and let a task that beat starts send what is. With {option} at "
            f"{math.ceil(least + ROOM_SECONDS)} or more it runs once, and what a dead worker held comes back only "
            f"after {write_seconds(least)}."
        )
    least = max((wait for wait in waits if wait <= LONG_WAIT_SECONDS), default=0.0) + most
    return (
        f"Set {option} to {math.ceil(least + ROOM_SECONDS)} or more: a message is held for up to "
        f"{write_seconds(least)}. What a dead worker held comes back only then."
    )


ROOM_SECONDS: Final = 60.0
"""What an advised visibility timeout leaves for everything but the wait and the run."""
LONG_WAIT_SECONDS: Final = 3600.0
"""A longer wait has no place in the broker: all that a dead worker held would wait as long. Redis's default."""


def _held(celery: _Celery) -> Iterator[_HeldMessage]:
    for send in celery.sends:
        countdown = number_at(send, "countdown")
        if countdown is not None:
            yield _HeldMessage(send, send.options["countdown"], countdown, f"is sent {write_seconds(countdown)} ahead")
    for task in celery.tasks:
        for value, seconds in _retry_delays(task):
            yield _HeldMessage(
                task, value, seconds, f"may be retried {write_seconds(seconds)} ahead ({_RETRIED_BY[value.name]})"
            )
        late = celery.of(task, "acks_late")
        longest = _longest(celery, task) if late is not None and late.value is True else None
        if longest is not None:
            yield _HeldMessage(task, *longest, f"may run for {write_seconds(longest[1])}", runs=True)


CELERY_RETRY_DELAY: Final = 180.0
CELERY_MAX_RETRIES: Final = 3
CELERY_BACKOFF_MAX: Final = 600.0
"""What holds for a task that sets nothing else."""
_RETRIED_BY: Final = {
    "retry.countdown": "self.retry(countdown=...)",
    "retry.default": "self.retry() without a countdown",
    "retry_kwargs.countdown": "countdown of retry_kwargs",
    "default_retry_delay": "default_retry_delay",
    "autoretry_for": "autoretry_for without a delay",
    "retry_backoff": "retry_backoff",
    "retry_backoff_max": "retry_backoff_max",
}


def _retry_delays(task: QueueCall) -> Iterator[tuple[Value, float]]:
    """List how far ahead a task may be sent again by itself, each with what says so."""
    options = task.options
    again = options.get("autoretry_for")
    backoff = options.get("retry_backoff")
    backs_off = again is not None and backoff is not None and backoff.value not in (0, False, None)
    if backs_off:
        yield from _backoff(task)
    named = ["retry.countdown", *(["retry_kwargs.countdown"] if again is not None and not backs_off else [])]
    for name in named:
        seconds = number_at(task, name)
        if seconds is not None:
            yield options[name], seconds
    bare = options.get("retry.default")
    if bare is None and not backs_off and "retry_kwargs.countdown" not in options and not _unread(task):
        bare = again
    if bare is not None and "default_retry_delay" not in options:
        yield bare, CELERY_RETRY_DELAY
    elif bare is not None and (delay := number_at(task, "default_retry_delay")) is not None:
        yield options["default_retry_delay"], delay


def _unread(task: QueueCall) -> bool:
    """Tell a `retry_kwargs` of which the parts are not told."""
    return "retry_kwargs" in task.options and not any(name.startswith("retry_kwargs.") for name in task.options)


class _Doubling(NamedTuple):
    """The waits of `retry_backoff` in seconds: the first one, and the longest; None retries are without a limit."""

    first: float
    longest: float
    retries: float | None


def _doubling(task: QueueCall) -> _Doubling | None:
    """Read how long a task with `retry_backoff` waits, where all of it is told."""
    factor = number_of(task.options["retry_backoff"].value)
    longest = number_at(task, "retry_backoff_max") if "retry_backoff_max" in task.options else CELERY_BACKOFF_MAX
    retries = task.options.get("retry_kwargs.max_retries", task.options.get("max_retries"))
    unlimited = retries is not None and retries.value is None
    most = CELERY_MAX_RETRIES if retries is None else number_of(retries.value)
    if factor is None or longest is None or _unread(task) or (most is None and not unlimited) or most == 0:
        return None
    return _Doubling(int(max(1.0, factor)), longest, most)


def _backoff(task: QueueCall) -> Iterator[tuple[Value, float]]:
    """Work out the last and longest delay of `retry_backoff`: doubled for each retry, up to its maximum."""
    value, waits = task.options["retry_backoff"], _doubling(task)
    if waits is None:
        return
    longest, most = waits.longest, waits.retries
    last = longest if most is None else min(longest, waits.first * 2.0 ** min(most - 1, 64))
    yield task.options.get("retry_backoff_max", value) if last == longest else value, last


def _never_grows(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, CELERY, "task"):
        told, given = task.options.get("retry_backoff"), task.options.get("retry_backoff_max")
        if told is None or told.value in (0, False, None) or not task.whole or "base" in task.options:
            continue
        waits = _doubling(task) if "autoretry_for" in task.options else None
        if waits is None or waits.first < waits.longest or waits.retries == 1:
            continue
        said = "as is the default" if given is None else f"at {given.place}"
        yield Breach(
            told.place,
            f"retry_backoff of {task.queue} starts at {write_seconds(waits.first)}, and retry_backoff_max is "
            f"{write_seconds(waits.longest)} ({said}): the wait never doubles, and every retry comes within "
            f"{write_seconds(waits.longest)}",
            f"Set retry_backoff_max above {write_seconds(waits.first)}, or let retry_backoff be the first wait: 60 "
            "waits 1m, 2m, 4m, and so on.",
            severity=weight_of(task),
            subject=task.queue or "",
        )


def _longest(celery: _Celery, task: QueueCall) -> tuple[Value, float] | None:
    """Return what says how long a task may run, in seconds: its hard limit, or what it sleeps."""
    for value in (celery.of(task, "time_limit"), task.options.get("body.sleep")):
        seconds = None if value is None else number_of(value.value)
        if value is not None and seconds is not None:
            return value, seconds
    return None


def _prefetched(facts: Facts) -> Iterator[Breach]:
    celery = _Celery(facts)
    late = celery.settings.get("task_acks_late")
    told = celery.settings.get("worker_prefetch_multiplier")
    multiplier = CELERY_PREFETCH if told is None else celery.number("worker_prefetch_multiplier")
    if late is None or late.value is not True or multiplier is None or multiplier == 1:
        return
    place = late.place if told is None else told.place
    many = "without a limit" if multiplier == 0 else f"{multiplier:.15g} for each process"
    yield Breach(
        place,
        f"with task_acks_late a worker holds tasks that it has not started, {many}"
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
            pairs.append((soft, hard, task.queue or "", weight_of(task)))  # type: ignore[arg-type]
    for soft, hard, whose, weight in pairs:
        first = None if soft is None else number_of(soft.value)
        last = None if hard is None else number_of(hard.value)
        if soft is not None and hard is not None and first and last and first >= last:
            yield Breach(
                soft.place,
                f"the soft limit {f'of {whose} ' if whose else ''}is {write_seconds(first)}, and the worker is "
                f"killed after {write_seconds(last)}: SoftTimeLimitExceeded is never raised, and nothing is cleaned up",
                "Set the soft limit below the hard one.",
                (Related(hard.place, f"the hard limit is {write_seconds(last)}"),),
                weight,
                subject=whose,
            )


def _mixed(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, CELERY, "settings"):
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
    for call in calls_of(facts, CELERY, "crontab"):
        names = ("hour", "day_of_week", "day_of_month", "month_of_year")
        others = [name for name in names if name in call.options and call.options[name].value != "*"]
        if others and "minute" not in call.options:
            told = ", ".join(f"{name}={call.options[name].value}" for name in others)
            yield Breach(
                call.place,
                f"crontab({told}) leaves minute at '*': the task is sent every minute of it, 60 times an hour",
                "Add minute=0.",
                severity=weight_of(call),
                subject=told,
            )


def _subtasks(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, CELERY, "task"):
        waits = task.options.get("body.get")
        if waits is not None:
            line = int(number_of(waits.value) or task.place.line)
            yield Breach(
                Place(task.place.file, line),
                f"the task {task.queue} waits for another task's result: a prefork worker raises RuntimeError, and in "
                "others all workers may wait for one another",
                "Chain the tasks, or give the second one a callback.",
                severity=weight_of(task),
                subject=task.queue or "",
            )


def _for_ever(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, CELERY, "task"):
        retries = "autoretry_for" in task.options or "body.retry" in task.options
        most = task.options.get("max_retries")
        if retries and most is not None and most.value is None:
            at_once = number_at(task, "retry.countdown") == 0 or number_at(task, "default_retry_delay") == 0
            yield Breach(
                most.place,
                f"max_retries=None of {task.queue}: a task that cannot succeed is tried forever"
                f"{', without a pause: one such task keeps a worker process busy' if at_once else ''}",
                f"Set a number, and inspect tasks that failed for good.{' Wait between two tries.' if at_once else ''}",
                severity=weight_of(task, Severity.WARNING) if at_once else Severity.NOTE,
                subject=task.queue or "",
            )


def _bound(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, CELERY, "task"):
        first, parameters = task.options.get("body.first"), number_at(task, "body.parameters")
        if first is None or not task.whole:
            continue
        bound = task.options.get("bind")
        if bound is not None and bound.value is True and parameters == 0:
            said = "is bound (bind=True) and takes no argument, but Celery passes it the task itself"
            repair = "Take it as the first argument (self), or leave bind=True out."
        elif (bound is None or bound.value is False) and first.value == "self":
            said = "takes self but is not bound, and Celery passes it only the arguments that were sent"
            repair = "Add bind=True, or leave self out."
        else:
            continue
        yield Breach(
            task.place,
            f"the task {task.queue} {said}: each run raises TypeError",
            repair,
            severity=weight_of(task),
            subject=task.queue or "",
        )


def _before_commit(facts: Facts) -> Iterator[Breach]:
    for send in calls_of(facts, CELERY, "in_transaction"):
        yield Breach(
            send.place,
            f"{send.queue} is sent within transaction.atomic(): a worker may run it before the rows are there, and "
            "does so also when the transaction is rolled back",
            f"Send it once the transaction commits: transaction.on_commit(partial({send.queue}.delay, ...)); or, from "
            f"Celery 5.4 on, {send.queue}.delay_on_commit(...).",
            severity=weight_of(send),
            subject=send.queue or "",
        )


def _expired(facts: Facts) -> Iterator[Breach]:
    for send in calls_of(facts, CELERY, "apply_async"):
        countdown, expires = number_at(send, "countdown"), number_at(send, "expires")
        if countdown is not None and expires is not None and expires <= countdown:
            yield Breach(
                place_of(send, "expires"),
                f"{send.queue} starts after {write_seconds(countdown)} and expires after {write_seconds(expires)}: "
                "it is always revoked",
                "Let it expire later than it starts.",
                severity=weight_of(send),
                subject=send.queue or "",
            )


_RETRYING: Final = ("retry_backoff", "default_retry_delay", "retry_kwargs", "retry_jitter", "max_retries")


def _never_retried(facts: Facts) -> Iterator[Breach]:
    for task in calls_of(facts, CELERY, "task"):
        asked = [
            name for name in _RETRYING if name in task.options and task.options[name].value not in (0, False, None)
        ]
        helped = is_set(task, "bind", True) and "body.hands_on" in task.options
        retried = helped or not task.whole or {"autoretry_for", "body.retry"} & task.options.keys()
        if asked and not retried:
            yield Breach(
                task.options[asked[0]].place,
                f"{task.queue} sets {asked[0]}, and nothing retries it: Celery uses that only with autoretry_for, or "
                "where the task calls self.retry()",
                "Add autoretry_for=(...), or call self.retry(exc=...).",
                severity=weight_of(task),
                subject=task.queue or "",
            )


NEAR: Final = 0.85
"""How alike a name must be to a setting's where other variables stand beside the settings."""


def _unknown(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, CELERY, "settings"):
        for name, value in call.options.items():
            if "." in name or not name.startswith(PREFIXES) or name in SETTINGS | OF_OTHERS:
                continue
            near = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=NEAR)
            if near or call.whole:
                told = f" (did you mean {near[0]!r}?)" if near else ""
                yield Breach(
                    value.place,
                    f"Celery has no setting {name!r}{told}, and reports nothing: the setting has no effect",
                    f"Write {near[0]}." if near else "Look up the name of the setting, or remove it.",
                    severity=weight_of(call),
                    subject=name,
                )


def _unregistered(facts: Facts) -> Iterator[Breach]:
    tasks = calls_of(facts, CELERY, "task")
    for call in calls_of(facts, CELERY, "beat", "send_task"):
        missing = call.options.get("missing_in")
        if missing is None or call.queue is None:
            continue
        origin, _, name = call.queue.rpartition(".")
        there = {str(task.queue): task.place for task in tasks if task.place.file == missing.value}
        near = difflib.get_close_matches(name, there, n=1, cutoff=ALIKE)
        if not near and (call.method == "send_task" or "." not in origin):
            continue  # A task of another repository may be sent, too, and its module may be called the same.
        told = f" (did you mean {f'{origin}.{near[0]}'!r}?)" if near else ""
        yield Breach(
            call.place,
            f"{'the schedule of beat' if call.method == 'beat' else 'send_task()'} names the task {call.queue!r}, and "
            f"{missing.value} has none of this name{told}: the worker throws each one away as unregistered",
            f"Name {origin}.{near[0]}." if near else "Name a task that exists, or remove the entry.",
            tuple(Related(there[one], f"the task {one}") for one in near),
            weight_of(call),
            subject=call.queue,
        )


ALIKE: Final = 0.75
"""How alike the name of a task must be to one that its module has, where it might as well belong elsewhere."""


def _beats(facts: Facts) -> Iterator[Breach]:
    scheduler = _Celery(facts).settings.get("beat_scheduler")
    told = [one for one in facts.commands if one.program == "beat" or "beat" in one.options]
    beats = [one for one in told if not _takes_turns(one.options.get("scheduler", scheduler))]
    for beat in beats:
        others = [one for one in beats if _beside(beat, one) and one.processes > 0]
        if beat.processes > 1 or (beat.processes == 1 and others and beat.place < others[0].place):
            what = "beat" if beat.program == "beat" else "a worker with beat in it (-B)"
            many = f"{what} is started {beat.processes} times" if beat.processes > 1 else f"{what} is started twice"
            yield Breach(
                beat.place,
                f"{many}, and each of them sends every scheduled task: all of them run as often",
                "Start one beat, in a process of its own; or use a scheduler with a lock, such as RedBeat.",
                tuple(Related(one.place, "the other one") for one in others[:1] if beat.processes == 1),
                subject="beat",
            )


def _beside(one: ProcessCommand, other: ProcessCommand) -> bool:
    """Tell two commands of one application that their file starts side by side."""
    apps = [value.value if (value := command.options.get("app")) else "" for command in (one, other)]
    return one is not other and one.together and one.place.file == other.place.file and apps[0] == apps[1]


def _takes_turns(scheduler: Value | None) -> bool:
    """Tell a scheduler of which only one is at work, or that files do not tell."""
    return scheduler is not None and (not isinstance(scheduler.value, str) or "redbeat" in scheduler.value.lower())


CELERY_QUEUE: Final = "celery"
"""What the queue is called where nothing names another."""


def _unserved(facts: Facts) -> Iterator[Breach]:
    celery = _Celery(facts)
    workers = [one for one in facts.commands if one.program == "worker"]
    apps = {str(one.options["app"].value) if "app" in one.options else "" for one in workers}
    if not workers or facts.passed_by or len(apps) > 1 or "task_queues" in celery.settings:
        return
    default = celery.settings.get("task_default_queue")
    if default is not None and not isinstance(default.value, str):
        return
    sure = all("queues" in one.options for one in workers)
    served: set[str] = set()
    for worker in workers:
        queues = worker.options.get("queues")
        listed = str(queues.value) if queues is not None else str(default.value) if default else CELERY_QUEUE
        served |= {name.strip() for name in listed.split(",")}
    for call in calls_of(facts, CELERY, "route", "task", "apply_async", "send_task"):
        queue = call.options.get("queue")
        if queue is None or not isinstance(queue.value, str) or queue.value in served:
            continue
        yield Breach(
            queue.place,
            f"what goes to the queue {queue.value!r}{did_you_mean(queue.value, served)} is never run: the workers that "
            f"files start take from {', '.join(map(repr, sorted(served)))}",
            f"Add {queue.value} to -Q of a worker, or correct the name.",
            (Related(workers[0].place, "a worker"),),
            weight_of(call) if sure else Severity.NOTE,
            subject=queue.value,
        )


_SECONDS: Final = (
    "countdown", "expires", "time_limit", "soft_time_limit", "default_retry_delay", "retry_backoff",
    "retry_backoff_max", "task_time_limit", "task_soft_time_limit", "result_expires",
)  # fmt: skip


def _milliseconds(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, CELERY, "settings", "task", "apply_async"):
        for name in (one for one in _SECONDS if f"{one}.milliseconds" in call.options):
            written = call.options[f"{name}.milliseconds"]
            yield Breach(
                written.place,
                f"{name} is counted in seconds, and {written.value} holds milliseconds: it is 1000 times as long as "
                "was meant",
                f"Write {written.value} / 1000.",
                severity=weight_of(call),
                subject=f"{name} {call.queue or ''}".strip(),
            )


RULES: Final = (
    rule(
        "celery_milliseconds",
        Severity.ERROR,
        (
            "Celery: a time is given in seconds, and never as a constant whose name says milliseconds.",
            "A countdown of a minute takes 16 hours; a time limit of ten minutes takes a week.",
            "Divide by 1000.",
        ),
        _milliseconds,
        scenario="expiry/hung_job_is_timed_out.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "celery_bind_mismatch",
        Severity.ERROR,
        (
            "Celery: a task that is bound takes `self`, and one that takes `self` is bound.",
            "Each run raises TypeError, and the task does nothing.",
            "Make bind=True and the arguments agree.",
        ),
        _bound,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "celery_sent_before_commit",
        Severity.WARNING,
        (
            "Celery with Django: a task is sent after the transaction that it belongs to has committed.",
            "A worker runs it before the rows are there, or for rows that never come.",
            "Use transaction.on_commit or delay_on_commit.",
        ),
        _before_commit,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "beat_started_twice",
        Severity.ERROR,
        (
            "Celery: only one beat runs; no worker that is started several times includes one.",
            "Each beat sends every scheduled task, so each task runs several times.",
            "Start one beat, in a process of its own.",
        ),
        _beats,
        scenario="maintenance/running_twice_changes_nothing_more.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "celery_queue_unserved",
        Severity.WARNING,
        (
            "Celery: if files start the workers, one of them serves each queue that tasks are sent to.",
            "Its tasks wait forever, and nothing says so.",
            "Name the queue in -Q of a worker, or correct the name.",
        ),
        _unserved,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "celery_task_unknown",
        Severity.ERROR,
        (
            "Celery: a task named as text, in `beat_schedule` or `send_task`, exists in its module.",
            "The worker logs `Received unregistered task` and throws it away: the job is lost.",
            "Correct the name.",
        ),
        _unregistered,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "acks_late_loses_killed",
        Severity.WARNING,
        (
            "Celery: a task that is acknowledged late is also rejected when its worker process is lost.",
            "The task is lost when its process is killed, which is what late acknowledgement was meant for.",
            "Set task_reject_on_worker_lost.",
        ),
        _killed,
        scenario="crashes/every_attempt_crashes.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "visibility_timeout_too_short",
        Severity.ERROR,
        (
            "Celery on Redis or SQS: the visibility timeout is longer than any countdown, retry delay and time limit.",
            "The broker hands the task to a second worker while the first one has it: it runs twice.",
            "Raise visibility_timeout, and keep long waits out of the broker.",
        ),
        _visible,
        scenario="expiry/hung_job_is_timed_out.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "late_acks_with_prefetch",
        Severity.NOTE,
        (
            "Celery: with late acknowledgement a worker takes one task at a time.",
            "Tasks wait behind a long one although other workers are idle, and a crash redelivers them all.",
            "Set worker_prefetch_multiplier = 1.",
        ),
        _prefetched,
        scenario="configuration/batch_outlives_lease.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "soft_limit_not_below_hard",
        Severity.WARNING,
        (
            "Celery: the soft time limit is below the hard one.",
            "The task is killed without SoftTimeLimitExceeded: what it holds is never released.",
            "Set the soft limit below the hard one.",
        ),
        _limits,
        scenario="configuration/expiry_leaves_room_to_settle.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "celery_names_mixed",
        Severity.ERROR,
        (
            "Celery: all settings have old names, or all have new ones.",
            "Celery refuses to start.",
            "Write the new names, in lower case.",
        ),
        _mixed,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "crontab_every_minute",
        Severity.WARNING,
        (
            "Celery: a crontab that sets an hour or a day also sets the minute.",
            "crontab(hour=3) is every minute from 3:00 to 3:59: the nightly job runs sixty times.",
            "Add minute=0.",
        ),
        _every_minute,
        scenario="maintenance/running_twice_changes_nothing_more.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "celery_waits_for_subtask",
        Severity.ERROR,
        (
            "Celery: no task waits for the result of another.",
            "A prefork worker raises RuntimeError; in others all workers wait for one another.",
            "Use a chain or a callback.",
        ),
        _subtasks,
        scenario="expiry/hung_job_is_timed_out.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "celery_retries_forever",
        Severity.NOTE,
        (
            "Celery: a task that retries gives up at some point.",
            "A task that cannot succeed is tried forever.",
            "Set max_retries.",
        ),
        _for_ever,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "celery_backoff_never_grows",
        Severity.NOTE,
        (
            "Celery: a backoff begins below its maximum, which is 10 minutes unless retry_backoff_max is set.",
            "The waits do not get longer: all retries are used up long before an outage ends.",
            "Raise retry_backoff_max, or begin with a shorter wait.",
        ),
        _never_grows,
        scenario="retries/backoff_is_capped.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "expires_before_start",
        Severity.ERROR,
        (
            "Celery: a task expires later than its countdown ends.",
            "Every such task is revoked before it starts.",
            "Raise expires above countdown.",
        ),
        _expired,
        scenario="configuration/workers_disabled.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "celery_setting_unknown",
        Severity.WARNING,
        (
            "Celery: every setting with one of its prefixes exists.",
            "The setting has no effect, and nothing says so: no time limit, no retry limit, a different prefetch.",
            "Correct the name.",
        ),
        _unknown,
        scenario="expiry/hung_job_is_timed_out.yaml",
        ran=tried_on(CELERY),
    ),
    rule(
        "celery_never_retried",
        Severity.WARNING,
        (
            "Celery: if a task sets retry options, something retries it.",
            "A task that fails once has failed: nothing is retried.",
            "Add autoretry_for, or call self.retry().",
        ),
        _never_retried,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
        ran=tried_on(CELERY),
    ),
)
"""Rules about Celery."""
