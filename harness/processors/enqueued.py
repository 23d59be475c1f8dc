"""What was enqueued, looked at by an assertion: matched in part, and the near misses where nothing matches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from harness.errors import UsageError, did_you_mean
from harness.model.duration import Duration, Instant, format_duration
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status
from harness.port import JobRequest

LARGEST = 2**31 - 1
"""What PostgreSQL's INTEGER holds."""
ANYTHING: Any = ...
"""Matches whatever is there."""
MOST_SHOWN = 3
LONGEST_VALUE = 120


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job as it was asked for."""

    request: JobRequest
    at: Instant

    @property
    def delay(self) -> Duration:
        """How long it was asked to wait."""
        return 0 if self.request.start_after is None else self.request.start_after - self.at


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
        told = [] if self.input is ANYTHING else [f"input {shown(self.input)}"]
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
    return [] if wanted == is_so else [f"{where} is {shown(is_so)}, wanted {shown(wanted)}"]


def shown(value: Any) -> str:
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
    """Answer a time of day as an instant of the run."""
    return (start_after - start) // timedelta(microseconds=1)  # type: ignore[no-any-return]


def path_differs(job: JobId, wanted: list[str], path: list[str], view: JobView) -> str | None:
    """Say how a job's path differs from the wanted one; a status that does not exist is named."""
    if wanted == path:
        return None
    unknown = [name for name in wanted if name not in set(Status)]
    lines = [f"{job} took another path", f"  wanted: {' -> '.join(wanted)}", f"  it was: {' -> '.join(path)}"]
    lines += [f"  there is no status {name!r}{did_you_mean(name, map(str, Status))}" for name in unknown]
    if view.error:
        lines.append(f"  attempts {view.attempts} of {view.max_attempts}, last error: {shown(view.error)}")
    return "\n".join(lines)
