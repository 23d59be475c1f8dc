"""The reference queue under test: `reference_impl` on its memory store and on a real PostgreSQL."""

from harness.adapters.reference.engine import NAMES, ReferenceEngine, open_engine
from harness.adapters.reference.queue import ReferenceQueue, Settlement
from reference_impl.store.statements import shipped as shipped_statement

__all__ = ["NAMES", "ReferenceEngine", "ReferenceQueue", "Settlement", "open_engine", "shipped_statement"]
