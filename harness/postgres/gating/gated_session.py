"""What a room has to know of a session at whose statements actors stand, whichever way its statements come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.postgres.gating.flight import Flight


class GatedSession(Protocol):
    """One session of one actor: psycopg's own, or one that somebody else's driver speaks through us."""

    flight: Flight | None
    """The statement that is under way."""
    severed: bool
    """Whether the actor died: it can do nothing any more."""

    @property
    def actor(self) -> str:
        """Whose it is."""
        ...

    @property
    def pid(self) -> int:
        """PostgreSQL's process behind it."""
        ...

    @property
    def socket(self) -> int:
        """The descriptor on which PostgreSQL answers."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it ended."""
        ...

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, and no statement under way."""
        ...

    def transaction_time(self) -> int:
        """Answer what the room's clock showed when the transaction began."""
        ...

    def forget_time(self) -> None:
        """Take note that the transaction ended."""
        ...

    def give_back(self) -> None:
        """Keep it for the next run, cleaned; one that is in the middle of something is ended."""
        ...

    def drop(self) -> None:
        """End it, whatever it is doing; its locks are free afterwards."""
        ...
