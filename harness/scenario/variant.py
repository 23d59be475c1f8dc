"""The same scenario under other settings, or on a wrong queue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from harness.errors import UsageError, did_you_mean
from harness.model.settings import Settings
from harness.scenario.complaint import problems_of
from harness.scenario.document import Document, plain_scalar
from harness.scenario.scenario import Control, Scenario
from harness.scenario.schema import SettingsPart


def named_at(scenario: Scenario, control: Control | None = None) -> str:
    """Answer where it is written what a scenario or its control runs on; nothing where the command says that."""
    line = scenario.application_line if control is None else control.line
    return f"{scenario.path}:{line}" if scenario.path and line else ""


def controlled(scenario: Scenario, control: Control) -> Scenario:
    """Answer the scenario as a control wants it run: its wrong queue, its wrong settings, nothing else changed."""
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
        except ValidationError as error:
            why = problems_of(error, Document({name: plain_scalar(text)}, {}))[0].message
            raise UsageError(f"{change}: {why.removeprefix(f'{name}: ')}") from None
        except ValueError as error:
            raise UsageError(f"{change}: {error}") from None
    return values
