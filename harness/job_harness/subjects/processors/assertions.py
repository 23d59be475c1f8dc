"""What a test says about its jobs: what was enqueued, which path a job took, what was done, what is yet to come.

Holds the counts of a drain, and how an assertion matches: in part, with the nearest misses shown
where nothing matches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from job_harness.core.history import Effect, Event, History, Observed
from job_harness.core.model import SECOND, TERMINAL, Duration, Instant, JobId, JobView, Status, format_duration
from job_harness.core.sim.loop import Deadlock
from job_harness.errors import UsageError, available, did_you_mean
from job_harness.subjects.processors.delivery import RESERVED, look_at_externals
from job_harness.subjects.processors.job_book import Accepted, JobBook, JobHandle
from job_harness.subjects.processors.length import Length, Moment, read_length

if TYPE_CHECKING:
    from job_harness.subjects.processors.bench import Bench
    from job_harness.subjects.processors.own_checks import OwnChecks


class Looked(TypedDict, total=False):
    """What a test may look for in a job that was enqueued; what is left out is left open."""

    input: Any
    """A dictionary matches one with more keys; `...` matches anything."""
    priority: int
    unique_key: str
    max_attempts: int
    start_after: Moment
    """A length counts from when the job was enqueued."""
    within: Length
    """How far off `start_after` may be; one second where it is left out."""
    status: str


class Assertions:
    """The part of `JobHarness` that only looks; every failure is an AssertionError that says what was there."""

    bench: Bench
    book: JobBook
    checks: OwnChecks

    def all_enqueued(self, slug: str | None = None, **wanted: Unpack[Looked]) -> list[JobHandle]:
        """List the matching jobs that were enqueued in this test, in any status, oldest first.

        `input` (a dictionary matches one with more keys, `...` anything), `priority`, `unique_key`, `max_attempts`,
        `status`, and `start_after`: a length counts from when the job was enqueued; it may be off by `within` (1 s).
        """
        found = matching(self._wanted(slug, wanted), self.book.jobs())
        self.book.looked = True
        self.book.seen.update(found)
        return [self.book.handle(job) for job in found]

    def assert_enqueued(
        self, slug: str | None = None, *, count: int | None = None, **wanted: Unpack[Looked]
    ) -> JobHandle:
        """Return the first job that matches, as `all_enqueued` does. Raises AssertionError with the near misses.

        With `count`, exactly this many have to match.
        """
        looked_for = self._wanted(slug, wanted)
        found = matching(looked_for, self.book.jobs())
        if not found:
            known = [*self.bench.application.registry.get_registered_tools(), *self.book.tasks]
            raise AssertionError(nothing_matches(looked_for, self.book.jobs(), known=known))
        if count is not None and len(found) != count:
            raise AssertionError(f"expected {count} enqueued {looked_for}, found {len(found)}: {', '.join(found)}")
        self.book.seen.update(found)
        return self.book.handle(found[0])

    def refute_enqueued(self, slug: str | None = None, **wanted: Unpack[Looked]) -> None:
        """Raise AssertionError if a job matches, as in `all_enqueued`.

        Raises UsageError for a tool that is not registered, since no job could ever be enqueued for
        it.
        """
        known = [*self.bench.application.registry.get_registered_tools(), *self.book.tasks]
        if slug is not None and slug not in known:
            raise UsageError(
                f"no processor is registered for the tool {slug!r}{did_you_mean(slug, known)}",
                hint="Nothing can be enqueued for it, so this could never fail.",
            )
        looked_for = self._wanted(slug, wanted)
        found = matching(looked_for, self.book.jobs())
        self.book.looked = True
        if found:
            told = [f"    {job}: input {write_value(self.book.accepted[job].request.input)}" for job in found]
            raise AssertionError("\n".join([f"a {looked_for} was enqueued", *told]))

    def assert_path(self, job: JobHandle | JobId, path: list[str]) -> None:
        """Raise AssertionError if a job has gone through other statuses so far."""
        name = self.book.id_of(job)
        problem = path_differs(name, list(path), self.history.path(name), self.book.look(name))
        if problem is not None:
            raise AssertionError(problem)

    def status(self, job: JobHandle | JobId) -> Status:
        """Return a job's status. Raises UsageError for an unknown job."""
        view = self.book.look(self.book.id_of(job))
        assert view.status is not None, "the reference writes both rows at once"
        return view.status

    def effects(self, name: str | None = None, *, job: JobHandle | JobId | None = None) -> list[Effect]:
        """List the side effects that processors declared, in order: each with its time, job, attempt and data."""
        whose = None if job is None else self.book.id_of(job)
        self.book.looked = True
        if not self.checks.at_work:
            look_at_externals(name)
        elif name is not None:
            self.checks.asked_for.add(name)
        self.book.seen.update(self.book.accepted if whose is None else [whose])
        return [
            event
            for event in self.history
            if type(event) is Effect
            and event.name not in RESERVED
            and name in (None, event.name)
            and whose in (None, event.job)
        ]

    def wait_for(
        self, what: JobHandle | JobId | Callable[[], object], status: str | None = None, *, within: Length = "1d"
    ) -> None:
        """Let time pass until a job has ended, or has a status, or a function returns true.

        Raises AssertionError if that takes longer than `within`, with what was there instead.
        """
        job = None if callable(what) else self.book.id_of(what)
        if status is not None and (job is None or status not in set(Status)):
            problem = (
                "a status needs a job"
                if job is None
                else f"there is no status {status!r}{did_you_mean(str(status), Status)}"
            )
            raise UsageError(f"wait_for(): {problem}", hint=f"Pass a job and one of {', '.join(Status)}.")
        deadline = self.bench.loop.time() + read_length(within) / SECOND
        self.book.seen.update(self.book.accepted if job is None else [job])

        def holds() -> bool:
            if job is None:
                return bool(what())  # type: ignore[operator]  # it is a function
            now = self.book.view(job).status
            return now in TERMINAL if status is None else now == status

        timer = self.bench.loop.call_at(deadline, lambda: None)
        try:
            self.bench.work(None, lambda: holds() or self.bench.loop.time() >= deadline, at_once=False)
        except Deadlock:
            pass  # Nothing is due any more; what was waited for is judged below.
        finally:
            timer.cancel()
        if not holds():
            raise AssertionError(self._waited_for(job, status, within=read_length(within)))
        if job is not None:
            self.book.look(job)

    def _waited_for(self, job: JobId | None, status: str | None, *, within: int) -> str:
        waited = f"within {format_duration(within)}, until {self.now}"
        if job is None:
            return f"what was waited for did not come {waited}"
        view = self.book.look(job)
        path = " -> ".join(self.history.path(job))
        lines = [
            f"{job} did not {'end' if status is None else f'become {status}'} {waited}",
            f"  it is {view.status}, attempts {view.attempts} of {view.max_attempts}, by {path}",
        ]
        return "\n".join([*lines, f"  last error: {write_value(view.error)}"] if view.error else lines)

    def _wanted(self, slug: str | None, looked: Looked) -> Wanted:
        for key in looked:
            if key not in Looked.__annotations__:
                known = list(Looked.__annotations__)
                raise UsageError(
                    f"a job has no {key!r}{did_you_mean(key, known)}",
                    hint=available(known),
                )
        status = looked.get("status")
        if status is not None and status not in set(Status):
            raise UsageError(f"there is no status {status!r}", hint=available(Status))
        start_after = looked.get("start_after")
        absolute = isinstance(start_after, datetime)
        return Wanted(
            slug=None if slug is None else self.book.tasks.get(slug, slug),
            input=looked.get("input", ANYTHING),
            priority=looked.get("priority"),
            unique_key=looked.get("unique_key"),
            max_attempts=looked.get("max_attempts"),
            delay=None if start_after is None or isinstance(start_after, datetime) else read_length(start_after),
            due=moment_of(start_after, start=self.bench.application.start) if absolute else None,
            within=read_length(looked.get("within", 1)),
            status=status,
        )

    @property
    def history(self) -> History:
        """Everything that was observed."""
        return self.bench.history

    @property
    def now(self) -> datetime:
        """The current virtual time, in UTC."""
        return self.bench.now


LARGEST = 2**31 - 1
"""What PostgreSQL's INTEGER holds."""
ANYTHING: Any = ...
"""Matches whatever is there."""
MOST_SHOWN = 3
LONGEST_VALUE = 120


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a test looks for; whatever is ANYTHING or None is left open."""

    slug: str | None = None
    input: Any = ANYTHING
    priority: int | None = None
    unique_key: str | None = None
    max_attempts: int | None = None
    delay: Duration | None = None
    """Asked to wait so long from when it was enqueued."""
    due: Instant | None = None
    """Not to be claimed before this instant of the run."""
    within: Duration = 0
    status: str | None = None

    def misses(self, job: Accepted, view: JobView) -> list[str]:
        """Say in what a job differs, the slug included."""
        request = job.request
        found: list[str] = []
        if self.slug is not None and request.tool != self.slug:
            found.append(f"its tool is {request.tool}")
        if self.input is not ANYTHING:
            found += differences(self.input, request.input, "input")
        for name in ("priority", "unique_key", "max_attempts"):
            wanted, is_so = getattr(self, name), getattr(request, name)
            if wanted is not None and wanted != is_so:
                found.append(f"{name} is {is_so!r}, wanted {wanted!r}")
        if self.status is not None and self.status != view.status:
            found.append(f"status is {view.status}, wanted {self.status}")
        return found + self._time_misses(job)

    def _time_misses(self, job: Accepted) -> list[str]:
        wanted, is_so = self.delay, job.delay
        if self.due is not None:
            wanted, is_so = self.due, job.at + job.delay
        if wanted is None or abs(is_so - wanted) <= self.within:
            return []
        off = format_duration(abs(is_so - wanted))
        later = "later" if is_so > wanted else "earlier"
        return [f"start_after is {off} {later} than wanted (within {format_duration(self.within)})"]

    def __str__(self) -> str:
        told = [] if self.input is ANYTHING else [f"input {write_value(self.input)}"]
        told += [
            f"{name} {value!r}"
            for name in ("priority", "unique_key", "max_attempts", "status")
            if (value := getattr(self, name)) is not None
        ]
        if self.delay is not None:
            told.append(f"start_after {format_duration(self.delay)}")
        elif self.due is not None:
            told.append("that start_after")
        what = "job" if self.slug is None else f"job of {self.slug!r}"
        return f"{what} with {', '.join(told)}" if told else what


def refuse_numbers(*, priority: Any, max_attempts: Any) -> None:
    """Raise UsageError for a number that no queue takes."""
    for name, value, least in (("priority", priority, -LARGEST), ("max_attempts", max_attempts, 1)):
        if value is None and name == "max_attempts":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
            raise UsageError(f"{name} is {value!r}; give a whole number from {least} to {LARGEST}")


def differences(wanted: Any, is_so: Any, where: str) -> list[str]:
    """Say where a value differs from one that it must contain: keys left out of a dictionary are not looked at."""
    if wanted is ANYTHING:
        return []
    if isinstance(wanted, Mapping) and isinstance(is_so, Mapping):
        found: list[str] = []
        for key, value in wanted.items():
            if key not in is_so:
                found.append(f"{where} has no {key!r}{did_you_mean(str(key), map(str, is_so))}")
            else:
                found += differences(value, is_so[key], f"{where}.{key}")
        return found
    if isinstance(wanted, list | tuple) and isinstance(is_so, list | tuple) and len(wanted) == len(is_so):
        pairs = enumerate(zip(wanted, is_so, strict=True))
        return [each for number, (one, other) in pairs for each in differences(one, other, f"{where}[{number}]")]
    return [] if wanted == is_so else [f"{where} is {write_value(is_so)}, wanted {write_value(wanted)}"]


def write_value(value: Any) -> str:
    """Write a value, the long ones cut."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


Jobs = Mapping[JobId, tuple[Accepted, JobView]]


def matching(wanted: Wanted, jobs: Jobs) -> list[JobId]:
    """List the jobs that match, in the order in which they were enqueued."""
    return [job for job, (accepted, view) in jobs.items() if not wanted.misses(accepted, view)]


def nothing_matches(wanted: Wanted, jobs: Jobs, *, known: Iterable[str]) -> str:
    """Say that no job matches, and which came near."""
    lines = [f"no {wanted} was enqueued"]
    misses = [(wanted.misses(accepted, view), job, accepted) for job, (accepted, view) in jobs.items()]
    near = sorted((each for each in misses if wanted.slug in (None, each[2].request.tool)), key=lambda m: len(m[0]))
    if near:
        lines.append("  near misses:")
        lines += [f"    {job} ({a.request.tool}): {'; '.join(why)}" for why, job, a in near[:MOST_SHOWN]]
        if len(near) > MOST_SHOWN:
            lines.append(f"    and {len(near) - MOST_SHOWN} more")
    elif wanted.slug is not None and wanted.slug not in set(known):
        lines.append(f"  there is no tool {wanted.slug!r}{did_you_mean(wanted.slug, known)}")
    counts = Counter(accepted.request.tool for accepted, _ in jobs.values())
    told = ", ".join(f"{count} of {tool}" for tool, count in counts.items())
    lines.append(f"  enqueued were: {told or 'none'}")
    return "\n".join(lines)


def moment_of(start_after: Any, *, start: datetime) -> Instant:
    """Return a time of day as an instant of the run."""
    return (start_after - start) // timedelta(microseconds=1)  # type: ignore[no-any-return]


def path_differs(job: JobId, wanted: list[str], path: list[str], view: JobView) -> str | None:
    """Say how a job's path differs from the wanted one; a status that does not exist is named."""
    if wanted == path:
        return None
    unknown = [name for name in wanted if name not in set(Status)]
    lines = [f"{job} took another path", f"  wanted: {' -> '.join(wanted)}", f"  it was: {' -> '.join(path)}"]
    lines += [f"  there is no status {name!r}{did_you_mean(name, map(str, Status))}" for name in unknown]
    if view.error:
        lines.append(f"  attempts {view.attempts} of {view.max_attempts}, last error: {write_value(view.error)}")
    return "\n".join(lines)


OUTCOMES = ("completed", "retried", "failed", "cancelled")

_OF_STATUS = {Status.COMPLETED: "completed", Status.FAILED: "failed", Status.CANCELLED: "cancelled"}


class Counts(dict[str, int]):
    """Outcome -> how many; equal to any dictionary that says the same, an outcome left out being 0."""

    def __init__(self, counts: dict[str, int], *, on_read: Callable[[], None] = lambda: None) -> None:
        super().__init__({outcome: counts.get(outcome, 0) for outcome in OUTCOMES})
        self._on_read = on_read

    def __getitem__(self, outcome: str) -> int:
        self._on_read()
        return super().__getitem__(outcome)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, dict):
            return NotImplemented
        self._on_read()
        return {k: n for k, n in self.items() if n} == {k: n for k, n in other.items() if n}

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = None  # mutable, like any dict


def count_outcomes(events: Iterable[Event]) -> dict[str, int]:
    """Count what happened to jobs in these events."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for event in events:
        outcome = _outcome(event)
        if outcome is not None:
            counts[outcome] += 1
    return counts


def _outcome(event: Event) -> str | None:
    if type(event) is not Observed or event.before is None or event.after is None:
        return None
    before, after = event.before.status, event.after.status
    if before is after:
        return None
    if after is Status.PENDING:
        return "retried" if before is Status.PROCESSING and event.verb != "release" else None
    return _OF_STATUS.get(after) if after is not None else None
