"""A user's own processors under the real worker of the reference queue, on virtual time.

>>> from harness.processors import JobHarness, JobResult
>>> with JobHarness() as jobs:
...     jobs.register("greet", lambda job: JobResult(success=True, output=f"Hello {job.input}"))
...     job = jobs.enqueue("greet", "world")
...     jobs.run_until_idle()
...     job.status, job.output
(<Status.COMPLETED: 'COMPLETED'>, 'Hello world')
"""

from __future__ import annotations

from harness.adapters.reference.application import JobResult, NonRetryableError, ToolJob
from harness.invariants.effects import at_most_once, exactly_once
from harness.processors.assertions import Counts, JobHandle
from harness.processors.async_harness import AsyncJobHarness
from harness.processors.contract import ContractReport, ProcessorContract, check_processor
from harness.processors.delivery import effect, step
from harness.processors.job_harness import JobHarness
from harness.processors.typescript import JavaScript, TypeScriptProcessor

__all__ = [
    "AsyncJobHarness",
    "ContractReport",
    "Counts",
    "JavaScript",
    "JobHandle",
    "JobHarness",
    "JobResult",
    "NonRetryableError",
    "ProcessorContract",
    "ToolJob",
    "TypeScriptProcessor",
    "at_most_once",
    "check_processor",
    "effect",
    "exactly_once",
    "step",
]
