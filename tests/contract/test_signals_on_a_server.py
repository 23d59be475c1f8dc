"""SIGTERM while a statement is under way on a real server: the session is not used again before that is over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from job_harness.core.interruption import Interruptions
from job_harness.core.model.duration import MINUTE
from job_harness.core.model.settings import Settings
from job_harness.engines.reference import ReferenceEngine
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.sampling import Sampler
from job_harness.worlds.patience import Deadline

pytestmark = pytest.mark.postgres
SETTINGS = Settings(stuck_timeout=5 * MINUTE)


def test_a_search_that_is_terminated_in_mid_statement_is_no_different_run(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ReferenceEngine("postgres")
    try:
        engine.session()
    except EnvironmentUnavailable as missing:
        pytest.skip(f"no PostgreSQL: {missing.message}")
    sent = at = 0
    wait = psycopg.Connection.wait

    def struck(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        wants = next(steps)  # From here on the statement is under way.
        signal.raise_signal(signal.SIGTERM)
        try:
            while True:
                wants = steps.send((yield wants))
        except StopIteration as end:
            return end.value

    def counted(self: Any, steps: Any, *rest: Any, **more: Any) -> Any:
        nonlocal sent
        sent += 1
        return wait(self, struck(steps) if sent == at else steps, *rest, **more)

    monkeypatch.setattr(psycopg.Connection, "wait", counted)
    try:
        for moment in (2, 60, 600):  # as a queue is opened, within a run, while what was found is made smaller
            sent, at = 0, moment
            with Interruptions():
                done = Sampler(engine, SETTINGS, keep_going=True).explore(seed=0, runs=9)
            assert (done.interrupted, done.unsteady, done.trouble, done.unshown) == (True, None, None, ())
    finally:
        monkeypatch.undo()
        engine.close()


@pytest.mark.campaign
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_of_forty_searches_that_are_signalled_each_ends_with_the_signals_code(tmp_path: Path, number: int) -> None:
    command = [
        sys.executable,
        "-m",
        "job_harness.doors.cli",
        "explore",
        "pgboss@10.4.2",
        "--keep-going",
        "--runs",
        "5000",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    seen: Counter[tuple[int, bool, bool]] = Counter()
    for moment in range(40):
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        Deadline(1).pause(1.0 + moment * 0.15)  # From the start of PostgreSQL into the shrinking of what was found.
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
        seen[process.returncode, "Traceback" in said, "Not deterministic" in said] += 1
    assert seen == {(128 + number, False, False): 40}
