"""Ctrl-C in the middle of an exploration keeps what was found."""

from __future__ import annotations

import pytest

from job_harness.core.model.duration import MINUTE
from job_harness.core.model.settings import Settings
from job_harness.core.run.verdict import Verdict
from job_harness.engines.memory import MemoryEngine
from job_harness.search.sampling import Sampler
from job_harness.search.shrink import Shrinker
from job_harness.search.wrong_queues import CATALOGUE


def test_an_interrupted_shrink_keeps_the_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Shrinker) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Shrinker, "shrink", interrupted)
    sampler = Sampler(MemoryEngine(), Settings(stuck_timeout=5 * MINUTE), frozenset({"concurrent_execution"}))
    campaign = sampler.explore(seed=0, runs=500)
    assert campaign.interrupted
    assert campaign.finding is not None
    assert not campaign.finding.minimal
    assert "concurrent_execution" in campaign.finding.run.found


def test_what_a_run_showed_is_kept_where_its_second_play_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Sampler, seed: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sampler, "sample_again", interrupted)
    campaign = Sampler(CATALOGUE["token-not-raised"].engine("memory")).explore(seed=0, runs=500)
    assert (campaign.interrupted, campaign.runs, campaign.verdict) == (True, 1, Verdict.FAIL)
    assert [(hit.number, hit.anomaly) for hit in campaign.unshown] == [(0, "token_reused")]


def test_an_interrupted_search_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(done: int) -> bool:
        if done == 3:
            raise KeyboardInterrupt
        return True

    campaign = Sampler(MemoryEngine()).explore(seed=0, runs=500, watch=watch)
    assert (campaign.interrupted, campaign.runs, campaign.finding) == (True, 3, None)
    assert campaign.verdict is Verdict.INCONCLUSIVE
