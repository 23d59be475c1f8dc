"""Chance that is the same in every run of an explored test."""

from __future__ import annotations

import time
import uuid

import pytest

from job_harness.subjects.processors.chance import same_chance


def test_ids_that_grow_with_the_time_are_the_same_in_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    before = uuid.uuid1(node=1, clock_seq=1)
    drawn = []
    for _ in range(2):
        with same_chance():
            drawn.append([uuid.uuid1(node=1, clock_seq=1) for _ in range(2)])
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]
    assert uuid.uuid1(node=1, clock_seq=1).time == before.time + 1, "those of the test run itself go on"
