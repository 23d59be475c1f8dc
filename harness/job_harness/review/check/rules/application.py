"""Rules about an application with a table of its own: timeouts in order, attempts, tools, schemas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from job_harness.errors import did_you_mean
from job_harness.review.check.cron import maintenance_period
from job_harness.review.check.facts import Facts, Place, Service, Value
from job_harness.review.check.finding import Breach, Related, Rule, Severity
from job_harness.review.check.releases import pgboss_major
from job_harness.review.check.settings import (
    EffectiveSettings,
    Setting,
    meaning_of,
    number_of,
    resolved,
    standings,
    write_seconds,
)

SETTLE_SECONDS: Final = 5.0
"""What settling a job may take."""
GRACE_SECONDS: Final = 5.0
"""What a processor may take to stop, where nothing says it."""
CLOSE: Final = 1e-6


def _settle_seconds(standing: EffectiveSettings) -> float:
    grace = standing.get("cancel_grace")
    return SETTLE_SECONDS + (GRACE_SECONDS if grace is None else grace.value)


def _place(*settings: Setting) -> Place:
    return next((setting.place for setting in settings if setting.place is not None), Place(".", 1))


def _units(facts: Facts) -> Iterator[Breach]:
    services: list[Service | None] = [*facts.services] or [None]
    for service in services:
        written: dict[tuple[str, str], dict[str, list[tuple[Value, float]]]] = {}
        for value in [*facts.values, *(service.values.values() if service is not None else ())]:
            meaning = meaning_of(value.name)
            if meaning is None or meaning.setting not in ("job_timeout", "stuck_timeout", "expiry"):
                continue
            told = resolved(value, service)
            number = _seconds(told, meaning.unit * (value.factor if told is not value else 1.0))
            if number is not None:
                names = written.setdefault((meaning.setting, facts.package_of(value.place.file)), {})
                names.setdefault(value.name, []).append((told, number))
        for names in written.values():
            yield from _disagreeing(names)


def _disagreeing(names: Mapping[str, list[tuple[Value, float]]]) -> Iterator[Breach]:
    """Compare what several names say; one that has two values belongs to two things, and counts for neither."""
    sure = [told for told in names.values() if max(_numbers(told)) - min(_numbers(told)) <= CLOSE]
    for (value, number), *_ in sure[1:]:
        first, seconds = sure[0][0]
        if abs(seconds - number) > CLOSE:
            yield _disagree(first, seconds, value, number)


def _numbers(told: list[tuple[Value, float]]) -> list[float]:
    return [number for _, number in told]


def _seconds(value: Value, unit: float) -> float | None:
    number = number_of(value.value)
    return None if number is None or isinstance(value.value, bool) else number * unit


def _disagree(first: Value, seconds: float, second: Value, number: float) -> Breach:
    meaning = meaning_of(second.name)
    wanted = seconds / meaning.unit if meaning is not None else seconds
    return Breach(
        second.place,
        f"{second.name} is {write_seconds(number)}, and {first.name} is {write_seconds(seconds)}",
        f"Set {second.name} to {wanted:.15g}, or derive it from {first.name}.",
        (Related(first.place, f"{first.name} = {first.value}"),),
    )


def _expiry(facts: Facts) -> Iterator[Breach]:
    """Report an expiry once where several services run under it: as the one with the largest batch needs it."""
    told: dict[tuple[Place, float], tuple[float, Breach]] = {}
    for standing in standings(facts):
        timeout, expiry = standing.get("job_timeout"), standing.get("expiry")
        if timeout is None or expiry is None or expiry.value >= timeout.value + _settle_seconds(standing) - CLOSE:
            continue
        size = _batches(facts, standing, expiry)
        breach = _too_short(expiry, timeout, size, standing)
        jobs = 1.0 if size is None else size.value
        if jobs > told.get(key := (breach.place, timeout.value), (0.0, breach))[0]:
            told[key] = jobs, breach
    yield from (breach for _, breach in told.values())


def _too_short(expiry: Setting, timeout: Setting, size: Setting | None, standing: EffectiveSettings) -> Breach:
    needed, roomy = (
        write_seconds(timeout.value + _settle_seconds(standing)),
        write_seconds(_roomy(timeout.value, standing)),
    )
    told, repair = "", f"Set the queue's expiry to {roomy} or more: it needs {needed} and some room."
    if size is not None:
        whole = size.value * timeout.value
        told = (
            f"; {size.value:.15g} of them, one after the other, need {write_seconds(whole + _settle_seconds(standing))}"
        )
        repair = (
            f"Take one job at a time, and set the queue's expiry to {roomy} or more: it needs {needed} and some room. "
            f"Or set it to {write_seconds(_roomy(whole, standing))} for {size.value:.15g} jobs at a time."
        )
    return Breach(
        _place(expiry, timeout),
        f"the queue takes a job back after {expiry.length}{_of(expiry)}, and its processor may run for "
        f"{timeout.length} and then needs up to {write_seconds(_settle_seconds(standing))} to stop and settle{told}",
        repair,
        standing.related(expiry, timeout, size),
    )


def _roomy(running: float, standing: EffectiveSettings) -> float:
    """Return an expiry for what runs so long, with room: a minute, or what stopping and settling take."""
    return running + max(60.0, _settle_seconds(standing))


def _batches(facts: Facts, standing: EffectiveSettings, expiry: Setting) -> Setting | None:
    """Return the size of the batches where a worker runs several jobs one after the other on one lease."""
    size = standing.get("batch_size")
    handlings = [one for one in facts.handlings if one.queue == (standing.queue or (size and size.queue))]
    if handlings and all(one.at_once for one in handlings):
        return None
    return None if size is None or size.value <= 1 or _extends(standing, expiry) else size


def _of(setting: Setting) -> str:
    return f" ({setting.queue})" if setting.queue else ""


def _batch(facts: Facts) -> Iterator[Breach]:
    """Report a batch only where the expiry is enough for one job; otherwise `expiry_within_timeout` has both."""
    for standing in standings(facts):
        timeout, expiry = standing.get("job_timeout"), standing.get("expiry")
        if timeout is None or expiry is None or (size := _batches(facts, standing, expiry)) is None:
            continue
        whole = size.value * timeout.value
        least = whole + _settle_seconds(standing)
        if expiry.value >= least - CLOSE or expiry.value < timeout.value + _settle_seconds(standing) - CLOSE:
            continue
        yield Breach(
            _place(size, expiry),
            f"{size.value:.15g} jobs of up to {timeout.length}, one after the other, take {write_seconds(whole)} and "
            f"{write_seconds(_settle_seconds(standing))} to stop and settle, and the queue takes the whole batch "
            f"back after {expiry.length}{_of(expiry)}",
            "Take one job at a time, extend the lease while it runs, or set the queue's expiry to "
            f"{write_seconds(_roomy(whole, standing))}: it needs {write_seconds(least)} and some room.",
            standing.related(size, expiry, timeout),
        )


def _extends(standing: EffectiveSettings, expiry: Setting) -> bool:
    if "heartbeat" in standing.unknown:
        return True
    beat = standing.get("heartbeat")
    return beat is not None and 0 < beat.value < expiry.value


def _stuck_timeout(facts: Facts) -> Iterator[Breach]:
    period = maintenance_period(facts)
    for standing in standings(facts):
        timeout, stuck = standing.get("job_timeout"), standing.get("stuck_timeout")
        if timeout is None or stuck is None or _outlives_job(stuck, timeout, standing, period):
            continue
        least = timeout.value + _settle_seconds(standing) + period
        expiry = standing.get("expiry")
        if expiry is not None:  # One finding, whose number is right for the queue's own expiry as well.
            least = max(least, expiry.value + _looks(facts, standing) + period)
        too = f", and the queue itself takes it back only after {expiry.length}{_of(expiry)}" if expiry else ""
        yield Breach(
            _place(stuck, timeout),
            f"maintenance frees a job after {stuck.length}, and it may still run: its timeout is {timeout.length}, "
            f"stopping and settling take up to {write_seconds(_settle_seconds(standing))}, and the cron comes every "
            f"{write_seconds(period)}{too}",
            f"Set {stuck.name} to {stuck.advised(least)} or more: it needs {write_seconds(least)}.",
            standing.related(stuck, timeout, expiry),
        )


def _outlives_job(stuck: Setting, timeout: Setting, standing: EffectiveSettings, period: float) -> bool:
    return stuck.value >= timeout.value + _settle_seconds(standing) + period - CLOSE


def _looks(facts: Facts, standing: EffectiveSettings) -> float:
    """Return how long the queue may take to see that an expiry is over; 0 where nothing says it."""
    interval = standing.get("maintenance_interval") if pgboss_major(facts) is not None else None
    return interval.value if interval is not None else 0.0


def _stuck_expiry(facts: Facts) -> Iterator[Breach]:
    """Report the expiry only where the job's own timeout is kept; otherwise `stuck_within_timeout` has both."""
    period = maintenance_period(facts)
    for standing in standings(facts):
        expiry, stuck, timeout = standing.get("expiry"), standing.get("stuck_timeout"), standing.get("job_timeout")
        if expiry is None or stuck is None:
            continue
        if timeout is not None and not _outlives_job(stuck, timeout, standing, period):
            continue
        waits = _looks(facts, standing)
        least = expiry.value + waits + period
        if stuck.value >= least - CLOSE:
            continue
        also = f", which it checks every {write_seconds(waits)}," if waits else ""
        yield Breach(
            _place(stuck, expiry),
            f"maintenance frees a job after {stuck.length}, before the queue takes it back itself at "
            f"{expiry.length}{_of(expiry)}{also} and a cron period of {write_seconds(period)}",
            f"Set {stuck.name} to {stuck.advised(least)} or more: it needs {write_seconds(least)}. "
            "Or shorten the queue's expiry.",
            standing.related(stuck, expiry, standing.get("maintenance_interval") if waits else None),
        )


SHORTEST_POLL: Final = 0.5
LONGEST_POLL: Final = 60.0


def _polling(facts: Facts) -> Iterator[Breach]:
    for standing in standings(facts):
        polling, promise = standing.get("polling_interval"), standing.get("start_within")
        if polling is None or polling.place is None:
            continue
        limit = promise.value if promise is not None else LONGEST_POLL
        if polling.value < SHORTEST_POLL:
            yield Breach(
                polling.place,
                f"{polling} is {polling.length}, and pg-boss refuses to poll more often than every 500ms",
                f"Set {polling.name} to 0.5 or more; its unit is the second.",
                standing.related(polling),
            )
        elif polling.value > limit:
            milliseconds = " (its unit is the second, not the millisecond)" if polling.value >= 500 else ""
            told = (
                f"{promise}" if promise is not None else f"{write_seconds(limit)}, the longest that a job should wait"
            )
            yield Breach(
                polling.place,
                f"{polling} means that a job may wait {polling.length} for a worker{milliseconds}; "
                f"it should start within {told}",
                f"Set {polling.name} to 2, or to at most {limit:.15g}.",
                standing.related(polling, promise),
                None if promise is not None or polling.value >= 500 else Severity.NOTE,
            )


TIMEOUTS: Final = (
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
        "The queue's expiry is longer than the job's timeout, by the time for stopping and settling.",
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
        "Maintenance waits until the queue has had its turn: expiry, the queue's own interval and a cron period.",
        "Maintenance and queue take the same job back, one after the other, and an attempt is lost.",
        "Raise STUCK_JOB_TIMEOUT_MINUTES above the expiry.",
        "maintenance/rescues_stuck_job.yaml",
        _stuck_expiry,
    ),
    Rule(
        "polling_interval",
        Severity.WARNING,
        "A worker polls often enough to start jobs in time (JOB_START_WITHIN_SECONDS, one minute by default).",
        "Jobs wait although workers are idle; an interval written in milliseconds makes it half an hour.",
        "Set PGBOSS_POLLING_INTERVAL to a few seconds.",
        "lifecycle/one_job_completes.yaml",
        _polling,
    ),
)
"""Rules about time."""


def _attempts(facts: Facts) -> Iterator[Breach]:
    for standing in standings(facts):
        limit, attempts = standing.get("retry_limit"), standing.get("max_attempts")
        if limit is None or attempts is None or limit.value + 1 == attempts.value:
            continue
        of = f" ({limit.queue})" if limit.queue else ""
        yield Breach(
            limit.place or attempts.place or Place(".", 1),
            f"{limit}{of} counts retries, so the queue delivers a job {limit.value + 1:.15g} times; "
            f"{attempts} allows {attempts.value:.15g}",
            f"Set {limit.name} to {max(0, attempts.value - 1):.15g}: one less than {attempts.name}.",
            standing.related(limit, attempts),
        )


def longest_seconds(standing: EffectiveSettings) -> float | None:
    """Return how long a job may take from its first attempt to its last, with pg-boss's backoff at its longest."""
    limit, delay = standing.get("retry_limit"), standing.get("retry_delay")
    if limit is None:
        return None
    backoff, cap = standing.get("retry_backoff"), standing.get("retry_delay_max")
    attempt = standing.get("expiry") or standing.get("job_timeout")
    each = attempt.value if attempt is not None else 0.0
    first = delay.value if delay is not None else 0.0
    total = each * (limit.value + 1)
    for number in range(min(int(limit.value), 64)):
        grown = first * 2 ** (number + 1) if backoff is not None and backoff.value else first
        total += min(grown, cap.value) if cap is not None else grown
    return total


def _retention(facts: Facts) -> Iterator[Breach]:
    for standing in standings(facts):
        limit = standing.get("retry_limit")
        kept: Setting | None = standing.get("queue_retention") or standing.get("retention")
        total = longest_seconds(standing)
        if kept is None or limit is None or total is None or total <= kept.value:
            continue
        delay, backoff = standing.get("retry_delay"), standing.get("retry_backoff")
        yield Breach(
            limit.place or kept.place or Place(".", 1),
            f"the last attempt may begin {write_seconds(total)} after the first ({limit}), and the queue keeps a "
            f"job for {kept.length}",
            "Retry less often, cap the delay, or keep jobs longer.",
            standing.related(limit, delay, backoff, kept),
        )


ATTEMPTS: Final = (
    Rule(
        "attempts_disagree",
        Severity.ERROR,
        "The retry limit is one less than the attempts: retry_limit + 1 = maxAttempts.",
        "The queue delivers a job more often than its row allows, or gives up early: FAILED jobs run again.",
        "Set retry_limit to maxAttempts - 1.",
        "retries/fails_until_attempts_are_used_up.yaml",
        _attempts,
    ),
    Rule(
        "backoff_outlives_retention",
        Severity.WARNING,
        "A job's attempts, with the longest waits between them, fit into the time for which the queue keeps the job.",
        "A job is deleted or archived between two attempts; its row stays PENDING forever.",
        "Cap the retry delay, or raise the queue's retention.",
        "maintenance/retention_spares_what_waits.yaml",
        _retention,
    ),
)
"""Rules about attempts."""


def _registered(facts: Facts) -> Iterator[Breach]:
    if not facts.registered or facts.open_lists:
        return
    names = {slug.name for slug in facts.registered}
    for slug in facts.listed:
        if slug.name not in names:
            near = did_you_mean(slug.name, names)
            yield Breach(
                slug.place,
                f"TOOL_SLUGS lists {slug.name!r}, and no processor is registered for it{near}: its jobs fail or wait",
                f"Register a processor for {slug.name!r}, or remove it from the list.",
            )


def _find_unlisted(facts: Facts) -> Iterator[Breach]:
    if not facts.listed or facts.open_lists:
        return
    names = {slug.name for slug in facts.listed}
    lists = tuple(Related(place, "TOOL_SLUGS") for place in sorted({slug.place for slug in facts.listed})[:1])
    for slug in facts.registered:
        if slug.name not in names:
            near = did_you_mean(slug.name, names)
            yield Breach(
                slug.place,
                f"a processor is registered for {slug.name!r}, and TOOL_SLUGS does not list it{near}: no worker takes "
                "its jobs",
                f"Add {slug.name!r} to TOOL_SLUGS.",
                lists,
            )


def _called(facts: Facts) -> Iterator[Breach]:
    for slug in facts.registered:
        if slug.function and slug.function not in facts.called and slug.function != "registerAllProcessors":
            yield Breach(
                slug.place,
                f"{slug.function}() registers {slug.name!r}, and nothing calls it",
                f"Call {slug.function}() where the worker initializes its processors.",
            )


TOOLS: Final = (
    Rule(
        "slug_not_registered",
        Severity.ERROR,
        "Every slug in TOOL_SLUGS has a registered processor.",
        "The worker takes jobs that it cannot run: they fail until their attempts are used up.",
        "Register the processor.",
        "retries/fails_until_attempts_are_used_up.yaml",
        _registered,
    ),
    Rule(
        "processor_not_listed",
        Severity.ERROR,
        "Every registered processor is listed in TOOL_SLUGS.",
        "No worker takes its jobs: they stay PENDING.",
        "Add the slug to TOOL_SLUGS.",
        "configuration/workers_disabled.yaml",
        _find_unlisted,
    ),
    Rule(
        "registration_never_called",
        Severity.ERROR,
        "A function that registers a processor is called (step 3 of the guide).",
        "The processor exists and is never found: its jobs fail or stay PENDING.",
        "Call it from the worker's initialization.",
        "configuration/workers_disabled.yaml",
        _called,
    ),
)
"""Rules about the registry."""


_FIXED_CLOCKS: Final = re.compile(
    r"\b(CURRENT_TIMESTAMP|LOCALTIMESTAMP|CURRENT_DATE|CURRENT_TIME|LOCALTIME)\b|'now'", re.I
)
TERMINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


def _seeds(facts: Facts) -> Iterator[Breach]:
    for seed in facts.seeds:
        if seed.status.upper() not in TERMINAL and not seed.with_partner:
            yield Breach(
                seed.place,
                f"this row is inserted as {seed.status}, but nothing puts a job into the queue for it: it never runs",
                "Insert only rows that have ended (COMPLETED, FAILED), or send the job through the API.",
            )


def _clocks(facts: Facts) -> Iterator[Breach]:
    for column in facts.columns:
        found = _FIXED_CLOCKS.search(column.default)
        if found is not None:
            yield Breach(
                column.place,
                f"{column.table}.{column.name} defaults to {found[0]}, a keyword, which tests cannot move",
                "Write now(): it is the same in production, and tests can replace it.",
            )


def _unreadable(facts: Facts) -> Iterator[Breach]:
    for item in facts.unreadable:
        file = item.place.file
        yield Breach(
            item.place,
            f"{file} {item.why}" if not item.why.startswith("this") else item.why,
            "Nothing in this file was checked. If it is correct, run job-harness with the Python that it needs."
            if file.endswith(".py")
            else "Fix the file or its permissions; nothing after that point was checked.",
            severity=Severity.NOTE if re.search(r"\.([cm]?[jt]sx?|py|sql)$", file) is not None else None,
        )


FILES: Final = (
    Rule(
        "seed_not_terminal",
        Severity.ERROR,
        "Rows that migrations and seeds insert into tool_job have ended.",
        "A PENDING row without a job in the queue waits forever, and reconciling may run it in production.",
        "Insert COMPLETED or FAILED rows only.",
        "tables/agree_on_every_ending.yaml",
        _seeds,
    ),
    Rule(
        "column_ignores_virtual_time",
        Severity.NOTE,
        "Columns of job tables default to now(), not to CURRENT_TIMESTAMP.",
        "In tests under virtual time the column shows real time: retention and ordering cannot be tested.",
        "Write now().",
        "clocks/store_clock_is_ahead.yaml",
        _clocks,
    ),
    Rule(
        "unreadable_file",
        Severity.ERROR,
        "Every file with settings can be read to its end.",
        "A broken file does not set what its author believes, and its settings were not checked.",
        "Repair the file.",
        "configuration/workers_disabled.yaml",
        _unreadable,
    ),
)
"""Rules about files."""


def _by_database(facts: Facts) -> Iterable[Breach]:
    """Say nothing: only a database can tell."""
    return ()


NOW: Final = (
    Rule(
        "workers_not_running",
        Severity.ERROR,
        "With `--database`: if jobs are due, at least one is started.",
        "Jobs are queued and never processed, the first cause of stuck jobs.",
        "Set USE_PGBOSS_WORKERS=true in the environment of the worker, and start it.",
        "configuration/workers_disabled.yaml",
        _by_database,
    ),
    Rule(
        "overdue_now",
        Severity.WARNING,
        "With `--database`: a due job is taken within a minute, or five polls.",
        "Workers are too few, too slow, or blocked by jobs that hang.",
        "Add workers, or look at what the running jobs do.",
        "expiry/hung_job_is_timed_out.yaml",
        _by_database,
    ),
    Rule(
        "lease_overdue_now",
        Severity.ERROR,
        "With `--database`: no job is active past its expiry for longer than the queue's maintenance interval.",
        "A worker died, and its jobs are never taken back.",
        "Check that an instance of the queue runs with maintenance (supervision) on.",
        "expiry/hung_job_is_timed_out.yaml",
        _by_database,
    ),
    Rule(
        "stuck_now",
        Severity.ERROR,
        "With `--database`: no row is PROCESSING for longer than the stuck timeout and two periods of the cron.",
        "The cron gets no answer or is refused, and no one notices.",
        "Request the maintenance route by hand, with the secret, and read the response.",
        "maintenance/rescues_stuck_job.yaml",
        _by_database,
    ),
    Rule(
        "attempts_over_limit_now",
        Severity.ERROR,
        "With `--database`: no row has more attempts than maxAttempts.",
        "A job that fails, or kills its worker, runs again and again.",
        "Set retry_limit to maxAttempts - 1, and let rescue respect it.",
        "maintenance/rescue_respects_max_attempts.yaml",
        _by_database,
    ),
    Rule(
        "orphaned_now",
        Severity.ERROR,
        "With `--database`: every unfinished row has a partner in the other table.",
        "A row without a job is never run; a job without a row runs, and no user sees its result.",
        "Let maintenance reconcile the two tables, and send a job in the transaction that inserts its row.",
        "tables/purge_deletes_both_rows.yaml",
        _by_database,
    ),
    Rule(
        "diverged_now",
        Severity.ERROR,
        "With `--database`: the two rows of a job agree after two periods of the cron.",
        "The user sees one thing, and the queue does another.",
        "Let maintenance reconcile the two tables.",
        "tables/agree_on_every_ending.yaml",
        _by_database,
    ),
    Rule(
        "queue_options_differ_now",
        Severity.ERROR,
        "With `--database`: a queue that exists has the options that the code gives it.",
        "createQueue changes nothing if the queue exists: the edited expiry or retry limit never took effect.",
        "Call updateQueue with the options in the code.",
        "scheduling/options_are_kept.yaml",
        _by_database,
    ),
    Rule(
        "never_started_now",
        Severity.ERROR,
        "With `--database`: for every tool with waiting jobs, at least one job was ever started.",
        "The tool is missing from TOOL_SLUGS, or its queue has no worker.",
        "Register its processor, and list it in TOOL_SLUGS.",
        "configuration/workers_disabled.yaml",
        _by_database,
    ),
    Rule(
        "kept_too_long_now",
        Severity.WARNING,
        "With `--database`: finished rows are deleted within a day after expiresAt.",
        "The table grows without end, and every query becomes slower.",
        "Check that maintenance runs and deletes rows.",
        "maintenance/retention.yaml",
        _by_database,
    ),
)
"""Rules about what a database shows now."""

LIVE: Final = {rule.id: rule for rule in NOW}
