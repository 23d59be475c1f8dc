"""Real pg-boss under test: its own SQL over psycopg, taken from the installed package at run time."""

from harness.adapters.pgboss.queue import PgBossEngine, open_engine

__all__ = ["PgBossEngine", "open_engine"]
