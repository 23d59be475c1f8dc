"""A user's processors as the handlers of pg-boss's own `work()` loop, on virtual time."""

from harness.processors.pgboss.application import PgBossApplication, work_process, workplace_of

__all__ = ["PgBossApplication", "work_process", "workplace_of"]
