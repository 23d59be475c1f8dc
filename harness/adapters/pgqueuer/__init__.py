"""Real PgQueuer under test: its own code in a child, on a PostgreSQL whose clock is ours."""

from harness.adapters.pgqueuer.engine import PgQueuerEngine, open_engine

__all__ = ["PgQueuerEngine", "open_engine"]
