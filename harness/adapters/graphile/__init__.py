"""Real graphile-worker under test: its own code in a Node child, on a PostgreSQL whose clock is ours."""

from harness.adapters.graphile.engine import GraphileEngine, open_engine

__all__ = ["GraphileEngine", "open_engine"]
