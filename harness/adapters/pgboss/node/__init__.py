"""Real pg-boss under test: the library itself in a Node peer, on a PostgreSQL whose clock is ours."""

from harness.adapters.pgboss.node.engine import PgBossNodeEngine, open_engine

__all__ = ["PgBossNodeEngine", "open_engine"]
