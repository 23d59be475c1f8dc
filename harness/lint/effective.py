"""Which value wins, by the precedence of the engine, and every place that sets it too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from harness.lint.facts import Facts, Service
from harness.lint.finding import Related
from harness.lint.pgboss_releases import SENDS, ignored_by, library_defaults, pgboss_major
from harness.lint.place import UNKNOWN, Place, Scalar, Source, Value
from harness.lint.settings_names import meaning_of
from harness.model.duration import format_duration

ORDER: Final = tuple(Source)
DURATIONS: Final = frozenset({
    "job_timeout", "stuck_timeout", "expiry", "retry_delay", "retry_delay_max", "polling_interval", "retention",
    "cancel_grace", "shutdown_grace", "queue_retention", "archive_completed", "maintenance_interval", "heartbeat",
    "start_within",
})  # fmt: skip


LARGEST: Final = 1e15


@dataclass(frozen=True, slots=True)
class Setting:
    """The value that wins, in seconds where it is a duration, and the others."""

    setting: str
    value: float
    place: Place | None
    name: str
    written: str
    """As the place has it, for messages."""
    source: Source
    others: tuple[Value, ...] = ()
    queue: str = ""
    """The queue that it is set for; empty where it is set for all."""

    def __str__(self) -> str:
        return f"{self.name} = {self.written}"

    @property
    def length(self) -> str:
        """The value with its unit."""
        return spoken(self.value) if self.setting in DURATIONS else f"{self.value:g}"


def spoken(seconds: float) -> str:
    """Write seconds as `10m`; what no clock will see is for ever."""
    if not abs(seconds) < LARGEST:
        return "for ever"
    return format_duration(round(seconds * 1_000_000))


@dataclass(frozen=True, slots=True)
class Standing:
    """The settings that hold in one service for one queue; `queue` is empty for all that are not named."""

    service: Service | None
    queue: str
    settings: Mapping[str, Setting]
    unknown: frozenset[str]

    def get(self, name: str) -> Setting | None:
        """Answer a setting; None where nothing sets it, or what sets it is unknown."""
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
                told = "unknown" if other.value is UNKNOWN else shown(other.value)
                text = f"{other.name} = {told} ({other.source.value}, outranked here)"
                found.setdefault(other.place, Related(other.place, text))
        return tuple(found.values())


def shown(value: Scalar) -> str:
    """Write a value as a message does."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def standings(facts: Facts) -> Iterator[Standing]:
    """List all services and queues that differ."""
    queues = ["", *dict.fromkeys(value.queue for value in facts.values if value.queue)]
    services: list[Service | None] = [*facts.services] or [None]
    for service in services:
        for queue in queues:
            for call in _sends(facts, queue):
                yield standing(facts, service, queue, call=call)


def _sends(facts: Facts, queue: str) -> list[Place | None]:
    """List the calls that send to a queue with options of their own; none stands for a job that is sent without any."""
    known = {call.queue for call in facts.calls if call.method in SENDS}
    name = queue if queue in known else None
    places = [call.place for call in facts.calls if call.method in SENDS and call.queue == name]
    own = {value.call for value in facts.values if value.call is not None}
    told: list[Place | None] = [place for place in places if place in own]
    return told if told and len(told) == len(places) else [None, *told]


def standing(facts: Facts, service: Service | None, queue: str, *, call: Place | None = None) -> Standing:
    """Answer what holds in a service for a queue, and for the jobs that one call sends to it."""
    major = pgboss_major(facts)
    candidates: dict[str, list[Value]] = {}
    for value in [*facts.values, *(service.values.values() if service is not None else ())]:
        meaning = meaning_of(value.name, option=value.source not in (Source.CONSTANT, Source.ENVIRONMENT))
        if (value.call is not None and value.call != call) or _without_effect(value, major):
            continue
        if meaning is not None and value.queue in ("", queue):
            candidates.setdefault(meaning.setting, []).append(value)
    settings: dict[str, Setting] = {}
    unknown: set[str] = set()
    for name, values in candidates.items():
        winner = _winner(name, values, service)
        if winner is None:
            unknown.add(name)
        else:
            settings[name] = winner
    for name, default in library_defaults(major).items():
        if name not in settings and name not in unknown:
            settings[name] = Setting(name, float(default), None, name, shown(default), Source.LIBRARY)
    return Standing(service, queue, settings, frozenset(unknown))


def _without_effect(value: Value, major: int | None) -> bool:
    """Tell options that this release ignores; from 11 on, maintenance no longer takes jobs back, supervision does."""
    if value.source not in (Source.SEND, Source.WORK, Source.QUEUE, Source.CONSTRUCTOR) or major is None:
        return False
    supervised = value.name == "superviseIntervalSeconds" and major < 11
    maintained = value.name == "maintenanceIntervalSeconds" and major >= 11
    return supervised or maintained or ignored_by(major, value.name, value.source) is not None


def _winner(name: str, values: list[Value], service: Service | None) -> Setting | None:
    """Answer the setting that wins; None where it is unknown."""
    places = {id(value): number for number, value in enumerate(values)}
    values = sorted(values, key=lambda value: (*_rank(value), _age(value, places[id(value)])))
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
    interval = first.source is Source.COLUMN and name in DURATIONS
    written = spoken(number * unit) if interval else shown(told.value)
    return Setting(name, number * unit, told.place, told.name, written, first.source, others, first.queue)


def _rank(value: Value) -> tuple[int, bool, bool]:
    return ORDER.index(value.source), not value.queue, not value.name.upper().endswith("MS")


def _age(value: Value, number: int) -> int:
    """Order what ranks the same: the first counts, but of migrations the last."""
    return -number if value.source is Source.COLUMN and not value.place.file.endswith(".prisma") else number


def resolved(value: Value, service: Service | None) -> Value:
    """Answer what the environment of the service makes of a value that reads a variable."""
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
            return float(value) if value.strip().lower() not in ("true", "false") else float(value.lower() == "true")
        except ValueError:
            return None
    return None
