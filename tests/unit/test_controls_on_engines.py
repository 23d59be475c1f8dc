"""A control that names an engine is run there, once; scenarios about other people's queues are run where named."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_harness.core.scenario.document import ScenarioError
from job_harness.core.scenario.reader import controlled, read_scenario
from job_harness.core.scenario.scenario import Control, Scenario
from job_harness.core.scenario.writer import write_scenario
from job_harness.core.target import Target
from job_harness.doors.cli.run_command import scenario_files
from job_harness.errors import ExitCode
from job_harness.report.case import exit_code_of
from job_harness.search.cases import MEMORY, CaseRunner, tasks
from job_harness.search.targets import Engines, NotApplicable, target_of

TEXT = """\
format: 1
title: A worker that lost its job completes it
workers: [w1, w2]
jobs:
  a: {takes: 30s}
steps:
  - w1 pauses before completing a
  - w2 starts a
  - w1 completes a
controls:
  - {engine: %s, finds: %s}
"""


def written(folder: Path, engine: str, finds: str) -> Scenario:
    path = folder / "late.yaml"
    path.write_text(TEXT % (engine, finds), encoding="utf-8")
    return read_scenario(path, queues=None)


def exit_code(scenario: Scenario) -> ExitCode:
    with Engines() as engines:
        campaign = CaseRunner(engines)
        campaign.run(tasks([scenario], [MEMORY], controls=True))
    return exit_code_of(campaign.cases)


def test_a_control_on_an_engine_shows_its_anomaly_there(tmp_path: Path) -> None:
    assert exit_code(written(tmp_path, "memory+stale-complete", "stale_complete")) is ExitCode.PASS


def test_a_control_on_an_engine_that_is_right_is_a_failure(tmp_path: Path) -> None:
    assert exit_code(written(tmp_path, "reference", "stale_complete")) is ExitCode.FAIL


def test_it_is_run_once_however_many_engines_are_named(tmp_path: Path) -> None:
    scenario = written(tmp_path, "reference", "stale_complete")
    todo = tasks([scenario], [MEMORY, Target("reference")], controls=True)
    assert [(str(task.target), task.control is not None) for task in todo] == [
        ("memory", False),
        ("reference", True),
        ("reference", False),
    ]


def test_a_wrong_queue_shows_on_memory_where_only_queues_of_the_user_are_named() -> None:
    control = Control("job_stuck", queue="expire-never")
    scenario = Scenario(controls=(control,))

    def places(*engines: str) -> list[str]:
        return [
            str(task.target)
            for task in tasks([scenario], [*map(Target.parse, engines)], controls=True)
            if task.control is not None
        ]

    assert places("queue.yaml", "other.yaml") == ["memory"]
    assert places("memory", "queue.yaml") == ["memory"]
    assert places("reference", "queue.yaml") == ["reference", "memory"]
    with pytest.raises(NotApplicable, match="expire-never is a wrong queue of this project"):
        target_of(controlled(scenario, control), Target("queue.yaml"))


def test_it_is_written_as_it_was_read(tmp_path: Path) -> None:
    scenario = written(tmp_path, "pgboss@10.4.2", "stale_complete")
    again = tmp_path / "again.yaml"
    again.write_text(write_scenario(scenario), encoding="utf-8")
    (control,) = read_scenario(again, queues=None).controls
    assert (control.engine, control.finds) == ("pgboss@10.4.2", "stale_complete")
    assert control.name == "pgboss@10.4.2"


def test_a_control_with_nothing_wrong_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text(TEXT.replace("engine: %s, finds: %s", "finds: stale_complete"), encoding="utf-8")
    with pytest.raises(ScenarioError, match="needs a wrong queue, a wrong setting or an engine"):
        read_scenario(path, queues=None)


def test_findings_are_left_out_unless_they_are_named(tmp_path: Path) -> None:
    for name in ("lifecycle/one.yaml", "findings/theirs/two.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("format: 1\n", encoding="utf-8")

    def names(*paths: Path) -> list[str]:
        return [file.name for file in scenario_files([str(path) for path in paths])]

    assert names(tmp_path) == ["one.yaml"]
    assert names(tmp_path / "findings") == ["two.yaml"]
    assert names(tmp_path / "findings" / "theirs" / "two.yaml") == ["two.yaml"]


def test_a_control_names_what_it_is_about() -> None:
    assert Control(finds="job_stuck", engine="pgqueuer@1.0.1").name == "pgqueuer@1.0.1"
