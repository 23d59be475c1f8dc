"""Real pg-boss under test: the library itself in a Node peer, on a PostgreSQL whose clock is ours."""

from harness.adapters.pgboss.node.engine import open_engine, release

__all__ = ["open_engine", "release"]
