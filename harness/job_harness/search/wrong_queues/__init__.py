"""Wrong queues, one mistake each: what the detector is tested by. Never part of a right queue."""

from job_harness.search.wrong_queues.catalogue import CATALOGUE
from job_harness.search.wrong_queues.wrong_queue import BlindSpot, Edit, Mistake

__all__ = ["CATALOGUE", "BlindSpot", "Edit", "Mistake"]
