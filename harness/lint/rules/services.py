"""What each service must have in its environment: workers enabled, a database, a cron secret that is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from harness.lint.facts import Facts, Service
from harness.lint.finding import Related, Severity
from harness.lint.place import UNKNOWN, Value
from harness.lint.readers.environment import is_placeholder
from harness.lint.rule import Hit, Rule
from harness.lint.settings_names import meaning_of

FLAG: Final = "USE_PGBOSS_WORKERS"
URL: Final = "DATABASE_URL"
SECRET: Final = "CRON_SECRET"
_WORKER: Final = re.compile(r"worker|api-server|jobs?$", re.IGNORECASE)
_MEANT_TRUE: Final = frozenset({"true", "1", "yes", "on", "enabled", "t", "y"})


def _flags(facts: Facts) -> list[Value]:
    return [service.values[FLAG] for service in facts.services if FLAG in service.values]


def _workers(facts: Facts) -> Iterator[Hit]:
    flags = _flags(facts)
    repair = f"Set {FLAG}=true in the environment of the worker, without quotes or spaces in the value."
    for value in flags:
        written = value.value
        if isinstance(written, str) and written != "true" and written.strip().strip("'\"").lower() in _MEANT_TRUE:
            yield Hit(
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
            yield Hit(
                value.place,
                f"{FLAG} is {value.value!r}, and no other service sets it to 'true': workers do not start, and jobs "
                "stay PENDING",
                repair,
            )
    if not flags:
        for service in _worker_services(facts):
            yield _unset(service, repair)


def _unset(service: Service, repair: str) -> Hit:
    return Hit(
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


def database_of(url: str) -> Database | None:
    """Read a connection string; None where it is none."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or 5432
    except ValueError:
        return None
    if parts.scheme not in ("postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"):
        return None
    query = parse_qs(parts.query)
    host = (parts.hostname or query.get("host", [""])[0]).lower()
    pooled = "-pooler." in host or "pooler.supabase." in host or port == 6543 or "true" in query.get("pgbouncer", [])
    return Database(host.replace("-pooler.", "."), port, parts.path.lstrip("/"), pooled)


def _database(facts: Facts) -> Iterator[Hit]:
    repair = f"Set {URL} to the PostgreSQL that the other services use: postgresql://user@host:5432/name."
    for service in facts.services:
        value = service.values.get(URL)
        if value is None:
            runs = FLAG in service.values and service.values[FLAG].value == "true"
            if service.complete and (runs or service.named):
                yield Hit(service.place, f"{URL} is not set in {service.name}", repair)
        elif isinstance(value.value, str) and not is_placeholder(value.value) and database_of(value.value) is None:
            told = "empty" if not value.value.strip() else "no URL of a PostgreSQL"
            yield Hit(value.place, f"{URL} of {service.name} is {told}", repair)


def _one_database(facts: Facts) -> Iterator[Hit]:
    known: dict[str, list[tuple[Service, Value, Database]]] = {}
    for service in facts.services:
        value = service.values.get(URL)
        if value is None or not isinstance(value.value, str) or is_placeholder(value.value):
            continue
        database = database_of(value.value)
        if database is not None:
            known.setdefault(service.profile, []).append((service, value, database))
    for first, *rest in known.values():
        for service, value, database in rest:
            here, there = database, first[2]
            if here.name == there.name and (here.host == there.host or (here.pooled or there.pooled)):
                continue
            yield Hit(
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


def _pooled(facts: Facts) -> Iterator[Hit]:
    if not facts.listens:
        return
    for service in facts.services:
        value = service.values.get(URL)
        database = database_of(value.value) if value is not None and isinstance(value.value, str) else None
        if value is not None and database is not None and database.pooled and not _has_direct(service):
            yield Hit(
                value.place,
                f"{URL} of {service.name} leads through a transaction pooler, and LISTEN is used: notifications never "
                "arrive",
                "Give what listens a direct connection, or the pooler's session mode.",
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
        return "is the placeholder of an example, or made of common words"
    return None


def _secret_set(facts: Facts) -> Iterator[Hit]:
    holders = [service for service in facts.services if SECRET in service.values]
    repair = f"Set {SECRET} to a random text, such as that of `openssl rand -hex 32`."
    for service in holders:
        value = service.values[SECRET]
        if isinstance(value.value, str) and value.value.strip().lower() in _NO_SECRETS:
            told = repr(value.value) if value.value else "empty"
            yield Hit(value.place, f"{SECRET} of {service.name} is {told}: the cron is refused", repair)
    if holders:
        return
    for cron in facts.crons:
        beside = [one for one in facts.services if one.complete and one.name == (cron.folder or "repository")]
        asked = [one for one in facts.services if one.named]
        if cron.path.startswith("/") and (beside or asked):
            names = ", ".join(one.name for one in asked or beside)
            yield Hit(
                cron.place,
                f"the platform requests {cron.path}, and {SECRET} is not set in {names}: the request is refused, and "
                "maintenance never runs",
                repair,
                tuple(Related(one.place, f"{SECRET} is not set") for one in asked or beside),
            )


def _secret_weak(facts: Facts) -> Iterator[Hit]:
    for service in facts.services:
        value = service.values.get(SECRET)
        if value is None or not isinstance(value.value, str) or value.value.strip().lower() in _NO_SECRETS:
            continue
        why = weakness_of(value.value)
        if why is not None and not value.value.startswith("${"):
            yield Hit(
                value.place,
                f"{SECRET} of {service.name} {why}: anybody may guess it and call maintenance",
                f"Set {SECRET} to a random text of 32 characters or more, such as that of `openssl rand -hex 32`.",
            )


def _numbers(facts: Facts) -> Iterator[Hit]:
    for service in facts.services:
        for name, value in service.values.items():
            meaning = meaning_of(name)
            if meaning is None or meaning.setting == "retry_backoff" or not isinstance(value.value, str):
                continue
            if not _positive(value.value) and not is_placeholder(value.value):
                told = "empty" if not value.value.strip() else repr(value.value)
                yield Hit(
                    value.place,
                    f"{name} of {service.name} is {told}, which is no number above 0",
                    f"Write {name} as a plain number in the unit of its name, without a unit behind it.",
                )


def _positive(text: str) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    return 0 <= number < 1e15


RULES: Final = (
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
        "What uses LISTEN has a connection of its own, not one of a transaction pooler.",
        "Notifications never arrive: jobs wait for the next poll, or for ever where nothing polls.",
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
        "Anybody may call maintenance, as often as he likes.",
        "Set CRON_SECRET to the output of `openssl rand -hex 32`.",
        "maintenance/running_twice_changes_nothing_more.yaml",
        _secret_weak,
    ),
    Rule(
        "setting_is_no_number",
        Severity.ERROR,
        "A setting that is a number is written as one.",
        "It comes out as NaN: a timeout that never ends, a poll without a pause.",
        "Write a plain number in the unit of the name.",
        "expiry/hung_job_is_timed_out.yaml",
        _numbers,
    ),
)
"""Rules about environments."""
