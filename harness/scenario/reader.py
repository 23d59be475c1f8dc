"""Reads a scenario file into a frozen Scenario; everything that is wrong with it is told at once, with its line."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from harness.errors import UsageError
from harness.scenario.checks import Checks
from harness.scenario.complaint import problems_of
from harness.scenario.document import LARGEST, Document, read_document
from harness.scenario.job_plan import JobPlan
from harness.scenario.notation import described
from harness.scenario.problem import Problem, ScenarioError
from harness.scenario.processor_plan import ProcessorPlan
from harness.scenario.scenario import Control, Expectation, Scenario
from harness.scenario.schema import ControlPart, ExpectPart, JobPart, ProcessorPart, ScenarioPart
from harness.scenario.step_checks import workers_start
from harness.sim.choices import Deviation


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


def _refuse_unreadable_format(document: Document, path: str) -> None:
    """Another format has other keys: complaining about those would mislead."""
    given = document.data.get("format", 1)
    if type(given) is not int or given != 1:
        message = f"format: this program reads format 1, not {described(given)}; write `format: 1`"
        raise ScenarioError(path, [Problem(document.line(("format",)), message)])


def _scenario(part: ScenarioPart, document: Document, path: str) -> Scenario:
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
        jobs=tuple(_job(name, job) for name, job in part.jobs.items()),
        steps=tuple(replace(step, line=document.line(("steps", index))) for index, step in enumerate(part.steps)),
        tape=tuple(Deviation(item.at, item.nth, item.do) for item in part.tape),
        restart_after=part.restart_after,
        queue=part.queue,
        application=part.application,
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
    return ProcessorPlan(part.run, globals=dict(part.globals), stubs=dict(part.stubs), folder=folder, place=place)


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
