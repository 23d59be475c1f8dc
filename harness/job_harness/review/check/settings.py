"""Which names stand for which setting, which place wins, and what that is as the settings of a simulation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

from job_harness.core.model import LONGEST, Settings, format_duration
from job_harness.review.check.cron import DEFAULT_PERIOD_SECONDS, is_maintenance, maintenance_period
from job_harness.review.check.facts import PGBOSS, UNKNOWN, Facts, Place, Scalar, Service, SettingSource, Value
from job_harness.review.check.finding import Related
from job_harness.review.check.releases import SENDS, ReleaseSpan, ignored_by, library_defaults, pgboss_major, release_of

_UNITS: Final = {
    "MS": 0.001,
    "MILLIS": 0.001,
    "MILLISECONDS": 0.001,
    "SECONDS": 1.0,
    "SEC": 1.0,
    "SECS": 1.0,
    "MINUTES": 60.0,
    "MINS": 60.0,
    "HOURS": 3600.0,
    "DAYS": 86400.0,
}


class Meaning(NamedTuple):
    """A setting, and the seconds that one unit of the name is; 1 for what is not a duration."""

    setting: str
    unit: float


_DURATIONS: Final = {
    "JOB_TIMEOUT": "job_timeout",
    "STUCK_JOB_TIMEOUT": "stuck_timeout",
    "STUCK_TIMEOUT": "stuck_timeout",
    "JOB_STUCK_TIMEOUT": "stuck_timeout",
    "EXPIRE_IN": "expiry",
    "JOB_EXPIRE_IN": "expiry",
    "PGBOSS_EXPIRE_IN": "expiry",
    "JOB_EXPIRY": "expiry",
    "QUEUE_EXPIRY": "expiry",
    "RETRY_DELAY": "retry_delay",
    "JOB_RETRY_DELAY": "retry_delay",
    "PGBOSS_RETRY_DELAY": "retry_delay",
    "RETRY_DELAY_MAX": "retry_delay_max",
    "JOB_RETRY_DELAY_MAX": "retry_delay_max",
    "PGBOSS_POLLING_INTERVAL": "polling_interval",
    "POLLING_INTERVAL": "polling_interval",
    "JOB_POLLING_INTERVAL": "polling_interval",
    "JOB_START_WITHIN": "start_within",
    "JOB_RETENTION": "retention",
    "TOOL_JOB_RETENTION": "retention",
    "PROCESSOR_CANCEL_GRACE": "cancel_grace",
    "WORKER_SHUTDOWN_GRACE": "shutdown_grace",
    "RETENTION": "queue_retention",
    "ARCHIVE_COMPLETED_AFTER": "archive_completed",
    "MAINTENANCE_INTERVAL": "maintenance_interval",
    "SUPERVISE_INTERVAL": "maintenance_interval",
    "HEARTBEAT": "heartbeat",
    "JOB_HEARTBEAT": "heartbeat",
    "JOB_HEARTBEAT_INTERVAL": "heartbeat",
    "HEARTBEAT_INTERVAL": "heartbeat",
}
_COUNTS: Final = {
    "JOB_MAX_ATTEMPTS": "max_attempts",
    "MAX_ATTEMPTS": "max_attempts",
    "RETRY_LIMIT": "retry_limit",
    "JOB_RETRY_LIMIT": "retry_limit",
    "PGBOSS_RETRY_LIMIT": "retry_limit",
    "JOB_RETRY_BACKOFF": "retry_backoff",
    "RETRY_BACKOFF": "retry_backoff",
    "BATCH_SIZE": "batch_size",
    "JOB_BATCH_SIZE": "batch_size",
    "PGBOSS_BATCH_SIZE": "batch_size",
}
_BARE_SECONDS: Final = frozenset({
    "PGBOSS_POLLING_INTERVAL", "RETRY_DELAY", "JOB_RETRY_DELAY", "PGBOSS_RETRY_DELAY", "RETRY_DELAY_MAX",
})  # fmt: skip
"""Durations that pg-boss, or the guide, writes without a unit: seconds."""

_OF_OPTIONS_ONLY: Final = frozenset({
    "EXPIRE_IN", "RETRY_DELAY", "RETRY_DELAY_MAX", "POLLING_INTERVAL", "RETENTION", "ARCHIVE_COMPLETED_AFTER",
    "MAINTENANCE_INTERVAL", "SUPERVISE_INTERVAL", "HEARTBEAT", "HEARTBEAT_INTERVAL",
    "RETRY_LIMIT", "RETRY_BACKOFF", "BATCH_SIZE", "MAX_ATTEMPTS",
})  # fmt: skip
"""Names too common to mean a queue's setting anywhere but among the options of a queue, or the columns of its table."""

GROUPS: Final = {
    "RETRY_CONFIG": {
        "limit": "retryLimit",
        "delay": "retryDelay",
        "delaySeconds": "retryDelay",
        "backoff": "retryBackoff",
        "delayMax": "retryDelayMax",
    },
    "WORKER_CONFIG": {
        "batchSize": "batchSize",
        "pollingIntervalSeconds": "pollingIntervalSeconds",
        "maxAttempts": "JOB_MAX_ATTEMPTS",
        "jobTimeoutMs": "JOB_TIMEOUT_MS",
    },
}
"""Constants that group settings, as `RETRY_CONFIG.limit`: the option, or the constant, that each stands for."""

_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def shouted(name: str) -> str:
    """Write `retryLimit` and `retry_limit` as `RETRY_LIMIT`."""
    return _HUMP.sub("_", name).upper().replace("-", "_")


@cache
def meaning_of(name: str, *, option: bool = False) -> Meaning | None:
    """Return what a name stands for; `option` says that it stands among a queue's options or columns."""
    group, dot, member = name.partition(".")
    if dot:
        inner = GROUPS.get(group, {}).get(member)
        return None if inner is None else meaning_of(inner, option=True)
    loud = shouted(name)
    if loud == "JOB_EXPIRE_IN_INTERVAL":
        return Meaning("expiry", 1.0)
    stem, _, unit = loud.rpartition("_")
    found: Meaning | None = None
    if unit in _UNITS and stem in _DURATIONS:
        found, key = Meaning(_DURATIONS[stem], _UNITS[unit]), stem
    elif loud == "EXPIRE_SECONDS":
        found, key = Meaning("expiry", 1.0), "EXPIRE_IN"
    elif loud in _COUNTS:
        found, key = Meaning(_COUNTS[loud], 1.0), loud
    elif loud in _BARE_SECONDS or (option and loud in _DURATIONS):
        found, key = Meaning(_DURATIONS[loud], 1.0), loud
    if found is None or (key in _OF_OPTIONS_ONLY and not option):
        return None
    return found


ORDER: Final = tuple(SettingSource)
DURATIONS: Final = frozenset({
    "job_timeout", "stuck_timeout", "expiry", "retry_delay", "retry_delay_max", "polling_interval", "retention",
    "cancel_grace", "shutdown_grace", "queue_retention", "archive_completed", "maintenance_interval", "heartbeat",
    "start_within",
})  # fmt: skip


LARGEST: Final = 1e15
FLAG: Final = "USE_PGBOSS_WORKERS"


@dataclass(frozen=True, slots=True)
class Setting:
    """The value that wins, in seconds where it is a duration, and the others."""

    setting: str
    value: float
    place: Place | None
    name: str
    written: str
    """As the place has it, for messages."""
    source: SettingSource
    others: tuple[Value, ...] = ()
    queue: str = ""
    """The queue that it is set for; empty where it is set for all."""
    unit: float = 1.0
    """The seconds that one of its unit is."""

    def advised(self, seconds: float) -> str:
        """Write a length of time as its place would: a number in the unit of its name, or else with a unit."""
        word = _UNIT_WORDS.get(self.unit) if shouted(self.name).rpartition("_")[2] in _UNITS else None
        return write_seconds(seconds) if word is None else f"{math.ceil(seconds / self.unit - 1e-9)} {word}"

    def __str__(self) -> str:
        return f"{self.name} = {self.written}"

    @property
    def length(self) -> str:
        """The value with its unit."""
        return write_seconds(self.value) if self.setting in DURATIONS else f"{self.value:.15g}"


_UNIT_WORDS: Final = {0.001: "milliseconds", 1.0: "seconds", 60.0: "minutes", 3600.0: "hours", 86_400.0: "days"}


def keeps_own_rows(facts: Facts) -> bool:
    """Tell an application that keeps a row of its own for each job, which maintenance then has to reconcile."""
    stuck = any(
        meaning.setting == "stuck_timeout" for value in facts.values if (meaning := meaning_of(value.name)) is not None
    )
    flagged = any(FLAG in service.values for service in facts.services)
    return bool(facts.users_tables) or stuck or flagged or FLAG in facts.named


def write_seconds(seconds: float) -> str:
    """Write seconds as `10m`; what no clock will see is forever."""
    if not abs(seconds) < LARGEST:
        return "forever"
    return format_duration(round(seconds * 1_000_000))


@dataclass(frozen=True, slots=True)
class EffectiveSettings:
    """The settings that hold in one service for one queue; `queue` is empty for all that are not named."""

    service: Service | None
    queue: str
    settings: Mapping[str, Setting]
    unknown: frozenset[str]

    def get(self, name: str) -> Setting | None:
        """Return a setting; None where nothing sets it, or what sets it is unknown."""
        return None if name in self.unknown else self.settings.get(name)

    def related(self, *settings: Setting | None) -> tuple[Related, ...]:
        """List the places of settings, and all other places that set them."""
        found: dict[Place, Related] = {}
        for setting in settings:
            if setting is None:
                continue
            if setting.place is not None:
                found.setdefault(setting.place, Related(setting.place, f"{setting} ({setting.source.value})"))
            for other in setting.others:
                told = "unknown" if other.value is UNKNOWN else write_value(other.value)
                text = f"{other.name} = {told} ({other.source.value}, {_effect(other, setting)})"
                found.setdefault(other.place, Related(other.place, text))
        return tuple(found.values())


def _effect(other: Value, winner: Setting) -> str:
    """Say what a value is that another one is judged instead of: updateQueue may win all the same."""
    if other.source is SettingSource.UPDATE and winner.source in (SettingSource.QUEUE, SettingSource.UPDATE):
        if other.queue != winner.queue:
            return "for a queue whose name is unknown"
        if winner.source is SettingSource.UPDATE:
            return "it is unknown which call comes last"
    return "not in effect here"


def write_value(value: Scalar) -> str:
    """Write a value as a message does."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, (int, float)) else str(value)


def standings(facts: Facts) -> Sequence[EffectiveSettings]:
    """List all services and queues that differ; many rules ask, and it is worked out once."""
    key = ("standings", len(facts.values), len(facts.services), len(facts.calls))
    found = facts.worked_out.get(key)
    if not isinstance(found, tuple):
        found = facts.worked_out[key] = tuple(_standings(facts))
    return found


_FOR_ALL: Final = (
    SettingSource.CONSTRUCTOR,
    SettingSource.QUEUE,
    SettingSource.UPDATE,
    SettingSource.COLUMN,
    SettingSource.DATABASE,
)
"""What sets something for queues that no call names."""


def _standings(facts: Facts) -> Iterator[EffectiveSettings]:
    named = dict.fromkeys(value.queue for value in facts.values if value.queue)
    used = [call for call in facts.calls if call.method in ("createQueue", "work", *SENDS)]
    told = any(not value.queue and value.source in _FOR_ALL for value in facts.values)
    others = [] if used and not told and all(call.queue in named for call in used) else [""]
    queues = [*others, *named]
    services: list[Service | None] = [*facts.services] or [None]
    for service in services:
        for queue in queues:
            for call in _sends(facts, queue):
                yield from standings_of(facts, service, queue, call=call)


def standings_of(
    facts: Facts, service: Service | None, queue: str, *, call: Place | None = None
) -> Iterator[EffectiveSettings]:
    """List what may hold in a service for a queue: one for each call of updateQueue that may come last and differs."""
    for last in _last_updates(facts, queue):
        yield standing(facts, service, queue, call=call, last=last)


def _last_updates(facts: Facts, queue: str) -> list[Place | None]:
    """List the calls of updateQueue that give a queue different values; none where the order makes no difference."""
    told: dict[str, dict[tuple[Scalar, str], Place | None]] = {}
    for value in facts.values if queue else ():
        meaning = meaning_of(value.name, option=True) if value.source is SettingSource.UPDATE else None
        if meaning is not None and value.queue == queue:
            told.setdefault(meaning.setting, {}).setdefault((value.value, value.variable), value.call)
    return list(dict.fromkeys(call for calls in told.values() if len(calls) > 1 for call in calls.values())) or [None]


def _sends(facts: Facts, queue: str) -> list[Place | None]:
    """List the calls that send to a queue with options of their own; none stands for a job that is sent without any."""
    known = {call.queue for call in facts.calls if call.method in SENDS}
    name = queue if queue in known else None
    places = [call.place for call in facts.calls if call.method in SENDS and call.queue == name]
    own = {value.call for value in facts.values if value.call is not None}
    told: list[Place | None] = [place for place in places if place in own]
    return told if told and len(told) == len(places) else [None, *told]


def standing(
    facts: Facts, service: Service | None, queue: str, *, call: Place | None = None, last: Place | None = None
) -> EffectiveSettings:
    """Return what holds in a service for a queue, and for the jobs that one call sends to it.

    `last` is the call of updateQueue that is taken to come last.
    """
    release = _worked_with(facts, queue)
    major = release.major if release is not None else pgboss_major(facts)
    candidates: dict[str, list[Value]] = {}
    for value in [*facts.values, *(service.values.values() if service is not None else ())]:
        meaning = meaning_of(value.name, option=value.source not in (SettingSource.CONSTANT, SettingSource.ENVIRONMENT))
        of_another = value.call is not None and value.call != call and value.source is not SettingSource.UPDATE
        if of_another or _without_effect(value, facts):
            continue
        if meaning is not None and value.queue in ("", queue):
            candidates.setdefault(meaning.setting, []).append(value)
    settings: dict[str, Setting] = {}
    unknown: set[str] = set()
    for name, values in candidates.items():
        winner = _winner(name, values, service, last)
        if winner is None:
            unknown.add(name)
        else:
            settings[name] = winner
    for name, default in library_defaults(major).items():
        if name not in settings and name not in unknown:
            settings[name] = Setting(name, float(default), None, name, write_value(default), SettingSource.LIBRARY)
    return EffectiveSettings(service, queue, settings, frozenset(unknown))


def _worked_with(facts: Facts, queue: str) -> ReleaseSpan | None:
    """Return the release that works a queue, or that sends to it where nothing works it."""
    calls = [call for call in facts.calls if call.library == PGBOSS and queue and call.queue == queue]
    calls.sort(key=lambda call: (call.method != "work", call.method in SENDS))
    return release_of(facts, calls[0].place.file) if calls else None


_OPTIONS: Final = frozenset({
    SettingSource.SEND, SettingSource.WORK, SettingSource.QUEUE, SettingSource.UPDATE, SettingSource.CONSTRUCTOR,
})  # fmt: skip


def _without_effect(value: Value, facts: Facts) -> bool:
    """Tell options that their release ignores; from 11 on, maintenance no longer takes jobs back, supervision does."""
    release = release_of(facts, value.place.file) if value.source in _OPTIONS else None
    if release is None:
        return False
    major = release.major
    supervised = value.name == "superviseIntervalSeconds" and major < 11
    maintained = value.name == "maintenanceIntervalSeconds" and major >= 11
    return supervised or maintained or ignored_by(major, value.name, value.source) is not None


def _winner(name: str, values: list[Value], service: Service | None, last: Place | None) -> Setting | None:
    """Return the setting that wins; None where it is unknown."""
    places = {id(value): number for number, value in enumerate(values)}
    values = sorted(
        values,
        key=lambda value: (*_rank(value), last is not None and value.call != last, _age(value, places[id(value)])),
    )
    first = values[0]
    told = resolved(first, service)
    number = number_of(told.value)
    if number is None:
        return None
    meaning = meaning_of(first.name, option=True)
    unit = meaning.unit if meaning is not None else 1.0
    if told is not first:
        unit *= first.factor
    others = tuple(value for value in values if value is not first and value is not told)
    interval = (first.source is SettingSource.COLUMN or first.name.endswith("_INTERVAL")) and name in DURATIONS
    written = write_seconds(number * unit) if interval else write_value(told.value)
    return Setting(name, number * unit, told.place, told.name, written, first.source, others, first.queue, unit)


def _rank(value: Value) -> tuple[int, bool, bool, bool]:
    """Order values, the one that wins first.

    updateQueue wins over createQueue of the same queue. One of a queue that cannot be told may be
    about another queue, and wins only over a createQueue that cannot be told either.
    """
    updates = value.source is SettingSource.UPDATE
    level = ORDER.index(SettingSource.QUEUE if updates else value.source)
    return level, not value.queue, not updates, not value.name.upper().endswith("MS")


def _age(value: Value, number: int) -> int:
    """Order what ranks the same: the first counts, but of migrations the last."""
    return -number if value.source is SettingSource.COLUMN and not value.place.file.endswith(".prisma") else number


def resolved(value: Value, service: Service | None) -> Value:
    """Return what the environment of the service makes of a value that reads a variable."""
    if value.variable and service is not None and value.variable in service.values:
        return service.values[value.variable]
    return value


def number_of(value: Scalar) -> float | None:
    """Read a number; None for what is none, or larger than any setting."""
    number = _read(value)
    return number if number is not None and abs(number) < LARGEST else None


def _read(value: Scalar) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < LARGEST else None
    if isinstance(value, str):
        try:
            if "_" in value:
                return None  # Python takes it for a number, and JavaScript does not.
            return float(value) if value.strip().lower() not in ("true", "false") else float(value.lower() == "true")
        except ValueError:
            return None
    return None


NAMES: Final[Mapping[str, str]] = {
    "job_timeout": "job_timeout",
    "expiry": "lease",
    "stuck_timeout": "stuck_timeout",
    "max_attempts": "max_attempts",
    "retry_delay": "retry_delay",
    "retry_backoff": "retry_backoff",
    "retry_delay_max": "retry_delay_max",
    "polling_interval": "poll_interval",
    "batch_size": "batch_size",
    "heartbeat": "heartbeat_interval",
    "maintenance_interval": "expire_interval",
    "retention": "retention",
}
"""What a repository sets -> the setting of the simulation."""

POSITIVE: Final = frozenset(
    {"job_timeout", "lease", "stuck_timeout", "poll_interval", "cron_period", "expire_interval"}
)


@dataclass(frozen=True, slots=True)
class Simulation:
    """The settings, and for each that the repository sets, the place and the name that it has there."""

    settings: Settings
    origins: Mapping[str, str]


def queues_of(facts: Facts) -> list[str]:
    """List the queues that have settings of their own, those that are worked first."""
    named = dict.fromkeys(value.queue for value in facts.values if value.queue)
    worked = {call.queue for call in facts.calls if call.library == PGBOSS and call.method == "work"}
    return sorted(named, key=lambda queue: queue not in worked)


def simulation_of(facts: Facts, *, queue: str = "") -> Simulation:
    """Return the settings under which a repository's worker runs a queue: the first one, where none is named.

    What it does not set keeps its default.
    """
    among = _of_workers(facts, queue or next(iter(queues_of(facts)), ""))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, simulated in NAMES.items():
        setting = _written(among, name)
        if setting is None:
            continue
        value = _value(simulated, setting.value)
        if value is not None:
            values[simulated] = value
            default = f"{setting.source.value}{_ignored(facts, name, among[0].queue)}"
            origins[simulated] = default if setting.place is None else f"{setting.name} at {setting.place}"
    limit = _written(among, "retry_limit")
    if "max_attempts" in among[0].unknown and limit is not None and limit.place is None:
        limit = None  # a file says how many attempts there are, in words that were not understood
    if "max_attempts" not in values and limit is not None:
        values["max_attempts"] = int(limit.value) + 1
        origins["max_attempts"] = f"{limit.name} + 1 at {limit.place}" if limit.place else f"1 + {limit.source.value}"
    _cron(facts, values, origins)
    _flag(facts, values, origins)
    return Simulation(Settings().changed(**values), origins)


def _of_workers(facts: Facts, queue: str) -> list[EffectiveSettings]:
    """List what holds where workers run, the service and call for which files say the most first."""
    found = list(standings(facts))
    of_queue = [one for one in found if one.queue == queue] or found

    def preference(one: EffectiveSettings) -> tuple[bool, int]:
        flagged = one.service is not None and FLAG in one.service.values
        return not flagged, -sum(each.place is not None for each in one.settings.values())

    return sorted(of_queue, key=preference)


def _written(among: Sequence[EffectiveSettings], name: str) -> Setting | None:
    """Return a setting of the first; where that is the default of the library, what a file says in any other."""
    first = among[0].get(name)
    if first is None or first.place is not None:
        return first
    others = (one.get(name) for one in among[1:])
    return next((other for other in others if other is not None and other.place is not None), first)


def _ignored(facts: Facts, name: str, queue: str) -> str:
    """Say which place sets this to no effect under the release that reads it; empty where none does."""
    for value in facts.values:
        meaning = meaning_of(value.name, option=value.source in _OPTIONS)
        concerns = meaning is not None and meaning.setting == name and value.queue in ("", queue)
        if concerns and _without_effect(value, facts):
            return f"; {value.name} at {value.place} has no effect there"
    return ""


def _value(name: str, number: float) -> int | bool | None:
    """Return a value that a simulation can run under; None where it cannot be one."""
    if name == "retry_backoff":
        return bool(number)
    if name in Settings.duration_names():
        microseconds = round(number * 1_000_000)
        usable = 0 <= microseconds <= LONGEST and not (name in POSITIVE and microseconds == 0)
        return microseconds if usable else None
    return int(number) if 1 <= number <= 1000 else None


def _cron(facts: Facts, values: dict[str, Any], origins: dict[str, str]) -> None:
    period = maintenance_period(facts)
    cron = next((cron for cron in facts.crons if is_maintenance(cron)), None)
    if cron is not None and period != DEFAULT_PERIOD_SECONDS:
        values["cron_period"] = round(period * 1_000_000)
        origins["cron_period"] = f"schedule {cron.schedule} at {cron.place}"


def _flag(facts: Facts, values: dict[str, Any], origins: dict[str, str]) -> None:
    flags = [service.values[FLAG] for service in facts.services if FLAG in service.values]
    if flags and all(flag.value not in ("true", UNKNOWN) for flag in flags):
        values["workers_enabled"] = False
        origins["workers_enabled"] = f"{FLAG} at {flags[0].place}"
