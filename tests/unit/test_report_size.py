"""What a large finding costs to show, in calls: as few as take less than a second on any machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from job_harness.core.history.event import Effect
from job_harness.core.invariants.property import Anomaly
from job_harness.core.own_code import CodeLine
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.memory import MemoryEngine
from job_harness.report.ci import CiResult, code_quality, github_annotations, junit_xml, summary
from job_harness.report.json_report import run_data
from job_harness.report.picture import Drawing, picture_of
from job_harness.report.screen import first_screen, screen_text

LONG = "x" * 100_000
MOST_CALLS = 3_000_000
LEAD = "effect_repeated"


def outputs(run: Run) -> dict[str, Callable[[], str]]:
    """Return what writes each of the outputs of a finding."""
    result = CiResult("memory", "big", "failure", LONG, LONG, LEAD, "big", "wide.js", 2)
    return {
        "terminal": lambda: screen_text(first_screen(run, title="big", lead=LEAD)),
        "JSON": lambda: json.dumps(run_data(run, lead=LEAD)),
        "HTML": lambda: picture_of(Drawing(run_data(run, lead=LEAD), "big", "fail", replay="", lead=LEAD)),
        "CI": lambda: f"{github_annotations([result])}{code_quality([result])}{junit_xml([result])}{summary([result])}",
    }


def found(jobs: int, file: Path) -> Run:
    """Play many jobs, and let the last side effect be one that was repeated, at a line of 100 kB."""
    run = play(Scenario(title="big", jobs=tuple(JobPlan(f"j{at}") for at in range(jobs))), engine=MemoryEngine())
    events = run.history.events
    last = max(at for at, event in enumerate(events) if isinstance(event, Effect))
    event = events[last]
    assert isinstance(event, Effect)
    anomaly = Anomaly(LEAD, "no_repeated_effect", event.at, last, event.job, LONG)
    return replace(run, anomalies=(anomaly,), lines={last: CodeLine(str(file), 2)})


def calls_of(write: Callable[[], str]) -> tuple[int, str]:
    """Return how many calls it took, those of C included, and what was written."""
    calls = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        text = write()
    finally:
        sys.setprofile(before)
    return calls, text


@pytest.mark.long
@pytest.mark.slow
def test_a_finding_with_5000_events_and_a_line_of_100_kb_is_cheap_to_show(tmp_path: Path) -> None:
    file = tmp_path / "wide.js"
    file.write_text(f"first();\nconst wide = '{LONG}';\nlast();\n")
    small, large = found(220, file), found(440, file)
    assert len(large.history.events) > 5_000
    for name, write in outputs(large).items():
        calls, text = calls_of(write)
        half = calls_of(outputs(small)[name])[0]
        assert calls < min(MOST_CALLS, 3 * half), f"{name}: {calls} calls, {half} for half of the events"
        assert len(text) < 20 * len(LONG), name
    assert "wide = 'xxx" in calls_of(outputs(large)["terminal"])[1]
