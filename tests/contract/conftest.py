"""A PostgreSQL for the store's contract: `reference_dsn`, an empty database of its own for each test session."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

BINARIES = Path("/usr/lib/postgresql/15/bin")
NOBODY = 65534


@pytest.fixture(scope="session")
def reference_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty database: on `JOB_HARNESS_DSN` where it is set, else on a throwaway cluster."""
    given = os.environ.get("JOB_HARNESS_DSN")
    if given:
        yield from _fresh_database(given)
        return
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="reference-", dir=memory if memory.is_dir() else None))
    user = NOBODY if os.getuid() == 0 else None
    if user is not None:
        os.chown(folder, user, user)
    data = folder / "data"
    pg_ctl = str(BINARIES / "pg_ctl")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=30"
    try:
        for command in (
            [str(BINARIES / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"],
            [pg_ctl, "-D", str(data), "-w", "-s", "-l", str(folder / "log"), "-o", options, "start"],
        ):
            subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
        yield from _fresh_database(f"host={folder} user=postgres dbname=postgres")
    finally:
        subprocess.run([pg_ctl, "-D", str(data), "-m", "immediate", "-s", "stop"], user=user, cwd=folder)
        shutil.rmtree(folder, ignore_errors=True)


def _fresh_database(server: str) -> Iterator[str]:
    name = f"reference_{uuid.uuid1().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
