"""A Redis for tests whose clock is ours: provisioning, reset, virtual time.

What is said to it is RESP, one command at a time, over a Unix socket. Must not know: queues, jobs,
any client library.
"""

from job_harness.worlds.redis.client import RedisClient, RedisError
from job_harness.worlds.redis.store import RedisStore

__all__ = ["RedisClient", "RedisError", "RedisStore"]
