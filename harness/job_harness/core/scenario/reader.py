"""Reads a scenario file into a frozen Scenario; everything that is wrong with it is told at once, with its line.

Hides the words for what pydantic found wrong. Also reads changes of settings as a file would have
them, and gives a scenario as one of its controls wants it run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from job_harness.core.model import Settings
from job_harness.core.scenario.checks import Checks, workers_start
from job_harness.core.scenario.document import (
    Path,
    Problem,
    ScenarioError,
    YamlDocument,
    plain_scalar,
    read_document,
    show_value,
)
from job_harness.core.scenario.job_plan import JobPlan, ProcessorPlan
from job_harness.core.scenario.scenario import AuditPlan, Control, Expectation, PausePlan, Scenario
from job_harness.core.scenario.schema import (
    ControlPart,
    ExpectPart,
    JobPart,
    ProcessorPart,
    ScenarioPart,
    SettingsPart,
    described,
)
from job_harness.core.sim import Deviation
from job_harness.core.yaml_files import LARGEST
from job_harness.errors import UsageError, available, did_you_mean

# what pydantic found wrong, in words ----------------------------------------------------------------------------------


_WANTED = {
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "string_type": "text",
}
_BOUNDS = {
    "too_short": "at least {min_length} must be there",
    "too_long": "at most {max_length} are accepted",
    "string_too_short": "expected at least {min_length} character",
    "string_too_long": "expected at most {max_length} characters",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "string_pattern_mismatch": "expected `module:factory`, `path/to/file.py:factory` or `path/to/queue.yaml`",
    "string_unicode": "expected text without lone surrogates",
}
"""What is said of a value out of bounds; the only pattern is that of a target."""


def problems_of(error: ValidationError, document: YamlDocument, part: type[BaseModel] = ScenarioPart) -> list[Problem]:
    """Return one problem for each error, each with its line; `part` is what a whole file is read as."""
    problems = []
    forms_told = False
    for detail in error.errors(include_url=False):
        path, form = _place(detail, document.data)
        if form is not None and not form.meant:
            continue  # The value was held against every form that it may have; only the one that was meant is reported.
        message = _message(detail, path, part)
        if form is not None:
            message = message.replace("expected text, got", "expected text, or a mapping with `run`, got")
        if message.startswith("no such step"):
            message = message if not forms_told else message.partition(". Steps look like")[0]
            forms_told = True
        problems.append(Problem(document.line(path), message))
    return problems


class _ValueForm(NamedTuple):
    """One of several forms that a value may have: text, or a mapping."""

    meant: bool
    """Whether the value is of this kind at all."""


def _place(detail: Mapping[str, Any], data: Any) -> tuple[Path, _ValueForm | None]:
    """Return where in the file it is, and which form of several the value was held against.

    pydantic puts that form into the path, by the name of a class or of a function; no reader has
    ever heard of it.
    """
    path: list[str | int] = []
    form = None
    parts = [part for part in detail["loc"] if part != "[key]"]
    for number, part in enumerate(parts):
        if _has(_at(data, path), part) or (detail["type"] == "missing" and number == len(parts) - 1):
            path.append(part)
        else:
            text = str(part).startswith(("function-", "str"))
            form = _ValueForm(meant=isinstance(_at(data, path), dict) is not text)
    return tuple(path), form


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _at(data: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        data = data[part] if _has(data, part) else None
    return data


def _message(detail: Mapping[str, Any], path: Path, part: type[BaseModel]) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx") or {}
    at = f"{'.'.join(map(str, path))}: " if path else ""
    if kind == "extra_forbidden":
        return _unknown_key(path, part)
    if kind == "missing":
        return _missing(path)
    if kind == "value_error":
        text = str(context["error"])
        return text if path and path[0] == "steps" else f"{at}{text}"
    if kind in _WANTED:
        return f"{at}expected {_WANTED[kind]}, got {described(value)}"
    if kind == "literal_error":
        return _literal(at, value, str(context["expected"]))
    kind = f"string_{kind}" if isinstance(value, str) and f"string_{kind}" in _BOUNDS else kind
    if kind in _BOUNDS:
        return f"{at}{_BOUNDS[kind].format(**context)}, got {_size(value)}"
    return f"{at}{show_value(value)} is not accepted"


def _size(value: Any) -> str:
    """Say how much there is of what is too short or too long, and else the value itself."""
    if isinstance(value, str) and len(value) > 60:
        return f"{len(value)} characters"
    return str(len(value)) if isinstance(value, dict | list) else show_value(value)


def _unknown_key(path: Path, part: type[BaseModel]) -> str:
    *above, key = path
    known = keys_at(tuple(above), part)
    where = f" in {'.'.join(map(str, above))}" if above else ""
    return f"unknown key {key!r}{where}{did_you_mean(str(key), known)}. Known keys: {', '.join(known)}"


def _missing(path: Path) -> str:
    *above, key = path
    if key == "format":
        return "the key `format` is missing: begin the file with `format: 1`"
    where = f" in {'.'.join(map(str, above))}" if above else ""
    return f"the key {key!r}{where} is missing"


def _literal(at: str, value: Any, expected: str) -> str:
    if at == "format: ":
        return f"format: this program reads format 1, not {show_value(value)}; write `format: 1`"
    known = [item.strip("'\" ") for item in expected.replace(" or ", ", ").split(",")]
    return f"{at}{described(value)} is not accepted{did_you_mean(str(value), known)}. Available: {', '.join(known)}"


def keys_at(path: Path, part: type[BaseModel]) -> list[str]:
    """List the keys that are known at this path of a file that is read as `part`."""
    model: Any = part
    named = False
    for key in path:
        if named or model is None:  # The name of a job, a tool or a variable, or a place in a list: no key of ours.
            named = False
            continue
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        annotation = fields[str(key)].annotation if str(key) in fields else None
        model, named = _model_in(annotation), get_origin(annotation) in (dict, list)
    return [field.alias or name for name, field in model.model_fields.items()] if model is not None else []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


# under other settings -------------------------------------------------------------------------------------------------


def named_at(scenario: Scenario, control: Control | None = None) -> str:
    """Return where it is written what a scenario or its control runs on; nothing where the command says that."""
    line = scenario.application_line if control is None else control.line
    return f"{scenario.path}:{line}" if scenario.path and line else ""


def controlled(scenario: Scenario, control: Control) -> Scenario:
    """Return the scenario as a control wants it run: its wrong queue, its wrong settings, nothing else changed."""
    settings = scenario.settings.changed(**control.settings)
    return replace(
        scenario,
        settings=settings,
        queue=control.queue or scenario.queue,
        application=control.application or scenario.application,
        controls=(),
    )


def parse_changes(changes: Iterable[str]) -> dict[str, Any]:
    """Read `setting=value` texts as a scenario would read them; durations come out in microseconds.

    Raises UsageError naming the text and what would have been accepted.
    """
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change}: expected SETTING=VALUE, such as stuck_timeout=30m")
        if name not in Settings.names():
            near = did_you_mean(name, Settings.names())
            raise UsageError(
                f"no such setting: {name!r}{near}",
                hint=available(Settings.names(), near=name, listed="docs/scenarios.md#settings"),
            )
        try:
            values.update(SettingsPart.model_validate({name: plain_scalar(text)}).given())
        except ValidationError as error:
            why = problems_of(error, YamlDocument({name: plain_scalar(text)}, {}))[0].message
            raise UsageError(f"{change}: {why.removeprefix(f'{name}: ')}") from None
        except ValueError as error:
            raise UsageError(f"{change}: {error}") from None
    return values


# reading --------------------------------------------------------------------------------------------------------------


def read_scenario(path: FilePath | str, *, queues: Collection[str] | None = None) -> Scenario:
    """Read a scenario file. `queues` are the names of the wrong queues there are; None: they are not checked.

    Raises ScenarioError with `file:line` for everything that is wrong; one that cannot be read has
    no line.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device may never end
            raise ScenarioError(str(path), [Problem(0, "is not a regular file")])
        with open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
            if len(raw) > LARGEST:
                raise ScenarioError(str(path), [Problem(1, "the file has over 1 000 000 bytes, the most accepted")])
    except OSError as error:
        raise ScenarioError(str(path), [Problem(0, f"cannot be read: {error.strerror}")]) from None
    return read_scenario_text(raw, path=str(path), queues=queues)


def read_scenario_text(text: bytes | str, *, path: str = "", queues: Collection[str] | None = None) -> Scenario:
    """Read a scenario from text; `path` is what errors and failures call it.

    Raises ScenarioError with `file:line` for everything that is wrong.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    document = read_document(raw, path)
    if not isinstance(document.data, dict):
        message = f"a scenario is a mapping that starts with `format: 1`, not {described(document.data)}"
        raise ScenarioError(path, [Problem(document.line(()), message)])
    if {"enqueue", "claim"} <= set(document.data):
        message = f"this is a queue in a file, not a scenario: job-harness explore {path or 'FILE'}"
        raise ScenarioError(path, [Problem(1, message)])
    if {"processes", "send"} <= set(document.data):
        message = f"this is a system file, not a scenario: job-harness explore {path or 'FILE'}"
        raise ScenarioError(path, [Problem(1, message)])
    _refuse_unreadable_format(document, path)
    try:
        part = ScenarioPart.model_validate(document.data)
    except ValidationError as error:
        raise ScenarioError(path, problems_of(error, document)) from None
    problems = Checks(part, document, queues).problems()
    if problems:
        raise ScenarioError(path, problems)
    return _scenario(part, document, path)


def _refuse_unreadable_format(document: YamlDocument, path: str) -> None:
    """Another format has other keys: complaining about those would mislead."""
    given = document.data.get("format", 1)
    if type(given) is not int or given != 1:
        message = f"format: this program reads format 1, not {described(given)}; write `format: 1`"
        raise ScenarioError(path, [Problem(document.line(("format",)), message)])


def _scenario(part: ScenarioPart, document: YamlDocument, path: str) -> Scenario:
    defaults = Scenario()
    settings = defaults.settings.changed(**part.settings.given())
    return Scenario(
        title=part.title,
        why=part.why,
        settings=settings if workers_start(part) else settings.changed(workers_enabled=False),
        env=dict(part.env),
        processors={
            tool: _processor(item, path, document.line(("processors", tool))) for tool, item in part.processors.items()
        },
        workers=tuple(part.workers),
        serves={worker: tuple(tools) for worker, tools in part.serves.items()},
        pauses=tuple(PausePlan(pause.tool, pause.at, pause.lasts) for pause in part.pauses),
        presets=dict(part.presets),
        jobs=tuple(_job(name, job) for name, job in part.jobs.items()),
        steps=tuple(replace(step, line=document.line(("steps", index))) for index, step in enumerate(part.steps)),
        tape=tuple(Deviation(item.at, item.nth, item.do) for item in part.tape),
        early_rounds=part.early_rounds,
        restart_after=part.restart_after,
        queue=part.queue,
        application=part.application,
        audit=None if part.audit is None else AuditPlan(part.audit.anomaly, part.audit.stuck_after, part.audit.job),
        expect={name: _expectation(item, document.line(("expect", name))) for name, item in part.expect.items()},
        controls=tuple(_control(item, document.line(("controls", index))) for index, item in enumerate(part.controls)),
        path=path,
        application_line=document.line(("application",)) if part.application is not None else 0,
    )


def _given(part: JobPart | ExpectPart) -> dict[str, Any]:
    return {name: getattr(part, name) for name in part.model_fields_set}


def _processor(part: str | ProcessorPart, path: str, line: int) -> ProcessorPlan:
    folder = str(FilePath(path).absolute().parent) if path else ""
    place = f"{path}:{line}" if path else ""
    if isinstance(part, str):
        return ProcessorPlan(part, folder=folder, place=place)
    around: dict[str, Any] = {name: dict(getattr(part, name)) for name in ("globals", "stubs", "fetch")}
    root = (part.root,) if isinstance(part.root, str) else tuple(part.root)
    first, *further = [str(FilePath(folder) / each) for each in root if each] or [folder]
    root = tuple(each for each in root if each)
    return ProcessorPlan(part.run, root, **around, folder=first, further=tuple(further), place=place)


def _job(name: str, part: JobPart) -> JobPlan:
    return JobPlan(name=name, **_given(part))


def _expectation(part: ExpectPart, line: int) -> Expectation:
    given = _given(part)
    for name in ("path", "gaps"):
        if name in given:
            given[name] = tuple(given[name])
    return Expectation(**given, line=line)


def _control(part: ControlPart, line: int) -> Control:
    settings = {} if part.settings is None else part.settings.given()
    return Control(
        finds=part.finds,
        queue=part.queue,
        engine=part.engine,
        application=part.application,
        settings=settings,
        line=line,
    )
