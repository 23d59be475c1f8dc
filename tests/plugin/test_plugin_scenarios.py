"""Scenario files as pytest items."""

from __future__ import annotations

from dataclasses import replace

import pytest

import job_harness.core.run.play
import job_harness.core.scenario.reader
import job_harness.doors.pytest.collection
import job_harness.engines.memory
import job_harness.engines.reference
import job_harness.report.case
import job_harness.report.screen
import job_harness.subjects.processors
import job_harness.subjects.processors.job_clock
from job_harness.doors.cli import main

INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""

GOOD = """
format: 1
title: A crash counts as an attempt
settings: {max_attempts: 3}
jobs:
  a: {takes: 30s}
steps:
  - w1 claims a
  - crash w1 while running a
  - run until idle
expect:
  a: {status: COMPLETED, attempts: 2}
"""
CONTROLLED = (
    GOOD
    + """
controls:
  - {settings: {stuck_timeout: 10s}, finds: taken_back_early}
"""
)
FAILING = GOOD.replace("attempts: 2}", "attempts: 1}")


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    return pytester


def write(suite: pytest.Pytester, name: str, text: str) -> None:
    path = suite.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_documented_difference_has_one_verdict_on_the_command_line_and_under_pytest(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Documented(job_harness.engines.memory.MemoryEngine):
        def __init__(self) -> None:
            super().__init__()
            contract = replace(self.info.contract, differences={"crashes/crash": "its manual, page 3"})
            self.info = replace(self.info, contract=contract)

    monkeypatch.setattr("job_harness.search.targets._factory", lambda target: Documented)
    write(suite, "scenarios/crashes/crash.yaml", FAILING)
    assert main(["run", "scenarios", "--engine", "memory"]) == 0
    result = suite.runpytest_inprocess("-v", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*documented: its manual, page 3*"])


def test_a_scenario_is_an_item_for_each_engine(suite: pytest.Pytester) -> None:
    write(suite, "scenarios/crashes/crash.yaml", GOOD)
    result = suite.runpytest_inprocess("-v", "--job-engine=memory,reference")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["scenarios/crashes/crash.yaml::scenario?memory? PASSED*", "*::scenario?reference? PASSED*"]
    )


def test_a_failing_scenario_prints_its_first_screen_and_how_to_replay_it(suite: pytest.Pytester) -> None:
    write(suite, "scenarios/crash.yaml", FAILING)
    result = suite.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAIL  A crash counts as an attempt", "*a: *attempts*", "Replay: pytest *"])
    assert "Traceback" not in result.stdout.str()


def test_a_control_is_an_item_that_must_find_its_anomaly(suite: pytest.Pytester) -> None:
    write(suite, "scenarios/good.yaml", CONTROLLED)
    write(suite, "scenarios/lame.yaml", CONTROLLED.replace("{stuck_timeout: 10s}", "{stuck_timeout: 45m}"))
    result = suite.runpytest_inprocess("-v")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*good.yaml::scenario?memory: stuck_timeout=* finds taken_back_early? PASSED*",
            "*control * did not find taken_back_early; it found nothing: this scenario cannot fail there*",
        ]
    )


def test_other_tools_yaml_is_left_alone(suite: pytest.Pytester) -> None:
    write(suite, "docker-compose.yaml", "services: {web: {image: x}}\n")
    write(suite, "deploy.yaml", "format: 1\nkind: Deployment\n")
    write(suite, "scenarios/molecule.yaml", "driver:\n  name: docker\n")
    write(suite, "broken.yaml", "a: [\n")
    result = suite.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_scenario_outside_the_folder_is_run_where_it_is_named(suite: pytest.Pytester) -> None:
    write(suite, "elsewhere/crash.yml", "# a comment\n" + GOOD)
    assert suite.runpytest_inprocess().ret == pytest.ExitCode.NO_TESTS_COLLECTED
    suite.runpytest_inprocess("elsewhere/crash.yml").assert_outcomes(passed=1)


def test_a_queue_file_is_no_scenario(suite: pytest.Pytester) -> None:
    for name in ("queue.yaml", "scenarios/queue.yaml"):
        write(suite, name, "format: 1\nqueue: mail\nenqueue: SELECT 1\nclaim: SELECT 1\njobs: SELECT 1\n")
    assert suite.runpytest_inprocess().ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_chosen_folder_is_read_strictly(suite: pytest.Pytester) -> None:
    write(suite, "replays/other.yaml", "driver:\n  name: docker\n")
    write(suite, "scenarios/crash.yaml", GOOD.replace("format: 1\n", ""))
    result = suite.runpytest_inprocess("--job-scenarios=replays")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*replays/other.yaml:1: *"])


def test_a_mistake_in_a_scenario_is_an_error_with_its_line(suite: pytest.Pytester) -> None:
    write(suite, "scenarios/crash.yaml", GOOD.replace("max_attempts", "max_attempt"))
    result = suite.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*scenarios/crash.yaml:4: *did you mean*"])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.slow
@pytest.mark.long
def test_scenarios_and_fixtures_work_under_xdist(suite: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    for name in "abc":
        write(suite, f"scenarios/{name}.yaml", CONTROLLED)
    suite.makepyfile(
        """
import pytest
from job_harness.subjects.processors import JobResult

@pytest.mark.parametrize("n", range(3))
def test_it(job_harness, n):
    job_harness.register("echo", lambda job: JobResult(success=True))
    assert job_harness.enqueue("echo", n).status == "PENDING"
    assert job_harness.drain() == {"completed": 1}
"""
    )
    result = suite.runpytest_subprocess("-n2")
    result.assert_outcomes(passed=9)
