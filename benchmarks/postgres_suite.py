"""Small pytest suites on a real PostgreSQL, one per way of providing it, and how long they take to run.

The other `postgres_*` benchmarks run these. Each suite is a folder with a conftest that gives the fixture
`connection`; to measure another way of providing it, add its conftest to `CONFTESTS`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN_SECONDS = 60
UNPRIVILEGED = 65534

SCHEMA = "".join(
    f"CREATE TABLE t{number} (id bigserial PRIMARY KEY, at timestamptz DEFAULT now());\n" for number in range(10)
)
TESTS = """
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_one(connection, number):
    assert connection.execute("INSERT INTO t3 DEFAULT VALUES RETURNING id").fetchone() == (1,)
"""
OURS = """
import psycopg, pytest
from pathlib import Path
from job_harness.worlds.postgres import Resetter, provision

@pytest.fixture(scope="session")
def database():
    with provision(provider="{provider}", environ={{}}) as cluster:
        with psycopg.connect(cluster.create_database("template"), autocommit=True) as connection:
            connection.execute(Path(__file__).with_name("schema.sql").read_bytes())
        cluster.create_database("mine", template="template")
        with Resetter(cluster, "mine") as resetter, psycopg.connect(cluster.url("mine"), autocommit=True) as shared:
            yield resetter, shared

@pytest.fixture
def connection(database):
    resetter, shared = database
    yield shared
    resetter.reset()
"""
CONFTESTS = {
    "no database": """
import pytest

class Silent:
    def execute(self, _): return self
    def fetchone(self): return (1,)

@pytest.fixture
def connection():
    import psycopg
    return Silent()
""",
    "ours, embedded": OURS.format(provider="embedded"),
    "ours, system": OURS.format(provider="system"),
    "testcontainers": OURS.format(provider="testcontainers"),
    "pytest-postgresql": """
import pytest
from pathlib import Path
from pytest_postgresql import factories

process = factories.postgresql_proc(
    executable="{pg_ctl}", load=[Path(__file__).with_name("schema.sql")], unixsocketdir="{sockets}"
)
client = factories.postgresql("process")

@pytest.fixture
def connection(client):
    client.autocommit = True
    return client
""",
}


CONFTESTS["pytest-postgresql, tmpfs"] = CONFTESTS["pytest-postgresql"]
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python for the suites; as root one that an unprivileged user may run, as peers refuse root."""

    path: str
    uid: int | None


def find_interpreter() -> Interpreter:
    """Choose the interpreter and user of the suites. SystemExit if root has none for others."""
    if os.geteuid() != 0:
        return Interpreter(sys.executable, None)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        folders = (Path(path).resolve().parents, ROOT.parents)
        if Path(path).exists() and all(folder.stat().st_mode & 0o001 for group in folders for folder in group):
            return Interpreter(path, UNPRIVILEGED)
    raise SystemExit(f"no Python {version} that an unprivileged user may run: start this as an ordinary user")


def find_pg_ctl() -> str | None:
    """Find the server that pytest-postgresql starts."""
    from job_harness.worlds.postgres.provider import find_system

    installation, _ = find_system()
    return None if installation is None else str(installation.bin_directory / "pg_ctl")


def available() -> tuple[dict[str, str], list[str]]:
    """Return the conftests that can run here, and why the others cannot."""
    from job_harness.worlds.postgres import provider
    from job_harness.worlds.postgres.provider import find_embedded

    usable, skipped = dict(CONFTESTS), []
    pg_ctl = find_pg_ctl()
    reasons = {
        "ours, embedded": find_embedded()[1] if find_embedded()[0] is None else "",
        "ours, system": "" if pg_ctl else "no system PostgreSQL",
        "testcontainers": provider.unavailable_reason(),
        "pytest-postgresql": "" if pg_ctl else "no system PostgreSQL",
    }
    if importlib.util.find_spec("pytest_postgresql") is None:
        reasons["pytest-postgresql"] = "not installed"
    no_memory = "" if MEMORY.is_dir() else f"no {MEMORY}"
    reasons["pytest-postgresql, tmpfs"] = reasons["pytest-postgresql"] or no_memory
    for name, reason in reasons.items():
        if reason:
            del usable[name]
            skipped.append(f"{name}: {reason}")
    return usable, skipped


class Suites:
    """The folders of the suites, made for one run of a benchmark."""

    def __init__(self, folder: Path, interpreter: Interpreter, conftests: dict[str, str]) -> None:
        self._folder = folder
        self._interpreter = interpreter
        self._conftests = conftests

    def prepare(self, name: str, *, count: int) -> Path:
        """Write the suite `name` with `count` tests and answer its folder."""
        suite = self._folder / f"{name.replace(', ', '-').replace(' ', '-')}-{count}"
        suite.mkdir(exist_ok=True)
        conftest = self._conftests[name]
        if name.startswith("pytest-postgresql"):
            conftest = conftest.format(pg_ctl=find_pg_ctl(), sockets=self._folder)
        (suite / "conftest.py").write_text(conftest)
        (suite / "schema.sql").write_text(SCHEMA)
        (suite / "test_it.py").write_text(TESTS.format(count=count))
        suite.chmod(0o777)
        return suite

    def seconds(self, name: str, suite: Path, *, cold: bool = False) -> float:
        """Run a suite and answer the seconds it took from start to end. SystemExit if it does not pass."""
        cache = self._folder / ("cold-cache" if cold else "cache")
        if cold:
            shutil.rmtree(cache, ignore_errors=True)
        plugin = ["-p", "pytest_postgresql.plugin"] if name.startswith("pytest-postgresql") else []
        if name.endswith("tmpfs"):
            plugin.append(f"--basetemp={MEMORY / self._folder.name}")
        command = [self._interpreter.path, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, "."]
        packages = next(path for path in sys.path if path.endswith("site-packages"))
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}/harness:{ROOT}/reference_impl:{packages}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "JOB_HARNESS_CACHE": str(cache),
            "HOME": str(self._folder),
        }
        # Docker's socket belongs to the user who started it, so that suite runs as us.
        uid = None if name == "testcontainers" else self._interpreter.uid
        began = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=suite,
            env=environment,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(f"the suite {name!r} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        return seconds


@contextmanager
def suites() -> Iterator[tuple[Suites, list[str], list[str]]]:
    """Give the suites, the names that can run here, and the reasons of those that cannot."""
    interpreter = find_interpreter()
    conftests, skipped = available()
    with tempfile.TemporaryDirectory(prefix="jh-bench-", dir="/tmp") as name:
        Path(name).chmod(0o1777)
        try:
            yield Suites(Path(name), interpreter, conftests), list(conftests), skipped
        finally:
            shutil.rmtree(MEMORY / Path(name).name, ignore_errors=True)
