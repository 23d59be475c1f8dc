"""Statement gating: a session for every actor, one statement released at a time, lock waits seen as what they are.

>>> from harness.postgres.gating import Room, SessionPool
>>> room = Room(SessionPool(url))                       # doctest: +SKIP
>>> connection = room.connection("w1")                  # doctest: +SKIP

`connection` is a psycopg `AsyncConnection`: whoever takes one can be explored, and `ActorPool` is for code that wants a
pool. Every statement that is sent over it suspends at a point of its name; the kernel says who goes on. Knows
PostgreSQL and the kernel; knows no jobs.
"""

from harness.postgres.gating.actor_pool import ActorPool
from harness.postgres.gating.connection import GatedConnection
from harness.postgres.gating.pool import SessionPool
from harness.postgres.gating.room import Room

__all__ = ["ActorPool", "GatedConnection", "Room", "SessionPool"]
