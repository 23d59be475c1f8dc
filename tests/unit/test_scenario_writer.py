"""Writing scenarios: whatever is written reads back equal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job_harness.core.invariants import ANOMALIES
from job_harness.core.model.duration import DAY
from job_harness.core.model.settings import Settings
from job_harness.core.port import Capabilities
from job_harness.core.scenario.job_plan import OPERATED, Ending, JobPlan, OperatorAct, Span
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.core.scenario.scenario import AuditPlan, Control, Expectation, Scenario, parse_step
from job_harness.core.scenario.writer import WIDTH, write_scenario
from job_harness.core.sim.choices import Deviation, Uniform
from job_harness.errors import UsageError
from job_harness.search.workload import draw

lengths = st.integers(0, 3650 * DAY)
positive = st.integers(1, 3650 * DAY)
texts = st.text(max_size=40).filter(lambda text: not any("\ud800" <= sign <= "\udfff" for sign in text))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
factors = st.integers(1, 10**9).map(lambda number: number / 10**6)
spans = st.builds(Span, fixed=lengths) | st.builds(
    lambda factor, name: Span(factor=factor, setting=name), factors, st.sampled_from(sorted(Settings.duration_names()))
)


def _setting(name: str) -> st.SearchStrategy[Any]:
    if name in ("retry_delay", "retry_delay_max", "max_skew", "heartbeat_interval"):
        return lengths
    if name in Settings.duration_names():
        return positive
    return st.booleans() if type(getattr(Settings(), name)) is bool else st.integers(1, 1000)


changes = st.fixed_dictionaries({}, optional={name: _setting(name) for name in Settings.names()})


audits = st.builds(AuditPlan, st.sampled_from(sorted(ANOMALIES)), positive)


@st.composite
def plans(draw: st.DrawFn, name: str) -> JobPlan:
    many = draw(st.booleans())
    common = {
        "name": name,
        "tool": draw(st.sampled_from(["tool", "my-tool", "null", "3", "a: b"])),
        "input": draw(json_values),
        "outcomes": tuple(draw(st.lists(st.sampled_from(Ending), min_size=1, max_size=3))),
        "takes": tuple(draw(st.lists(spans, min_size=1, max_size=3))),
        "at": draw(lengths),
        "start_after": draw(st.none() | lengths),
        "priority": draw(st.integers(-(2**63), 2**63 - 1)),
        "max_attempts": draw(st.none() | st.integers(1, 1000)),
    }
    if many:
        return JobPlan(**common, every=draw(positive), count=draw(st.integers(2, 9)))
    return JobPlan(
        **common,
        unique_key=draw(st.none() | texts),
        cancel_after=draw(st.none() | lengths),
        retry_after=draw(st.none() | lengths),
        then=tuple(draw(st.lists(st.builds(OperatorAct, st.sampled_from(sorted(OPERATED)), lengths), max_size=2))),
    )


gaps = st.tuples(lengths, lengths).map(lambda pair: (min(pair), max(pair)))
expectations = st.builds(
    Expectation,
    status=st.none() | st.sampled_from(["PENDING", "FAILED", "gone"]),
    attempts=st.none() | st.integers(0, 9),
    runs=st.none() | st.integers(0, 9),
    path=st.none() | st.lists(st.sampled_from(["PENDING", "PROCESSING"]), max_size=3).map(tuple),
    gaps=st.none() | st.lists(gaps, max_size=2).map(tuple),
    output=json_values,
    error=st.none() | texts.filter(bool),
)
controls = st.builds(
    Control,
    finds=st.sampled_from(sorted(ANOMALIES)),
    queue=st.just("stale-complete"),
    settings=changes,
)
labels = texts.filter(bool)
tapes = st.lists(st.builds(Deviation, labels, st.integers(1, 99), labels), max_size=3).map(tuple)
STEPS = ("advance 15m", "run until idle", 'maintenance pauses at "update  tool_job"', "store clock is 5s ahead")


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    jobs = tuple(draw(plans(name)) for name in draw(st.sampled_from([("a",), ("a", "null"), ("b-", "c_1", "true")])))
    sent = [name for plan in jobs for name in plan.names()]
    return Scenario(
        title=draw(texts),
        why=draw(texts),
        settings=Settings().changed(**draw(changes)),
        env=draw(st.sampled_from([{}, {"USE_PGBOSS_WORKERS": "true"}])),
        workers=draw(st.sampled_from([("w1",), ("w1", "w2"), ("no", "yes")])),
        jobs=jobs,
        steps=tuple(map(parse_step, draw(st.lists(st.sampled_from(STEPS), max_size=3)))),
        tape=draw(tapes),
        early_rounds=draw(st.booleans()),
        restart_after=draw(st.none() | lengths),
        audit=draw(st.none() | audits),
        queue=draw(st.none() | st.just("stale-complete")),
        expect={name: draw(expectations) for name in draw(st.lists(st.sampled_from(sent), unique=True))},
        controls=tuple(draw(st.lists(controls, max_size=2))),
    )


def without_lines(scenario: Scenario) -> Scenario:
    return replace(
        scenario,
        path="",
        steps=tuple(replace(step, line=0) for step in scenario.steps),
        expect={name: replace(item, line=0) for name, item in scenario.expect.items()},
        controls=tuple(replace(item, line=0) for item in scenario.controls),
    )


@pytest.mark.long
@given(scenarios())
@settings(max_examples=30, deadline=None)
def test_what_is_written_reads_back_equal(scenario: Scenario) -> None:
    text = write_scenario(scenario)
    assert without_lines(read_scenario_text(text)) == scenario, text
    assert write_scenario(read_scenario_text(text)) == text


def test_every_workload_that_a_search_draws_reads_back() -> None:
    everything = Capabilities(**dict.fromkeys(Capabilities.names(), True))
    drawn = [draw(Uniform(seed), Settings(), everything).scenario for seed in range(300)]
    assert {len(plan.unique_key or "") for scenario in drawn for plan in scenario.jobs} >= {0, 1, 2, 300}
    for scenario in drawn:
        assert read_scenario_text(write_scenario(scenario)) == scenario


def test_only_what_differs_from_the_defaults_is_written() -> None:
    scenario = Scenario(jobs=(JobPlan("a", outcomes=(Ending.FAIL, Ending.SUCCEED), takes=(Span(30_000_000),)),))
    assert write_scenario(scenario) == "format: 1\njobs:\n  a: {outcomes: [fail, succeed], takes: 30s}\n"


def test_a_long_job_is_written_on_several_lines() -> None:
    text = write_scenario(Scenario(jobs=(JobPlan("a", input={"text": "x" * WIDTH}, priority=3),)))
    assert text.splitlines()[2:] == ["  a:", f"    input: {{text: {'x' * WIDTH}}}", "    priority: 3"]


def test_hostile_text_survives() -> None:
    numbers = ["1e999", "-.inf", "9" * 1001]
    plan = JobPlan(
        "a",
        input={
            "numbers": numbers,
            "nul\x00": ["\u2028", "\x85", "\U0001f600", "\x1b[31m", '"\\', "- #:", "<<"],
            "<<": "~",
        },
    )
    scenario = Scenario(jobs=(plan,))
    text = write_scenario(scenario)
    assert text.isascii() or "\U0001f600" in text
    assert read_scenario_text(text).jobs == (plan,)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": object()}])
def test_what_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_scenario(Scenario(jobs=(JobPlan("a", input=value),)))
