"""A child that has somebody else's package, beside the database that it works on; both start when first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentUnavailable

if TYPE_CHECKING:
    from harness.foreign.child import Child
    from harness.foreign.database import ForeignDatabase
    from harness.foreign.gating import Switchboard


class Station:
    """Keeps both for as many runs as there are; where one of them went away, both are started anew."""

    def __init__(
        self,
        name: str,
        *,
        child: Callable[[], Child],
        dsn: str | None,
        asked: Mapping[str, Any] | None = None,
        then: Callable[[], None] = lambda: None,
        keeps_sessions: bool = True,
    ) -> None:
        """Say how the child is started, and what `open` is asked beside the database's URL.

        `then` is called once both stand and `now()` is proven to be ours everywhere; it may raise what it misses.
        `keeps_sessions`: whether sessions of actors' own remember nothing from one run to the next.
        """
        self._name = name
        self._start_child = child
        self._dsn = dsn
        self._asked = dict(asked or {})
        self._then = then
        self._keeps_sessions = keeps_sessions
        self._child: Child | None = None
        self._database: ForeignDatabase | None = None
        self._switchboard: Switchboard | None = None

    @property
    def child(self) -> Child:
        """The child; only between `ready` and `close`."""
        assert self._child is not None
        return self._child

    @property
    def database(self) -> ForeignDatabase:
        """The database; only between `ready` and `close`."""
        assert self._database is not None
        return self._database

    @property
    def switchboard(self) -> Switchboard:
        """Where sessions of actors' own come from; only between `ready` and `close`."""
        if self._switchboard is None:
            from harness.foreign.gating import Switchboard

            self._switchboard = Switchboard(self.child, self.database, keeps=self._keeps_sessions)
        return self._switchboard

    def ready(self) -> None:
        """Start both where they do not stand.

        Raises EnvironmentUnavailable where one cannot be had, VirtualClockError where time is not ours.
        """
        if self._database is None or self._child is None or not (self._child.alive and self._database.alive):
            self._start()

    def _start(self) -> None:
        from harness.foreign.database import ForeignDatabase

        self.close()
        self._child = self._start_child()
        try:
            self._database = ForeignDatabase(self._dsn)
            reply = self._child.ask("open", {"url": self._database.url, **self._asked})
            if "raised" in reply:
                raise EnvironmentUnavailable(f"{self._name} did not open: {reply['raised']}")
            self._database.check()
            self._then()
        except BaseException:
            self.close()
            raise

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return "" if self._database is None else str(self._database.cluster.provenance)

    def close(self) -> None:
        """Stop what was started. Never raises."""
        if self._switchboard is not None:
            self._switchboard.close()
            self._switchboard = None
        if self._child is not None:
            self._child.close()
            self._child = None
        if self._database is not None:
            self._database.close()
            self._database = None
