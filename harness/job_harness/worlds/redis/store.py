"""A Redis for another project's queue: its clock is ours, and it is emptied between runs."""

from __future__ import annotations

from typing import Any, Final

from job_harness.core.model import MILLISECOND, Instant
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.redis.client import RedisError
from job_harness.worlds.redis.gating import RedisGates
from job_harness.worlds.redis.server import RedisServer, started

MARK: Final = "job-harness"
"""A key of the harness, which is gone once something else has emptied the server."""


class VirtualRedis:
    """One server whose clock is ours, and one session with it."""

    def __init__(self, server: RedisServer) -> None:
        """Begin a session with a server whose clock stands at the instant 0."""
        self._server = server
        self._client = server.connect()
        self._now = 0

    @property
    def provenance(self) -> str:
        """Where the server came from and why."""
        return self._server.provenance

    def set_now(self, instant: Instant) -> None:
        """Move its clock."""
        milliseconds = instant // MILLISECOND
        if milliseconds != self._now:
            self._server.move(self._client, milliseconds)
            self._now = milliseconds

    def ask(self, *words: bytes | str | int) -> Any:
        """Send one command and return its reply; see `RedisClient.ask`."""
        return self._client.ask(*words)

    def confirm(self) -> None:
        """Look whether the server is there. Raises EnvironmentUnavailable where it is not."""
        if not self._server.alive:
            raise EnvironmentUnavailable(f"Redis ended; it last said: {self._server.log_tail()}")

    def close(self) -> None:
        """End the session and the server. Never raises."""
        self._client.close()
        self._server.stop()


class RedisStore(VirtualRedis):
    """The store of another project's queue."""

    def __init__(self, dsn: str | None = None) -> None:
        """Provision a Redis whose clock stands at the instant 0.

        Raises EnvironmentUnavailable if there is none, or where its clock cannot be ours, as on a
        server that runs.
        """
        if dsn is not None:
            raise EnvironmentUnavailable(
                f"{dsn}: the clock of a running Redis cannot be moved",
                hint="Leave it out: a server is started here.",
            )
        super().__init__(started())
        self.empty()

    def connect(self) -> None:
        """Begin the session anew."""
        self._client = self._server.connect()

    @property
    def url(self) -> str:
        """Where a client connects: a Unix socket."""
        return f"unix://{self._server.socket}"

    def gates(self) -> RedisGates:
        """Return what gives every actor connections of its own."""
        return RedisGates(self._server.socket, forget_scripts=self.fail_over)

    @property
    def alive(self) -> bool:
        """Whether the server runs and the session was not seen to break."""
        return self._server.alive and not self._client.broken

    @property
    def now(self) -> Instant:
        """What its clock shows, in whole milliseconds."""
        return self._now * MILLISECOND

    def empty(self) -> None:
        """Delete every key but our mark; what scripts are loaded stays."""
        self._client.ask("FLUSHALL")
        self._mark()

    def fail_over(self) -> None:
        """Be as a replica that has all data and no script: a client has to send its scripts again."""
        self._client.ask("SCRIPT", "FLUSH")

    def check(self) -> None:
        """Nothing more to prove: that the clock is ours was proven when the server started."""

    def confirm(self) -> None:
        """Look whether the server is there as it was, holds its data and takes writes.

        Raises EnvironmentUnavailable where it does not: what a queue made of that says nothing
        about the queue.
        """
        super().confirm()
        if self._mark("XX", "GET") is None:
            raise EnvironmentUnavailable(
                "Redis lost its data in the course of the run", hint="Something outside emptied it, or evicted keys."
            )

    def _mark(self, *how: str) -> Any:
        try:
            return self._client.ask("SET", MARK, "1", *how)
        except RedisError as refused:
            raise EnvironmentUnavailable(
                f"Redis takes no writes: {refused}", hint="Give it memory, and leave its role as it is."
            ) from refused
