"""Which cases decide what a command answers."""

from __future__ import annotations

from dataclasses import replace

from job_harness.core.port import Capabilities
from job_harness.core.run.play import play
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import ExitCode
from job_harness.report.case import Case, exit_code_of, without_excused
from job_harness.report.ci import case_results
from job_harness.report.summary import summary

SCENARIO = Scenario(title="a key", jobs=(JobPlan("a", unique_key="k"),), path="keys.yaml")


class Modest(MemoryEngine):
    """An engine that declares nothing."""

    def __init__(self) -> None:
        super().__init__(name="modest")
        self.info = replace(self.info, capabilities=Capabilities(virtual_time=True))


def case(engine: MemoryEngine) -> Case:
    return Case(SCENARIO, engine.info.name, run=play(SCENARIO, engine=engine))


def test_what_no_engine_of_a_command_can_do_stays_open() -> None:
    cases = [case(Modest())]
    assert without_excused(cases) == cases
    assert exit_code_of(cases) is ExitCode.INCONCLUSIVE


def test_what_one_engine_cannot_do_and_another_did_is_no_open_question() -> None:
    cases = [case(Modest()), case(MemoryEngine())]
    assert without_excused(cases) == cases[1:]
    assert exit_code_of(cases) is ExitCode.PASS
    told = [line.text for line in summary(cases, planned=2)]
    assert told[-1] == "1 more ask for what their engine cannot do; another engine judged them."


def test_a_run_that_began_and_could_not_be_judged_stays_open() -> None:
    begun = play(SCENARIO, engine=MemoryEngine())

    open_question = Case(SCENARIO, "other", run=replace(begun, uncovered=("the tape's `x` never came up here",)))
    assert exit_code_of([open_question, case(MemoryEngine())]) is ExitCode.INCONCLUSIVE


def test_ci_is_pointed_at_the_line_of_the_expectation_that_failed() -> None:
    failures = ("a worker hung", "late.yaml:11: a: expected attempts 3, got 2")
    run = replace(play(Scenario(path="late.yaml"), engine=MemoryEngine()), failures=failures)

    (result,) = case_results([Case(run.scenario, "memory", run)])

    assert (result.file, result.line) == ("late.yaml", 11)
