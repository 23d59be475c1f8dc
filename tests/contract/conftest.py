"""A PostgreSQL for the store's contract: `reference_dsn`, an empty database of its own for each test session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.postgres import provision


@pytest.fixture(scope="session")
def reference_dsn() -> Iterator[str]:
    """An empty database, on the first PostgreSQL that works; skipped with the reason where none does."""
    try:
        cluster = provision()
    except EnvironmentUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with cluster:
        yield cluster.create_database()
