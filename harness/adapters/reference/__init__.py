"""The reference queue under test: `reference_impl` on its memory store and on a real PostgreSQL."""

from harness.adapters.reference.engine import NAMES, ReferenceEngine, open_engine
from harness.adapters.reference.queue import ReferenceQueue

__all__ = ["NAMES", "ReferenceEngine", "ReferenceQueue", "open_engine"]
