"""Any release that a package index offers is run, or refused by name with the nearest that is: never a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Final

import pytest

from job_harness.engines.releases import Runnable
from job_harness.errors import UsageError
from job_harness.search.targets import open_engine

REFUSED: Final = {
    "procrastinate@0.33.0": "2.7.0",
    "procrastinate@1.1.0": "2.7.0",
    "procrastinate@2.0.0": "2.7.0",
    "procrastinate@2.3.0": "2.7.0",
    "procrastinate@2.5.0": "2.7.0",
    "procrastinate@2.6.0": "2.7.0",
    "pgqueuer@0.19.0": "1.0.0",
    "pgqueuer@0.20.0": "1.0.0",
    "pgqueuer@0.24.3": "1.0.0",
    "pgqueuer@0.26.3": "1.0.0",
    "chancy@0.19.0": "0.22.0",
    "chancy@0.20.0": "0.22.0",
    "chancy@0.21.0": "0.22.0",
    "dramatiq-redis@1.7.0": "2.0.0",
    "dramatiq-redis@1.18.0": "2.0.0",
    "graphile-worker@0.13.0": "0.17.2",
    "graphile-worker@0.16.6": "0.17.2",
    "bullmq@4.18.2": "6.0.10",
    "bullmq@5.79.0": "6.0.10",
    "bullmq@6.0.0": "6.0.10",
    "bullmq-redis@4.18.2": "5.59.0",
    "bullmq-redis@5.40.0": "5.59.0",
    "pgboss-node@9.0.3": "10.0.0",
}
"""By release, the nearest one that runs."""
RUN: Final = (
    *(f"procrastinate@{version}" for version in ("2.7.0", "2.9.1", "2.15.1", "3.0.0", "3.0.2", "3.1.0", "3.5.3")),
    *(f"pgqueuer@{version}" for version in ("1.0.0", "1.3.2")),
    *(f"chancy@{version}" for version in ("0.22.0", "0.24.1")),
    *(f"celery-redis@{version}" for version in ("5.4.0", "5.6.3")),
    *(f"pgboss-node@{version}" for version in ("10.0.0", "11.0.0", "12.0.0")),
    *(f"bullmq@{version}" for version in ("6.0.10", "6.3.15")),
    *(f"bullmq-redis@{version}" for version in ("5.59.0", "6.0.0")),
    "dramatiq-redis@2.0.0",
    "graphile-worker@0.17.2",
)
NEWEST: Final = (
    "procrastinate", "pgqueuer", "chancy", "celery-redis", "dramatiq-redis", "django-tasks-db", "graphile-worker",
    "bullmq", "bullmq-redis", "pgboss-node",
)  # fmt: skip


@pytest.mark.parametrize(("name", "nearest"), REFUSED.items())
def test_a_release_that_cannot_be_run_is_refused_with_the_nearest_that_can(name: str, nearest: str) -> None:
    engine = name.partition("@")[0]
    with pytest.raises(UsageError) as refused:
        open_engine(name).info.prepare()
    assert name.rpartition("@")[2] in refused.value.message
    assert f"{engine}@{nearest}." in refused.value.hint


def test_a_release_before_the_oldest_is_refused() -> None:
    runs = Runnable("queue", "queue", "1.2", "is too old")
    assert [runs.checked(version) for version in ("1.2.0", "1.10.0", "2.0.0")]
    with pytest.raises(UsageError, match=r"queue 1\.1\.9 is too old"):
        runs.checked("1.1.9")


@pytest.mark.campaign
@pytest.mark.parametrize("name", [*REFUSED, *RUN, *NEWEST])
def test_a_release_from_the_index_ends_in_no_traceback(name: str) -> None:
    command = [sys.executable, "-m", "job_harness.doors.cli", "explore", name, "--runs", "2", "--quiet", "-j", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "CI": ""}
    )
    said = done.stdout + done.stderr
    assert not re.search(r"Traceback|File \"<|\bbroke:|AttributeError|ImportError|Undefined(Table|Column)", said), said
    assert done.returncode == (2 if name in REFUSED else done.returncode)
    assert done.returncode in (0, 1, 2, 3), said
