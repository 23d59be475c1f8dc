"""What a test's jobs came to when the test is over: anomalies, and failures that nobody looked at. Words only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from harness.history.event import History
from harness.invariants import ANOMALIES, Invariant, Judge
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status
from harness.processors.demands import Death
from harness.processors.workplace import Workplace
from harness.run.verdict import Run
from harness.scenario.scenario import Scenario

LONGEST_ERROR = 300


def anomaly_screen(at: Workplace, history: History, *, title: str) -> str | None:
    """Answer the first screen where the history breaches an invariant of ours."""
    anomalies = tuple(anomaly for anomaly in at.session.judge.anomalies if anomaly.name in ANOMALIES)
    if not anomalies:
        return None
    from harness.report.screen import first_screen, screen_text  # Only a failure pays for what draws it.

    scenario = Scenario(title=title, settings=at.settings)
    run = Run(
        scenario=scenario,
        engine=at.engine,
        history=history,
        tape=tuple(at.session.choices.tape),
        anomalies=anomalies,
        now=at.session.kernel.now,
    )
    return screen_text(first_screen(run, title=title)).rstrip()


def own_anomalies(judge: Judge, invariants: Sequence[Invariant]) -> str | None:
    """Name what breached the invariants of the test's own, each kind once, with how often."""
    sentences = {kind.name: invariant.sentence for invariant in invariants for kind in invariant.anomalies}
    own = [anomaly for anomaly in judge.anomalies if anomaly.name not in ANOMALIES]
    lines: list[str] = []
    for name in dict.fromkeys(anomaly.name for anomaly in own):
        breaches = [anomaly for anomaly in own if anomaly.name == name]
        times = "" if len(breaches) == 1 else f" ({len(breaches)} times, the first:)"
        lines += [f"{name}: {sentences.get(name, '')}{times}", f"  {breaches[0].message}"]
    return "\n".join(lines) or None


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


def left_running(leaks: Collection[str]) -> str | None:
    """Name what the processors left running."""
    if not leaks:
        return None
    return "\n".join(
        [
            "processors of this test left something running:",
            *(f"  {leak}" for leak in leaks),
            "  Await, cancel or join it before the processor answers.",
        ]
    )


def not_happened(deaths: Collection[Death], twice: Collection[JobId]) -> str | None:
    """Name the faults that the test asked for and that never came."""
    lines = [f"  crash_worker(at={death.asked!r}{_of(death.job)})" for death in deaths]
    lines += [f"  deliver_twice({job})" for job in sorted(twice)]
    if not lines:
        return None
    return "\n".join(
        [
            "the test asked for what then never happened:",
            *lines,
            "  Let the jobs get there, with drain() or run_until_idle(), or correct the name of the point.",
        ]
    )


def _of(job: JobId | None) -> str:
    return "" if job is None else f", job={job}"


def _shown(error: str | None) -> str:
    text = error or "no error"
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}..."
