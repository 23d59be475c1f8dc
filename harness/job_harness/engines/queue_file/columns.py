"""What each column of `jobs` shows along a life that nothing disturbs, held against what it means to the harness.

A column that means something else, such as the first start of a job instead of that of its claim,
would be found in every run, and told as a mistake of the queue. Knows no connection, and no verb:
it compares rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from job_harness.core.invariants.clocks import ROUNDING, TOLERANCE
from job_harness.core.model import Design, Duration, Instant, Settings, format_duration
from job_harness.engines.queue_file.document import NEEDED
from job_harness.engines.queue_file.rows import instant_shown


class RowAt(NamedTuple):
    """The row of a job at one moment of its life."""

    moment: str
    """`sent`, `claimed`, `kept alive` by a heartbeat, `failed`, `claimed again` or `completed`."""
    at: Instant
    row: Mapping[str, Any]

    def instant(self, column: str) -> Instant | None:
        """Return what a column shows, where that is a time."""
        value = self.row.get(column)
        return instant_shown(value) if isinstance(value, datetime) else None


class Misread(NamedTuple):
    """A column that shows something else than it means."""

    told: str
    hint: str


class _Meaning(NamedTuple):
    """What a column means, and how to say that it shows something else."""

    column: str
    look: Callable[[Mapping[str, RowAt]], str | None]
    anomalies: tuple[str, ...]
    """What a search would have found of it: `without` names it where that is meant."""
    hint: str
    design: Design | None = None
    """The word by which it is right."""


def misread_columns(
    life: Sequence[RowAt], *, designs: Collection[Design], without: Collection[str]
) -> Iterator[Misread]:
    """List the columns that show something else than they mean, along one life."""
    moments = {seen.moment: seen for seen in life}
    for column, look, anomalies, hint, design in _MEANINGS:
        if column not in life[0].row or design in designs or not set(anomalies).isdisjoint(without):
            continue
        if (told := look(moments)) is not None:
            word = "" if design is None else f" `design: [{design}]`"
            otherwise = "" if column in NEEDED else f", or leave {column} out: then it is not judged"
            yield Misread(f"{column} {told}", f"{hint}{word}{otherwise}.")


def _started(life: Mapping[str, RowAt]) -> str | None:
    """A time that is NULL is no business of this: the harness remembers when it saw the claim."""
    shown = {moment: life[moment].instant("started_at") for moment in ("claimed", "claimed again") if moment in life}
    first, second = shown.get("claimed"), shown.get("claimed again")
    if first is not None and abs(first - life["claimed"].at) > TOLERANCE:
        return f"shows a time {_off(first - life['claimed'].at)} the claim"
    if first is not None and "kept alive" in life and life["kept alive"].instant("started_at") != first:
        return "changes with a heartbeat, which begins no claim"
    if second is not None and abs(second - life["claimed again"].at) > TOLERANCE:
        if second == first:
            return "does not change when a job is claimed a second time: it is the first start"
        return f"shows a time {_off(second - life['claimed again'].at)} the second claim"
    return None


def _completed(life: Mapping[str, RowAt]) -> str | None:
    for moment in ("sent", "claimed", "failed", "claimed again"):
        if moment in life and life[moment].instant("completed_at") is not None:
            return f"shows a time for a job that was {moment} and has not ended"
    end = life.get("completed")
    if end is None:
        return None
    shown = end.instant("completed_at")
    if shown is None:
        return "is NULL for a job that has completed"
    return None if abs(shown - end.at) <= TOLERANCE else f"shows a time {_off(shown - end.at)} the end of the job"


def _created(life: Mapping[str, RowAt]) -> str | None:
    first = life["sent"].row["created_at"]
    changed = next((seen.moment for seen in life.values() if seen.row["created_at"] != first), None)
    return None if changed is None else f"changed when the job was {changed}"


def _off(by: Duration) -> str:
    return f"{format_duration(abs(by))} {'after' if by > 0 else 'before'}"


def _counted(life: Mapping[str, RowAt]) -> str | None:
    counts = [life[moment].row["attempts"] for moment in ("sent", "claimed", "failed") if moment in life]
    late = len(counts) == 3 and counts[0] == counts[1] != counts[2]
    return "rises when a job fails, and not when it is claimed" if late else None


def _kept_error(life: Mapping[str, RowAt]) -> str | None:
    end = life.get("completed")
    kept = end is not None and "failed" in life and end.row["error"] is not None
    return "is still there for a job that failed once and then completed" if kept else None


def _lost_error(life: Mapping[str, RowAt]) -> str | None:
    failed = life.get("failed")
    return "is NULL for a job that has failed and waits" if failed is not None and failed.row["error"] is None else None


_START: Final = ("foreign_clock", "completed_before_started")
_MEANINGS: Final = (
    _Meaning(
        "started_at",
        _started,
        _START,
        "It means when the last claim began. Show what each claim writes, such as locked_at (NULL does no harm)",
    ),
    _Meaning(
        "completed_at",
        _completed,
        _START,
        "Show what `complete` alone writes, or of updated_at `CASE WHEN status = '...' THEN updated_at END`",
    ),
    _Meaning("created_at", _created, ("priority_inversion",), "Show when the row was inserted"),
    _Meaning(
        "attempts",
        _counted,
        ("attempt_not_counted",),
        "Count in `claim`: a worker that dies has to count too. If attempts are counted as they end:",
        Design.COUNTS_AT_THE_END,
    ),
    _Meaning(
        "error",
        _kept_error,
        ("completed_with_error",),
        "Clear it in `complete`. If the errors of earlier attempts are kept on purpose:",
        Design.KEEPS_ALL_ERRORS,
    ),
    _Meaning(
        "error",
        _lost_error,
        ("error_lost",),
        "Show what `fail` writes of each attempt. If only the last error is kept:",
        Design.KEEPS_NO_ERROR,
    ),
)


def misread_wait(
    before: RowAt, after: RowAt, *, attempts: int, bounds: tuple[Duration, Duration], settings: Settings
) -> tuple[str, str] | None:
    """Say how long a failed job waits otherwise than the settings say, and what to do; None where it waits so."""
    shown = after.instant("start_after")
    wait = 0 if shown is None else max(shown - after.at, 0)
    shortest, longest = bounds
    if shortest - ROUNDING <= wait <= longest + ROUNDING:
        return None
    promised = " to ".join(dict.fromkeys((format_duration(shortest), format_duration(longest))))
    told = f"after attempt {attempts} a failed job waits {format_duration(wait)}, and the settings say {promised}"
    if not wait and before.row["start_after"] == after.row["start_after"]:
        hint = (
            "`jobs` shows as start_after what `fail` leaves as it was: show the column that `fail` writes and `claim` "
            "goes by. If a failed job is due at once: `retry_delay: 0s`."
        )
    elif attempts == 1:
        backoff = ", retry_backoff: false" if settings.retry_backoff else ""
        hint = f"Under `settings`, write the delay of your SQL: `retry_delay: {format_duration(wait)}{backoff}`."
    elif wait > settings.retry_delay_max and settings.retry_backoff:
        hint = (
            "Where your SQL bounds the wait, write that as `retry_delay_max`; where nothing does, "
            "`retry_delay_max: none`."
        )
    else:
        hint = (
            "`retry_backoff: true` doubles the wait each time, `false` keeps it. Where it grows otherwise: "
            "`retry_backoff: false`, and `retry_delay` from the shortest to the longest, such as `10s..5m`."
        )
    return told, hint
