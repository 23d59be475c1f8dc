"""The conformance kit: a right queue passes, each level can fail, and a capability that is only claimed is a lie."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from job_harness.core.history.outcome import DONE, Outcome
from job_harness.core.port import AdaptedEngine, Capabilities, Claim, Contract, Known
from job_harness.doors.cli.conform_command import detail, matrix, table
from job_harness.doors.pytest.conformance import engine_of
from job_harness.engines.conformance.judge import Conformance, Level, Mark, cases, conform
from job_harness.engines.memory import MemoryEngine, MemoryQueue
from job_harness.engines.reference import ReferenceEngine
from job_harness.errors import ExitCode, UsageError
from job_harness.search.wrong_queues import CATALOGUE


def test_every_scenario_of_this_project_belongs_to_exactly_one_level() -> None:
    themes = [theme for level in Level for theme in level.themes]
    assert len(themes) == len(set(themes))
    there = {case.name for case in cases()}
    from job_harness.engines.conformance import judge

    root = next(place for place in judge.PLACES if place.is_dir())
    about_no_queue = ("found", "applications")
    promised_by_few = ("calendars", "flows", "limits", "outages", "own_terms", "workers")
    left_out = {*about_no_queue, *promised_by_few}
    asked = [path for path in root.glob("*/*.yaml") if path.parent.name not in left_out]
    assert there == {f"{path.parent.name}/{path.stem}" for path in asked}


@pytest.mark.parametrize("name", ["memory", "reference"])
def test_the_right_queues_conform_on_every_level(name: str) -> None:
    engine = MemoryEngine() if name == "memory" else ReferenceEngine(name)
    conformance = conform(engine)
    assert conformance.exit_code is ExitCode.PASS
    asked_for = [
        capability
        for capability in Capabilities.names()
        if capability
        not in ("sessions", "takes_back_in_claim", "signals", "splits", "replica")  # no scenario needs them
    ]
    skipped = {Mark.SKIPPED} if engine.info.capabilities.missing(asked_for) else set()
    different = {Mark.DIFFERENT} if engine.info.contract.differences else set()
    assert {result.mark for result in conformance.results} == {Mark.PASS, *skipped, *different}
    assert all(counts[Mark.PASS] for level in Level if (counts := conformance.of(level)))


@pytest.mark.parametrize(
    ("mistake", "level"),
    [
        ("one-attempt-too-many", Level.CORE),
        ("stale-complete", Level.RELIABLE),
        ("newest-first", Level.SCHEDULED),
        ("unique-ignored", Level.UNIQUE),
        ("purge-ignores-retention", Level.CRON),
    ],
)
def test_each_level_can_fail(mistake: str, level: Level) -> None:
    conformance = conform(CATALOGUE[mistake].engine("memory"), levels=[level])
    assert conformance.exit_code is ExitCode.FAIL
    assert conformance.of(level)[Mark.FAIL] >= 1


def test_every_case_has_a_control() -> None:
    assert [case.name for case in cases() if not case.scenario.controls] == []


class Boaster(MemoryQueue):
    """Says that it has heartbeats; its heartbeats do nothing."""

    def heartbeat(self, claim: Claim) -> Outcome:
        return DONE


class Modest(MemoryQueue):
    """Says that it has none."""

    capabilities: ClassVar[Capabilities] = Capabilities(cancel=True, retry=True, virtual_time=True, fencing=True)


def test_a_capability_that_no_case_shows_is_a_lie() -> None:
    conformance = conform(MemoryEngine(Boaster, name="boaster"))
    assert conformance.lies == ["heartbeat"]
    assert conformance.exit_code is ExitCode.FAIL
    assert "lie       declares heartbeat, and none of the cases that need it passes" in list(detail(conformance))


def test_what_is_not_declared_is_skipped_by_name() -> None:
    conformance = conform(MemoryEngine(Modest, name="modest"), levels=[Level.UNIQUE])
    assert {result.mark for result in conformance.results} == {Mark.SKIPPED}
    assert "modest has no unique, which job" in conformance.results[0].why
    assert conformance.exit_code is ExitCode.INCONCLUSIVE
    assert conformance.badge == "nothing was judged"


def under(mistake: str, contract: Contract, *, level: Level) -> Conformance:
    engine = CATALOGUE[mistake].engine("memory")
    changed = AdaptedEngine(engine, replace(engine.info, contract=contract))
    return conform(changed, levels=[level])


def test_a_documented_difference_is_neither_a_pass_nor_a_failure() -> None:
    contract = Contract(
        documented={"priority_inversion": "the manual says so"},
        differences={"scheduling/oldest_first": "the manual says so", "scheduling/options_are_kept": "it need not"},
    )
    conformance = under("newest-first", contract, level=Level.SCHEDULED)
    marks = {result.case.name: result for result in conformance.results}
    assert marks["scheduling/oldest_first"].mark is Mark.DIFFERENT
    assert marks["scheduling/oldest_first"].why == "the manual says so"
    assert marks["scheduling/options_are_kept"].mark is Mark.PASS, "what passes needs no excuse"


def test_a_documented_difference_excuses_no_anomaly() -> None:
    contract = Contract(differences={"zombies/late_complete": "the manual says so"})
    conformance = under("stale-complete", contract, level=Level.RELIABLE)
    marks = {result.case.name: result.mark for result in conformance.results}
    assert marks["zombies/late_complete"] is Mark.FAIL


def test_what_is_known_is_told_with_its_place_is_no_pass_and_fails_nothing() -> None:
    known = Known(frozenset({"stale_complete"}), "it is bug 1")
    contract = Contract(known=dict.fromkeys(("zombies/late_complete", "configuration/batch_outlives_lease"), known))
    conformance = under("stale-complete", contract, level=Level.RELIABLE)
    result = next(result for result in conformance.results if result.case.name == "zombies/late_complete")
    assert (result.mark, result.why) == (Mark.KNOWN, "it is bug 1")
    assert conformance.of(Level.RELIABLE)[Mark.PASS] < len(conformance.results)
    assert "known     reliable  zombies/late_complete: it is bug 1" in list(detail(conformance))
    assert any("zombies/late_complete: it is bug 1" in line for line in matrix([conformance]))


def test_an_anomaly_beside_the_known_one_is_a_failure() -> None:
    contract = Contract(known={"zombies/late_complete": Known(frozenset({"stale_fail"}), "it is bug 1")})
    conformance = under("stale-complete", contract, level=Level.RELIABLE)
    marks = {result.case.name: result.mark for result in conformance.results}
    assert marks["zombies/late_complete"] is Mark.FAIL
    assert conformance.exit_code is ExitCode.FAIL


def test_engines_stand_side_by_side() -> None:
    lines = list(table([conform(MemoryEngine()), conform(MemoryEngine(Modest, name="modest"))]))
    assert lines[0].split() == ["engine", *(str(level) for level in Level), "known", "different", "skipped"]
    assert [line.split()[0] for line in lines[1:]] == ["memory", "modest"]


def test_what_makes_no_queue_is_refused() -> None:
    with pytest.raises(UsageError, match=r"TestMine\.make is None, which does not make a queue"):
        engine_of(None, name="TestMine")
    assert engine_of(MemoryQueue, name="TestMine").info.capabilities == MemoryQueue.capabilities
    assert engine_of(staticmethod(MemoryEngine), name="TestMine").info.name == "memory"
