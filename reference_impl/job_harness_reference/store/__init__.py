"""One method per verb, twice: in memory and on PostgreSQL, behind one protocol."""

from job_harness_reference.store.protocol import Store

__all__ = ["Store"]
