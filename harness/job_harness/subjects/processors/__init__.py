"""A user's own processors under the real worker of the reference queue, on virtual time.

>>> from job_harness.subjects.processors import JobHarness, JobResult
>>> with JobHarness() as jobs:
...     jobs.register("greet", lambda job: JobResult(success=True, output=f"Hello {job.input}"))
...     job = jobs.enqueue("greet", "world")
...     jobs.run_until_idle()
...     job.status, job.output
(<Status.COMPLETED: 'COMPLETED'>, 'Hello world')
"""

from __future__ import annotations

from job_harness.core.invariants.effects import at_most_once, exactly_once
from job_harness.engines.reference.application import JobResult, NonRetryableError, ToolJob
from job_harness.subjects.processors.assertions import Counts
from job_harness.subjects.processors.async_harness import AsyncJobHarness
from job_harness.subjects.processors.delivery import effect, step
from job_harness.subjects.processors.job_book import JobHandle
from job_harness.subjects.processors.job_harness import JobHarness
from job_harness.subjects.processors.typescript.target import JavaScript, TypeScriptProcessor

__all__ = [
    "AsyncJobHarness",
    "Counts",
    "JavaScript",
    "JobHandle",
    "JobHarness",
    "JobResult",
    "NonRetryableError",
    "ToolJob",
    "TypeScriptProcessor",
    "at_most_once",
    "effect",
    "exactly_once",
    "step",
]
