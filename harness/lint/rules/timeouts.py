"""Three timeouts in strict order: processor < queue expiry < stuck, each with a margin for the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.lint.cron import maintenance_period
from harness.lint.effective import Setting, Standing, number_of, resolved, spoken, standings
from harness.lint.facts import Facts, Service
from harness.lint.finding import Related, Severity
from harness.lint.pgboss_releases import pgboss_major
from harness.lint.place import Place, Value
from harness.lint.rule import Hit, Rule
from harness.lint.settings_names import meaning_of

SETTLE_SECONDS: Final = 5.0
"""What settling a job may take."""
GRACE_SECONDS: Final = 5.0
"""What a processor may take to stop, where nothing says it."""
CLOSE: Final = 1e-6


def _settle(standing: Standing) -> float:
    grace = standing.get("cancel_grace")
    return SETTLE_SECONDS + (GRACE_SECONDS if grace is None else grace.value)


def _place(*settings: Setting) -> Place:
    return next((setting.place for setting in settings if setting.place is not None), Place(".", 1))


def _units(facts: Facts) -> Iterator[Hit]:
    services: list[Service | None] = [*facts.services] or [None]
    for service in services:
        values = [*facts.values, *(service.values.values() if service is not None else ())]
        named: dict[str, tuple[Value, float]] = {}
        for value in values:
            meaning = meaning_of(value.name)
            if meaning is None or meaning.setting not in ("job_timeout", "stuck_timeout", "expiry"):
                continue
            told = resolved(value, service)
            number = _seconds(told, meaning.unit * (value.factor if told is not value else 1.0))
            if number is None:
                continue
            other, seconds = named.setdefault(meaning.setting, (told, number))
            if abs(seconds - number) > CLOSE:
                yield _disagree(other, seconds, told, number)


def _seconds(value: Value, unit: float) -> float | None:
    number = number_of(value.value)
    return None if number is None or isinstance(value.value, bool) else number * unit


def _disagree(first: Value, seconds: float, second: Value, number: float) -> Hit:
    meaning = meaning_of(second.name)
    wanted = seconds / meaning.unit if meaning is not None else seconds
    return Hit(
        second.place,
        f"{second.name} is {spoken(number)}, and {first.name} is {spoken(seconds)}",
        f"Set {second.name} to {wanted:g}, or derive it from {first.name}.",
        (Related(first.place, f"{first.name} = {first.value}"),),
    )


def _expiry(facts: Facts) -> Iterator[Hit]:
    for standing in standings(facts):
        timeout, expiry = standing.get("job_timeout"), standing.get("expiry")
        if timeout is None or expiry is None or expiry.value >= timeout.value + _settle(standing) - CLOSE:
            continue
        least = timeout.value + max(60.0, _settle(standing))
        yield Hit(
            _place(expiry, timeout),
            f"the queue takes a job back after {expiry.length}{_of(expiry)}, and its processor may run for "
            f"{timeout.length} and then needs up to {spoken(_settle(standing))} to stop and settle",
            f"Set the queue's expiry to at least {spoken(least)}.",
            standing.related(expiry, timeout),
        )


def _of(setting: Setting) -> str:
    return f" ({setting.queue})" if setting.queue else ""


def _batch(facts: Facts) -> Iterator[Hit]:
    for standing in standings(facts):
        timeout, expiry, size = standing.get("job_timeout"), standing.get("expiry"), standing.get("batch_size")
        if timeout is None or expiry is None or size is None or size.value <= 1 or _extends(standing, expiry):
            continue
        needed = size.value * timeout.value + _settle(standing)
        if expiry.value >= needed - CLOSE:
            continue
        whole = spoken(size.value * timeout.value)
        yield Hit(
            _place(size, expiry),
            f"{size.value:g} jobs of up to {timeout.length}, one after the other, take {whole}, and the queue "
            f"takes the whole batch back after {expiry.length}{_of(expiry)}",
            f"Take one job at a time, extend the lease while it runs, or set the queue's expiry to {spoken(needed)}.",
            standing.related(size, expiry, timeout),
        )


def _extends(standing: Standing, expiry: Setting) -> bool:
    if "heartbeat" in standing.unknown:
        return True
    beat = standing.get("heartbeat")
    return beat is not None and 0 < beat.value < expiry.value


def _stuck_timeout(facts: Facts) -> Iterator[Hit]:
    period = maintenance_period(facts)
    for standing in standings(facts):
        timeout, stuck = standing.get("job_timeout"), standing.get("stuck_timeout")
        if timeout is None or stuck is None:
            continue
        least = timeout.value + _settle(standing) + period
        if stuck.value >= least - CLOSE:
            continue
        yield Hit(
            _place(stuck, timeout),
            f"maintenance frees a job after {stuck.length}, and it may still run: its timeout is {timeout.length}, "
            f"stopping and settling take up to {spoken(_settle(standing))}, and the cron comes every {spoken(period)}",
            f"Set {stuck.name} to more than {spoken(least)}.",
            standing.related(stuck, timeout),
        )


def _stuck_expiry(facts: Facts) -> Iterator[Hit]:
    period = maintenance_period(facts)
    for standing in standings(facts):
        expiry, stuck = standing.get("expiry"), standing.get("stuck_timeout")
        if expiry is None or stuck is None:
            continue
        interval = standing.get("maintenance_interval") if pgboss_major(facts) is not None else None
        waits = interval.value if interval is not None else 0.0
        least = expiry.value + waits + period
        if stuck.value >= least - CLOSE:
            continue
        also = f", which it looks at every {spoken(waits)}," if waits else ""
        yield Hit(
            _place(stuck, expiry),
            f"maintenance frees a job after {stuck.length}, before the queue takes it back itself at "
            f"{expiry.length}{_of(expiry)}{also} and a cron period of {spoken(period)}",
            f"Set {stuck.name} to at least {spoken(least)}, or shorten the queue's expiry.",
            standing.related(stuck, expiry, interval),
        )


SHORTEST_POLL: Final = 0.5
LONGEST_POLL: Final = 60.0


def _polling(facts: Facts) -> Iterator[Hit]:
    for standing in standings(facts):
        polling, promise = standing.get("polling_interval"), standing.get("start_within")
        if polling is None or polling.place is None:
            continue
        limit = promise.value if promise is not None else LONGEST_POLL
        if polling.value < SHORTEST_POLL:
            yield Hit(
                polling.place,
                f"{polling} is {polling.length}, and pg-boss refuses to poll more often than every 500ms",
                f"Set {polling.name} to 0.5 or more; its unit is the second.",
                standing.related(polling),
            )
        elif polling.value > limit:
            milliseconds = " (its unit is the second, not the millisecond)" if polling.value >= 500 else ""
            told = f"{promise}" if promise is not None else f"{spoken(limit)}, the longest that a job should wait"
            yield Hit(
                polling.place,
                f"{polling} means that a job may wait {polling.length} for a worker{milliseconds}; "
                f"it should start within {told}",
                f"Set {polling.name} to 2, as the guide does, or to at most {limit:g}.",
                standing.related(polling, promise),
            )


RULES: Final = (
    Rule(
        "timeout_units_disagree",
        Severity.ERROR,
        "The same timeout in two units is the same timeout: JOB_TIMEOUT_SECONDS = JOB_TIMEOUT_MS / 1000.",
        "One part of the system stops a job while another believes that it may still run, and starts it again.",
        "Write one of them as the other divided by 1000.",
        "configuration/expiry_leaves_room_to_settle.yaml",
        _units,
    ),
    Rule(
        "expiry_within_timeout",
        Severity.ERROR,
        "The queue's expiry is longer than the job's timeout, by what stopping and settling take.",
        "A job that uses its allowed time is taken back while it runs; a second worker runs it too.",
        "Set the queue's expiry to the timeout plus a minute.",
        "configuration/expiry_leaves_room_to_settle.yaml",
        _expiry,
    ),
    Rule(
        "batch_outlives_expiry",
        Severity.ERROR,
        "A batch that runs one job after the other fits into the expiry: size * timeout + settling.",
        "The last jobs of a batch expire before they start, and run twice.",
        "Take one job at a time, extend leases while jobs run, or lengthen the expiry.",
        "configuration/batch_outlives_lease.yaml",
        _batch,
    ),
    Rule(
        "stuck_within_timeout",
        Severity.ERROR,
        "Maintenance waits longer than the job's timeout, by settling and one period of the cron.",
        "Maintenance frees a job that is still within its time; a second worker runs it too.",
        "Raise STUCK_JOB_TIMEOUT_MINUTES.",
        "configuration/stuck_timeout_outlives_job.yaml",
        _stuck_timeout,
    ),
    Rule(
        "stuck_before_expiry",
        Severity.ERROR,
        "Maintenance waits until the queue had its turn: expiry, its own maintenance interval, one cron period.",
        "Maintenance and queue take the same job back, one after the other, and an attempt is lost.",
        "Raise STUCK_JOB_TIMEOUT_MINUTES above the expiry.",
        "maintenance/rescues_stuck_job.yaml",
        _stuck_expiry,
    ),
    Rule(
        "polling_interval",
        Severity.WARNING,
        "A worker polls at least as often as a job is promised to start (JOB_START_WITHIN_SECONDS, else one minute).",
        "Jobs wait although workers are idle; an interval written in milliseconds makes it half an hour.",
        "Set PGBOSS_POLLING_INTERVAL to a few seconds.",
        "lifecycle/one_job_completes.yaml",
        _polling,
    ),
)
"""Rules about time."""
