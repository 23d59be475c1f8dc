"""Statement gating: a session for every actor, one statement released at a time, lock waits seen as what they are.

>>> from job_harness.worlds.postgres.gating import SessionCoordinator, SessionPool
>>> coordinator = SessionCoordinator(SessionPool(url))  # doctest: +SKIP
>>> connection = coordinator.connection("w1")           # doctest: +SKIP

`connection` is a psycopg `AsyncConnection`: code that takes one can be explored; `ActorPool` is for code that wants a
pool. Every statement that is sent over it suspends at a point of its name; the kernel says who goes on. Knows
PostgreSQL and the kernel; knows no jobs.
"""

from job_harness.worlds.postgres.gating.connection import ActorPool, GatedConnection
from job_harness.worlds.postgres.gating.coordinator import SessionCoordinator
from job_harness.worlds.postgres.gating.pool import SessionPool

__all__ = ["ActorPool", "GatedConnection", "SessionCoordinator", "SessionPool"]
