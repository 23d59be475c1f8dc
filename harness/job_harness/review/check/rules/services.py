"""Rules about where it runs: environments, the cron and its route, what the platform grants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from job_harness.errors import did_you_mean
from job_harness.review.check.cron import is_maintenance, period_seconds, problem_of, repair_of
from job_harness.review.check.facts import (
    BULLMQ,
    GRAPHILE,
    PGBOSS,
    PGQUEUER,
    PROCRASTINATE,
    UNKNOWN,
    Cron,
    Facts,
    Limit,
    Route,
    Service,
    Value,
)
from job_harness.review.check.finding import Breach, Related, Rule, Severity
from job_harness.review.check.readers.deployment import is_placeholder
from job_harness.review.check.releases import release_of
from job_harness.review.check.settings import FLAG, keeps_own_rows, meaning_of, standing, standings, write_seconds

URL: Final = "DATABASE_URL"
SECRET: Final = "CRON_SECRET"
_WORKER: Final = re.compile(r"worker|api-server|jobs?$", re.IGNORECASE)
_MEANT_TRUE: Final = frozenset({"true", "1", "yes", "on", "enabled", "t", "y"})


def _flags(facts: Facts) -> list[Value]:
    return [service.values[FLAG] for service in facts.services if FLAG in service.values]


def _workers(facts: Facts) -> Iterator[Breach]:
    flags = _flags(facts)
    if not flags and FLAG not in facts.named:
        return  # Nothing here asks for it.
    repair = f"Set {FLAG}=true in the environment of the worker, without quotes or spaces in the value."
    for value in flags:
        written = value.value
        if isinstance(written, str) and written != "true" and written.strip().strip("'\"").lower() in _MEANT_TRUE:
            yield Breach(
                value.place,
                f"{FLAG} is {written!r}, which is not exactly 'true': workers do not start, and jobs stay PENDING",
                repair,
            )
    for service in facts.services:
        if service.named and _WORKER.search(service.name) and FLAG not in service.values:
            yield _unset(service, repair)
    if any(value.value in ("true", UNKNOWN) for value in flags):
        return
    for value in flags:
        if isinstance(value.value, str) and value.value.strip().lower() not in _MEANT_TRUE:
            yield Breach(
                value.place,
                f"{FLAG} is {value.value!r}, and no other service sets it to 'true': workers do not start, and jobs "
                "stay PENDING",
                repair,
            )
    if not flags:
        for service in _worker_services(facts):
            yield _unset(service, repair)


def _unset(service: Service, repair: str) -> Breach:
    return Breach(
        service.place, f"{FLAG} is not set in {service.name}: workers do not start, and jobs stay PENDING", repair
    )


def _worker_services(facts: Facts) -> list[Service]:
    """Services that run workers, by what they set or are called; only those that nothing else can complete."""
    complete = [service for service in facts.services if service.complete and not service.named]
    return [
        service
        for service in complete
        if _WORKER.search(service.name) or any(name.startswith("PGBOSS_") for name in service.values)
    ]


class Database(NamedTuple):
    """Where a connection string leads, without its credentials."""

    host: str
    port: int
    name: str
    pooled: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.name}"


_SCHEME: Final = re.compile(r"postgres(ql)?(\+\w+)?")
"""`postgresql`, alone or with a driver of SQLAlchemy."""


def database_of(url: str) -> Database | None:
    """Read a connection string; None where it is none."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or 5432
    except ValueError:
        return None
    if not _SCHEME.fullmatch(parts.scheme):
        return None
    query = parse_qs(parts.query)
    host = (parts.hostname or query.get("host", [""])[0]).lower()
    pooled = "-pooler." in host or "pooler.supabase." in host or port == 6543 or "true" in query.get("pgbouncer", [])
    return Database(host.replace("-pooler.", "."), port, parts.path.lstrip("/"), pooled)


def _database(facts: Facts) -> Iterator[Breach]:
    repair = f"Set {URL} to the PostgreSQL that the other services use: postgresql://user@host:5432/name."
    for service in facts.services:
        value = service.values.get(URL)
        if value is None:
            runs = FLAG in service.values and service.values[FLAG].value == "true"
            asked = service.named and _on_postgres(facts) and not _connects_otherwise(service)
            if service.complete and (runs or asked):
                yield Breach(service.place, f"{URL} is not set in {service.name}", repair)
        elif not isinstance(value.value, str) or is_placeholder(value.value) or not _queueing(service, facts):
            continue
        elif database_of(value.value) is None:
            told = "empty" if not value.value.strip() else "no URL of a PostgreSQL"
            yield Breach(value.place, f"{URL} of {service.name} is {told}", repair)


_POSTGRES: Final = frozenset({PGBOSS, GRAPHILE, PROCRASTINATE, PGQUEUER})
"""Queues that keep their jobs in PostgreSQL."""


def _on_postgres(facts: Facts) -> bool:
    """Tell a repository whose jobs are in PostgreSQL."""
    libraries = {package.library for package in facts.packages} | facts.imported.keys()
    libraries |= {call.library for call in facts.calls}
    return bool(_POSTGRES & libraries or facts.users_tables or FLAG in facts.named or _flags(facts))


def _connects_otherwise(service: Service) -> bool:
    """Tell a service that knows its database by another name."""
    texts = [value.value for value in service.values.values() if isinstance(value.value, str)]
    return "PGHOST" in service.values or any(database_of(text) is not None for text in texts)


def _queueing(service: Service, facts: Facts) -> bool:
    """Tell a service that sends or works jobs: by its variables, by its manifest, or because the user names it."""
    if any(name == FLAG or name.startswith("PGBOSS_") for name in service.values):
        return True
    if service.named and _on_postgres(facts):
        return True
    folders = {package.folder for package in facts.packages if package.library == PGBOSS}
    return ("" if service.name == "repository" else service.name) in folders


def _one_database(facts: Facts) -> Iterator[Breach]:
    known: dict[str, list[tuple[Service, Value, Database]]] = {}
    for service in facts.services:
        value = service.values.get(URL)
        if value is None or not isinstance(value.value, str) or is_placeholder(value.value):
            continue
        if not _queueing(service, facts):
            continue
        database = database_of(value.value)
        if database is not None:
            known.setdefault(service.profile, []).append((service, value, database))
    for first, *rest in known.values():
        for service, value, database in rest:
            here, there = database, first[2]
            if here.name == there.name and (here.host == there.host or (here.pooled or there.pooled)):
                continue
            yield Breach(
                value.place,
                f"{URL} of {service.name} leads to {database}, and that of {first[0].name} to {first[2]}: jobs are "
                "sent to one database and looked for in another",
                f"Let {URL} lead to the same database in all services of one environment.",
                (Related(first[1].place, f"{URL} of {first[0].name}"),),
            )


_DIRECT: Final = re.compile(r"^(DIRECT_(DATABASE_)?URL|DATABASE_(DIRECT_URL|URL_UNPOOLED)|POSTGRES_URL_NON_POOLING)$")


def _has_direct(service: Service) -> bool:
    """Whether the service knows a second, direct way to its database, as pooled providers hand out."""
    return any(_DIRECT.match(name) for name in service.values)


def _pooled(facts: Facts) -> Iterator[Breach]:
    if not facts.listens:
        return
    for service in facts.services:
        value = service.values.get(URL)
        database = database_of(value.value) if value is not None and isinstance(value.value, str) else None
        if value is not None and database is not None and database.pooled and not _has_direct(service):
            yield Breach(
                value.place,
                f"{URL} of {service.name} goes through a transaction pooler, and LISTEN is used: notifications never "
                "arrive",
                "Give the listener a direct connection, or the pooler's session mode.",
                tuple(Related(place, "LISTEN") for place in facts.listens[:5]),
            )


SHORTEST_SECRET: Final = 16
_GUESSABLE: Final = re.compile(
    r"secret|password|passwd|change|your|example|placeholder|default|token|test|todo|1234|abcd|qwer", re.IGNORECASE
)
_NO_SECRETS: Final = frozenset({"", "undefined", "null", "none", "false"})


def weakness_of(secret: str) -> str | None:
    """Say why a secret is none, without telling it."""
    if len(secret) < SHORTEST_SECRET:
        return f"has {len(secret)} characters"
    if len(set(secret)) < 8:
        return f"is made of {len(set(secret))} different characters"
    words = _GUESSABLE.search(secret)
    if words is not None and (re.search(r"[-_ ]", secret) or len(words[0]) * 2 > len(secret)):
        return "is a placeholder, or made of common words"
    return None


def _secret_set(facts: Facts) -> Iterator[Breach]:
    holders = [service for service in facts.services if SECRET in service.values]
    repair = f"Set {SECRET} to a random text, such as that of `openssl rand -hex 32`."
    for service in holders:
        value = service.values[SECRET]
        if isinstance(value.value, str) and value.value.strip().lower() in _NO_SECRETS:
            told = repr(value.value) if value.value else "empty"
            yield Breach(value.place, f"{SECRET} of {service.name} is {told}: the cron is refused", repair)
    if holders or SECRET not in facts.named:
        return
    # Where no service is named, the platform's dashboard may hold it.
    asked = [one for one in facts.services if one.named and not _WORKER.search(one.name)]
    names = ", ".join(one.name for one in asked)
    for cron in facts.crons:
        if cron.path.startswith("/") and asked:
            yield Breach(
                cron.place,
                f"the platform requests {cron.path}, and {SECRET} is not set in {names}: the request is refused, and "
                "its work is never done",
                repair,
                tuple(Related(one.place, f"{SECRET} is not set") for one in asked),
            )


def _secret_weak(facts: Facts) -> Iterator[Breach]:
    for service in facts.services:
        value = service.values.get(SECRET)
        if value is None or not isinstance(value.value, str) or value.value.strip().lower() in _NO_SECRETS:
            continue
        why = weakness_of(value.value)
        if why is not None:
            yield Breach(
                value.place,
                f"{SECRET} of {service.name} {why}: an attacker can guess it and call maintenance",
                f"Set {SECRET} to a random text of 32 characters or more, such as that of `openssl rand -hex 32`.",
            )


def _numbers(facts: Facts) -> Iterator[Breach]:
    for service in facts.services:
        for name, value in service.values.items():
            meaning = meaning_of(name)
            if meaning is None or meaning.setting == "retry_backoff" or not isinstance(value.value, str):
                continue
            grouped = "_" in value.value and not facts.has_python
            if (grouped or not _positive(value.value)) and not is_placeholder(value.value):
                told = "empty" if not value.value.strip() else repr(value.value)
                yield Breach(
                    value.place,
                    f"{name} of {service.name} is {told}, which is not a number above 0",
                    f"Write {name} as a plain number in the unit of its name, without a unit behind it"
                    f"{', and without underscores' if grouped else ''}.",
                )


def _positive(text: str) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    return 0 <= number < 1e15


SERVICES: Final = (
    Rule(
        "workers_disabled",
        Severity.ERROR,
        "USE_PGBOSS_WORKERS is exactly `true` where workers run.",
        "Workers do not start: jobs are queued and never processed, the first cause of stuck jobs.",
        "Set USE_PGBOSS_WORKERS=true.",
        "configuration/workers_disabled.yaml",
        _workers,
    ),
    Rule(
        "database_url",
        Severity.ERROR,
        "DATABASE_URL is set, and is the URL of a PostgreSQL.",
        "The service does not start, or starts without a queue.",
        "Set DATABASE_URL.",
        "configuration/workers_disabled.yaml",
        _database,
    ),
    Rule(
        "databases_differ",
        Severity.WARNING,
        "DATABASE_URL leads to the same database in all services of one environment.",
        "Jobs are sent to one database and looked for in another: they stay PENDING.",
        "Use one database.",
        "configuration/workers_disabled.yaml",
        _one_database,
    ),
    Rule(
        "pooled_database_with_listen",
        Severity.ERROR,
        "Code that uses LISTEN has its own connection, not one of a transaction pooler.",
        "Notifications never arrive: jobs wait for the next poll, or forever if nothing polls.",
        "Connect directly, or through a session pooler.",
        "lifecycle/one_job_completes.yaml",
        _pooled,
    ),
    Rule(
        "cron_secret_missing",
        Severity.ERROR,
        "CRON_SECRET is set where the cron's route is served.",
        "The request of the cron is refused: stuck jobs are never freed, expired ones never deleted.",
        "Set CRON_SECRET.",
        "maintenance/rescues_stuck_job.yaml",
        _secret_set,
    ),
    Rule(
        "cron_secret_weak",
        Severity.WARNING,
        "CRON_SECRET is random and long: no placeholder, at least 16 characters.",
        "The maintenance endpoint is unauthenticated.",
        "Set CRON_SECRET to the output of `openssl rand -hex 32`.",
        "maintenance/running_twice_changes_nothing_more.yaml",
        _secret_weak,
    ),
    Rule(
        "setting_is_no_number",
        Severity.ERROR,
        "A numeric setting is written as a plain number.",
        "It is read as NaN: a timeout that never ends, a poll without a pause.",
        "Write a plain number in the unit of the name.",
        "expiry/hung_job_is_timed_out.yaml",
        _numbers,
    ),
)
"""Rules about environments."""


LONGEST_SHUTDOWN: Final = 300.0
"""The longest that Render grants."""


def _shutdown(facts: Facts) -> Iterator[Breach]:
    for limit in facts.limits:
        service = next((one for one in facts.services if one.name == limit.service), None)
        if limit.kind != "shutdown" or service is None or FLAG not in service.values:
            continue
        if service.values[FLAG].value not in ("true", UNKNOWN):
            continue
        here = standing(facts, service, "")
        timeout, grace = here.get("job_timeout"), here.get("shutdown_grace")
        if timeout is not None and limit.seconds < min(timeout.value, LONGEST_SHUTDOWN):
            yield Breach(
                limit.place,
                f"a deploy kills {limit.service} {write_seconds(limit.seconds)} after it is told to stop, and a "
                f"job may run for {timeout.length}: each deploy costs running jobs an attempt",
                f"Set maxShutdownDelaySeconds to {min(timeout.value, LONGEST_SHUTDOWN):.15g}, and give jobs back that "
                "cannot end in time.",
                here.related(timeout),
            )
        stops = [other for other in facts.limits if other.kind == "stop" and other.seconds > limit.seconds]
        for stop in stops:
            yield Breach(
                stop.place,
                f"the worker waits {write_seconds(stop.seconds)} for running jobs, and the platform kills "
                f"{limit.service} after {write_seconds(limit.seconds)}",
                "Wait for less time than the platform does.",
                (Related(limit.place, f"{limit.seconds:.15g} s until it is killed"),),
            )
        if grace is not None and grace.place is not None and grace.value > limit.seconds:
            yield Breach(
                grace.place,
                f"{grace} is longer than the {write_seconds(limit.seconds)} after which the platform kills "
                f"{limit.service}",
                "Wait for less time than the platform does.",
                (Related(limit.place, f"{limit.seconds:.15g} s until it is killed"),),
            )


def _grace(facts: Facts) -> Iterator[Breach]:
    for stop in [limit for limit in facts.limits if limit.kind == "stop"]:
        granted = [one for one in facts.limits if one.kind == "grace" and stop.place.file.startswith(one.pattern)]
        longest = max(granted, key=lambda one: one.seconds, default=None)
        if longest is None or longest.seconds >= stop.seconds or (stop.usual and not _waits_for_jobs(stop, facts)):
            continue  # Which of them runs this cannot be told: the one that grants the most may.
        package = facts.package_of(stop.place.file)
        here = (one for one in facts.handlings if facts.package_of(one.place.file) == package)
        jobs = [wait for one in here for wait in one.called if wait.seconds > longest.seconds]
        said = ", as pg-boss does by default," if stop.usual else ""
        yield Breach(
            stop.place,
            f"this waits up to {write_seconds(stop.seconds)} for running jobs{said} when it is told to stop, and is "
            f"killed after {write_seconds(longest.seconds)} ({longest.service} at {longest.place}): they lose an "
            "attempt",
            f"Set {longest.setting} above {write_seconds(stop.seconds)}, or wait for less time.",
            tuple(
                Related(one.place, f"{one.service}: {write_seconds(one.seconds)}") for one in granted[:MOST_CONTAINERS]
            ),
            Severity.NOTE if stop.usual and not jobs else None,
        )


def _waits_for_jobs(stop: Limit, facts: Facts) -> bool:
    """Tell whether stop() of pg-boss waits for anything: there are workers beside it, and 9 does not wait at all."""
    release = release_of(facts, stop.place.file)
    package = facts.package_of(stop.place.file)
    works = (call for call in facts.calls if call.library == PGBOSS and call.method == "work" and not call.aside)
    return (
        release is not None
        and release.major >= 10
        and any(facts.package_of(call.place.file) == package for call in works)
    )


def _signals(facts: Facts) -> Iterator[Breach]:
    works = {(PGBOSS, "work"), (BULLMQ, "new Worker")}
    workers = [call for call in facts.calls if (call.library, call.method) in works and not call.aside]
    for package in sorted({facts.package_of(call.place.file) for call in workers}):
        handlers = [one for one in facts.signal_handlers if facts.package_of(one.place.file) == package]
        heard = {name for one in handlers for name in one.names}
        running = [
            limit
            for limit in facts.limits
            if limit.kind == "grace" and handlers and handlers[0].place.file.startswith(limit.pattern)
        ]
        if not running or facts.images_choose_signals or any(limit.signal in heard for limit in running):
            continue
        limit = running[0]
        yield Breach(
            handlers[0].place,
            f"the worker stops on {' and '.join(sorted(heard))}, and {limit.service} ({limit.place}) tells it to stop "
            f"by {limit.signal}: a deploy kills it in the middle of its jobs",
            f"Listen for {limit.signal} as well.",
            tuple(Related(one.place, f"{one.service}: {one.signal}") for one in running[:MOST_CONTAINERS]),
        )


def _unclosed(facts: Facts) -> Iterator[Breach]:
    workers = [call for call in facts.calls if "nest" in call.options and not call.aside]
    packages = {facts.package_of(call.place.file) for call in workers}
    for package in sorted(packages):
        starts = [one for one in facts.nest_starts if facts.package_of(one.place.file) == package]
        if not starts or any(one.closes for one in starts):
            continue
        yield Breach(
            starts[0].place,
            "nothing tells NestJS to close its workers: SIGTERM ends the process in the middle of a job, which counts "
            "as stalled, runs again from its beginning, and fails if that happens to it twice",
            "Call app.enableShutdownHooks(), or app.close() on SIGTERM.",
            tuple(Related(call.place, "a worker") for call in workers[:MOST_CONTAINERS]),
        )


MOST_CONTAINERS: Final = 5


def _matches(limit: Limit, path: str) -> bool:
    pattern = re.escape(limit.pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return re.fullmatch(pattern, path) is not None


def _function(facts: Facts) -> Iterator[Breach]:
    workers = [call for call in facts.calls if call.method in ("work", "fetch")]
    for limit in facts.limits:
        if limit.kind != "function":
            continue
        inside = [call for call in workers if _matches(limit, call.place.file)]
        for here in standings(facts) if inside else ():
            timeout = here.get("job_timeout")
            if timeout is not None and limit.seconds < timeout.value:
                yield Breach(
                    limit.place,
                    f"the platform stops this function after {write_seconds(limit.seconds)}, and it runs jobs of up to "
                    f"{timeout.length}",
                    "Run jobs in a service that may run as long as they do, or shorten the job timeout.",
                    (*here.related(timeout), *(Related(call.place, f"{call.method}()") for call in inside[:3])),
                )


PLATFORM: Final = (
    Rule(
        "shutdown_shorter_than_job",
        Severity.WARNING,
        "A service that runs workers may take as long to stop as a job may run, or as long as the platform allows.",
        "Every deploy kills running jobs: each loses an attempt, and with three deploys in a row it fails.",
        "Raise maxShutdownDelaySeconds, and release jobs on SIGTERM.",
        "shutdown/running_job_is_finished.yaml",
        _shutdown,
    ),
    Rule(
        "worker_killed_while_stopping",
        Severity.WARNING,
        "A worker gets enough time to stop: compose grants 10 s, PM2 1.6 s, and pg-boss takes up to 30 s.",
        "Every deploy kills running jobs, although the worker was written to wait for them.",
        "Raise stop_grace_period, terminationGracePeriodSeconds, or PM2's kill_timeout.",
        "shutdown/running_job_is_finished.yaml",
        _grace,
    ),
    Rule(
        "stop_signal_not_handled",
        Severity.WARNING,
        "A worker listens for the signal by which it is told to stop: SIGTERM of containers, SIGINT of PM2.",
        "Every deploy kills running jobs, although the worker was written to wait for them.",
        "Listen for SIGTERM and for SIGINT.",
        "shutdown/running_job_is_finished.yaml",
        _signals,
    ),
    Rule(
        "nest_workers_not_closed",
        Severity.NOTE,
        "An application of NestJS with workers of BullMQ has shutdown hooks, or is closed on SIGTERM.",
        "A deploy kills running jobs: each waits for 30 s, runs again from its beginning, and the second time fails.",
        "Call app.enableShutdownHooks().",
        "shutdown/running_job_is_finished.yaml",
        _unclosed,
    ),
    Rule(
        "function_shorter_than_job",
        Severity.ERROR,
        "A function that runs jobs may run as long as a job.",
        "The platform kills the job in the middle, each time, until its attempts are used up.",
        "Run jobs in a worker service.",
        "crashes/every_attempt_crashes.yaml",
        _function,
    ),
)
"""Rules about the platform."""


LONGEST_PERIOD: Final = 600.0
"""A stuck job should not wait longer than this for maintenance; the guide's cron comes every minute."""

_MAINTENANCE_ROUTE: Final = re.compile(r"^/api/(cron|jobs?)/.*maintenance")


def _schedule(facts: Facts) -> Iterator[Breach]:
    for cron in facts.crons:
        problem = "is empty" if not cron.schedule.strip() else problem_of(cron.schedule)
        if problem is not None:
            yield Breach(
                cron.place,
                f"the schedule {cron.schedule!r} of {cron.path or 'a cron'} {problem}",
                repair_of(problem),
            )
        elif _frees(cron, facts) and (period_seconds(cron.schedule) or 0) > LONGEST_PERIOD:
            yield Breach(
                cron.place,
                f"maintenance runs every {write_seconds(period_seconds(cron.schedule) or 0)} ({cron.schedule}): a "
                "stuck job waits that long beside its timeout",
                "Let it run every minute: `* * * * *`.",
                severity=Severity.WARNING,
            )


def _started(facts: Facts) -> Iterator[Breach]:
    for cron in facts.schedules:
        problem = problem_of(cron.schedule)
        if problem is not None:
            said = f"the schedule {cron.schedule!r} of {cron.path} {problem}"
            yield Breach(cron.place, said, repair_of(problem), subject=f"{cron.path} {cron.schedule}")


def _frees(cron: Cron, facts: Facts) -> bool:
    """Tell a cron that frees stuck jobs: one of that name, where the application keeps rows of its own."""
    return is_maintenance(cron) and ("job" in cron.path.lower() or keeps_own_rows(facts))


def _answers(route: Route, path: str) -> bool:
    parts, wanted = route.path.strip("/").split("/"), path.partition("?")[0].strip("/").split("/")
    for index, part in enumerate(parts):
        if part.startswith(("[...", "[[...")):
            return True
        if index >= len(wanted) or (part != wanted[index] and not part.startswith("[")):
            return False
    return len(parts) == len(wanted)


def _route(facts: Facts) -> Iterator[Breach]:
    for cron in facts.crons:
        if not cron.path.startswith("/"):
            continue
        routes = [route for route in facts.routes if _answers(route, cron.path)]
        for route in routes:
            if route.methods and "GET" not in route.methods:
                yield Breach(
                    cron.place,
                    f"the platform requests {cron.path} with GET, and its route has only {', '.join(route.methods)}",
                    "Export GET from the route.",
                    (Related(route.place, f"answers {', '.join(route.methods)}"),),
                )
        beside = [route for route in facts.routes if route.place.file.startswith(cron.folder)]
        if routes or not beside or cron.path in facts.mentions:
            continue
        near = did_you_mean(cron.path, [route.path for route in beside])
        yield Breach(
            cron.place,
            f"no route answers {cron.path}{near}: the cron gets 404, and its work is never done",
            "Correct the path, or add the route.",
        )


def _scheduled(facts: Facts) -> Iterator[Breach]:
    for route in facts.routes:
        if _MAINTENANCE_ROUTE.match(route.path) and not any(_answers(route, cron.path) for cron in facts.crons):
            if any(is_maintenance(cron) for cron in facts.crons):
                continue
            yield Breach(
                route.place,
                f"nothing requests {route.path} on a schedule: stuck jobs are never freed",
                f'Add {{"path": "{route.path}", "schedule": "* * * * *"}} to the crons of vercel.json.',
                severity=None if "job" in route.path or keeps_own_rows(facts) else Severity.NOTE,
            )


_ABOUT_JOBS: Final = re.compile(r"job|maintenance|reconcile|queue|worker", re.IGNORECASE)


def _bearer(facts: Facts) -> Iterator[Breach]:
    for door in facts.open_doors:
        yield Breach(
            door.place,
            f"if the secret is not set, this accepts {door.key}",
            "Refuse the request if the secret is not set, before you compare.",
            severity=None if keeps_own_rows(facts) or _ABOUT_JOBS.search(door.place.file) else Severity.NOTE,
        )


CRON: Final = (
    Rule(
        "cron_schedule",
        Severity.ERROR,
        "Every schedule is a cron expression, and maintenance runs at least every ten minutes.",
        "The platform refuses the deployment, or stuck jobs wait for hours.",
        "Write `* * * * *`.",
        "maintenance/cron_is_late.yaml",
        _schedule,
    ),
    Rule(
        "machine_cron_invalid",
        Severity.ERROR,
        "Crontab lines, CronJobs and workflow schedules are valid, and fall on a day that exists.",
        "cron, Kubernetes or GitHub refuses it, or its day never comes: its work is never done.",
        "Write each field within its range.",
        "maintenance/cron_is_late.yaml",
        _started,
    ),
    Rule(
        "cron_path_unanswered",
        Severity.ERROR,
        "The path of every cron is a route that answers GET.",
        "The cron gets 404 or 405, no one notices, and maintenance never runs.",
        "Make path and route the same.",
        "maintenance/rescues_stuck_job.yaml",
        _route,
    ),
    Rule(
        "cron_missing",
        Severity.ERROR,
        "A maintenance route is requested on a schedule.",
        "Stuck jobs are never freed, and the two tables drift apart.",
        "Add the cron to vercel.json.",
        "maintenance/rescues_stuck_job.yaml",
        _scheduled,
    ),
    Rule(
        "bearer_accepts_undefined",
        Severity.ERROR,
        "Code compares with `Bearer ${secret}` only if the secret is set.",
        "Any request with `Authorization: Bearer undefined` runs maintenance where the variable is missing.",
        "Return 401 or 500 if the secret is not set.",
        "maintenance/running_twice_changes_nothing_more.yaml",
        _bearer,
    ),
)
"""Rules about the cron."""
