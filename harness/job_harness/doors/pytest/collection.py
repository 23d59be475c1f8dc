"""Scenario files as pytest items: one for each engine, and one for each control on it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from job_harness.core.yaml_files import describes_queue
from job_harness.errors import EnvironmentUnavailable, HarnessError

if TYPE_CHECKING:
    from job_harness.core.scenario.scenario import Control, Scenario
    from job_harness.core.target import Target
    from job_harness.doors.pytest.fixtures import Shared

PREFIX_BYTES = 65_536
_KEYS = (b"title:", b"jobs:", b"steps:", b"expect:", b"settings:", b"workers:", b"controls:")


def is_scenario(path: Path, folder: Path, *, name: str, chosen: bool, asked: bool) -> bool:
    """Whether a YAML file is a scenario: it lies below a folder `name`, or is itself named on the command line.

    `chosen` says that the user set that folder's name, `asked` that the command line names this file. Where neither is
    so, a file needs `format:` or our keys, so that other tools' files are left alone. A queue file is never one.
    """
    text = _start(path)
    if describes_queue(text):
        return False
    first, keys = _top_level(text)
    if asked and first == b"format:" and keys:
        return True
    try:
        below = path.relative_to(folder).parts[:-1]
    except ValueError:
        below = path.parts[:-1]
    wanted = Path(name).parts
    inside = any(below[start : start + len(wanted)] == wanted for start in range(len(below)))
    return inside and (chosen or first == b"format:" or len(keys) > 1)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(PREFIX_BYTES)
    except OSError:
        return b""


def _top_level(text: bytes) -> tuple[bytes, set[bytes]]:
    lines = text.removeprefix(b"\xef\xbb\xbf").splitlines()
    starts = [line.split(b":", 1)[0] + b":" for line in lines if line[:1].isalpha() and b":" in line]
    return (starts[0] if starts else b""), {key for key in _KEYS if key in starts}


class ScenarioFile(pytest.File):
    """One YAML file."""

    engines: tuple[str, ...]
    shared: Callable[[], Shared]
    seed: int | None
    blocked_after: float

    def collect(self) -> Iterator[pytest.Item]:
        """Return an item for each engine, each followed by its controls."""
        from job_harness.core.scenario.reader import read_scenario
        from job_harness.search.cases import OWN_TARGET, control_place
        from job_harness.search.targets import checked, wrong_queues

        try:
            engines = [checked(engine) for engine in self.engines]
            scenario = replace(read_scenario(self.path, queues=wrong_queues()), path=self.nodeid)
        except HarnessError as error:
            raise self.CollectError(str(error)) from None
        engines = engines if scenario.application is None else [OWN_TARGET]
        for engine in engines:
            yield self._item(scenario, engine, None)
            for control in scenario.controls:
                if (place := control_place(control, engine, engines)) is not None:
                    yield self._item(scenario, place, control)

    def _item(self, scenario: Scenario, engine: Target, control: Control | None) -> pytest.Item:
        about = engine if control is None else f"{engine}: {control.name} finds {control.finds}"
        item: ScenarioItem = ScenarioItem.from_parent(self, name=f"scenario[{about}]")
        item.scenario, item.engine, item.control = scenario, engine, control
        item.elsewhere = control is not None and (control.engine is not None or "@" in (control.application or ""))
        if item.elsewhere or "@" in (scenario.application or "") or engine.place == "postgres":
            item.add_marker(pytest.mark.postgres)
        return item


class ScenarioItem(pytest.Item):
    """A scenario, or one of its controls, on one engine."""

    scenario: Scenario
    engine: Target
    control: Control | None
    elsewhere: bool
    """Whether it is a control on an engine or a store that need not be on every machine."""
    parent: ScenarioFile

    def runtest(self) -> None:
        """Run it; a verdict that is not green raises."""
        from job_harness.core.run.session import Limits
        from job_harness.core.run.verdict import Verdict
        from job_harness.doors.pytest.fixtures import exits_are_told
        from job_harness.search.cases import CaseRunner, Task

        limits = Limits(blocked_after=self.parent.blocked_after)
        runner = CaseRunner(self.parent.shared(), seed=self.parent.seed, limits=limits, frugal=True)
        with exits_are_told(self):
            case = runner.case(Task(self.scenario, self.engine, self.control), folder=self.path.parent)
        if case.skipped:
            pytest.skip(case.skipped)
        if case.error is not None:
            if self.elsewhere and isinstance(case.error, EnvironmentUnavailable):
                pytest.skip(f"{self.engine} is not available: {case.error.message}")
            raise case.error
        if case.run is not None and self.config.getoption("--job-explain"):
            from job_harness.doors.pytest.failure_section import EXPLAINED, explanation

            if told := explanation(case.run.history):
                self.add_report_section("call", EXPLAINED, told)
        if case.differs:
            pytest.skip(case.headline)
        if case.verdict is Verdict.INCONCLUSIVE:
            from job_harness.subjects.processors.judgement import INCONCLUSIVE, judged_nothing

            if case.run is not None and len(case.run.history):
                raise judged_nothing(case.headline)
            pytest.skip(f"{INCONCLUSIVE}{case.headline}")  # It was not even begun: this engine lacks what it needs.
        if case.verdict is Verdict.FAIL:
            if case.run is not None:
                from job_harness.doors.pytest.failure_section import draw

                draw(case.run, self, replay=f"pytest {shlex.quote(self.nodeid)}")
            raise ScenarioFailed(case)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the first screen instead of a traceback."""
        error = excinfo.value
        if isinstance(error, ScenarioFailed):
            return self._screen(error.case)
        if isinstance(error, HarnessError):
            return str(error)
        return super().repr_failure(excinfo, style)

    def _screen(self, case: Any) -> str:
        from job_harness.report.screen import first_screen, screen_text

        replay = f"pytest {shlex.quote(self.nodeid)}"
        if self.control is not None:
            return (
                f"FAIL  {self.scenario.title or self.nodeid}\n"
                f"{self.parent.nodeid}:{case.line}: {case.headline}\nReplay: {replay}"
            )
        return screen_text(first_screen(case.run, title=self.scenario.title, replay=replay)).rstrip()

    def reportinfo(self) -> tuple[Path, int, str]:
        """Say where the item is."""
        line = self.control.line if self.control is not None else 1
        return self.path, max(line, 1) - 1, self.name


class ScenarioFailed(Exception):
    """A scenario's verdict is not a pass."""

    def __init__(self, case: Any) -> None:
        super().__init__(case.headline)
        self.case = case
