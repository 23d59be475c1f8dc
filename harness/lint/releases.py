"""What releases of pg-boss do unless told otherwise, and which options they silently ignore: from their sources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from harness.lint.facts import Facts, SettingSource

DEFAULTS: Final[Mapping[int, Mapping[str, float | bool]]] = {
    9: {"retry_limit": 0, "expiry": 900, "retry_delay": 0, "retry_backoff": False, "maintenance_interval": 120},
    10: {
        "retry_limit": 2,
        "expiry": 900,
        "retry_delay": 0,
        "retry_backoff": False,
        "batch_size": 1,
        "polling_interval": 2,
        "maintenance_interval": 120,
        "archive_completed": 43_200,
        "queue_retention": 14 * 86_400,
    },
    11: {
        "retry_limit": 2,
        "expiry": 900,
        "retry_delay": 0,
        "retry_backoff": False,
        "batch_size": 1,
        "polling_interval": 2,
        "maintenance_interval": 60,
        "queue_retention": 14 * 86_400,
    },
}
"""By major version, durations in seconds; the newest stands for newer ones. From 11 on it supervises every minute."""

SENDS: Final = ("send", "sendAfter", "sendThrottled", "sendDebounced", "schedule")


class Ignored(NamedTuple):
    """Options that releases from `since` on, before `until`, ignore in these sources, and what they heed instead."""

    names: re.Pattern[str]
    since: int
    instead: str
    sources: frozenset[SettingSource] = frozenset(SettingSource)
    until: int = 10_000


_QUEUE: Final = frozenset({SettingSource.QUEUE})
_CONSTRUCTOR: Final = frozenset({SettingSource.CONSTRUCTOR})
IGNORED: Final = (
    Ignored(re.compile(r"^expireIn(Minutes|Hours)$"), 10, "expireInSeconds", _QUEUE),
    Ignored(re.compile(r"^retention(Seconds|Hours|Days)$"), 10, "retentionMinutes", _QUEUE, until=11),
    Ignored(re.compile(r"^expireIn(Minutes|Hours)$"), 11, "expireInSeconds"),
    Ignored(re.compile(r"^retention(Minutes|Hours|Days)$"), 11, "retentionSeconds of the queue"),
    Ignored(re.compile(r"^deleteAfter(Minutes|Hours|Days)$"), 11, "deleteAfterSeconds of the queue"),
    Ignored(re.compile(r"^archive(Completed|Failed)AfterSeconds$"), 11, "deleteAfterSeconds of the queue"),
    Ignored(re.compile(r"^maintenanceIntervalMinutes$"), 11, "superviseIntervalSeconds", _CONSTRUCTOR),
    Ignored(
        re.compile(r"^(retry\w+|(expireIn|retention|deleteAfter)Seconds)$"), 11, "options of createQueue", _CONSTRUCTOR
    ),
    Ignored(re.compile(r"^team(Size|Concurrency|Refill)$"), 10, "batchSize, or several calls of work()"),
    Ignored(re.compile(r"^newJobCheckInterval(Seconds)?$"), 10, "pollingIntervalSeconds"),
    Ignored(re.compile(r"^onComplete$"), 10, "deadLetter"),
)

LONGEST_EXPIRY_SECONDS: Final = 86_400.0
"""pg-boss refuses a longer expiry; 10 and 11 refuse this one too."""


def ignored_by(major: int | None, name: str, source: SettingSource) -> Ignored | None:
    """Answer why an option has no effect there; None where it has one, or the release is not known."""
    if major is None:
        return None
    return next(
        (
            entry
            for entry in IGNORED
            if entry.since <= major < entry.until and source in entry.sources and entry.names.match(name)
        ),
        None,
    )


def library_defaults(major: int | None) -> Mapping[str, float | bool]:
    """Answer the defaults of a release, empty where it is not known."""
    if major is None:
        return {}
    return DEFAULTS.get(major, DEFAULTS[11] if major > 11 else {})


def pgboss_major(facts: Facts) -> int | None:
    """Answer the major version of pg-boss that the repository uses; None where it uses none, or that is not told."""
    for package in sorted(facts.packages, key=lambda package: not package.locked):
        digits = "".join(sign if sign.isdigit() else " " for sign in package.version).split()
        if digits:
            return int(digits[0])
    return None
