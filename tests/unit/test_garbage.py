"""The garbage collector looks seldom while jobs are worked on, and as it did before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from job_harness.core.garbage import YOUNG, collecting_seldom
from job_harness.subjects.processors import JobHarness, JobResult, ToolJob


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_a_drain_is_collected_seldom_and_leaves_the_thresholds_as_they_were() -> None:
    gc.set_threshold(699, 9, 8)
    seen: list[tuple[int, int, int]] = []

    async def look(job: ToolJob) -> JobResult:
        seen.append(gc.get_threshold())
        return JobResult(success=True)

    with JobHarness() as jobs:
        jobs.register("look", look)
        jobs.enqueue("look")
        jobs.drain()
        assert gc.get_threshold() == (699, 9, 8)
    assert seen == [(YOUNG, 100, 8)]


def test_the_thresholds_are_put_back_where_it_ends_in_an_error() -> None:
    gc.set_threshold(699, 9, 8)
    with pytest.raises(ZeroDivisionError), collecting_seldom():
        raise ZeroDivisionError
    assert gc.get_threshold() == (699, 9, 8)


@pytest.mark.parametrize("chosen", [0, YOUNG + 1], ids=["never", "more seldom"])
def test_who_is_collected_more_seldom_already_stays_so(chosen: int) -> None:
    gc.set_threshold(chosen, 9, 8)
    with collecting_seldom():
        assert gc.get_threshold() == (chosen, 9, 8)
