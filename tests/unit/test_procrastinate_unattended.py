"""What stands behind a release of procrastinate, and whether stalled jobs are seen to."""

from __future__ import annotations

from typing import Any

import pytest

from job_harness.core.model.settings import Settings
from job_harness.core.sim.clock import Clocks
from job_harness.engines.foreign_queue import Opened
from job_harness.engines.procrastinate import open_engine
from job_harness.errors import UsageError


class Database:
    """Takes the time."""

    def set_now(self, now: int) -> None:
        pass


class Child:
    """Has no stalled job, and counts how often it was asked for them."""

    asked = 0

    def ask(self, do: str, arguments: dict[str, Any], *, now: float) -> dict[str, Any]:
        self.asked += 1
        return {"value": []}


@pytest.mark.parametrize(("version", "asked"), [("3.10.0", 1), ("3.10.0/unattended", 0)])
def test_the_task_for_stalled_jobs_runs_where_somebody_runs_it(version: str, asked: int) -> None:
    child, clocks = Child(), Clocks()
    engine = open_engine(version)
    assert engine.info.name == f"procrastinate@{version}"
    opened = Opened(child, Database(), Settings(), clocks, lambda: 0.0, clocks.store)  # type: ignore[arg-type]
    assert engine.release.queue(opened).expire().value == []
    assert child.asked == asked


def test_another_word_behind_the_release_is_refused() -> None:
    with pytest.raises(UsageError, match=r"only 'unattended' may follow the release \(did you mean 'unattended'\?\)"):
        open_engine("3.10.0/unatended")
