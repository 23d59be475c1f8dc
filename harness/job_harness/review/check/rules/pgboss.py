"""Rules about pg-boss: what its release refuses, ignores or gets wrong, as far as the code meets it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from job_harness.errors import did_you_mean
from job_harness.review.check.facts import (
    PGBOSS,
    UNKNOWN,
    Facts,
    Handling,
    LongestWait,
    Place,
    QueueCall,
    Service,
    SettingSource,
    Value,
    is_aside,
)
from job_harness.review.check.finding import Breach, Related, Rule, Severity, tried_on
from job_harness.review.check.releases import (
    INCLUSIVE_SINCE,
    LONGEST_EXPIRY_SECONDS,
    SENDS,
    ReleaseSpan,
    Version,
    ignored_by,
    locks_of,
    pgboss_major,
    release_of,
    satisfies,
)
from job_harness.review.check.settings import (
    EffectiveSettings,
    meaning_of,
    number_of,
    standing,
    standings_of,
    write_seconds,
)

MOST_RELATED: Final = 5


def _calls(facts: Facts) -> list[QueueCall]:
    """List the calls of pg-boss, those of tests and examples last."""
    return sorted((call for call in facts.calls if call.library == PGBOSS), key=lambda call: call.aside)


def _weight(call: QueueCall, severity: Severity | None = None) -> Severity | None:
    return Severity.NOTE if call.aside else severity


def _aside(call: QueueCall) -> str:
    return " (in a test or an example)" if call.aside else ""


def _by_queue(calls: Iterable[QueueCall]) -> list[tuple[str, list[QueueCall]]]:
    """Put calls together by their queue; one whose queue cannot be told stands by its file."""
    groups: dict[str, list[QueueCall]] = {}
    for call in calls:
        groups.setdefault(call.queue if call.queue is not None else f" {call.place.file}", []).append(call)
    return list(groups.items())


def _others(calls: list[QueueCall]) -> tuple[Related, ...]:
    return tuple(Related(call.place, f"{call.method}(), likewise") for call in calls[1 : MOST_RELATED + 1])


class Bug(NamedTuple):
    """A mistake of released versions: the first that has it, the first that has not, and what it takes to meet it."""

    since: Version
    fixed: Version
    what: str
    source: str
    needs: Callable[[QueueCall], bool]
    severity: Severity = Severity.WARNING


def _schedules(call: QueueCall) -> bool:
    return call.method == "schedule"


def _sets(*names: str) -> Callable[[QueueCall], bool]:
    """Say whether a call sets an option for certain: one that it hands on from elsewhere may never be set."""
    unset = (False, None, UNKNOWN)
    return lambda call: any(name in call.options and call.options[name].value not in unset for name in names)


BUGS: Final = (
    Bug(
        (10, 0, 0),
        (10, 1, 4),
        "expire() fails forever once a retry collides with another",
        "timgit/pg-boss#492",
        lambda call: "policy" in call.options and call.options["policy"].value in ("stately", "singleton"),
    ),
    Bug(
        (10, 0, 0),
        (10, 1, 6),
        "schedule() drops retry and expiry options",
        "timgit/pg-boss#529",
        lambda call: _schedules(call) and any(re.match("retry|expire", name) for name in call.options),
    ),
    Bug(
        (11, 0, 0), (11, 0, 4), "a cron entry is sent at every poll, not once a slot", "timgit/pg-boss#592", _schedules
    ),
    Bug(
        (11, 0, 0),
        (11, 0, 8),
        "jobs in retry are never fetched again",
        "timgit/pg-boss#610",
        lambda call: call.method == "work",
    ),
    Bug(
        (11, 0, 0),
        (12, 5, 5),
        "exponential backoff adds instead of multiplying",
        "PR 677",
        _sets("retryBackoff"),
        Severity.NOTE,
    ),
    Bug((12, 0, 0), (12, 16, 0), "a saturated group at the head stops all others", "PR 756", _sets("groupConcurrency")),
)


def _bugs(facts: Facts) -> Iterator[Breach]:
    met: dict[tuple[Place, int], tuple[ReleaseSpan, list[QueueCall]]] = {}
    for call in _calls(facts):
        release = release_of(facts, call.place.file)
        if release is None or call.aside:
            continue
        for number, bug in enumerate(BUGS):
            if _has(release, bug) and bug.needs(call):
                met.setdefault((release.place, number), (release, []))[1].append(call)
    for (place, number), (release, calls) in met.items():
        bug = BUGS[number]
        fixed = ".".join(map(str, bug.fixed))
        yield Breach(
            place,
            f"pg-boss {release.written}: {bug.what} ({bug.source})",
            f"Upgrade to pg-boss {fixed} or later.",
            tuple(Related(call.place, f"is met here, by {call.method}()") for call in calls[:3]),
            bug.severity,
            subject=bug.source,
        )


def _has(release: ReleaseSpan, bug: Bug) -> bool:
    """Tell whether all versions that may run have the bug."""
    return bug.since <= release.low and release.high <= bug.fixed


def _disagree(facts: Facts) -> Iterator[Breach]:
    for manifest in [package for package in facts.packages if not package.locked]:
        locks = [lock for lock in locks_of(facts, manifest) if lock.folder == manifest.folder]
        for lock in locks:
            if satisfies(lock.version, manifest.version) or lock.place.file == manifest.place.file:
                continue
            right = [one for one in locks if satisfies(one.version, manifest.version)]
            also = "".join(f", and {one.place.file} {one.version}" for one in right[:1])
            yield Breach(
                lock.place,
                f"{manifest.place.file} asks for {manifest.library} {manifest.version}, and {lock.place.file} pins "
                f"{lock.version}{also}: which one runs depends on who installs",
                f"Reinstall, and keep one lock file{'' if right else ', the one that deployments read'}.",
                (Related(manifest.place, f"{manifest.library} {manifest.version}"),),
                Severity.NOTE if is_aside(lock.place.file) else None,
                subject=manifest.library,
            )


_NEEDS_A_QUEUE: Final = frozenset({*SENDS, "work", "fetch"})


def _created(facts: Facts) -> Iterator[Breach]:
    calls = _calls(facts)
    creations = [call for call in calls if call.method in ("createQueue", "updateQueue")]
    created = {name for call in creations for name in call.possible} | {call.queue for call in creations}
    unclear = next((call for call in creations if call.queue is None and not call.possible), None)
    wanted = [call for call in calls if call.method in _NEEDS_A_QUEUE and call.queue is not None]
    for queue, uses in _by_queue(call for call in wanted if call.queue not in created):
        release = release_of(facts, uses[0].place.file)
        if release is None or release.major < 10:
            continue
        first = next((call for call in uses if call.method in SENDS), uses[0])
        doubt = "" if unclear is None else f", unless {unclear.place} does, whose name cannot be determined"
        near = did_you_mean(queue, [name for name in created if name])
        yield Breach(
            first.place,
            f"nothing creates the queue {queue!r}{near}{doubt}: {_without_queue(release.major, uses)}{_aside(first)}",
            f"Call createQueue({queue!r}) before the first send() and work().",
            _others(uses),
            Severity.NOTE if first.aside or unclear is not None else None,
            subject=queue,
        )


def _without_queue(major: int, uses: list[QueueCall]) -> str:
    sent = any(call.method in SENDS and call.method != "schedule" for call in uses)
    planned = any(call.method == "schedule" for call in uses)
    worked = any(call.method not in SENDS for call in uses)
    if major == 10 and not planned:
        return "send() of pg-boss 10 answers null, and the job is lost" if sent else "its worker never gets a job"
    told = [*(["send() raises"] if sent and major > 10 else []), *(["schedule() raises"] if planned else [])]
    told += ["work() polls an error"] if worked and major > 10 else []
    return f"with pg-boss {major} {' and '.join(told)}"


def _dead_letters(facts: Facts) -> Iterator[Breach]:
    calls = _calls(facts)
    creations = [call for call in calls if call.method == "createQueue"]
    created = {name for call in creations for name in (call.queue, *call.possible) if name}
    unclear = any(call.queue is None and not call.possible for call in creations)
    seen: set[str] = set()
    for call in calls:
        named = call.options.get("deadLetter")
        release = release_of(facts, call.place.file)
        if named is None or not isinstance(named.value, str) or named.value in created | seen:
            continue
        if release is None or release.major < 10 or unclear:
            continue
        seen.add(named.value)
        yield Breach(
            named.place,
            f"nothing creates the queue {named.value!r}, which this names as its dead letter"
            f"{did_you_mean(named.value, sorted(created))}: {call.method} raises, or the job is never kept there"
            f"{_aside(call)}",
            f"Call createQueue({named.value!r}) before the first queue that names it.",
            severity=_weight(call),
            subject=named.value,
        )


_THAT_MATTER: Final = re.compile(r"^(retry|expire|retention|deadLetter|deleteAfter|heartbeat)")


def _arriving(facts: Facts) -> Iterator[Breach]:
    calls = _calls(facts)
    updates = [call for call in calls if call.method == "updateQueue"]
    if any(call.queue is None and not call.possible for call in updates):
        return
    updated = {name for call in updates for name in {*call.possible, call.queue}}
    wanted = [
        call
        for call in calls
        if call.method == "createQueue"
        and any(_THAT_MATTER.match(name) for name in call.options)
        and not ({call.queue, *call.possible} & updated - {None})
    ]
    for queue, uses in _by_queue(wanted):
        first = uses[0]
        options = [name for name in first.options if _THAT_MATTER.match(name) and "." not in name]
        name = "the queue" if first.queue is None else repr(queue)
        release = release_of(facts, first.place.file)
        refused = "policy" in first.options and release is not None and release.major > 10
        yield Breach(
            first.place,
            f"createQueue changes nothing if {name} already exists: a change of {', '.join(options)} never "
            f"reaches a database that was deployed before{_aside(first)}",
            f"Call updateQueue with the same options{', but for the policy,' * refused} right after createQueue.",
            _others(uses),
            _weight(first),
            subject=queue.strip(),
        )


def _policies_of_updates(facts: Facts) -> Iterator[Breach]:
    calls = _calls(facts)
    policies = {
        call.queue: call.options["policy"]
        for call in calls
        if call.method == "createQueue" and call.queue is not None and "policy" in call.options
    }
    for call in calls:
        release = release_of(facts, call.place.file) if call.method == "updateQueue" else None
        if release is None or release.major < 10:
            continue
        named = call.options.get("policy")
        created = policies.get(call.queue or "") if call.whole else None
        if release.major > 10 and named is not None:
            yield Breach(
                named.place,
                f"updateQueue raises if it names a policy, from pg-boss 11 on{_aside(call)}",
                "Leave the policy out; only createQueue sets it.",
                severity=_weight(call),
                subject=call.queue or "",
            )
        elif release.major == 10 and named is None and created is not None and created.value != "standard":
            yield Breach(
                call.place,
                f"updateQueue without a policy makes {call.queue!r} a standard queue again: pg-boss 10 treats a policy "
                f"that is not named as 'standard'{_aside(call)}",
                "Name the same policy in updateQueue.",
                (Related(created.place, "the policy that it has until then"),),
                _weight(call),
                subject=call.queue or "",
            )


_SOURCES: Final = {
    "new PgBoss": SettingSource.CONSTRUCTOR,
    "createQueue": SettingSource.QUEUE,
    "updateQueue": SettingSource.UPDATE,
    "work": SettingSource.WORK,
    **dict.fromkeys(SENDS, SettingSource.SEND),
}


def _heeded(facts: Facts) -> Iterator[Breach]:
    seen: set[tuple[str, str, str | None, str]] = set()
    for call in _calls(facts):
        source = _SOURCES.get(call.method)
        release = release_of(facts, call.place.file)
        if source is None or release is None:
            continue
        for name, value in call.options.items():
            ignored = ignored_by(release.major, name, source)
            key = (call.place.file, call.method, call.queue, name)
            if ignored is None or key in seen:
                continue
            seen.add(key)
            yield Breach(
                value.place,
                f"pg-boss {release.major} ignores {name} in {call.method}, without a word{_aside(call)}",
                f"Write {ignored.instead}.",
                severity=_weight(call),
                subject=f"{call.method} {call.queue or ''} {name}",
            )


def _seconds(value: Value) -> float | None:
    meaning = meaning_of(value.name, option=True)
    number = number_of(value.value)
    return None if meaning is None or meaning.setting != "expiry" or number is None else number * meaning.unit


def _accepted(facts: Facts) -> Iterator[Breach]:
    seen: set[Place] = set()
    for call in _calls(facts):
        release = release_of(facts, call.place.file)
        if release is None or release.major < 10 or call.method == "options":
            continue
        for value in call.options.values():
            seconds = _seconds(value)
            if seconds is None or not _is_refused(seconds, release) or value.place in seen:
                continue
            seen.add(value.place)
            open_end = seconds == LONGEST_EXPIRY_SECONDS and release.high > INCLUSIVE_SINCE
            limit = "more than a day" if seconds > LONGEST_EXPIRY_SECONDS else "a day or more"
            yield Breach(
                value.place,
                f"{value.name} of {call.method}() is {write_seconds(seconds)}, and pg-boss {release.written} raises at "
                f"{limit} ({'from 12.28 on it takes a whole day' if release.major == 12 else 'the limit is 24 hours'})"
                f"{_aside(call)}",
                _in_seconds(call, value.name)
                or "Set an expiry below 24 hours, and extend the lease of jobs that take longer.",
                (Related(release.place, f"pg-boss {release.written}"),),
                Severity.NOTE if call.aside or open_end else None,
                subject=f"{call.method} {call.queue or ''}",
            )


def _is_refused(seconds: float, release: ReleaseSpan) -> bool:
    exact = seconds == LONGEST_EXPIRY_SECONDS and release.low < INCLUSIVE_SINCE
    return release.major >= 10 and (seconds > LONGEST_EXPIRY_SECONDS or exact)


def _in_seconds(call: QueueCall, name: str) -> str:
    """Say how a number of milliseconds is written in seconds; nothing where it is none."""
    written = call.options.get(f"{name}.milliseconds") or call.options.get(f"{name}.perhaps_milliseconds")
    if written is None:
        return ""
    number = call.options[name].value
    if re.fullmatch(r"[\d_]+", str(written.value)) and isinstance(number, (int, float)):
        return f"pg-boss counts seconds: write {number / 1000:.15g}."
    return f"pg-boss counts seconds: write ({written.value}) / 1000."


def _milliseconds(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts):
        release = release_of(facts, call.place.file)
        for name, value in call.options.items():
            stem, _, told = name.rpartition(".")
            if release is None or told not in ("milliseconds", "perhaps_milliseconds") or call.method == "options":
                continue
            seconds = number_of(call.options[stem].value)
            if seconds is not None and stem == "expireInSeconds" and _is_refused(seconds, release):
                continue  # expiry_refused says so.
            holds = "holds" if told == "milliseconds" else "seems to be a number of"
            length = "" if seconds is None else f", {write_seconds(seconds)} instead of {write_seconds(seconds / 1000)}"
            yield Breach(
                value.place,
                f"{stem} of {call.method}() is counted in seconds, and {value.value} {holds} milliseconds: it is 1000 "
                f"times as long as intended{length}{_aside(call)}",
                _in_seconds(call, stem),
                severity=_weight(call, None if told == "milliseconds" else Severity.WARNING),
                subject=f"{call.method} {call.queue or ''} {stem}",
            )


_BY_TIME: Final = frozenset({"singletonSeconds", "singletonMinutes", "singletonHours"})
_KEYED: Final = frozenset({"send", "sendAfter", "publish", "schedule", "options"})


def _inert(facts: Facts) -> Iterator[Breach]:
    calls = _calls(facts)
    creations = [call for call in calls if call.method in ("createQueue", "updateQueue")]
    keyed = [
        call
        for call in calls
        if call.method in _KEYED
        and "singletonKey" in call.options
        and call.options["singletonKey"].value is not None
        and not _BY_TIME & call.options.keys()
    ]
    sent = {call.place.file for call in keyed if call.method != "options"}
    keyed = [call for call in keyed if call.method != "options" or call.place.file not in sent or not call.whole]
    for queue, uses in _by_queue(call for call in keyed if not _has_policy(call, creations, facts)):
        first = uses[0]
        release = release_of(facts, first.place.file)
        if release is None or release.major < 10:
            continue
        place = first.options["singletonKey"].place
        policies = "short, singleton or stately" if release.major == 10 else "short, singleton, stately or exclusive"
        named = f"of {queue!r} " if first.queue is not None else ""
        yield Breach(
            place,
            f"singletonKey {named}does nothing: pg-boss {release.major} uses it only with singletonSeconds, or in a "
            f"queue with the policy {policies}. Two sends with the same key make two jobs{_aside(first)}",
            "Create the queue with such a policy ('short' keeps one waiting job a key), or add singletonSeconds.",
            tuple(Related(call.options["singletonKey"].place, "likewise") for call in uses[1 : MOST_RELATED + 1]),
            _weight(first),
            subject=queue.strip(),
        )


def _has_policy(call: QueueCall, creations: list[QueueCall], facts: Facts) -> bool:
    """Tell whether the queue may have a policy that heeds a key; what cannot be told may."""
    named = [one for one in facts.calls if one.method == "policy"]  # A package may describe the queues of another.
    about = [one for one in creations if call.queue is not None and call.queue in {one.queue, *one.possible}]
    if named and (not about or not all(one.whole for one in about)):
        return True
    if not about:
        about = [one for one in creations if call.queue is None or (one.queue is None and not one.possible)]
    return any(_keeps_keys(one) for one in about)


def _keeps_keys(creation: QueueCall) -> bool:
    policy = creation.options.get("policy")
    if policy is None or policy.value == "standard":
        return not creation.whole
    return True


def _outlived(facts: Facts) -> Iterator[Breach]:
    if any(
        meaning.setting == "heartbeat" for value in facts.values if (meaning := meaning_of(value.name, option=True))
    ):
        return
    for handling in facts.handlings:
        if release_of(facts, handling.place.file) is None:
            continue
        everywhere = [one for service in _setting(facts) for one in standings_of(facts, service, handling.queue)]
        known = [one for one in everywhere if one.get("expiry") is not None]
        here = min(known, key=lambda one: _value_of(one, "expiry"), default=None)
        if here is None:
            continue
        for told, weight, how in (
            (handling.called, Severity.WARNING, "its handler may wait"),
            (handling.imported, Severity.NOTE, "code that its handler imports may wait"),
        ):
            waits = [one for wait in told for one in _as_set(wait, facts)]
            longest = max(waits, key=lambda wait: _in_all(wait, here), default=None)
            if longest is not None and _in_all(longest, here) > _value_of(here, "expiry"):
                yield _outliving(handling, here, longest, weight, how)
                break


def _setting(facts: Facts) -> list[Service | None]:
    """List the services that set a variable which code takes a setting from; None where none does."""
    read = {value.variable for value in facts.values}
    setting: list[Service | None] = [one for one in facts.services if read & one.values.keys()]
    return setting or [None]


def _as_set(wait: LongestWait, facts: Facts) -> list[LongestWait]:
    """Return a wait as the services set it that set its variable, the shortest; none where that is unknown."""
    told = [one.values[wait.variable] for one in facts.services if wait.variable in one.values]
    numbers = [(number_of(value.value), value.place) for value in told]
    known = [(number * wait.factor, place) for number, place in numbers if number is not None]
    if len(known) < len(told):
        return []
    seconds, place = min(known, default=(wait.seconds, wait.place))
    return [replace(wait, seconds=seconds, place=place)]


def _value_of(here: EffectiveSettings, name: str) -> float:
    setting = here.get(name)
    return 0.0 if setting is None else setting.value


def _jobs_of(wait: LongestWait, here: EffectiveSettings) -> float:
    """Return for how many jobs a handler waits so on one lease; `batch_outlives_expiry` counts them for JOB_TIMEOUT."""
    meaning = meaning_of(wait.name)
    counted = meaning is not None and meaning.setting == "job_timeout" and here.get("job_timeout") is not None
    return 1.0 if counted or not wait.each else max(1.0, _value_of(here, "batch_size"))


def _in_all(wait: LongestWait, here: EffectiveSettings) -> float:
    return wait.seconds * _jobs_of(wait, here)


ROOM_SECONDS: Final = 60.0
"""What an advised expiry leaves for everything but the wait."""


def _outliving(handling: Handling, here: EffectiveSettings, wait: LongestWait, weight: Severity, how: str) -> Breach:
    expiry, size = here.get("expiry"), here.get("batch_size")
    assert expiry is not None
    jobs, whole = _jobs_of(wait, here), _in_all(wait, here)
    told = "" if jobs == 1 else f" for each of {jobs:.15g} jobs, one after the other, {write_seconds(whole)} in all"
    return Breach(
        handling.place,
        f"{handling.queue!r} takes a job back after {expiry.length}, and {how} {write_seconds(wait.seconds)}{told} "
        f"({wait.name} at {wait.place}): a second worker runs the job meanwhile",
        _longer(handling.queue, wait, jobs, whole + ROOM_SECONDS),
        (
            Related(wait.place, f"{wait.name} is {write_seconds(wait.seconds)}"),
            *here.related(expiry, size if jobs > 1 else None),
        ),
        weight,
        subject=handling.queue,
    )


def _longer(queue: str, wait: LongestWait, jobs: float, needed: float) -> str:
    """Say what to set: for a batch, an expiry of one job is no repair unless jobs are taken one at a time."""
    one = f"{math.ceil(wait.seconds + ROOM_SECONDS)}"
    if jobs == 1:
        return f"Set expireInSeconds of {queue!r} to {one} or more, or wait for less time."
    all_of_them = f"or to {math.ceil(needed)} for {jobs:.15g} jobs at a time"
    if needed > LONGEST_EXPIRY_SECONDS:
        all_of_them = (
            f"for {jobs:.15g} at a time would need {write_seconds(needed)}, and pg-boss refuses more than a day"
        )
    return f"Set batchSize to 1 and expireInSeconds of {queue!r} to {one} or more; {all_of_them}."


def _one_at_a_time(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts):
        single = call.options.get("handler.single")
        release = release_of(facts, call.place.file)
        if call.method != "work" or single is None or release is None or release.major < 10:
            continue
        yield Breach(
            single.place,
            f"pg-boss {release.major} hands an array of jobs to the handler{_of(call)}, but this treats it as one job: "
            f"its data is undefined, and the job completes or fails without doing anything{_aside(call)}",
            "Take the job out of the array: async ([job]) => ...",
            (Related(call.place, "is handed to work() here"),),
            _weight(call),
            subject=call.queue or "",
        )


def _dropped(facts: Facts) -> Iterator[Breach]:
    for call in _calls(facts):
        taken, size = call.options.get("handler.takes"), call.options.get("batchSize")
        release = release_of(facts, call.place.file)
        if call.method != "work" or taken is None or size is None or release is None or release.major < 10:
            continue
        if not isinstance(size.value, (int, float)) or not isinstance(taken.value, (int, float)):
            continue
        if size.value > taken.value:
            yield Breach(
                taken.place,
                f"the handler{_of(call)} handles {taken.value} of up to {size.value} jobs that it gets, but pg-boss "
                f"completes all of them: the others are never done{_aside(call)}",
                "Go through the whole array, or leave batchSize out.",
                (Related(size.place, f"batchSize {size.value}"),),
                _weight(call),
                subject=call.queue or "",
            )


def _of(call: QueueCall) -> str:
    return "" if call.queue is None else f" of {call.queue!r}"


def _archived(facts: Facts) -> Iterator[Breach]:
    if pgboss_major(facts) != 10 or not facts.users_tables:
        return
    makers = [call for call in _calls(facts) if call.method == "new PgBoss" and not call.aside]
    here = standing(facts, facts.services[0] if facts.services else None, "")
    table = next(iter(facts.users_tables))
    for call in makers[:1]:
        archive, kept = here.get("archive_completed"), here.get("retention")
        if archive is not None and archive.place is None:
            rows = f" for {kept.length}" if kept is not None else " longer"
            yield Breach(
                call.place,
                f"pg-boss 10 archives a completed job after {archive.length}, and its row of {table} stays{rows}: "
                "in between a row has no partner, and reconciling must not take that for a lost job",
                f"Set archiveCompletedAfterSeconds to the retention of {table}, or let reconcile look at COMPLETED "
                "rows only within it.",
                here.related(kept),
                subject="completed",
            )
        waiting = here.get("queue_retention")
        if waiting is not None and waiting.place is None:
            yield Breach(
                call.place,
                f"pg-boss 10 archives a job that was not claimed for {write_seconds(waiting.value)}, and its row "
                f"of {table} stays PENDING forever",
                "Set retentionMinutes of its queue, and let maintenance fail PENDING rows whose queue row is gone.",
                subject="waiting",
            )


RULES: Final = (
    Rule(
        "singleton_key_inert",
        Severity.ERROR,
        "A singletonKey is used with singletonSeconds, or its queue has a policy that uses it (from pg-boss 10 on).",
        "The second send should be refused, but creates a second job: the mail goes out twice.",
        "Give the queue a policy, or add singletonSeconds.",
        "uniqueness/refused_while_the_first_waits.yaml",
        _inert,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "queue_never_created",
        Severity.ERROR,
        "Every queue that is sent to or worked is created (pg-boss 10 and later).",
        "send() of 10 answers null and the job is lost; 11 and 12 raise, and a worker polls an error.",
        "Call createQueue before the first send.",
        "uniqueness/refused_while_the_first_waits.yaml",
        _created,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "dead_letter_never_created",
        Severity.ERROR,
        "Every queue that is named as a dead letter is created (pg-boss 10 and later).",
        "createQueue raises, so the service does not start; send() raises too, but not in every release.",
        "Create the dead letter's queue first.",
        "uniqueness/refused_while_the_first_waits.yaml",
        _dead_letters,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "queue_options_never_arrive",
        Severity.WARNING,
        "Options of createQueue are also given to updateQueue.",
        "An expiry or a retry limit that was edited in code stays what it was in every database that exists.",
        "Call updateQueue too.",
        "scheduling/options_are_kept.yaml",
        _arriving,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "policy_in_update",
        Severity.ERROR,
        "updateQueue names the policy of its queue in pg-boss 10, and none from 11 on.",
        "In 10 a queue without its policy accepts jobs that should be refused: the mail goes out twice. From 11 on "
        "the call raises, and the service does not start.",
        "Name the same policy in updateQueue, or from 11 on leave it out.",
        "uniqueness/refused_while_the_first_waits.yaml",
        _policies_of_updates,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "option_ignored",
        Severity.ERROR,
        "Every option is given where this release of pg-boss reads it.",
        "The default applies silently: 2 retries and an expiry of 15 minutes.",
        "Write the option that this release knows, where it knows it.",
        "scheduling/options_are_kept.yaml",
        _heeded,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "expiry_refused",
        Severity.ERROR,
        "The expiry is within 24 hours: pg-boss raises at more, and before 12.28 at 24 hours too.",
        "The service does not start, or send() raises and every job of that queue is lost.",
        "Set an expiry below 24 hours.",
        "configuration/workers_disabled.yaml",
        _accepted,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "pgboss_milliseconds",
        Severity.ERROR,
        "retryDelay, startAfter, expireInSeconds and the like are in seconds.",
        "A retry that was meant to come after two minutes comes after 33 hours.",
        "Divide by 1000.",
        "retries/backoff_doubles.yaml",
        _milliseconds,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "handler_takes_one_job",
        Severity.ERROR,
        "From pg-boss 10 on a handler takes an array of jobs.",
        "job.data is undefined: the handler fails at every job, or does nothing and the job counts as completed.",
        "Write async ([job]) => ...",
        "configuration/workers_disabled.yaml",
        _one_at_a_time,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "handler_drops_jobs",
        Severity.ERROR,
        "A handler that receives several jobs handles all of them (pg-boss 10 and later).",
        "async ([job]) => ... with batchSize 20 runs one job, and completes the other 19 without running them.",
        "Go through the whole array, or leave batchSize out.",
        "configuration/workers_disabled.yaml",
        _dropped,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "handler_outlives_expiry",
        Severity.WARNING,
        "The longest wait in a handler's code is shorter than its queue's expiry; for a batch that is "
        "handled one job after the other, the waits of all its jobs together are.",
        "The queue takes the job back while it runs; a second worker runs it too.",
        "Raise the queue's expiry above the wait, take one job at a time, or wait for less time.",
        "configuration/expiry_leaves_room_to_settle.yaml",
        _outlived,
        ran=tried_on(PGBOSS),
    ),
    Rule(
        "pgboss_version",
        Severity.WARNING,
        "The release of pg-boss has no known lifecycle bug that affects this repository.",
        "Retries that never come, expiry that stops forever, cron entries that fire twice or not at all.",
        "Upgrade pg-boss.",
        "retries/backoff_doubles.yaml",
        _bugs,
    ),
    Rule(
        "package_versions_disagree",
        Severity.WARNING,
        "A lock file pins a version that its manifest allows.",
        "A deployment runs another major release than the code was written for: options are ignored, queues missing.",
        "Reinstall, and keep one lock file.",
        "scheduling/options_are_kept.yaml",
        _disagree,
    ),
    Rule(
        "archived_before_its_row",
        Severity.NOTE,
        "The queue keeps a job as long as the application keeps its row; pg-boss 10 archives after 12 h and 14 days.",
        "Rows have no partner: reconciling takes them for lost jobs, or a PENDING row waits forever.",
        "Set archiveCompletedAfterSeconds and the retention of the queue.",
        "tables/purge_deletes_both_rows.yaml",
        _archived,
    ),
)
"""Rules about pg-boss."""
