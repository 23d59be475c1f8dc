"""What a release of pg-boss can do, and which Node it asks for, by its number. Knows no process and no database."""

from __future__ import annotations

import re
from typing import Final

from harness.errors import UsageError
from harness.port import Capabilities

OLDEST: Final = (10, 0)
HEARTBEATS: Final = (12, 12)
"""The first release whose claims can be extended."""
NEEDS_NEWER_NODE: Final = (12, 0)


class Release:
    """One release, such as 12.38.0."""

    def __init__(self, version: str) -> None:
        """Raise UsageError for a release whose schema is not read here."""
        self.version = version
        self._number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if self._number < OLDEST:
            raise UsageError(
                f"pg-boss {version} has another schema than this engine reads",
                hint="Name a release from 10 on, such as pgboss-node@10.4.2 or pgboss-node@12.",
            )

    @property
    def major(self) -> int:
        """The first part of the number."""
        return self._number[0]

    @property
    def oldest_node(self) -> tuple[int, int]:
        """The Node that it asks for."""
        return (22, 12) if self._number >= NEEDS_NEWER_NODE else (20, 0)

    @property
    def capabilities(self) -> Capabilities:
        """What a queue of this release can do."""
        return Capabilities(
            heartbeat=self._number >= HEARTBEATS,
            cancel=True,
            retry=True,
            priorities=True,
            start_after=True,
            virtual_time=True,
            fencing=True,
        )
