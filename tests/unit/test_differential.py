"""Engines side by side: where they differ, and whether that is documented."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from job_harness.core.port import Contract, Known
from job_harness.core.run.play import explanation, play
from job_harness.core.scenario.reader import read_scenario
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import ExitCode
from job_harness.report.case import Case, exit_code_of
from job_harness.report.summary import side_by_side, summary
from job_harness.search.targets import open_engine

LATE = Path(__file__).parents[2] / "scenarios" / "zombies" / "late_complete.yaml"


PROMISES_ALL = Contract()
NO_TOKENS = Contract(differences={"zombies/late_complete": "no tokens (docs: ADR-0004)"})


def case(engine: str, contract: Contract = PROMISES_ALL) -> Case:
    scenario = read_scenario(LATE, queues=None)
    opened = open_engine(engine)
    try:
        run = play(scenario, engine=opened)
    finally:
        opened.close()
    return Case(scenario, engine, run=run, explanation=explanation("zombies/late_complete", run, contract))


def test_an_anomaly_that_is_known_stays_a_failure_and_is_told_with_its_place() -> None:
    known = Known(frozenset({"stale_complete"}), "bug 1")
    cases = [case("memory"), case("memory+stale-complete", Contract(known={"zombies/late_complete": known}))]
    assert exit_code_of(cases) is ExitCode.FAIL
    assert cases[1].headline.endswith("(known: bug 1)")


def text(*cases: Case) -> str:
    return " ".join(" ".join(line.text for line in side_by_side(cases)).split())


def test_engines_that_agree_need_no_table() -> None:
    assert side_by_side([case("memory"), case("reference")]) == []


def test_an_anomaly_is_named_in_its_column_and_explained() -> None:
    told = text(case("memory"), case("memory+stale-complete"))
    assert "scenario memory memory+stale-complete zombies/late_complete pass stale_complete" in told
    assert "memory+stale-complete first differs from memory in zombies/late_complete: anomaly stale_complete" in told


def test_a_documented_difference_is_told_with_its_place_and_is_no_failure() -> None:
    wrong = case("memory+stale-complete")
    assert wrong.run is not None
    unmet = replace(wrong.run, anomalies=())
    told = explanation("zombies/late_complete", unmet, NO_TOKENS)
    cases = [case("memory"), replace(wrong, run=unmet, explanation=told)]
    assert "zombies/late_complete pass different" in text(*cases)
    assert "documented: no tokens (docs: ADR-0004)" in text(*cases)
    assert exit_code_of(cases) is ExitCode.PASS
    assert "1 pass, 1 different as documented" in summary(cases, planned=2)[-1].text


def test_what_an_engine_passes_is_no_difference_whatever_it_documents() -> None:
    right = case("memory", NO_TOKENS)
    assert not right.differs
    assert side_by_side([right, case("reference")]) == []


def test_what_an_engine_cannot_do_is_no_difference() -> None:
    right = case("memory")
    assert right.run is not None
    unable = replace(right, engine="other", run=None, skipped="it has no such thing")
    assert side_by_side([right, unable]) == []
    assert MemoryEngine().info.capabilities.fencing


def test_the_names_of_engines_are_one_column_however_long() -> None:
    cases = [case("memory"), case("memory+stale-complete")]
    first, second = (line.text for line in summary(cases, planned=2)[:2])
    assert first.index(str(LATE)) == second.index(str(LATE))
