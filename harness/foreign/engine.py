"""What every engine with a station has in common: it is closed, and says where its PostgreSQL came from."""

from __future__ import annotations

from harness.foreign.station import Station


class ForeignEngine:
    """The base of an engine that is one release of somebody else's queue. Child and server live until `close`."""

    _station: Station

    def prepare(self) -> None:
        """Install the release and start child and server, where they are not there yet.

        Raises EnvironmentUnavailable where one cannot be had.
        """
        self._station.ready()

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return self._station.provenance

    def close(self) -> None:
        """Stop what was started. Never raises."""
        self._station.close()
