"""What a failing run comes to with one thing changed: a safeguard switched on, or a setting repaired."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trial:
    """One change, and whether it stops the anomaly."""

    name: str
    """The safeguard, or the setting with its new value."""
    kind: str
    """`safeguard` or `setting`."""
    stops: bool
    """The replay does not show the anomaly, nor any that the run itself did not show."""
    gone: bool
    """The replay does not show the anomaly, whatever else it shows."""
    shows: tuple[str, ...] = ()
    """The anomalies that the replay still shows, or shows now."""
    stays: tuple[str, ...] = ()
    """Those of them that the run itself showed too, beside the one that was asked about."""
    unused: int = 0
    """How many deviations of the tape no longer came up: then the replay alone proves nothing."""
    runs: int = 0
    """How many runs were drawn anew because of that."""
    seen: int = 0
    """How many of those showed the anomaly."""
    seen_without: int = 0
    """How many of as many runs show it without the change."""


def stopped_by(trials: tuple[Trial, ...]) -> str:
    """Say in one line what stops an anomaly; empty where nothing was tried."""
    if not trials:
        return ""
    stoppers = [trial for trial in trials if trial.stops]
    rest = len(trials) - len(stoppers)
    if stoppers:
        told = [_told(stays, stoppers) for stays in dict.fromkeys(trial.stays for trial in stoppers)]
        return "; ".join(told) + (f" ({rest} of {len(trials)} tried do not)" if rest else "")
    leads = [f"with {trial.name} it is {', '.join(trial.shows)}" for trial in trials if trial.gone and trial.shows]
    return f"none of {rest} tried, one at a time" + (f"; {'; '.join(leads)}" if leads else "")


def _told(stays: tuple[str, ...], stoppers: list[Trial]) -> str:
    named = ", ".join(_named(trial) for trial in stoppers if trial.stays == stays)
    return f"{named}, though {' and '.join(stays)} stay{'' if len(stays) > 1 else 's'}" if stays else named


def _named(trial: Trial) -> str:
    """Name it, and say what it rests on where that is no replay."""
    if not trial.unused:
        return trial.name
    runs = f"{trial.seen} of {trial.runs} runs, {trial.seen_without} without it"
    return f"{trial.name} (the tape no longer fits; {runs})"
