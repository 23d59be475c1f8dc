"""The pages of findings say what their scenarios say, and show what these print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs import pages

from job_harness.core.run.play import play
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.reader import read_scenario
from job_harness.errors import ExitCode
from job_harness.search.cases import MEMORY
from job_harness.search.targets import Engines, scenario_processors, target_of

SCENARIOS = sorted((pages.ROOT / "scenarios/findings").glob("*/*.yaml"))
SHOWN_BY_A_SCRIPT = {
    path.parent.name
    for path in (pages.ROOT / "queues").glob("*/*")
    if path.suffix in (".py", ".rb") and path.stem != "recipe"
}.difference(path.parent.name for path in SCENARIOS)
"""The queues whose finding is shown on the real library alone."""
OF_SCENARIOS = [page for page in pages.FINDINGS if page.stem not in SHOWN_BY_A_SCRIPT]
PATIENCE_SECONDS = 900


def checked(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(pages.ROOT / "docs/findings.py"), "--check", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


def test_the_pages_say_what_the_scenarios_say() -> None:
    ended = checked("--text")

    assert ended.returncode == 0, f"run python docs/findings.py\n{ended.stdout}{ended.stderr}"


def test_every_group_of_scenarios_has_its_page() -> None:
    assert {path.parent.name for path in SCENARIOS} == {page.stem for page in OF_SCENARIOS}
    assert {page.stem for page in pages.FINDINGS} >= SHOWN_BY_A_SCRIPT


@pytest.mark.campaign
@pytest.mark.postgres
@pytest.mark.parametrize("page", OF_SCENARIOS, ids=lambda page: page.stem)
def test_a_page_shows_what_its_scenarios_print(page: Path) -> None:
    ended = checked("--only", page.stem)

    if ended.returncode == ExitCode.ENVIRONMENT:
        pytest.skip(ended.stdout.strip())
    assert ended.returncode == 0, f"run python docs/findings.py\n{ended.stdout}{ended.stderr}"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_finding_is_none_on_the_right_queue(path: Path) -> None:
    scenario = read_scenario(path)
    with Engines() as engines:
        engine = engines.get(target_of(scenario, MEMORY))
        run = play(scenario, engine=engine, processors=scenario_processors)

    assert scenario.controls
    assert run.verdict is Verdict.PASS
