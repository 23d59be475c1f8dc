"""One method per verb, twice: in memory and on PostgreSQL, behind one protocol."""

from reference_impl.store.protocol import Store

__all__ = ["Store"]
