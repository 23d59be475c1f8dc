"""What every engine of somebody else has in common: it is closed, and says where its PostgreSQL came from."""

from __future__ import annotations

from harness.foreign.runtime import ForeignRuntime


class ForeignEngine:
    """The base of an engine that is one release of somebody else's queue. Peer and server live until `close`."""

    _runtime: ForeignRuntime

    def prepare(self) -> None:
        """Install the release and start peer and server, where they are not there yet.

        Raises EnvironmentUnavailable where one cannot be had.
        """
        self._runtime.ready()

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return self._runtime.provenance

    def close(self) -> None:
        """Stop what was started. Never raises."""
        self._runtime.close()
