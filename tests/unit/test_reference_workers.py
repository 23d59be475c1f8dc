"""On the engine `reference` the workers of a scenario are the reference worker, carried under the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_harness.core.history.event import Effect, Fault, Return
from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.run.play import case_name
from job_harness.core.run.session import Session
from job_harness.core.run.verdict import Run, Verdict
from job_harness.core.scenario.reader import read_scenario, read_scenario_text
from job_harness.core.target import Target
from job_harness.engines.reference import ReferenceEngine
from job_harness.search.cases import CaseRunner, Task
from job_harness.search.targets import Engines

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def played(text: str) -> Run:
    return Session(read_scenario_text("format: 1\n" + text), engine=ReferenceEngine("reference")).run()


def told(run: Run) -> list[str]:
    """List what the workers did and what befell them, with the second."""
    lines = []
    for event in run.history:
        at = f"{event.at // SECOND}s"
        if type(event) is Effect:
            lines.append(f"{at} {event.actor} {event.name} {event.job}" + (f": {event.data}" if event.data else ""))
        elif type(event) is Return and event.verb in ("heartbeat", "complete", "fail", "release"):
            lines.append(f"{at} {event.actor} {event.verb} {event.job} {event.outcome.kind}")
        elif type(event) is Fault:
            lines.append(f"{at} {event.actor} {event.name.upper()}")
    return lines


def test_it_runs_a_whole_batch_at_once_and_beats_though_no_setting_asks_for_it() -> None:
    run = played("settings: {batch_size: 2}\njobs: {a: {takes: 40s}, b: {takes: 10s}}")
    assert told(run) == [
        "0s w1 claimed a", "0s w1 claimed b", "0s w1 started a", "0s w1 started b",
        "10s w1 ended b: success", "10s w1 complete b done", "30s w1 heartbeat a done",
        "40s w1 ended a: success", "40s w1 complete a done",
    ]  # fmt: skip
    assert run.verdict is Verdict.PASS


def test_told_to_stop_it_gives_back_what_outlasts_its_grace_and_a_crash_comes_back() -> None:
    run = played("jobs: {a: {takes: 1m}}\nsteps: [w1 starts a, stop w1, advance 1m, restart w1, run until idle]")
    assert told(run)[1:] == [
        "0s w1 started a", "0s w1 STOP", "20s w1 ended a: released", "20s w1 release a done", "20s w1 STOPPED",
        "60s w1 claimed a", "60s w1 started a", "90s w1 heartbeat a done", "120s w1 ended a: success",
        "120s w1 complete a done",
    ]  # fmt: skip
    run = played("jobs: {a: {outcomes: [exit, succeed]}}")
    assert [line for line in told(run) if "1s" in line] == ["1s w1 CRASH"]
    assert run.history.path("a") == ["PENDING", "PROCESSING", "PENDING", "PROCESSING", "COMPLETED"]


@pytest.mark.parametrize(
    ("steps", "ends"),
    [
        ("[w1 pauses while running a, advance 20m, w1 continues]", "lease lost"),
        ("[w1 starts a, advance 5m, cancel a -> done]", "lease lost"),
        ("[w1 starts a]", "timeout"),
    ],
)
def test_why_a_processor_was_cancelled_is_told(steps: str, ends: str) -> None:
    run = played(f"jobs: {{a: {{outcomes: hang, max_attempts: 1}}}}\nsteps: {steps}")
    assert [event.data for event in run.history if type(event) is Effect and event.name == "ended"][:1] == [ends]
    assert run.anomalies == ()


def test_settings_that_contradict_each_other_are_what_it_runs_under() -> None:
    run = played("settings: {lease: 1m, stuck_timeout: 1m}\njobs: {a: {takes: 10m}}")
    beats = [event.at for event in run.history if type(event) is Return and event.verb == "heartbeat"]
    assert beats[:3] == [15 * SECOND, 30 * SECOND, 45 * SECOND]
    assert next(event.at for event in run.history if type(event) is Effect and event.data == "lease lost") > MINUTE


def test_a_control_that_the_engine_is_documented_to_withstand_is_passed_over() -> None:
    scenario = read_scenario(SCENARIOS / "expiry/lease_outlives_job.yaml", queues=None)
    with Engines() as engines:
        todo = [Task(scenario, Target(name), scenario.controls[0]) for name in ("memory", "reference")]
        stock, reference = (CaseRunner(engines).case(task) for task in todo)
    assert stock.verdict is Verdict.PASS
    assert (reference.verdict, reference.lacking) == (Verdict.INCONCLUSIVE, True)
    assert reference.headline.startswith("documented: the reference worker extends the lease")


def test_every_documented_difference_is_one_of_a_scenario_or_control_that_exists() -> None:
    names = set()
    for path in SCENARIOS.glob("*/*.yaml"):
        scenario = read_scenario(path, queues=None)
        name = case_name(str(path))
        names |= {name, *(f"{name} [{control.name}]" for control in scenario.controls)}
    assert set(ReferenceEngine("reference").info.contract.differences) <= names


@pytest.mark.long
def test_no_scenario_fails_on_the_reference_worker() -> None:
    paths = [path for path in SCENARIOS.glob("*/*.yaml") if path.parent.name not in ("findings", "applications")]
    with Engines() as engines:
        cases = [
            CaseRunner(engines).case(Task(read_scenario(path, queues=None), Target("reference"))) for path in paths
        ]
    assert [case.headline for case in cases if case.verdict is Verdict.FAIL] == []
    assert len(cases) > 100
