"""Rules about pg-boss."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from harness.lint.facts import Dependency, Facts, SettingSource
from harness.lint.finding import Breach, Related, Rule, Severity
from harness.lint.releases import LONGEST_EXPIRY_SECONDS, SENDS, ignored_by, pgboss_major
from harness.lint.settings import spoken, standing, standings

Version: TypeAlias = tuple[int, int, int]
_VERSION: Final = re.compile(r"(\d+)(?:\.(\d+|x|\*))?(?:\.(\d+|x|\*))?")


class Bug(NamedTuple):
    """A mistake of released versions: the first that has it, the first that has not, and what it takes to meet it."""

    since: Version
    fixed: Version
    what: str
    source: str
    method: str = ""
    option: str = ""


BUGS: Final = (
    Bug((10, 0, 0), (10, 1, 4), "expire() fails for ever once a retry collides with another", "timgit/pg-boss#492"),
    Bug((10, 0, 0), (10, 1, 6), "schedule() drops retry and expiry options", "timgit/pg-boss#529", "schedule"),
    Bug(
        (11, 0, 0), (11, 0, 4), "a cron entry is sent at every poll, not once a slot", "timgit/pg-boss#592", "schedule"
    ),
    Bug((11, 0, 0), (11, 0, 8), "jobs in retry are never fetched again", "timgit/pg-boss#610"),
    Bug((11, 0, 0), (12, 5, 5), "exponential backoff adds instead of multiplying", "PR 677", "", "retryBackoff"),
    Bug((5, 0, 0), (12, 26, 0), "a cron never fires where the database's clock is ahead", "PR 843", "schedule"),
    Bug((12, 0, 0), (12, 16, 0), "a saturated group at the head stops all others", "PR 756", "", "groupConcurrency"),
)


def span_of(written: str) -> tuple[Version, Version] | None:
    """Answer the versions that a range allows, the second one excluded; None where that cannot be told."""
    text = written.strip().removeprefix("npm:").removeprefix("workspace:")
    found = _VERSION.search(text)
    if found is None or "||" in text or text.startswith(("<", "*", "latest", "file:", "link:", "git")):
        return None
    major, minor, patch = (int(part) if part is not None and part.isdigit() else None for part in found.groups())
    if major is None:
        return None
    low = (major, minor or 0, patch or 0)
    if text.startswith("^") or minor is None:
        return low, (major + 1, 0, 0)
    if text.startswith("~") or patch is None:
        return low, (major, minor + 1, 0)
    if text.startswith(">"):
        return low, (10_000, 0, 0)
    return low, (low[0], low[1], low[2] + 1)


def _packages(facts: Facts) -> list[Dependency]:
    locked = [package for package in facts.packages if package.locked]
    return locked or facts.packages


def _bugs(facts: Facts) -> Iterator[Breach]:
    for package in _packages(facts):
        span = span_of(package.version)
        if span is None:
            continue
        low, high = span
        for bug in BUGS:
            if not (bug.since <= low and high <= bug.fixed) and not (low == bug.since and high <= bug.fixed):
                continue
            met = [call.place for call in facts.calls if _meets(bug, call.method, call.options)]
            if (bug.method or bug.option) and not met:
                continue
            fixed = ".".join(map(str, bug.fixed))
            yield Breach(
                package.place,
                f"pg-boss {package.version}: {bug.what} ({bug.source})",
                f"Upgrade to pg-boss {fixed} or later.",
                tuple(Related(place, "is met here") for place in met[:3]),
            )


def _meets(bug: Bug, method: str, options: tuple[str, ...]) -> bool:
    return (bool(bug.method) and method == bug.method) or (bool(bug.option) and bug.option in options)


def _created(facts: Facts) -> Iterator[Breach]:
    major = pgboss_major(facts)
    creations = [call for call in facts.calls if call.method == "createQueue"]
    if major != 10 or any(call.queue is None for call in creations):
        return
    created = {call.queue for call in creations}
    for call in facts.calls:
        if call.method in SENDS and call.method != "schedule" and call.queue is not None and call.queue not in created:
            yield Breach(
                call.place,
                f"nothing creates the queue {call.queue!r}: pg-boss 10 then answers null, and the job is lost",
                f"Call createQueue({call.queue!r}) before the first send, or upgrade to pg-boss 11, which raises.",
            )


_THAT_MATTER: Final = re.compile(r"^(retry|expire|retention|deadLetter|deleteAfter|heartbeat)")


def _arriving(facts: Facts) -> Iterator[Breach]:
    updates = [call for call in facts.calls if call.method == "updateQueue"]
    if any(call.queue is None for call in updates):
        return
    updated = {call.queue for call in updates}
    for call in facts.calls:
        options = [name for name in call.options if _THAT_MATTER.match(name)]
        if call.method == "createQueue" and options and (call.queue is None or call.queue not in updated):
            name = "the queue" if call.queue is None else repr(call.queue)
            yield Breach(
                call.place,
                f"createQueue changes nothing where {name} exists already: an edit of {', '.join(options)} never "
                "reaches a database that was deployed before",
                "Call updateQueue with the same options right after createQueue.",
            )


_SOURCES: Final = {
    "new PgBoss": SettingSource.CONSTRUCTOR,
    "createQueue": SettingSource.QUEUE,
    "updateQueue": SettingSource.QUEUE,
    "work": SettingSource.WORK,
    **dict.fromkeys(SENDS, SettingSource.SEND),
}


def _heeded(facts: Facts) -> Iterator[Breach]:
    major = pgboss_major(facts)
    for call in facts.calls:
        source = _SOURCES.get(call.method)
        for name in call.options if source is not None else ():
            ignored = ignored_by(major, name, source) if source is not None else None
            if ignored is not None:
                same = [value.place for value in facts.values if value.name == name and value.source is source]
                near = [place for place in same if place.file == call.place.file and place.line >= call.place.line]
                yield Breach(
                    near[0] if near else call.place,
                    f"pg-boss {major} ignores {name} in {call.method}, without a word",
                    f"Write {ignored.instead}.",
                )


def _accepted(facts: Facts) -> Iterator[Breach]:
    major = pgboss_major(facts)
    for here in standings(facts) if major is not None and major >= 10 else ():
        expiry = here.get("expiry")
        if expiry is None or expiry.place is None or expiry.source is SettingSource.COLUMN:
            continue
        refused = expiry.value > LONGEST_EXPIRY_SECONDS or (
            expiry.value == LONGEST_EXPIRY_SECONDS and major in (10, 11)
        )
        if refused:
            yield Breach(
                expiry.place,
                f"{expiry} is {expiry.length}, and pg-boss {major} raises at an expiry of a day or more",
                "Set an expiry below 24 hours, and extend leases of jobs that take longer.",
            )


def _archived(facts: Facts) -> Iterator[Breach]:
    if pgboss_major(facts) != 10:
        return
    makers = [call for call in facts.calls if call.method == "new PgBoss"]
    here = standing(facts, facts.services[0] if facts.services else None, "")
    for call in makers:
        archive, kept = here.get("archive_completed"), here.get("retention")
        if archive is not None and archive.place is None:
            rows = kept.length if kept is not None else "7d"
            yield Breach(
                call.place,
                f"pg-boss 10 archives a completed job after {archive.length}, and its tool_job stays for {rows}: "
                "in between a row has no partner, and reconciling must not take that for a lost job",
                "Set archiveCompletedAfterSeconds to the retention of tool_job, or let reconcile look at COMPLETED "
                "rows only within it.",
                here.related(kept),
            )
        waiting = here.get("queue_retention")
        if waiting is not None and waiting.place is None:
            yield Breach(
                call.place,
                f"pg-boss 10 archives a job that nobody claimed for {spoken(waiting.value)}, and its tool_job stays "
                "PENDING for ever",
                "Set retentionDays, and let maintenance fail PENDING rows whose queue row is gone.",
            )


RULES: Final = (
    Rule(
        "pgboss_version",
        Severity.WARNING,
        "The version of pg-boss has no known lifecycle bug that this repository can meet.",
        "Retries that never come, expiry that stops for ever, crons that fire twice or not at all.",
        "Upgrade pg-boss.",
        "retries/backoff_doubles.yaml",
        _bugs,
    ),
    Rule(
        "queue_never_created",
        Severity.ERROR,
        "With pg-boss 10, every queue that is sent to is created.",
        "send() answers null, and the job is lost without an error.",
        "Call createQueue before the first send.",
        "uniqueness/refused_while_the_first_waits.yaml",
        _created,
    ),
    Rule(
        "queue_options_never_arrive",
        Severity.WARNING,
        "Options of createQueue are also given to updateQueue.",
        "An expiry or a retry limit that was edited in code stays what it was in every database that exists.",
        "Call updateQueue too.",
        "scheduling/options_are_kept.yaml",
        _arriving,
    ),
    Rule(
        "option_ignored",
        Severity.ERROR,
        "Every option is one that this release of pg-boss heeds at that place.",
        "The default holds instead, without a word: 2 retries and an expiry of 15 minutes.",
        "Write the option that this release knows, where it knows it.",
        "scheduling/options_are_kept.yaml",
        _heeded,
    ),
    Rule(
        "expiry_refused",
        Severity.ERROR,
        "The expiry is below a day: pg-boss raises at longer ones.",
        "The service does not start, or send() raises.",
        "Set an expiry below 24 hours.",
        "configuration/workers_disabled.yaml",
        _accepted,
    ),
    Rule(
        "archived_before_its_row",
        Severity.NOTE,
        "The queue keeps a job as long as tool_job keeps its row (pg-boss 10 archives after 12 hours and 14 days).",
        "Rows without partner: reconciling takes them for lost jobs, or a PENDING row waits for ever.",
        "Set archiveCompletedAfterSeconds and retentionDays.",
        "tables/purge_deletes_both_rows.yaml",
        _archived,
    ),
)
"""Rules about pg-boss."""
