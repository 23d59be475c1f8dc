"""Reads a scenario file into a frozen Scenario; everything that is wrong with it is told at once, with its line.

Hides the words for what pydantic found wrong. Also reads changes of settings as a file would have them, and gives a
scenario as one of its controls wants it run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from harness.errors import UsageError, did_you_mean
from harness.model.settings import Settings
from harness.scenario.checks import Checks, workers_start
from harness.scenario.document import (
    LARGEST,
    Path,
    Problem,
    ScenarioError,
    YamlDocument,
    plain_scalar,
    read_document,
    shown,
)
from harness.scenario.job_plan import JobPlan, ProcessorPlan
from harness.scenario.scenario import Control, Expectation, Scenario
from harness.scenario.schema import (
    ControlPart,
    ExpectPart,
    JobPart,
    ProcessorPart,
    ScenarioPart,
    SettingsPart,
    described,
)
from harness.sim.choices import Deviation

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


def problems_of(error: ValidationError, document: YamlDocument) -> list[Problem]:
    """Return one problem for each error, each with its line."""
    problems = []
    forms_told = False
    for detail in error.errors(include_url=False):
        path: Path = tuple(part for part in detail["loc"] if part != "[key]")
        message = _message(detail, path)
        if message.startswith("no such step"):
            message = message if not forms_told else message.partition(". Steps look like")[0]
            forms_told = True
        problems.append(Problem(document.line(path), message))
    return problems


def _message(detail: Mapping[str, Any], path: Path) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx") or {}
    name = ".".join(map(str, path)) or "the file"
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "missing":
        return _missing(path)
    if kind == "value_error":
        text = str(context["error"])
        return text if path and path[0] == "steps" else f"{name}: {text}"
    if kind in _WANTED:
        return f"{name}: expected {_WANTED[kind]}, got {described(value)}"
    if kind == "literal_error":
        return _literal(name, value, str(context["expected"]))
    return f"{name}: {detail['msg'].replace('Input should', 'it must')}; got {shown(value)}"


def _unknown_key(path: Path) -> str:
    *above, key = path
    known = keys_at(tuple(above))
    where = f" in {'.'.join(map(str, above))}" if above else ""
    return f"unknown key {key!r}{where}{did_you_mean(str(key), known)}. Known keys: {', '.join(known)}"


def _missing(path: Path) -> str:
    *above, key = path
    if key == "format":
        return "the key `format` is missing; a scenario starts with `format: 1`"
    where = f" in {'.'.join(map(str, above))}" if above else ""
    return f"the key {key!r}{where} is missing"


def _literal(name: str, value: Any, expected: str) -> str:
    if name == "format":
        return f"format: this program reads format 1, not {shown(value)}; write `format: 1`"
    known = [item.strip("'\" ") for item in expected.replace(" or ", ", ").split(",")]
    return f"{name}: {shown(value)} is not accepted{did_you_mean(str(value), known)}. There are {', '.join(known)}"


def keys_at(path: Path) -> list[str]:
    """List the keys that the part of a scenario at this path knows."""
    model: Any = ScenarioPart
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) and model is not None else None
        if field is not None:
            model = _model_in(field.annotation)
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


# under other settings -------------------------------------------------------------------------------------------------


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
            raise UsageError(f"{change!r} changes no setting", hint="Write it as setting=value: stuck_timeout=30m.")
        if name not in Settings.names():
            near = did_you_mean(name, Settings.names())
            raise UsageError(f"no such setting: {name!r}{near}", hint=f"There are {', '.join(Settings.names())}.")
        try:
            values.update(SettingsPart.model_validate({name: plain_scalar(text)}).given())
        except (ValidationError, ValueError) as error:
            raise UsageError(f"{change}: {_why(error)}") from None
    return values


def _why(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        detail = error.errors(include_url=False)[0]
        return str(detail.get("ctx", {}).get("error", detail["msg"]))
    return str(error)


# reading --------------------------------------------------------------------------------------------------------------


def read_scenario(path: FilePath | str, *, queues: Collection[str] | None = None) -> Scenario:
    """Read a scenario file. `queues` are the names of the wrong queues there are; None: they are not checked.

    Raises ScenarioError with `file:line` for everything that is wrong, UsageError where the file cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device may never come to an end
            raise UsageError(f"{path}: is no regular file", hint="Name a scenario file.")
        with open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
            if len(raw) > LARGEST:
                raise ScenarioError(str(path), [Problem(1, "the file has over 1 000 000 bytes, the most accepted")])
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint="Name a scenario file.") from None
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
        processors={tool: _processor(item, path) for tool, item in part.processors.items()},
        workers=tuple(part.workers),
        jobs=tuple(_job(name, job) for name, job in part.jobs.items()),
        steps=tuple(replace(step, line=document.line(("steps", index))) for index, step in enumerate(part.steps)),
        tape=tuple(Deviation(item.at, item.nth, item.do) for item in part.tape),
        restart_after=part.restart_after,
        queue=part.queue,
        application=part.application,
        expect={name: _expectation(item, document.line(("expect", name))) for name, item in part.expect.items()},
        controls=tuple(_control(item, document.line(("controls", index))) for index, item in enumerate(part.controls)),
        path=path,
    )


def _given(part: JobPart | ExpectPart) -> dict[str, Any]:
    return {name: getattr(part, name) for name in part.model_fields_set}


def _processor(part: str | ProcessorPart, path: str) -> ProcessorPlan:
    folder = str(FilePath(path).absolute().parent) if path else ""
    if isinstance(part, str):
        return ProcessorPlan(part, folder=folder)
    return ProcessorPlan(part.run, globals=dict(part.globals), stubs=dict(part.stubs), folder=folder)


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
