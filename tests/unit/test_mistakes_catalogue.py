"""The catalogue of wrong queues keeps its own rules: one method each, SQL edits that still fit, known anomalies."""

from __future__ import annotations

import pytest

from job_harness.core.invariants import ANOMALIES
from job_harness.core.run.worker import Worker
from job_harness.engines.memory import (
    ClaimRules,
    EndRules,
    FlowRules,
    KeyRules,
    MemoryEngine,
    MemoryQueue,
    QueueRules,
    RequestRules,
    TickRules,
    UpkeepRules,
)
from job_harness.errors import UsageError
from job_harness.search.sampling import Sampler, run_seed
from job_harness.search.wrong_queues import CATALOGUE, Edit, Mistake
from job_harness.search.wrong_queues.wrong_queue import StaleEdit

EVERY = pytest.mark.parametrize("mistake", CATALOGUE.values(), ids=lambda mistake: mistake.name)


TWOFOLD = {"waiting-again-collides"}
"""An index of the wrong shape, and the statement that runs into it: neither alone is the mistake."""
WORKERS = [mistake for mistake in CATALOGUE.values() if mistake.worker is not Worker and not mistake.rules]


RULES = (ClaimRules, EndRules, FlowRules, KeyRules, RequestRules, TickRules, UpkeepRules)


def methods(mistake: Mistake) -> set[str]:
    """Return what a wrong queue, or its rules, have of their own, beside what is documented."""
    assert mistake.queue is not None
    right = {*MemoryQueue.__mro__, QueueRules, *RULES, *mistake.documented}
    wrong = {kind for top in (mistake.queue, *mistake.rules) for kind in top.__mro__} - right
    return {name for kind in wrong for name, value in vars(kind).items() if callable(value)}


@pytest.mark.parametrize(
    "mistake",
    [mistake for mistake in CATALOGUE.values() if mistake.queue is not None and mistake.worker is Worker],
    ids=lambda mistake: mistake.name,
)
def test_a_wrong_queue_overrides_one_method_of_the_right_one(mistake: Mistake) -> None:
    changed = methods(mistake)
    assert len(changed) == (2 if mistake.name in TWOFOLD else 1)
    assert all(any(hasattr(kind, name) for kind in (MemoryQueue, *RULES)) for name in changed)


@pytest.mark.parametrize("mistake", WORKERS, ids=lambda mistake: mistake.name)
def test_a_wrong_worker_stands_on_a_right_queue_and_does_one_thing_otherwise(mistake: Mistake) -> None:
    assert (mistake.queue, mistake.rules) == (MemoryQueue, ())
    changed = {name for name, value in vars(mistake.worker).items() if callable(value)} - {"wanted"}
    assert len(changed) == 1
    assert all(hasattr(Worker, name) for name in changed)


@pytest.mark.parametrize(
    "mistake", [mistake for mistake in CATALOGUE.values() if mistake.documented], ids=lambda mistake: mistake.name
)
def test_a_queue_that_does_only_what_its_engine_documents_raises_no_alarm(mistake: Mistake) -> None:
    queue = MemoryEngine(rules=mistake.documented, contract=mistake.contract)
    sampler = Sampler(queue)
    undocumented = Sampler(MemoryEngine(rules=mistake.documented))
    found = [set(sampler.sample(run_seed(7, number)).found) for number in range(150)]
    assert not any(found)
    assert any(undocumented.sample(run_seed(7, number)).found for number in range(150))


@EVERY
def test_a_mistake_says_what_it_is_and_names_anomalies_that_exist(mistake: Mistake) -> None:
    assert mistake.sentence.endswith(".")
    assert mistake.source
    assert mistake.finds
    assert set(mistake.finds) <= set(ANOMALIES)


@EVERY
def test_a_mistake_can_be_planted_somewhere(mistake: Mistake) -> None:
    assert mistake.kinds


def test_a_mistake_of_row_locks_cannot_be_planted_in_memory() -> None:
    with pytest.raises(UsageError, match="cannot be planted on the engine 'memory'") as refused:
        CATALOGUE["locks-in-opposite-order"].engine("memory")
    assert "it can on: postgres-gated" in str(refused.value)


@EVERY
def test_an_edit_still_fits_its_statement_and_changes_it(mistake: Mistake) -> None:
    from job_harness_reference.store.statements import shipped

    for name, text in mistake.edited().items():
        assert text != shipped(name)


def test_many_mistakes_can_be_planted_in_sql() -> None:
    assert sum(bool(mistake.statements) for mistake in CATALOGUE.values()) >= 12


def test_an_edit_that_no_longer_fits_is_an_error_that_names_the_statement() -> None:
    outdated = Mistake("m", "It is wrong.", "x#1", ("job_stuck",), statements={"claim": (Edit("no such", ""),)})
    with pytest.raises(StaleEdit, match=r"'no such', which stands 0 times in the statement 'claim'"):
        outdated.edited()


def test_an_engine_that_cannot_make_the_mistake_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot be planted on the engine 'postgres'"):
        CATALOGUE["worker-clock-lease"].engine("postgres")
    with pytest.raises(UsageError, match="cannot be planted on the engine 'reference'"):
        CATALOGUE["stale-complete"].engine("reference")
