"""What a test's jobs came to when the test is over: anomalies, and failures that nobody looked at. Words only."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from harness.history.event import History
from harness.invariants import Judge
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status
from harness.model.settings import Settings
from harness.run.verdict import Run
from harness.scenario.scenario import Scenario

ENGINE = "reference (memory)"
LONGEST_ERROR = 300


def anomaly_screen(judge: Judge, history: History, *, settings: Settings, now: int, title: str) -> str | None:
    """Answer the first screen where the history breaches an invariant."""
    if not judge.anomalies:
        return None
    from harness.report.screen import first_screen, screen_text  # Only a failure pays for what draws it.

    scenario = Scenario(title=title, settings=settings)
    run = Run(scenario=scenario, engine=ENGINE, history=history, tape=(), anomalies=tuple(judge.anomalies), now=now)
    return screen_text(first_screen(run, title=title)).rstrip()


def unseen_failures(views: Mapping[JobId, JobView], looked_at: Collection[JobId]) -> str | None:
    """Name the FAILED jobs that nobody looked at."""
    failed = [view for view in views.values() if view.status is Status.FAILED and view.id not in looked_at]
    if not failed:
        return None
    count = "a job" if len(failed) == 1 else f"{len(failed)} jobs"
    lines = [f"  {view.id} ({view.tool}), attempts {view.attempts}: {_shown(view.error)}" for view in failed]
    return "\n".join(
        [
            f"{count} ended FAILED and the test never looked:",
            *lines,
            "  Read its status or error where the failure is meant to happen.",
        ]
    )


def _shown(error: str | None) -> str:
    text = error or "no error"
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}..."
