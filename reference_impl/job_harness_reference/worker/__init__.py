"""The worker: claims jobs, runs their processors under a timeout, settles them."""

from job_harness_reference.worker.execution import RunBlocking, run_on_thread
from job_harness_reference.worker.settlement import Outcome
from job_harness_reference.worker.verdict import describe_error
from job_harness_reference.worker.worker import TooManyAbandonedError, Worker

__all__ = ["Outcome", "RunBlocking", "TooManyAbandonedError", "Worker", "describe_error", "run_on_thread"]
