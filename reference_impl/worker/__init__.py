"""The worker: claims jobs, runs their processors under a timeout, settles them."""

from reference_impl.worker.execution import RunBlocking, run_on_thread
from reference_impl.worker.settlement import Outcome
from reference_impl.worker.verdict import describe_error
from reference_impl.worker.worker import TooManyAbandonedError, Worker

__all__ = ["Outcome", "RunBlocking", "TooManyAbandonedError", "Worker", "describe_error", "run_on_thread"]
