"""Real procrastinate under test: its own code in a child, on a PostgreSQL whose clock is ours."""

from harness.adapters.procrastinate.engine import ProcrastinateEngine, open_engine

__all__ = ["ProcrastinateEngine", "open_engine"]
