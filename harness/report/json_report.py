"""The report as JSON: the same content as the screens, in a form that stays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from harness.errors import UsageError
from harness.invariants import ANOMALIES, Anomaly
from harness.report.case import Case, exit_code_of, verdict_of
from harness.report.screen import Row, changed_settings, moment, rows_of, subject
from harness.report.summary import replay_of
from harness.run.verdict import Run, Trial
from harness.scenario.replay_token import ReplayToken, encode, target_of

FORMAT = "job-harness-report"
VERSION = 1


def json_report(
    cases: Sequence[Case], *, seed: int | None = None, changes: Iterable[str] = (), planned: int | None = None
) -> str:
    """Write all cases. Every key is always there; times are microseconds from the start of the run."""
    changes = list(changes)
    report = {
        "format": FORMAT,
        "version": VERSION,
        "verdict": str(verdict_of(cases)),
        "exit_code": int(exit_code_of(cases)),
        "planned": len(cases) if planned is None else planned,
        "seed": seed,
        "changes": changes,
        "cases": [_case(case, seed, changes) for case in cases],
    }
    return json.dumps(report, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _case(case: Case, seed: int | None, changes: list[str]) -> dict[str, Any]:
    control = case.control
    return {
        "scenario": case.scenario.path,
        "line": case.line,
        "title": case.scenario.title,
        "engine": case.engine,
        "control": None if control is None else {"name": control.name, "finds": control.finds},
        "verdict": str(case.verdict),
        "exit_code": int(case.exit_code),
        "message": case.headline,
        "hint": "" if case.error is None else case.error.hint,
        "replay": replay_of(case, seed=seed, changes=changes),
        "run": None if case.run is None else run_data(case.run),
    }


def run_data(run: Run, *, lead: str = "") -> dict[str, Any]:
    """Return what the first screen tells of a run, and what it leaves out; `lead` is the anomaly that it is about."""
    about = run.led_by(lead)
    until = None if about is None else about.event
    return {
        "engine": run.engine,
        "steps": run.steps,
        "ended_at": run.now,
        "anomalies": [_anomaly(anomaly) for anomaly in run.anomalies],
        "failures": list(run.failures),
        "uncovered": list(run.uncovered),
        "token": _token(run),
        "tape": [{"at": item.label, "nth": item.nth, "do": item.option} for item in run.tape],
        "stopped_by": [_trial(trial) for trial in run.trials if trial.stops],
        "not_stopped_by": [_trial(trial) for trial in run.trials if not trial.stops],
        "settings": {name: value for name, (value, _) in changed_settings(run.scenario.settings).items()},
        "rows": [_row(row) for row in rows_of(run.history, job=subject(run, lead), until=until)],
    }


def _token(run: Run) -> str | None:
    """Return the run as a replay token; None where no scenario file could hold what was run."""
    try:
        return encode(ReplayToken(target_of(run.scenario), run.seed, run.tape))
    except UsageError:
        return None


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.name,
        "kind": trial.kind,
        "gone": trial.gone,
        "shows": list(trial.shows),
        "stays": list(trial.stays),
        "unused": trial.unused,
        "runs": trial.runs,
        "seen": trial.seen,
        "seen_without": trial.seen_without,
    }


def _anomaly(anomaly: Anomaly) -> dict[str, Any]:
    kind = ANOMALIES[anomaly.name][1]
    return {
        "name": anomaly.name,
        "invariant": anomaly.invariant,
        "sentence": kind.sentence,
        "guarantee": str(kind.guarantee),
        "job": anomaly.job,
        "at": anomaly.at,
        "event": anomaly.event,
        "message": anomaly.message,
    }


def _row(row: Row) -> dict[str, Any]:
    return {"at": row.at, "time": moment(row.at), "actor": row.actor, "text": row.text}
