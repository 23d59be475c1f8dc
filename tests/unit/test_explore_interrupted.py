"""Ctrl-C in the middle of an exploration keeps what was found."""

from __future__ import annotations

import math
from typing import Any

import pytest

from job_harness.core.model.duration import MINUTE
from job_harness.core.model.job import Json
from job_harness.core.model.lifecycle import Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import Claim
from job_harness.core.run.session import Limits
from job_harness.core.run.verdict import Verdict
from job_harness.core.sim.request import Point
from job_harness.engines.memory import MemoryEngine, MemoryQueue
from job_harness.search.sampling import Sampler
from job_harness.search.shrink import Shrinker
from job_harness.search.watchdog import SearchTime
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


class NeverRests(MemoryQueue):
    """Takes a job back to PENDING once it was completed, and then has one more thing to do for ever."""

    def complete(self, claim: Claim, output: Json) -> Any:
        done = super().complete(claim, output)
        self.put(self.rows[claim.job]._replace(status=Status.PENDING))
        while True:
            yield Point("at work")
        return done


def test_a_run_under_way_when_time_is_over_ends_at_its_next_step_and_what_it_showed_is_shown() -> None:
    endless = Limits(steps=1 << 60)
    with SearchTime(0.2) as limit:
        sampler = Sampler(MemoryEngine(NeverRests), limits=endless, time=limit, keeps_runs=True)
        campaign = sampler.explore(seed=0, runs=500)
    assert campaign.runs == 0, "it was not judged to its end"
    assert campaign.verdict is Verdict.FAIL
    assert [(each.anomaly, each.minimal) for each in campaign.findings] == [("illegal_transition", False)]


def test_what_is_run_for_a_finding_has_to_end_in_time() -> None:
    assert SearchTime().left == math.inf
    assert 3600 < SearchTime(3600).left <= 3960
    assert SearchTime(0).left == 0
    assert (SearchTime(0).over, SearchTime(0).hurries, SearchTime(3600).over) == (True, True, False)


def test_an_interrupted_search_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(done: int) -> bool:
        if done == 3:
            raise KeyboardInterrupt
        return True

    campaign = Sampler(MemoryEngine()).explore(seed=0, runs=500, watch=watch)
    assert (campaign.interrupted, campaign.runs, campaign.finding) == (True, 3, None)
    assert campaign.verdict is Verdict.INCONCLUSIVE
