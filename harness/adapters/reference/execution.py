"""Starts a processor as the reference worker does, and reads its answer as the reference worker does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from harness.model.job import Json
from harness.run.context import Ended
from reference_impl.json_values import decode, encode
from reference_impl.models import JobProcessor, ToolJob, ToolJobStatus
from reference_impl.worker.execution import Execution, RunBlocking
from reference_impl.worker.verdict import Succeeded, judge


def start_execution(
    processor: JobProcessor, job: ToolJob, *, on_end: Callable[[], None], run_blocking: RunBlocking
) -> Execution:
    """Start a processor on the running loop; nothing that it raises gets out."""
    return Execution(processor, job, on_end=on_end, run_blocking=run_blocking)


def ending_of(execution: Execution) -> Ended | None:
    """Return how it ended; None while it runs."""
    if execution.answer is None:
        return None
    verdict = judge(execution.answer)
    if isinstance(verdict, Succeeded):
        return Ended(success=True, output=verdict.output)
    return Ended(success=False, error=verdict.error, final=verdict.final)


def job_of(job: str, tool: str, *, input: Json, attempts: int, max_attempts: int, started_at: datetime) -> ToolJob:
    """Make the job that a processor receives, its input through JSON and back."""
    return ToolJob(
        id=job,
        tool_slug=tool,
        status=ToolJobStatus.PROCESSING,
        input=decode(encode(input)),
        attempts=attempts,
        max_attempts=max_attempts,
        started_at=started_at,
        created_at=started_at,
        updated_at=started_at,
    )


__all__ = ["Execution", "RunBlocking", "ending_of", "job_of", "start_execution"]
