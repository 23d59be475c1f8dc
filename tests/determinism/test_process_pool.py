"""A pool of processes: the same answer whatever its size, and no trace of it when the parent or a member goes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from job_harness.core.model.settings import Settings
from job_harness.core.run.verdict import Verdict
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import ExitCode
from job_harness.search import process_pool
from job_harness.search.finding import Campaign
from job_harness.search.loop import play_in_order
from job_harness.search.process_pool import GrowingPool, ProcessPool
from job_harness.search.sampling import WHOLE, CampaignPlan, Sampler, stretches
from job_harness.search.wrong_queues import CATALOGUE

OPENER = "job_harness.search.targets:open_engine"
TARGETS = """
import os, signal
from job_harness.engines.memory import MemoryEngine, MemoryQueue

class Dies(MemoryQueue):
    def fail(self, claim, error, final):
        os.kill(os.getpid(), signal.SIGKILL)

class Hangs(MemoryQueue):
    def fail(self, claim, error, final):
        while True:
            pass

class Talks(MemoryQueue):
    def fail(self, claim, error, final):
        print("noise")
        return super().fail(claim, error, final)

def open_it(name):
    if name == "broken":
        raise RuntimeError("no way in")
    return MemoryEngine(globals()[name], name=name)
"""


def shared(target: str, engine: MemoryEngine, *, size: int, runs: int, opener: str = OPENER, **how: bool) -> Campaign:
    orders = CampaignPlan(opener, target, Settings(), patience=1.0, **how)  # type: ignore[arg-type]
    with ProcessPool(orders, size=size) as pool:
        return Sampler(engine, **how).explore(seed=3, runs=runs, crew=pool)  # type: ignore[arg-type]


@pytest.mark.long
@pytest.mark.slow
def test_a_pool_of_any_size_answers_what_one_process_answers() -> None:
    engine = CATALOGUE["stale-heartbeat"].engine("memory")
    alone = Sampler(engine).explore(seed=3, runs=400)
    assert alone.finding is not None
    for size in (1, 2):
        together = shared("memory+stale-heartbeat", engine, size=size, runs=400)
        assert together.finding is not None
        assert together.finding.scenario == alone.finding.scenario
        assert (together.runs, together.steps) == (alone.runs, alone.steps)
        assert together.coverage == alone.coverage


def test_a_signal_to_a_process_that_starts_is_left_to_the_parent() -> None:
    orders = CampaignPlan(OPENER, "memory", Settings())
    with ProcessPool(orders, size=1) as pool:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pool._members[0].process.pid, number)
        campaign = Sampler(MemoryEngine()).explore(seed=3, runs=10, crew=pool)
    assert (campaign.trouble, campaign.runs) == (None, 10)


@pytest.mark.slow
@pytest.mark.long
def test_a_pool_covers_what_one_process_covers() -> None:
    alone = Sampler(MemoryEngine()).explore(seed=3, runs=100)
    together = shared("memory", MemoryEngine(), size=2, runs=100)
    assert together == alone


@pytest.mark.long
@pytest.mark.slow
def test_a_search_that_gets_help_on_the_way_answers_what_one_process_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "ALONE", 0.02)
    monkeypatch.setattr(process_pool, "WORTH", 0.0)
    sampler = Sampler(MemoryEngine(), keep_going=True)
    with GrowingPool(sampler, CampaignPlan(OPENER, "memory", Settings(), keep_going=True), size=2) as pool:
        helped = sampler.explore(seed=3, runs=100, crew=pool)
        assert len(pool._pool._members) == 2
    assert helped == Sampler(MemoryEngine(), keep_going=True).explore(seed=3, runs=100)


def test_a_short_search_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "ALONE", 0.0)
    for limit in (None, 1.0):
        sampler = Sampler(MemoryEngine())
        with GrowingPool(sampler, CampaignPlan(OPENER, "memory", Settings()), size=2, limit=limit) as pool:
            assert sampler.explore(seed=3, runs=5, crew=pool).runs == 5
            assert not pool._pool._members


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("Dies", "was killed by SIGKILL while it did runs 0 to 3"),
        ("Hangs", "the verb fail of"),
        ("broken", "no way in"),
    ],
)
def test_a_member_that_is_lost_is_reported_with_the_runs_it_had(
    target: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool_targets.py").write_text(TARGETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = shared(target, MemoryEngine(), size=1, runs=50, opener="pool_targets:open_it")
    assert done.trouble is not None
    assert told in done.trouble.message
    assert done.verdict is (Verdict.FAIL if done.trouble.code is ExitCode.FAIL else Verdict.INCONCLUSIVE)


@pytest.mark.slow
def test_what_a_target_prints_does_not_disturb_its_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pool_targets.py").write_text(TARGETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = shared("Talks", MemoryEngine(), size=1, runs=20, opener="pool_targets:open_it")
    assert done.runs == 20
    assert done.trouble is None


@pytest.mark.slow
def test_a_pool_is_gone_when_it_is_left() -> None:
    with ProcessPool(CampaignPlan(OPENER, "memory", Settings()), size=2) as pool:
        members = [member.process for member in pool._members]
        todo = stretches(pool, seed=1, runs=10**6, shard=WHOLE)
        next(play_in_order(todo, pool))
    assert all(member.poll() is not None for member in members)
    for member in members:
        with pytest.raises(ProcessLookupError):
            os.kill(member.pid, signal.SIGTERM)
