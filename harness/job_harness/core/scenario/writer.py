"""Writes a Scenario as the YAML that the reader reads back to an equal one: only what differs from the defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from job_harness.core.model import Duration, Settings, format_duration
from job_harness.core.scenario.document import plain_scalar
from job_harness.core.scenario.job_plan import JobPlan, ProcessorPlan, Span
from job_harness.core.scenario.scenario import AuditPlan, Control, Expectation, PausePlan, Scenario
from job_harness.errors import UsageError

FORMAT = 1
WIDTH = 110
_PLAIN = re.compile(r"""[A-Za-z0-9_][A-Za-z0-9_ ./#"'()>+*=-]*""")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\x00": "\\0"}
_LENGTHS = frozenset(
    {"at", "start_after", "cancel_after", "retry_after", "every", "open_for"}
    | {"lease", "timeout", "retry_delay", "unique_for"}
)


def write_scenario(scenario: Scenario) -> str:
    """Write a scenario.

    Raises UsageError for what no file can hold: a number that JSON does not have.
    """
    return "".join(f"{line}\n" for line in _lines(scenario))


def _lines(scenario: Scenario) -> Iterator[str]:
    yield f"format: {FORMAT}"
    for name in ("title", "why"):
        if getattr(scenario, name):
            yield f"{name}: {scalar(getattr(scenario, name))}"
    yield from _entry("settings", _settings(scenario.settings))
    yield from _entry("env", scenario.env)
    yield from _entry("processors", {tool: _processor(plan) for tool, plan in scenario.processors.items()})
    if scenario.workers != Scenario().workers:
        yield f"workers: {flow(scenario.workers)}"
    yield from _entry("serves", scenario.serves)
    yield from _list("pauses", [_pause(plan) for plan in scenario.pauses])
    yield from _entry("presets", scenario.presets)
    yield from _section("jobs", {plan.name: _job(plan) for plan in scenario.jobs})
    yield from _list("steps", [step.text for step in scenario.steps])
    yield from _list("tape", [_deviation(*item) for item in scenario.tape])
    if scenario.early_rounds:
        yield "early_rounds: true"
    if scenario.restart_after is not None:
        yield f"restart_after: {format_duration(scenario.restart_after)}"
    if scenario.queue is not None:
        yield f"queue: {scalar(scenario.queue)}"
    if scenario.application is not None:
        yield f"application: {scalar(scenario.application)}"
    if scenario.audit is not None:
        yield from _entry("audit", _audit(scenario.audit))
    yield from _section("expect", {name: _expectation(item) for name, item in scenario.expect.items()})
    yield from _list("controls", [_control(item) for item in scenario.controls])


# parts as plain data ------------------------------------------------------------------------------------------------


def _settings(settings: Settings) -> dict[str, Any]:
    default = Settings()
    given = {name: getattr(settings, name) for name in Settings.names()}
    return _with_units({name: value for name, value in given.items() if value != getattr(default, name)})


def _with_units(settings: Mapping[str, Any]) -> dict[str, Any]:
    lengths = Settings.duration_names()
    ordered = {name: settings[name] for name in Settings.names() if name in settings}
    return {name: format_duration(value) if name in lengths else value for name, value in ordered.items()}


def _job(plan: JobPlan) -> dict[str, Any]:
    default = JobPlan(name=plan.name)
    part: dict[str, Any] = {}
    for name in plan.__slots__:
        value = getattr(plan, name)
        if value == getattr(default, name) and type(value) is type(getattr(default, name)):
            continue
        if name in _LENGTHS:
            part[name] = format_duration(value)
        elif name == "outcomes":
            part[name] = _one_or_several([str(ending) for ending in value])
        elif name == "then":
            part[name] = _one_or_several([str(act) for act in value])
        elif name == "takes":
            part[name] = _one_or_several([_span(span) for span in value])
        elif name in ("payload", "missed"):
            part[name] = str(value)
        else:
            part[name] = value
    return part


def _pause(plan: PausePlan) -> dict[str, Any]:
    return {"tool": plan.tool, "at": format_duration(plan.at), "lasts": format_duration(plan.lasts)}


def _processor(plan: ProcessorPlan) -> str | dict[str, Any]:
    around = {name: dict(given) for name in ("globals", "stubs", "fetch") if (given := getattr(plan, name))}
    root = {"root": _one_or_several(list(plan.root))} if plan.root else {}
    return {"run": plan.run, **root, **around} if root or around else plan.run


def _one_or_several(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values


def _span(span: Span) -> str:
    if span.setting is None:
        return format_duration(span.fixed)
    return f"{Decimal(repr(span.factor)):f} {span.setting}"


def _deviation(label: str, nth: int, option: str) -> dict[str, Any]:
    return {"at": label, "nth": nth, "do": option} if nth != 1 else {"at": label, "do": option}


def _audit(plan: AuditPlan) -> dict[str, Any]:
    job = {} if plan.job is None else {"job": plan.job}
    return {"anomaly": plan.anomaly, **job, "stuck_after": format_duration(plan.stuck_after)}


def _expectation(expected: Expectation) -> dict[str, Any]:
    part = {
        name: value
        for name in ("status", "attempts", "runs", "path", "output", "error", "effects")
        if (value := getattr(expected, name)) is not None
    }
    return part if expected.gaps is None else {**part, "gaps": [_gap_text(gap) for gap in expected.gaps]}


def _control(control: Control) -> dict[str, Any]:
    part: dict[str, Any] = {} if control.queue is None else {"queue": control.queue}
    if control.engine is not None:
        part["engine"] = control.engine
    if control.application is not None:
        part["application"] = control.application
    if control.settings:
        part["settings"] = _with_units(control.settings)
    return {**part, "finds": control.finds}


# plain data as YAML -------------------------------------------------------------------------------------------------


def _entry(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    """One line where it fits, else a line for each entry."""
    if part:
        yield from _fitted(f"{scalar(name)}: ", part, indent="")


def _section(name: str, parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if parts:
        yield f"{name}:"
        for key, part in parts.items():
            yield from _fitted(f"  {scalar(key)}: ", part, indent="  ")


def _fitted(start: str, part: Mapping[str, Any], *, indent: str) -> Iterator[str]:
    line = start + flow(part)
    if len(line) <= WIDTH or not part:
        yield line
        return
    yield start.rstrip()
    for key, value in part.items():
        yield f"{indent}  {scalar(key)}: {flow(value)}"


def _list(name: str, items: Sequence[Any]) -> Iterator[str]:
    if items:
        yield f"{name}:"
        for item in items:
            yield f"  - {flow(item)}"


def flow(value: Any) -> str:
    """Write any JSON value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def scalar(value: Any) -> str:
    """Write one scalar; text stands in quotes wherever the reader would take it for anything else."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _number(value)
        case str():
            return value if _is_plain(value) else quoted(value)
        case _:
            raise UsageError(f"{type(value).__name__} cannot be written: it is not a JSON value")


def _number(value: float) -> str:
    text = repr(value)
    if text.strip("-") in ("inf", "nan"):
        raise UsageError(f"{text} cannot be written: JSON has no such number")
    return text


def _is_plain(text: str) -> bool:
    if not _PLAIN.fullmatch(text) or text.endswith(" ") or " #" in text or "  " in text:
        return False
    try:
        return isinstance(plain_scalar(text), str)
    except ValueError:  # a number that JSON does not have
        return False


def quoted(text: str) -> str:
    """Write text in double quotes, whatever it holds."""
    return '"' + "".join(_escaped(sign) for sign in text) + '"'


def _escaped(sign: str) -> str:
    if sign in _ESCAPES:
        return _ESCAPES[sign]
    if sign == " " or sign.isprintable():
        return sign
    code = ord(sign)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _gap_text(gap: tuple[Duration, Duration]) -> str:
    return f"{format_duration(gap[0])}..{format_duration(gap[1])}"
