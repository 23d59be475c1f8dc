"""Which release of a library holds for a file; what releases of pg-boss do unless told otherwise, or silently ignore.

The tables are from the sources of the releases, up to pg-boss 12.38.0, which newer ones are taken to be like;
`tests/contract/test_check_releases.py` asks installed ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from posixpath import dirname
from typing import Final, NamedTuple, TypeAlias

from job_harness.review.check.facts import PGBOSS, Dependency, Facts, Place, SettingSource

Version: TypeAlias = tuple[int, int, int]

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


_QUEUE: Final = frozenset({SettingSource.QUEUE, SettingSource.UPDATE})
_CONSTRUCTOR: Final = frozenset({SettingSource.CONSTRUCTOR})
IGNORED: Final = (
    Ignored(re.compile(r"^expireIn(Minutes|Hours)$"), 10, "expireInSeconds", _QUEUE),
    Ignored(re.compile(r"^retention(Seconds|Hours|Days)$"), 10, "retentionMinutes", _QUEUE, until=11),
    Ignored(re.compile(r"^expireIn(Minutes|Hours)$"), 11, "expireInSeconds"),
    Ignored(re.compile(r"^retention(Minutes|Hours|Days)$"), 11, "retentionSeconds of the queue"),
    Ignored(re.compile(r"^deleteAfter(Minutes|Hours|Days)$"), 11, "deleteAfterSeconds of the queue"),
    Ignored(re.compile(r"^archive(Completed|Failed)AfterSeconds$"), 11, "deleteAfterSeconds of the queue"),
    Ignored(re.compile(r"^maintenanceIntervalMinutes$"), 11, "superviseIntervalSeconds", _CONSTRUCTOR),
    Ignored(re.compile(r"^monitorStateInterval(Seconds|Minutes)$"), 11, "monitorIntervalSeconds", _CONSTRUCTOR),
    Ignored(re.compile(r"^clockMonitorIntervalMinutes$"), 11, "clockMonitorIntervalSeconds", _CONSTRUCTOR),
    Ignored(re.compile(r"^noSupervisor$"), 10, "supervise: false", _CONSTRUCTOR),
    Ignored(re.compile(r"^noScheduling$"), 10, "schedule: false", _CONSTRUCTOR),
    Ignored(re.compile(r"^singleton(Minutes|Hours)$"), 11, "singletonSeconds"),
    Ignored(re.compile(r"^useSingletonQueue$"), 10, "the policy of the queue"),
    Ignored(
        re.compile(r"^(retry\w+|(expireIn|retention|deleteAfter)Seconds)$"), 11, "options of createQueue", _CONSTRUCTOR
    ),
    Ignored(re.compile(r"^team(Size|Concurrency|Refill)$"), 10, "batchSize, or several calls of work()"),
    Ignored(re.compile(r"^newJobCheckInterval(Seconds)?$"), 10, "pollingIntervalSeconds"),
    Ignored(re.compile(r"^onComplete$"), 10, "deadLetter"),
)

LONGEST_EXPIRY_SECONDS: Final = 86_400.0
INCLUSIVE_SINCE: Final[Version] = (12, 28, 0)
"""From 10 on pg-boss refuses an expiry of more than a day; before this release it refuses a day too."""

_VERSION: Final = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,6}|x|\*))?(?:\.([0-9]{1,6}|x|\*))?")
_BELOW: Final = re.compile(r"<\s*([0-9]{1,6})(?:\.([0-9]{1,6}))?(?:\.([0-9]{1,6}))?")
"""The bound of a range such as `>=5.1,<6`; one that is included is taken for excluded."""
_NONE_BELOW: Final[Version] = (10_000, 0, 0)


class ReleaseSpan(NamedTuple):
    """The versions that a file may run with: from `low` on, before `high`; `place` says so."""

    low: Version
    high: Version
    place: Place
    written: str
    locked: bool = False

    @property
    def major(self) -> int:
        """The major version."""
        return self.low[0]


def span_of(written: str) -> tuple[Version, Version] | None:
    """Return the versions that a range allows, the second one excluded; None where that cannot be told."""
    text = written.strip().removeprefix("npm:").removeprefix("workspace:")
    found = _VERSION.search(text)
    if found is None or "||" in text or text.startswith(("<", "*", "latest", "file:", "link:", "git", "http")):
        return None
    major, minor, patch = (int(part) if part is not None and part.isdigit() else None for part in found.groups())
    if major is None:
        return None
    low = (major, minor or 0, patch or 0)
    if text.startswith(">"):
        below = _BELOW.search(text)
        return low, _NONE_BELOW if below is None else (int(below[1]), int(below[2] or 0), int(below[3] or 0))
    if text.startswith("^") and major == 0 and minor is not None:  # ^0.0.3 allows no other patch, ^0.0 any.
        return low, (0, minor + 1, 0) if minor or patch is None else (0, 0, patch + 1)
    if text.startswith("^") or minor is None:
        return low, (major + 1, 0, 0)
    if text.startswith(("~=", "~")) or patch is None:
        return low, (major + 1, 0, 0) if text.startswith("~=") and patch is None else (major, minor + 1, 0)
    return low, (low[0], low[1], low[2] + 1)


def satisfies(version: str, wanted: str) -> bool:
    """Tell whether a locked version is one of those that a range allows; what cannot be told is."""
    span, exact = span_of(wanted), span_of(version)
    return span is None or exact is None or span[0] <= exact[0] < span[1]


def _is_within(folder: str, path: str) -> bool:
    return not folder or path == folder or path.startswith(folder + "/")


def manifest_of(facts: Facts, file: str, library: str = PGBOSS) -> Dependency | None:
    """Return the nearest manifest above a file that asks for a library, or the only one that does anywhere."""
    asked = [one for one in facts.packages if one.library == library and not one.locked]
    above = [one for one in asked if _is_within(one.folder, dirname(file))]
    if above:
        return max(above, key=lambda one: len(one.folder))
    majors = {span[0][0] if (span := span_of(one.version)) is not None else None for one in asked}
    return asked[0] if len(majors) == 1 else None


def locks_of(facts: Facts, manifest: Dependency) -> list[Dependency]:
    """List what lock files settle for a manifest: those for its own folder, or else those of the folders above it."""
    locked = [one for one in facts.packages if one.library == manifest.library and one.locked]
    above = [one for one in locked if _is_within(one.folder, manifest.folder)]
    nearest = max((len(one.folder) for one in above), default=0)
    return [one for one in above if len(one.folder) == nearest]


def release_of(facts: Facts, file: str, library: str = PGBOSS) -> ReleaseSpan | None:
    """Return which release of a library a file runs with; None where nothing tells."""
    key = ("release", dirname(file), library, len(facts.packages))
    if key not in facts.worked_out:
        facts.worked_out[key] = _release_of(facts, file, library)
    found = facts.worked_out[key]
    return found if isinstance(found, ReleaseSpan) else None


def _release_of(facts: Facts, file: str, library: str) -> ReleaseSpan | None:
    manifest = manifest_of(facts, file, library)
    if manifest is None:
        locked = [one for one in facts.packages if one.library == library and one.locked]
        alone = len({one.version for one in locked}) == 1
        return _release(locked[0]) if alone and _is_within(locked[0].folder, dirname(file)) else None
    locks = [one for one in locks_of(facts, manifest) if satisfies(one.version, manifest.version)]
    return _release(locks[0] if locks else manifest)


def _release(package: Dependency) -> ReleaseSpan | None:
    span = span_of(package.version)
    return None if span is None else ReleaseSpan(*span, package.place, package.version, package.locked)


def ignored_by(major: int | None, name: str, source: SettingSource) -> Ignored | None:
    """Return why an option has no effect there; None where it has one, or the release is not known."""
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
    """Return the defaults of a release, empty where it is not known."""
    if major is None:
        return {}
    return DEFAULTS.get(major, DEFAULTS[11] if major > 11 else {})


def pgboss_major(facts: Facts) -> int | None:
    """Return the major version of pg-boss that the whole repository uses; None where it uses none, or several."""
    files = {one.place.file for one in facts.packages if one.library == PGBOSS and not one.locked}
    files |= {one.place.file for one in facts.packages if one.library == PGBOSS} if not files else set()
    majors = {release.major for file in files if (release := release_of(facts, file)) is not None}
    return majors.pop() if len(majors) == 1 else None
