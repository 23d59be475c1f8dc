"""PostgreSQL goes away in the middle of a search: nothing of it is held against the queue, on any engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from job_harness.core.sim.kernel import Kernel
from job_harness.errors import EnvironmentUnavailable, ExitCode
from job_harness.search.sampling import Sampler
from job_harness.search.targets import open_engine
from job_harness.search.watchdog import StepWatchdog
from job_harness.worlds.peers.peer import descendants_of
from job_harness.worlds.postgres import provision

pytestmark = pytest.mark.postgres
LONG = pytest.mark.campaign
"""The same rule for other engines."""
SHUTDOWNS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
ENGINES = ("pgboss@10.4.2", "pgboss-node@12.18.3", "procrastinate", "pgqueuer", "graphile-worker")
GATED = ("postgres-gated", "procrastinate-gated", "pgqueuer-gated", "graphile-worker-gated")
STEPS = 150
"""This many steps of actors are done before the server goes."""


def _striking(monkeypatch: pytest.MonkeyPatch, strike: Callable[[], None]) -> None:
    step, done = Kernel.step, 0

    def counted(kernel: Kernel) -> bool:
        nonlocal done
        done += 1
        if done == STEPS:
            strike()
        return step(kernel)

    monkeypatch.setattr(Kernel, "step", counted)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("postgres", "fast"),
        ("pgboss-node@12.18.3", "smart"),
        *(pytest.param(name, "fast", marks=LONG) for name in (*ENGINES, *GATED)),
        *(pytest.param(name, "immediate", marks=LONG) for name in (*ENGINES, *GATED)),
        pytest.param("postgres", "stopped", marks=LONG),
        pytest.param("postgres-gated", "stopped", marks=LONG),
        pytest.param("pgboss-node@12.18.3", "stopped", marks=LONG),
    ],
)
def test_a_server_that_goes_away_in_mid_search_is_the_environments(
    monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    monkeypatch.delenv("JOB_HARNESS_DSN", raising=False)  # A server of its own: a shared one must not be stopped.
    try:
        server = provision()
    except EnvironmentUnavailable as missing:
        pytest.skip(f"no PostgreSQL: {missing.message}")
    with server, psycopg.connect(server.url()) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        pid = int(Path(row[0], "postmaster.pid").read_text().split()[0])
        connection.close()
        monkeypatch.setenv("JOB_HARNESS_DSN", server.url())
        engine = open_engine(name)
        pids: list[int] = []

        def strike() -> None:
            pids.extend((pid, *descendants_of(pid)) if how == "stopped" else (pid,))
            for each in pids:
                os.kill(each, SHUTDOWNS.get(how, signal.SIGSTOP))

        try:
            try:
                engine.info.prepare()
            except EnvironmentUnavailable as missing:
                pytest.skip(f"{name}: {missing.message}")
            _striking(monkeypatch, strike)
            with StepWatchdog(4.0 if how == "stopped" else 30.0) as watchdog:
                done = Sampler(engine, keep_going=True, watchdog=watchdog).explore(seed=0, runs=400)
        finally:
            if how == "stopped":
                for each in pids:
                    os.kill(each, signal.SIGCONT)
            engine.close()
    assert pids
    assert done.trouble is not None
    assert (done.trouble.code, done.unsteady) == (ExitCode.ENVIRONMENT, None)
    assert "PostgreSQL" in done.trouble.message
