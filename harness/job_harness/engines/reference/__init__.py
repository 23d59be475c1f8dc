"""The reference queue under test: `job_harness_reference` on its memory store and on a real PostgreSQL."""

from job_harness.engines.reference.engine import NAMES, ReferenceEngine
from job_harness.engines.reference.queue import ReferenceQueue, Settlement
from job_harness_reference.store.statements import shipped as shipped_statement

__all__ = ["NAMES", "ReferenceEngine", "ReferenceQueue", "Settlement", "shipped_statement"]
