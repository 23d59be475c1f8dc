"""Histories as JSON lines: a header, then one event a line. The same history has the same bytes everywhere.

What a field says by its default (`docs/contracts/effect.md` lists them) is left out, so that a
history that does not use what was added later has the bytes that it had before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final, TypeVar, get_type_hints

from job_harness.core.history.event import Call, Effect, Event, Fault, History, Observed, Phase, Return
from job_harness.core.history.outcome import Outcome, OutcomeKind
from job_harness.core.model import JobView, QueueState, Status
from job_harness.errors import UsageError, clipped

FORMAT = "job-harness-history"
VERSION = 1

_KINDS: dict[str, type[Any]] = {
    "call": Call,
    "return": Return,
    "observed": Observed,
    "effect": Effect,
    "fault": Fault,
    "phase": Phase,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_FLOWS: Final = frozenset({"depends_on", "parent", "group", "callback_of"})
"""What is left out of a view that says nothing of it: histories were kept before there were flows."""
_EFFECT_DEFAULTS = {name: Effect._field_defaults[name] for name in ("identity", "idempotent", "reply")}


def dump_history(history: Iterable[Event], *, about: dict[str, Any] | None = None) -> str:
    """Write a history; `about` goes into the header (engine, seed, scenario)."""
    header = {"format": FORMAT, "version": VERSION, **({"about": about} if about else {})}
    return "".join(f"{line}\n" for line in (_write(header), *(_write(event_data(event)) for event in history)))


def _write(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=True, default=repr)


def without_reason(line: str) -> str:
    """Return a line of a history as runs are compared: without the reason of a refusal, which is free text."""
    if '"kind":"refused"' not in line:
        return line
    fields = json.loads(line)
    outcome = fields.get("outcome")
    if fields["kind"] == "return" and outcome["kind"] == OutcomeKind.REFUSED:
        outcome["reason"] = ""
    return _write(fields)


def event_data(event: Event) -> dict[str, Any]:
    """Return an event as a line has it: its kind, then its fields."""
    fields = {"kind": _NAMES[type(event)], **event._asdict()}
    if type(event) is Effect:
        for name, default in _EFFECT_DEFAULTS.items():
            if fields[name] == default:
                del fields[name]
    for name in ("before", "after"):
        if fields.get(name) is not None:
            view = fields[name]._asdict()
            fields[name] = {key: value for key, value in view.items() if value is not None or key not in _FLOWS}
    outcome = fields.get("outcome")
    if outcome is not None:
        fields["outcome"] = {"kind": outcome.kind, "value": _plain(outcome.value), "reason": outcome.reason}
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value._asdict() if hasattr(value, "_asdict") else value


def load_history(lines: Iterable[str]) -> History:
    """Read what `dump_history` wrote.

    Raises UsageError naming the line where the text is not such a history, or is of a newer
    version.
    """
    return History(list(_events(lines)))


def _events(lines: Iterable[str]) -> Iterator[Event]:
    headed = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not headed:
                _check_header(fields)
                headed = True
            else:
                yield _event(fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"line {number} is not an event of a history: {error}",
                hint="Expected JSON lines as written by `job-harness run --history FILE`.",
            ) from error


def _check_header(fields: dict[str, Any]) -> None:
    if fields.get("format") != FORMAT:
        raise UsageError(f"the first line names the format {fields.get('format')!r}, not {FORMAT!r}")
    if fields.get("version") != VERSION:
        raise UsageError(
            f"this history has version {fields.get('version')!r}; this program reads version {VERSION}",
            hint="Record it again, or install the version of job-harness that wrote it.",
        )


def _event(fields: dict[str, Any]) -> Event:
    kind = _KINDS[fields.pop("kind")]
    for name in ("before", "after"):
        if fields.get(name) is not None:
            fields[name] = _view(fields[name])
    if "outcome" in fields:
        outcome = fields["outcome"]
        fields["outcome"] = Outcome(OutcomeKind(outcome["kind"]), outcome["value"], outcome["reason"])
    event: Event = kind(**fields)
    return _fitting(event)


def _view(fields: dict[str, Any]) -> JobView:
    status, state = fields["status"], fields["queue_state"]
    return _fitting(
        JobView(
            **{
                **fields,
                "depends_on": tuple(fields["depends_on"]) if fields.get("depends_on") else None,
                "status": None if status is None else Status(status),
                "queue_state": None if state is None else QueueState(state),
            }
        )
    )


Fields = TypeVar("Fields", bound=tuple[Any, ...])


def _fitting(value: Fields) -> Fields:
    """Return it. Raises TypeError where a field is of another type than readers of a history count on."""
    for (name, types), field in zip(_types(type(value)), value, strict=True):
        if not isinstance(field, types):
            raise TypeError(f"{name} cannot be {clipped(field)}")
    return value


@cache
def _types(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((name, object if hints[name] is Any else hints[name]) for name in kind._fields)
