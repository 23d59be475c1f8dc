"""Real pg-boss under test: its own SQL over psycopg, taken from the installed package at run time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from job_harness.engines.pgboss.package import NEWEST_OF_10
from job_harness.engines.pgboss.queue import PgBossEngine

if TYPE_CHECKING:
    from job_harness.engines.two_tables import TableStore

__all__ = ["PgBossEngine", "open_store"]


def open_store(version: str = NEWEST_OF_10) -> TableStore:
    """Return an application's tables on this version: of 10 its statements, from 11 on the library in Node."""
    from job_harness.engines.pgboss.tables import NEWEST_BY_STATEMENTS, PgBossStore

    major = re.match(r"\d+", version)
    if version == "latest" or (major is not None and int(major[0]) > NEWEST_BY_STATEMENTS):
        from job_harness.engines.pgboss.node.application import LibraryStore

        return LibraryStore(version)
    return PgBossStore(version)
