"""What a run comes to: pass, fail or inconclusive, and why; and which changes were tried to fix it.

Values only: how a run is played, explored or shown is for others to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from job_harness.core.history import History
from job_harness.core.invariants import Anomaly, gravity
from job_harness.core.model import JobId
from job_harness.core.own_code import CodeLine
from job_harness.core.port import Sent, WrittenSource
from job_harness.core.scenario.scenario import Scenario, Step
from job_harness.core.sim import Deviation
from job_harness.errors import ExitCode


class Verdict(StrEnum):
    """Three answers, each with an exit code of its own."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> ExitCode:
        """What a command answers for it."""
        return {Verdict.PASS: ExitCode.PASS, Verdict.FAIL: ExitCode.FAIL}.get(self, ExitCode.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Run:
    """Everything about one run."""

    scenario: Scenario
    engine: str
    history: History
    tape: tuple[Deviation, ...]
    anomalies: tuple[Anomaly, ...] = ()
    failures: tuple[str, ...] = ()
    """What the scenario expected and did not get, with `file:line`."""
    uncovered: tuple[str, ...] = ()
    """What could not be judged here, and how to cover it."""
    remarks: tuple[str, ...] = ()
    """What to know of a run that was judged."""
    steps: int = 0
    now: int = 0
    cut: bool = False
    """It had taken as many steps as a run may, and jobs still came or ended."""
    seed: int | None = None
    played: int | None = None
    """How many of the scenario's steps were done; None: all of them."""
    elsewhere: bool = False
    """Whether it happened in production, where what went wrong is not known."""
    trials: tuple[Trial, ...] = ()
    """What was changed, one thing at a time, to see what fixes the anomaly."""
    source: WrittenSource | None = None
    """Where that is written which caused the anomaly; None: not known (`report.blame` looks for it)."""
    about: dict[str, Any] = field(default_factory=dict)
    raised: Mapping[int, str] = field(default_factory=dict)
    """By number of the call whose verb raised, `file:line` of a user's own code; the history says what it raised."""
    lines: Mapping[int, CodeLine] = field(default_factory=dict)
    """By index of the event, the line of a user's own code that did it, or that was struck by it."""
    statements: tuple[tuple[int, Sent], ...] = ()
    """The SQL that was sent, each with the index of the event that came next, where the engine shows it."""
    script: tuple[tuple[int, Step], ...] = ()
    """The scenario's steps, each with the index of the event that came next when it began."""
    passed: tuple[tuple[JobId, str], ...] = ()
    """The gates that the jobs' own code passed, by job and place, in their order, where they are known."""
    remembered: tuple[str, ...] = ()
    """What of the modules that jobs share their code has changed, where it is known."""
    acted: Mapping[str, bool] = field(default_factory=dict)
    """By process that an application started beside its workers, whether it took a step or changed anything."""

    @property
    def verdict(self) -> Verdict:
        """Fail where anything was breached; inconclusive where something asked for was not judged."""
        if self.anomalies or self.failures:
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE if self.uncovered else Verdict.PASS

    @property
    def gravest(self) -> Anomaly | None:
        """Return the anomaly that costs most."""
        return min(self.anomalies, key=lambda anomaly: (gravity(anomaly.name), anomaly.event), default=None)

    def led_by(self, name: str) -> Anomaly | None:
        """Return the first anomaly of this name, or of the scenario's; the gravest where there is neither."""
        wanted = name or self.scenario.about
        named = (anomaly for anomaly in self.anomalies if anomaly.name == wanted)
        return min(named, key=lambda anomaly: anomaly.event, default=None) or self.gravest

    @property
    def lead(self) -> Anomaly | None:
        """Return the anomaly that a report begins with."""
        return self.led_by("")

    @property
    def found(self) -> frozenset[str]:
        """Return the names of all anomalies."""
        return frozenset(anomaly.name for anomaly in self.anomalies)


@dataclass(frozen=True, slots=True)
class Trial:
    """One change, and whether it fixes the anomaly."""

    name: str
    """The safeguard, or the setting with its new value."""
    kind: str
    """`safeguard` or `setting`."""
    stops: bool
    """The replay shows neither the anomaly nor any that the run itself did not show, and no fresh run shows it."""
    gone: bool
    """Neither the replay nor a fresh run shows the anomaly, whatever else the replay shows."""
    shows: tuple[str, ...] = ()
    """The anomalies that the replay still shows, or shows now."""
    stays: tuple[str, ...] = ()
    """Those of them that the run itself showed too, beside the one that was asked about."""
    instead: tuple[JobId, ...] = ()
    """Jobs that show the anomaly in the replay, where the one that showed it first no longer does."""
    unused: int = 0
    """How many deviations of the tape no longer came up: then the replay alone proves nothing."""
    runs: int = 0
    """How many fresh runs were done with the change, where the replay alone had passed."""
    seen: int = 0
    """How many of those showed the anomaly."""
    seen_without: int = 0
    """How many of as many runs show it without the change."""
    tried: bool = True
    """Whether the time sufficed to replay the run with it, and to confirm in fresh runs what had helped."""
    history: History | None = field(default=None, compare=False, repr=False)
    """What happened in the replay, where the change fixes the anomaly and the whole tape was played: the nearest run
    that passes."""


def fix_line(trials: tuple[Trial, ...]) -> tuple[str, str]:
    """Say which changes fix an anomaly, as a label and a text; both empty where none was tried."""
    if not trials:
        return "", ""
    fixes = [trial for trial in trials if trial.stops]
    failed = [trial for trial in trials if trial.tried and not trial.stops]
    rest = [trial.name for trial in failed if not trial.instead]
    moved = [f"with {trial.name}, job {trial.instead[0]} shows it instead" for trial in failed if trial.instead]
    untried = [trial.name for trial in trials if not trial.tried]
    late = [f"the time for fixes was over before {_join_names(untried)} could be tried"] if untried else []
    if fixes:
        told = [_word_fixes(stays, fixes) for stays in dict.fromkeys(trial.stays for trial in fixes)]
        useless = [f"{_join_names(rest)} {_plural(rest, 'does', 'do')} not help"] if rest else []
        notes = [*useless, *moved, *late]
        beside = f" ({'; '.join(notes)})" if notes else ""
        return "Fixed by: ", "; ".join(told) + beside
    leads = [
        f"with {trial.name} the run shows {', '.join(trial.shows)} instead"
        for trial in trials
        if trial.gone and trial.shows
    ]
    leads += [
        f"{trial.name} helps this run only: 1 of {trial.runs} new runs shows it again" for trial in trials if trial.seen
    ]
    how = _plural(rest, "which does not help", "and none of them helps on its own")
    tried = [f"tried {_join_names(rest)}, {how}"] if rest else []
    return "No fix found: ", "; ".join([*tried, *moved, *leads, *late])


MOST_NAMED: Final = 4
"""Changes that do not help and are still named; of more, the first ones are."""


def _join_names(names: Sequence[str]) -> str:
    shown = (
        list(names) if len(names) <= MOST_NAMED else [*names[: MOST_NAMED - 1], f"{len(names) - MOST_NAMED + 1} more"]
    )
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _plural(names: Sequence[str], one: str, many: str) -> str:
    return one if len(names) == 1 else many


def _word_fixes(stays: tuple[str, ...], stoppers: list[Trial]) -> str:
    named = ", ".join(_name_trial(trial) for trial in stoppers if trial.stays == stays)
    return f"{named}, though {' and '.join(stays)} stay{'' if len(stays) > 1 else 's'}" if stays else named


def _name_trial(trial: Trial) -> str:
    """Name it, and say what it rests on where that is no replay."""
    if not trial.unused:
        return trial.name
    runs = f"in {trial.runs} new runs: {trial.seen} with it, {trial.seen_without} without"
    return f"{trial.name} (cannot be replayed with this change; {runs})"
