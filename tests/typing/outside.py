"""What a user's own code looks like to a type checker: `mypy --strict` and pyright must know every type in it."""

from __future__ import annotations

from typing import assert_type

import pytest

from job_harness import (
    DONE,
    AnomalyKind,
    Capabilities,
    Claim,
    Guarantee,
    Invariant,
    JobClock,
    JobHarness,
    JobPostgres,
    JobResult,
    JobView,
    Kind,
    Monitor,
    Outcome,
    ProcessorContract,
    Settings,
    SideEffect,
    Status,
    ToolJob,
    at_most_once,
    done,
    effect,
    open_engine,
)


async def charge(job: ToolJob) -> JobResult:
    """Charge an order."""
    effect("charged", order=7)
    return JobResult(success=True, output=job.input)


class Watch(Monitor):
    """Sees nothing."""


WATCHED = Invariant(
    id="watched",
    sentence="Somebody watches.",
    kind=Kind.ALWAYS,
    anomalies=(AnomalyKind("unwatched", Guarantee.PROGRESS, "Nobody watched."),),
    make=Watch,
)


def use(claim: Claim, view: JobView) -> None:
    """Ask for the types of what is public."""
    with JobHarness(invariants=(at_most_once("charged"), WATCHED)) as jobs:
        jobs.register("charge", charge)
        assert_type(jobs.enqueue("charge", {"order": 7}).attempts, int)
    assert_type(done([claim]), Outcome)
    assert_type(DONE.deadlocked, bool)
    assert_type(view.status, Status | None)
    assert_type(SideEffect("charged").identity, str | None)
    assert_type(open_engine("memory").info.capabilities, Capabilities)
    assert_type(Settings().changed(max_attempts=2), Settings)


class Contract(ProcessorContract):
    """Empties the database of the fixture before each try."""

    processor = charge

    @pytest.fixture(autouse=True)
    def own_tables(self, job_postgres: JobPostgres, job_clock: JobClock) -> None:
        """Set it as the docs do."""
        type(self).reset = job_postgres.reset
        job_clock.freeze()
