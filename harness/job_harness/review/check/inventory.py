"""What was read of a repository, counted and named, so that a pass says what it is a pass of; it judges nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from job_harness.core.model import Settings
from job_harness.review.check.facts import UNKNOWN, Facts, LongestWait, Place, QueueCall, Scalar, SettingSource, Value
from job_harness.review.check.settings import meaning_of, number_of, write_seconds, write_value

_PLAIN: Final = (SettingSource.CONSTANT, SettingSource.ENVIRONMENT)


@dataclass(frozen=True, slots=True)
class ReadSetting:
    """A setting of a queue, or of all where `queue` is empty; its value is UNKNOWN where files cannot tell it."""

    name: str
    value: Scalar
    queue: str
    place: Place

    def __str__(self) -> str:
        told = "not told" if self.value is UNKNOWN else write_value(self.value)
        return f"{self.name} = {told}{f' of {self.queue!r}' if self.queue else ''}"


@dataclass(frozen=True, slots=True)
class ReadHandler:
    """A handler that works a queue, and the longest wait in the code that it calls, or else in what it imports."""

    queue: str
    wait: LongestWait | None
    place: Place

    def __str__(self) -> str:
        wait = self.wait
        return f"{self.queue!r} " + ("none found" if wait is None else f"{write_seconds(wait.seconds)} ({wait.name})")


@dataclass(frozen=True, slots=True)
class Inventory:
    """The settings that rules compare, the handlers whose waits they compare with them, and the calls by library.

    Of a queue in a file, how many verbs have SQL that rules can read.
    """

    settings: tuple[ReadSetting, ...] = ()
    handlers: tuple[ReadHandler, ...] = ()
    calls: Mapping[str, int] | None = None
    verbs: int = 0
    of_verbs: int = 0
    """How many verbs it has that may have conditions: all but enqueue."""

    def __str__(self) -> str:
        many = [(len(self.settings), "setting"), (sum((self.calls or {}).values()), "call")]
        if self.verbs:
            many = [(count, noun) for count, noun in many if count] + [(self.verbs, "verb")]
        told = [f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in many]
        if self.verbs:
            of = "" if self.verbs == self.of_verbs else f"{self.verbs} of "
            told[-1] = f"the conditions of {of}{self.of_verbs} verb{'' if self.of_verbs == 1 else 's'}"
        return " and ".join(told) if len(told) < 3 else f"{', '.join(told[:-1])} and {told[-1]}"


def inventory_of(facts: Facts) -> Inventory:
    """List what was read, each setting of a place once."""
    calls = [call for call in facts.calls if call.method != "settings"]
    verbs = [verb for queue in facts.table_queues for name, verb in queue.verbs.items() if name != "enqueue"]
    return Inventory(
        tuple(dict.fromkeys(_settings(facts))),
        tuple(_handlers(facts)),
        dict(sorted(Counter(call.library for call in calls).items())),
        sum(verb.understood for verb in verbs),
        len(verbs),
    )


def _settings(facts: Facts) -> Iterator[ReadSetting]:
    for value in [*facts.values, *(value for service in facts.services for value in service.values.values())]:
        if meaning_of(value.name, option=value.source not in _PLAIN) is not None:
            yield _read(value, value.queue)
    for call in facts.calls:
        if call.method == "settings":
            yield from (_read(value, "") for value in call.options.values() if _is_number(value.value))
    for command in facts.commands:
        for value in (one for one in command.options.values() if _is_number(one.value)):
            yield ReadSetting(f"--{value.name.replace('_', '-')}", value.value, "", value.place)
    for queue in facts.table_queues:
        for name, value in queue.settings.items():
            seconds = number_of(value.value) if name in Settings.duration_names() else None
            told = value.value if seconds is None else write_seconds(seconds)
            yield ReadSetting(name, told, queue.name, value.place)


def _read(value: Value, queue: str) -> ReadSetting:
    return ReadSetting(value.name, value.value, queue, value.place)


def _is_number(value: Scalar) -> bool:
    """Tell numbers and switches from texts, which may hold a password."""
    return isinstance(value, (bool, int, float))


def _handlers(facts: Facts) -> Iterator[ReadHandler]:
    waits = {handling.place: handling.called or handling.imported for handling in facts.handlings}
    for call in facts.calls:
        if _works(call):
            longest = max(waits.get(call.place, ()), key=lambda wait: wait.seconds, default=None)
            yield ReadHandler(call.queue or "", longest, call.place)


def _works(call: QueueCall) -> bool:
    return call.library == "pg-boss" and call.method == "work" and call.queue is not None and not call.aside
