"""Rules about BullMQ, each from what its library documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from job_harness.review.check.facts import BULLMQ, UNKNOWN, Facts, QueueCall
from job_harness.review.check.finding import Breach, Related, Severity, Tried
from job_harness.review.check.releases import release_of
from job_harness.review.check.rules.calls import NOW, calls_of, is_set, number_at, place_of, rule, weight_of
from job_harness.review.check.settings import write_seconds, write_value

BULLMQ_LOCK_MS: Final = 30_000.0
DEFAULTS: Final = "defaultJobOptions"
REPEAT_GONE: Final = 6
"""The major release since which add() no longer knows `repeat`."""


def _major(facts: Facts, call: QueueCall) -> int | None:
    release = release_of(facts, call.place.file, BULLMQ)
    return None if release is None else release.major


def _defaults(facts: Facts, queue: str | None, name: str) -> bool:
    """Tell whether a default of the queue, or of all queues, sets an option of its jobs."""
    for call in calls_of(facts, BULLMQ, "new Queue", "forRoot"):
        mine = call.method == "forRoot" or queue is None or call.queue in (None, queue)
        if mine and (f"defaultJobOptions.{name}" in call.options or not call.whole):
            return True
        whole = call.options.get("defaultJobOptions")
        if mine and whole is not None and not any(key.startswith("defaultJobOptions.") for key in call.options):
            return True
    return False


def _tried_by_adds(facts: Facts, queue: QueueCall) -> bool:
    """Tell whether a job of a queue may bring its own attempts; where its queue cannot be told, any of the package."""
    package = facts.package_of(queue.place.file)
    for call in calls_of(facts, BULLMQ, "add", "addBulk", "upsertJobScheduler"):
        named = call.queue is not None and queue.queue is not None
        mine = call.queue == queue.queue if named else facts.package_of(call.place.file) == package
        if mine and not call.aside and ({"attempts", "opts.attempts"} & call.options.keys() or not call.whole):
            return True
    return False


def _backoff(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, BULLMQ, "add", "new Queue", "forRoot"):
        prefix = "" if call.method == "add" else "defaultJobOptions."
        if f"{prefix}backoff" not in call.options:
            continue
        attempts = call.options.get(f"{prefix}attempts")
        if attempts is None and (
            call.method == "forRoot"
            or not call.whole
            or _defaults(facts, call.queue, "attempts")
            or (call.method == "new Queue" and _tried_by_adds(facts, call))
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
    for call in calls_of(facts, BULLMQ, "new Queue", "new Worker", "add"):
        for name, right in _MISPLACED[call.method].items():
            if name in call.options:
                yield _ignored(call, name, f"Write it as {right}.", "the default holds")
        if call.method == "add" and "repeat" in call.options and (_major(facts, call) or 0) >= REPEAT_GONE:
            yield _ignored(call, "repeat", "Use upsertJobScheduler.", "the job runs once, at once")
        for name in ("timeout", "defaultJobOptions.timeout"):
            if name in call.options and call.method != "new Worker":
                told = "Stop the work in the processor, as with AbortSignal.timeout()."
                yield _ignored(call, name, told, "no job is ever stopped (Bull did that)")


def _ignored(call: QueueCall, name: str, repair: str, outcome: str) -> Breach:
    return Breach(
        call.options[name].place,
        f"BullMQ ignores {name} in {call.method}, without a word: {outcome}",
        repair,
        severity=weight_of(call),
        subject=f"{call.method} {call.queue or ''} {name}",
    )


def _renewed(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, BULLMQ, "new Worker"):
        lock = number_at(call, "lockDuration")
        renew = number_at(call, "lockRenewTime")
        lasts = BULLMQ_LOCK_MS if lock is None and "lockDuration" not in call.options else lock
        if renew is not None and lasts is not None and renew >= lasts:
            yield Breach(
                place_of(call, "lockRenewTime"),
                f"the lock of a job is renewed every {write_seconds(renew / 1000)} and ends after "
                f"{write_seconds(lasts / 1000)}: every "
                "longer job counts as stalled and runs twice",
                "Leave lockRenewTime out (it is half of lockDuration), or set it below.",
                severity=weight_of(call),
                subject=call.queue or "",
            )


def _redis_retries(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, BULLMQ, "new Worker"):
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
                weight_of(call),
                subject=call.queue or "",
            )


COLON_REFUSED: Final = (5, 58, 7)
"""The release since which add() raises at a jobId with a colon; two are taken, as old schedules have them."""
COLONS_TAKEN: Final = (0, 2)


def _refused(facts: Facts, call: QueueCall) -> tuple[str, Severity | None] | None:
    """Say why add() raises at a jobId, and how much that weighs."""
    release = release_of(facts, call.place.file, BULLMQ)
    identity, template = call.options["jobId"].value, call.options.get("jobId.template")
    if release is None:
        return None
    if isinstance(identity, str) and identity.isascii() and identity.isdigit() and release.major >= 5:
        return f"add() raises at the jobId {identity!r}: BullMQ 5 takes no number", weight_of(call)
    text = identity if isinstance(identity, str) else template.value if template is not None else None
    if not isinstance(text, str) or text.count(":") in COLONS_TAKEN or release.high <= COLON_REFUSED:
        return None
    said = f"add() raises at the jobId {text!r}: BullMQ takes no colon there from 5.58.7 on"
    if template is None or text.count(":") > max(COLONS_TAKEN):
        return said, weight_of(call)
    return f"{said}, unless what is filled in has one too", weight_of(call, Severity.WARNING)


def _job_ids(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, BULLMQ, "add"):
        identity = call.options.get("jobId")
        if identity is None or identity.value is None or "repeat" in call.options:
            continue  # Of a repeated job it is a part of the schedule's key, and each run has an id of its own.
        refused = _refused(facts, call)
        if refused is not None:
            yield Breach(
                identity.place,
                refused[0],
                "Write a word before a number, and '-' for ':'.",
                severity=refused[1],
                subject=call.queue or "",
            )
        elif not {"jobId.unique", "jobId.optional"} & call.options.keys() and _stays(facts, call):
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


REMOVALS: Final = ("removeOnComplete", "removeOnFail")


def _stays(facts: Facts, call: QueueCall) -> bool:
    """Tell whether a job may stay once it has ended: what its add() does not say, its queue may, or all queues."""
    if not call.whole:
        return False
    by_default = _removed_by_default(facts, call)
    removed = (is_set(call, name, True) or (by_default and name not in call.options) for name in REMOVALS)
    return not all(removed)


def _removed_by_default(facts: Facts, call: QueueCall) -> bool:
    for queue in calls_of(facts, BULLMQ, "new Queue", "forRoot"):
        mine = queue.method == "forRoot" or call.queue is None or queue.queue == call.queue
        if mine and any(is_set(queue, f"{DEFAULTS}.{name}", True) for name in REMOVALS):
            return True
    return False


def _removed_before_read(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, BULLMQ, "getJob", "getCompleted"):
        if call.queue is None:
            continue
        for queue in calls_of(facts, BULLMQ, "new Queue", "add"):
            name = "removeOnComplete" if queue.method == "add" else "defaultJobOptions.removeOnComplete"
            if queue.queue == call.queue and is_set(queue, name, True):
                yield Breach(
                    call.place,
                    f"{call.method}() of {call.queue!r} finds no job that completed: "
                    f"{queue.options[name].place} removes "
                    "them at once, so that a success looks like a job that never was",
                    "Keep completed jobs for a while: removeOnComplete: { age: 3600 }.",
                    (Related(queue.options[name].place, "removeOnComplete: true"),),
                    weight_of(call, Severity.WARNING),
                    subject=call.queue,
                )
                break


def _schedulers(facts: Facts) -> Iterator[Breach]:
    made = [one for one in facts.calls if one.library == BULLMQ and one.method == "new QueueScheduler"]
    for call in calls_of(facts, BULLMQ, "add", "new Queue"):
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
                severity=weight_of(call),
                subject=call.queue or "",
            )


def _prefixes(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, BULLMQ, "new Queue", "new Worker", "new QueueEvents", "new FlowProducer"):
        for name in ("connection.keyPrefix", "connection.new.keyPrefix"):
            value = call.options.get(name)
            if value is not None and value.value not in ("", None):
                yield Breach(
                    value.place,
                    "BullMQ cannot use a connection with a keyPrefix: its scripts build the key names themselves",
                    "Take keyPrefix out, and give `prefix` to the Queue and its Worker.",
                    (Related(call.place, call.method),),
                    weight_of(call),
                    subject=call.queue or "",
                )


def _names(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, BULLMQ, "new Queue", "new Worker", "new QueueEvents"):
        if call.queue is not None and ":" in call.queue and (_major(facts, call) or 0) >= 5:
            yield Breach(
                call.place,
                f"BullMQ 5 takes no colon in the name of a queue: {call.method}({call.queue!r}) raises",
                f"Call it {call.queue.replace(':', '-')!r}, or move the part before the colon to `prefix`.",
                severity=weight_of(call),
                subject=call.queue,
            )


def _left_behind(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, BULLMQ, "add"):
        pattern = next(
            (name for name in ("repeat.pattern", "repeat.cron", "repeat.every") if name in call.options), None
        )
        removed = "repeat.removed" in call.options
        if pattern is not None and not removed and (_major(facts, call) or 0) < REPEAT_GONE:
            yield Breach(
                call.options[pattern].place,
                f"add() with {pattern} makes another schedule whenever it is edited, and the old one goes on: after "
                "the "
                "next deploy the job runs by both",
                "Use upsertJobScheduler (BullMQ 5.16 and later), which replaces the schedule of its id.",
                severity=Severity.NOTE,
                subject=call.queue or "",
            )


MOST_PRIORITY: Final = 2_097_152


def _unaddable(call: QueueCall, major: int | None) -> tuple[str, str] | None:
    """Return the option at which add() raises, and why."""
    both = "repeat.every" in call.options and {"repeat.pattern", "repeat.cron"} & call.options.keys()
    if both and (major or 0) < REPEAT_GONE:
        return "repeat.every", "every and pattern exclude each other"
    priority, jitter = number_at(call, "priority"), number_at(call, "backoff.jitter")
    if priority is not None and (priority > MOST_PRIORITY or priority != int(priority)):
        return "priority", f"a priority is a whole number up to {MOST_PRIORITY}"
    if jitter is not None and not 0 <= jitter <= 1 and (major is None or major >= 5):
        return "backoff.jitter", "jitter is between 0 and 1"
    return None


def _add_refused(facts: Facts) -> Iterator[Breach]:
    for call in calls_of(facts, BULLMQ, "add"):
        problem = _unaddable(call, _major(facts, call))
        if problem is not None:
            option, why = problem
            yield Breach(
                call.options[option].place,
                f"add() raises, and there is no job: {why}",
                "Leave one of them out." if "exclude" in why else "Correct the number.",
                severity=weight_of(call),
                subject=f"{call.queue or ''} {option}",
            )


def _defaults_differ(facts: Facts) -> Iterator[Breach]:
    made: dict[tuple[str, str], QueueCall] = {}
    for call in calls_of(facts, BULLMQ, "new Queue"):
        if call.queue is None or call.aside or DEFAULTS not in call.options or not call.whole:
            continue
        first = made.setdefault((facts.package_of(call.place.file), call.queue), call)
        differs = _difference(first, call)
        if differs is not None:
            name, here, there = differs
            yield Breach(
                call.place,
                f"two Queue objects of {call.queue!r} have different {DEFAULTS}: {name} is {here} here and {there} at "
                f"{first.place}, so a job's options depend on which of them adds it",
                "Create one Queue and import it, or give both the same defaults.",
                (Related(first.place, f"{name}: {there}"),),
                subject=call.queue,
            )


def _difference(first: QueueCall, other: QueueCall) -> tuple[str, str, str] | None:
    """Return the first option of jobs in which two Queue objects are known to differ, and both values."""
    if any(_written(first, name) != _written(other, name) for name in ("prefix", "connection.db", "connection.host")):
        return None  # Two queues.
    given = [[name for name in call.options if name.startswith(f"{DEFAULTS}.")] for call in (first, other)]
    names = list(dict.fromkeys(name for half in given for name in half))
    if not all(given) or any(name.endswith(".unread") for name in names):
        return None
    for name in names:
        here, there = _written(other, name), _written(first, name)
        group = name.rpartition(".")[0]
        told = group == DEFAULTS or (group in first.options) == (group in other.options)
        if here != there and told and "unknown" not in (here, there):
            return name.removeprefix(f"{DEFAULTS}."), here, there
    return None


def _written(call: QueueCall, name: str) -> str:
    value = call.options.get(name)
    if value is None:
        return "not set"
    return "unknown" if value.value is UNKNOWN else write_value(value.value)


RULES: Final = (
    rule(
        "queue_defaults_differ",
        Severity.WARNING,
        (
            "BullMQ: all Queue objects of one name in a package have the same defaultJobOptions.",
            "A job that is added through the other object is tried once, or kept forever.",
            "Make one Queue and import it.",
        ),
        _defaults_differ,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
        ran=NOW,
    ),
    rule(
        "backoff_without_attempts",
        Severity.WARNING,
        (
            "BullMQ: a job with a backoff has attempts.",
            "A job that fails once has failed: nothing is retried.",
            "Set attempts.",
        ),
        _backoff,
        scenario="retries/fails_until_attempts_are_used_up.yaml",
        ran=NOW,
    ),
    rule(
        "bullmq_option_ignored",
        Severity.WARNING,
        (
            "BullMQ: every option is given where BullMQ reads it.",
            "The default applies silently: no rate limit, one attempt, a job that is never stopped.",
            "Write it where BullMQ reads it.",
        ),
        _misplaced,
        scenario="expiry/hung_job_is_timed_out.yaml",
        ran=NOW,
    ),
    rule(
        "lock_renewed_too_late",
        Severity.ERROR,
        (
            "BullMQ: a lock is renewed before it ends.",
            "Every longer job is taken for stalled, and a second worker runs it too.",
            "Leave lockRenewTime out.",
        ),
        _renewed,
        scenario="expiry/hung_job_is_timed_out.yaml",
        ran=NOW,
    ),
    rule(
        "redis_retries_refused",
        Severity.ERROR,
        (
            "BullMQ 5: the IORedis that a Worker is given has maxRetriesPerRequest: null.",
            "The Worker does not start.",
            "Set maxRetriesPerRequest: null.",
        ),
        _redis_retries,
        scenario="configuration/workers_disabled.yaml",
        ran=NOW,
    ),
    rule(
        "job_id_blocks_repeats",
        Severity.ERROR,
        (
            "BullMQ: a custom jobId is valid, and its job is removed when it ends.",
            "A later job with the same id is dropped in silence.",
            "Remove such jobs when they end.",
        ),
        _job_ids,
        scenario="uniqueness/refused_while_the_first_waits.yaml",
        ran=NOW,
    ),
    rule(
        "job_removed_before_read",
        Severity.WARNING,
        (
            "BullMQ: jobs that the application looks up are kept when they complete.",
            "A success looks like a job that never was.",
            "Keep completed jobs for a while.",
        ),
        _removed_before_read,
        scenario="tables/purge_deletes_both_rows.yaml",
        ran=NOW,
    ),
    rule(
        "queue_scheduler_missing",
        Severity.ERROR,
        (
            "BullMQ 1: a queue with delays or backoffs has a QueueScheduler.",
            "Delayed jobs and retries never run.",
            "Make a QueueScheduler, or upgrade.",
        ),
        _schedulers,
        scenario="configuration/workers_disabled.yaml",
        ran=(Tried(BULLMQ, ("1.91.1",)),),
    ),
    rule(
        "redis_key_prefix_refused",
        Severity.ERROR,
        (
            "BullMQ: its Redis connection has no keyPrefix.",
            "The Queue does not start, or jobs are lost in keys that are never read.",
            "Use `prefix`.",
        ),
        _prefixes,
        scenario="configuration/workers_disabled.yaml",
        ran=NOW,
    ),
    rule(
        "queue_name_refused",
        Severity.ERROR,
        (
            "BullMQ 5: the name of a queue has no colon.",
            "The Queue and its Worker raise: nothing starts.",
            "Use another sign.",
        ),
        _names,
        scenario="configuration/workers_disabled.yaml",
        ran=NOW,
    ),
    rule(
        "repeat_left_behind",
        Severity.NOTE,
        (
            "BullMQ: a repeated job is added in such a way that an edit replaces its schedule.",
            "After an edit the old schedule remains beside the new one: the job runs by both.",
            "Use upsertJobScheduler.",
        ),
        _left_behind,
        scenario="maintenance/running_twice_changes_nothing_more.yaml",
        ran=(Tried(BULLMQ, ("4.18.2", "5.79.0")),),
    ),
    rule(
        "bullmq_add_refused",
        Severity.ERROR,
        (
            "BullMQ: the options of a job go together.",
            "add() raises, and the job is lost.",
            "Correct the options.",
        ),
        _add_refused,
        scenario="configuration/workers_disabled.yaml",
        ran=NOW,
    ),
)
"""Rules about BullMQ."""
