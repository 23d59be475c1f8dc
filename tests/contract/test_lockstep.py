"""Two engines in lockstep: they do the same to the microsecond, and the first difference is found and named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from job_harness.core.history.outcome import DONE, Outcome
from job_harness.core.model.duration import SECOND
from job_harness.core.model.job import JobView
from job_harness.core.model.settings import Settings
from job_harness.core.port import Claim, as_stepped
from job_harness.core.scenario.job_plan import Ending, JobPlan
from job_harness.core.scenario.scenario import Scenario, parse_step
from job_harness.engines.memory import EndRules, MemoryEngine, MemoryQueue
from job_harness.engines.reference import ReferenceEngine, ReferenceQueue
from job_harness.search.lockstep import Comparison, Difference, LockstepEngine, compare, watch
from job_harness.search.sampling import Sampler, run_seed

FAILS_ONCE = Scenario(workers=("w1",), jobs=(JobPlan("a", outcomes=(Ending.FAIL, Ending.SUCCEED)), JobPlan("b")))


@pytest.fixture(scope="module", params=["reference", pytest.param("postgres", marks=pytest.mark.postgres)])
def reference(request: pytest.FixtureRequest) -> Iterator[ReferenceEngine]:
    engine = ReferenceEngine(request.param)
    yield engine
    engine.close()


class Narrow(MemoryQueue):
    """Can no more than the reference queue, so that the same workload is drawn for both."""

    capabilities = ReferenceQueue.capabilities


class WaitsTooLongRules(EndRules):
    """Waits a microsecond longer than it should."""

    def delay(self, row: JobView, nth: int) -> int:
        return super().delay(row, nth) + 1


class WaitsTooLong(MemoryQueue):
    rules = (WaitsTooLongRules,)


class Deaf(MemoryQueue):
    """Says done to a stale completion, and does nothing."""

    def complete(self, claim: Claim, output: object) -> Outcome:
        answer = super().complete(claim, output)
        return answer if answer.done else DONE


class Raises(MemoryQueue):
    """Raises where it should release."""

    def release(self, claim: Claim) -> Outcome:
        raise RuntimeError("boom")


@pytest.mark.long
@pytest.mark.slow
def test_model_and_reference_do_the_same_in_sampled_runs(reference: ReferenceEngine) -> None:
    sampler = Sampler(LockstepEngine(MemoryEngine(), reference))
    seeds = range(120 if reference.info.name == "reference" else 40)
    compared = [watch(sampler.session(run_seed(5, number))) for number in seeds]
    assert [item.divergence for item in compared if item.divergence] == []
    assert sum(item.steps for item in compared) > 10 * len(compared)


@pytest.mark.long
@pytest.mark.slow
def test_a_tape_has_the_same_history_on_model_and_reference(reference: ReferenceEngine) -> None:
    for number in range(30):
        one = Sampler(MemoryEngine(Narrow)).sample(run_seed(6, number))
        other = Sampler(as_stepped(reference)).sample(run_seed(6, number))  # the same program on both
        assert one.tape == other.tape
        shown = {job: view._replace(input=None) for job, view in one.history.views().items()}
        assert shown == other.history.views()


def test_a_scenario_without_difference_answers_the_run_of_the_left_engine(reference: ReferenceEngine) -> None:
    comparison = compare(FAILS_ONCE, left=MemoryEngine(), right=reference)
    assert comparison.divergence is None
    assert comparison.run is not None
    assert comparison.run.engine == f"memory | {reference.info.name}"
    assert comparison.run.history.path("a") == ["PENDING", "PROCESSING", "PENDING", "PROCESSING", "COMPLETED"]


def test_the_first_difference_is_named_by_step_actor_verb_and_field(reference: ReferenceEngine) -> None:
    comparison = compare(FAILS_ONCE, left=MemoryEngine(WaitsTooLong, name="late"), right=reference)
    divergence = comparison.divergence
    assert divergence is not None
    assert (divergence.actor, divergence.verb, divergence.job) == ("w1", "fail", "a")
    assert divergence.differences == (Difference("a.start_after", 61 * SECOND + 1, 61 * SECOND),)
    assert str(divergence).splitlines() == [
        f"step {divergence.step} at 1s: w1 fail a: late and {reference.info.name} differ",
        f"  a.start_after  late: 61000001  {reference.info.name}: 61000000",
    ]


def test_an_answer_that_differs_is_found_though_no_job_does(reference: ReferenceEngine) -> None:
    comparison = _stale_completion(MemoryEngine(Deaf, name="deaf"), reference)
    divergence = comparison.divergence
    assert divergence is not None
    assert divergence.verb == "complete"
    assert divergence.differences == (Difference("outcome", "done", "refused: the claim was taken back"),)


def test_a_verb_that_raises_differs_from_one_that_answers(reference: ReferenceEngine) -> None:
    scenario = Scenario(
        settings=Settings(batch_size=2),
        workers=("w1",),
        jobs=(JobPlan("a"), JobPlan("b")),
        steps=(parse_step("w1 claims a"), parse_step("stop w1"), parse_step("run until idle")),
    )
    divergence = compare(scenario, left=MemoryEngine(Raises, name="raises"), right=reference).divergence
    assert divergence is not None
    assert divergence.differences[0] == Difference("outcome", "unknown: RuntimeError: boom", "done")


def test_a_stepped_engine_is_led_through_its_points() -> None:
    stepped = ReferenceEngine("reference", stepped=True)
    assert compare(FAILS_ONCE, left=MemoryEngine(), right=stepped).divergence is None


def _stale_completion(left: MemoryEngine, right: ReferenceEngine) -> Comparison:
    steps = ("w1 claims a", "cancel a -> done", "w1 completes a")
    scenario = Scenario(workers=("w1",), jobs=(JobPlan("a"),), steps=tuple(parse_step(step) for step in steps))
    return compare(scenario, left=left, right=right)
