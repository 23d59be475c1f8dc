"""A scenario that names an application is a test of it: it fails as long as the application does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.docs import pages

from job_harness.core.run.play import play
from job_harness.core.scenario.reader import read_scenario
from job_harness.doors.cli import main
from job_harness.search.targets import open_engine
from job_harness.subjects.applications import ApplicationEngine

APPLICATION = pages.ROOT / "scenarios/applications"
INI = """[pytest]
addopts = -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio
filterwarnings = error
"""
SWITCH = "def make():\n    return MyApp(*{safe})\n"


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    for name in ("jobs.py", "my_app.py"):
        shutil.copy(APPLICATION / name, pytester.path / name)
    switched(pytester.path, [])
    return pytester


def switched(folder: Path, safe: list[str]) -> None:
    text = (APPLICATION / "my_app.py").read_text(encoding="utf-8")
    (folder / "my_app.py").write_text(f"{text}\n\n{SWITCH.format(safe=safe)}", encoding="utf-8")


def found(anomaly: str, path: str, *, seed: int = 0) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    assert main(["explore", "my_app.py:make", "--looking-for", anomaly, "--seed", str(seed), "--save", path]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("anomaly", "repair", "seed"),
    [
        ("silent_success", "settle-by-result", 0),
        pytest.param("orphan_row", "reconcile-both-ways", 0, marks=pytest.mark.long),
        pytest.param("concurrent_execution", "heartbeats", 2, marks=pytest.mark.long),
    ],
)
def test_what_the_explorer_saved_fails_until_the_switch_is_repaired(
    suite: pytest.Pytester, anomaly: str, repair: str, seed: int
) -> None:
    found(anomaly, "tests/scenarios/found.yaml", seed=seed)
    failed = suite.runpytest_inprocess()
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines([f"FAIL  {anomaly} (found by exploration)", "Fixed by: *", "Replay: pytest *"])

    switched(suite.path, [repair])
    suite.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("kept", "anomaly", "repairs"),
    [
        ("an_api_that_dies", "orphan_row", {"transactional-enqueue", "reconcile-both-ways"}),
        ("a_batch_that_outlives_its_lease", "concurrent_execution", {"fencing", "heartbeats"}),
    ],
)
def test_a_kept_scenario_fails_on_what_a_function_makes_and_on_all_but_its_repairs(
    suite: pytest.Pytester, kept: str, anomaly: str, repairs: set[str]
) -> None:
    engine = open_engine(f"{suite.path}/my_app.py:make")
    assert isinstance(engine, ApplicationEngine)
    scenario = read_scenario(APPLICATION / f"{kept}.yaml")

    assert anomaly in play(scenario, engine=engine).found
    found = {name: play(scenario, engine=engine.guarded(name)).found for name in engine.info.safeguards}
    assert {name for name, anomalies in found.items() if anomaly not in anomalies} == repairs


@pytest.mark.slow
@pytest.mark.long
def test_a_wrong_queue_and_a_wrong_setting_fail_until_they_are_repaired(suite: pytest.Pytester) -> None:
    Path("scenarios").mkdir()
    assert main(["explore", "memory+stale-fail", "--save", "scenarios/queue.yaml"]) == 1
    search = ["explore", "memory", "--set", "stuck_timeout=5m", "--looking-for", "concurrent_execution"]
    assert main([*search, "--save", "scenarios/setting.yaml"]) == 1
    suite.runpytest_inprocess().assert_outcomes(failed=2)

    for name, wrong, right in (
        ("queue", "queue: stale-fail\n", ""),
        ("setting", "stuck_timeout: 5m", "stuck_timeout: 30m"),
    ):
        path = Path(f"scenarios/{name}.yaml")
        text = path.read_text()
        assert wrong in text
        path.write_text(text.replace(wrong, right))
    suite.runpytest_inprocess().assert_outcomes(passed=2)


SCENARIO = """
format: 1
title: an application
application: {application}
jobs:
  a: {{}}
"""


@pytest.mark.parametrize(
    ("application", "told"),
    [
        ("gone.py:make", "*there is no file gone.py in *nor in any folder above it*"),
        ("my_app.py:mak", "*my_app.py has no 'mak' (did you mean 'make'?)*"),
        ("my_app.py:MyApp+fence", "*declares no safeguard 'fence'*"),
        ("jobs.py:create_job", "*jobs.py:create_job asks for db, job, safe*"),
        ("no_such_module:make", "*importing no_such_module failed: ModuleNotFoundError*"),
    ],
)
def test_an_application_that_cannot_be_had_is_told_without_a_traceback(
    suite: pytest.Pytester, application: str, told: str
) -> None:
    (suite.path / "scenarios").mkdir()
    (suite.path / "scenarios/app.yaml").write_text(SCENARIO.format(application=application))

    result = suite.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([told])
    assert "Traceback" not in result.stdout.str()


def test_an_application_runs_once_whatever_the_engines(suite: pytest.Pytester) -> None:
    (suite.path / "scenarios").mkdir()
    (suite.path / "scenarios/app.yaml").write_text(SCENARIO.format(application="my_app.py:safest"))

    result = suite.runpytest_inprocess("-v", "--job-engine=memory,reference")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*app.yaml::scenario?application? PASSED*"])


def test_the_steps_of_a_queue_are_refused_for_an_application(suite: pytest.Pytester) -> None:
    (suite.path / "scenarios").mkdir()
    text = SCENARIO.format(application="my_app.py:make") + "steps:\n  - w1 claims a\n"
    (suite.path / "scenarios/app.yaml").write_text(text)

    result = suite.runpytest_inprocess()

    result.stdout.fnmatch_lines(["*app.yaml:8: w1 claims a: an application has steps of its own*"])
