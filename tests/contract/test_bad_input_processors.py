"""Processors that do their worst under `JobHarness`: a recorded failure, and a neighbour that completes."""

from __future__ import annotations

from typing import Any

import pytest

from job_harness.subjects.processors import JobHarness
from job_harness_reference.models import JobResult, ToolJob


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def endless(depth: int = 0) -> int:
    return endless(depth + 1) + 1


def chatter(job: ToolJob) -> JobResult:
    print("x" * 5_000_000)
    raise ValueError("said enough")


def raising(error: BaseException) -> Any:
    def run(job: ToolJob) -> JobResult:
        raise error

    async def run_async(job: ToolJob) -> JobResult:
        raise error

    return (run, run_async)


CASES = {
    "none": (lambda job: None, "returned None"),
    "dict": (lambda job: {"ok": True}, "success"),
    "recursion": (lambda job: endless(), "RecursionError"),
    "prints megabytes": (chatter, "said enough"),
    "huge output": (lambda job: JobResult(success=True, output="x" * 30_000_000), "JOB_OUTPUT_LIMIT_BYTES"),
    **{
        f"{type(error).__name__} {kind}": (processor, type(error).__name__)
        for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("bare"), MuteError())
        for kind, processor in zip(("plain", "async"), raising(error), strict=True)
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_processor_is_a_recorded_failure_and_its_neighbour_completes(case: str) -> None:
    processor, words = CASES[case]
    with JobHarness() as jobs:
        jobs.register("hostile", processor)
        jobs.register("healthy", lambda job: JobResult(success=True, output=1))
        bad, good = jobs.enqueue("hostile", {}), jobs.enqueue("healthy", {})
        jobs.run_until_idle()
        assert str(bad.status) == "FAILED"
        assert words in (bad.error or "")
        assert str(good.status) == "COMPLETED"
        assert jobs.problems() == []
