"""What runs came to, as values: a stretch of them, a run that does not reproduce, a finding, a whole campaign.

They are sent between processes and printed elsewhere; nothing here runs anything.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Generic, TypeVar

from job_harness.core.history import Event, OutcomeKind, Return
from job_harness.core.model import format_duration
from job_harness.core.run.verdict import Run, Verdict
from job_harness.core.scenario.scenario import Scenario
from job_harness.errors import EnvironmentUnavailable, ExitCode, HarnessError
from job_harness.extras import missing_extra
from job_harness.search.coverage import Coverage, Situation

Shown = TypeVar("Shown")


@dataclass(frozen=True, slots=True)
class Finding(Generic[Shown]):
    """The smallest known run that shows an anomaly."""

    anomaly: str
    run: Shown
    runs: int
    """How many runs it took to see it; 0: the undisturbed one shows it."""
    shrink_runs: int
    minimal: bool = True
    """False where shrinking was cut short: a smaller run may exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioFinding(Finding[Run]):
    """A finding that a scenario replays."""

    scenario: Scenario
    """Its tape is part of it."""
    seed: int = 0
    """The seed of the run in which it was first seen."""
    drawn: str = ""
    """How the run in which it was first seen was drawn."""


@dataclass(frozen=True, slots=True)
class FailingRun:
    """A run that showed an anomaly."""

    number: int
    """Of the run, from 0."""
    anomaly: str
    run: Run | None = None
    """The run itself, where it was done here."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What kept a search from going on."""

    message: str
    hint: str = ""
    code: ExitCode = ExitCode.ENVIRONMENT

    @classmethod
    def of(cls, error: BaseException, *, engine: str) -> Trouble:
        """Take what an engine raised."""
        if not isinstance(error, HarnessError):
            error = broken_engine(engine, error)
        return cls(error.message, error.hint, error.exit_code)


def broken_engine(name: str, error: BaseException) -> EnvironmentUnavailable:
    """Say which engine raised what, and where."""
    if (lacking := missing_extra(error)) is not None:
        return lacking
    frames = traceback.extract_tb(error.__traceback__)
    at = f" in {frames[-1].name} at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return EnvironmentUnavailable(
        f"the engine {name} broke: {type(error).__name__}: {error}{at}",
        hint="Look at that line, then run this again.",
    )


@dataclass(slots=True, kw_only=True)
class Tally:
    """What runs came to; it grows run by run."""

    first: int = 0
    runs: int = 0
    steps: int = 0
    cut: int = 0
    """Runs that reached their limit of steps while stock actors were at work: of these only the part before it was
    judged."""
    hits: list[FailingRun] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    unsteady: Unsteady | None = None
    """A run that does not reproduce: nothing the search says can be relied on."""
    trouble: Trouble | None = None
    """What kept the search from going on."""
    interruption: BaseException | None = None
    """What ended the search early, such as Ctrl-C."""
    torn: bool = False
    """Whether a step was cut short in the middle: what the engine says from there on is believed of no run."""
    stock: bool = True
    """Whether the actors were the stock ones, and no application's own: situations are demanded of no others."""
    ends: bool = False
    """Whether the search is to end here."""

    def add(self, later: Tally) -> None:
        """Take over what later runs came to, but for what they hit."""
        self.runs += later.runs
        self.steps += later.steps
        self.cut += later.cut
        self.coverage.add(later.coverage)
        self.stock = self.stock and later.stock
        self.unsteady, self.trouble, self.interruption = later.unsteady, later.trouble, later.interruption
        self.torn = later.torn


@dataclass(slots=True)
class Campaign(Tally):
    """What a search looked at and what it found."""

    engine: str
    seed: int
    findings: tuple[ScenarioFinding, ...] = ()
    """One for each anomaly, in the order in which they were met."""
    missing: tuple[Situation, ...] = ()
    """Situations that never occurred although the campaign was long enough to expect them."""
    unshown: tuple[FailingRun, ...] = ()
    """Anomalies that were seen in runs which could not be done again, for the search was cut short in mid-step."""
    notes: tuple[str, ...] = ()
    """What went wrong with those who did the runs without ending the search, such as a node that went away."""

    @property
    def finding(self) -> ScenarioFinding | None:
        """Return the first anomaly met."""
        return self.findings[0] if self.findings else None

    @property
    def interrupted(self) -> bool:
        """Whether the search was ended early."""
        return self.interruption is not None

    @property
    def found(self) -> frozenset[str]:
        """Return the names of all anomalies that were seen."""
        shown = {name for finding in self.findings for name in (finding.anomaly, *finding.run.found)}
        return frozenset(shown.union(hit.anomaly for hit in self.unshown))

    @property
    def verdict(self) -> Verdict:
        """Fail where something was found or missed.

        Inconclusive where it was interrupted, where runs do not repeat, or where one was cut while
        jobs were at work.
        """
        hung = self.trouble is not None and self.trouble.code is ExitCode.FAIL
        if self.findings or self.unshown or self.missing or hung:
            return Verdict.FAIL
        if self.interrupted or self.unsteady is not None or self.trouble is not None or self.cut or not self.runs:
            return Verdict.INCONCLUSIVE
        return Verdict.PASS


REPEATED_EVERY = 101
"""One run in this many is done twice: an odd number, so that every strategy of a portfolio has its turn."""


@dataclass(frozen=True, slots=True)
class Unsteady:
    """Two histories of one run, up to where they part."""

    number: int
    """Of the run, from 0."""
    seed: int
    index: int
    """Of the first event that differs."""
    one: str
    other: str
    later: bool = False
    """Whether other runs lay between the two: then the target carries state from run to run."""

    def __str__(self) -> str:
        """Say what differs."""
        between = "at the end of the campaign" if self.later else "at once"
        return (
            f"run {self.number} (seed {self.seed}), done again {between}, gives another history. "
            f"First difference, event {self.index}: {self.one} | {self.other}"
        )


def first_difference(one: list[Event], other: list[Event]) -> tuple[int, str, str] | None:
    """Return the index of the first event that differs, and both in words; None where all are the same.

    The reason of a refusal is free text, and may name a process or an address: by it alone, no two
    runs differ.
    """
    for index, (left, right) in enumerate(zip_longest(one, other)):
        if left == right:
            continue
        texts = _word_difference(_without_reason(left), _without_reason(right))
        if texts is not None:
            return index, *texts
    return None


def perturbed(number: int) -> list[object]:
    """Return what lies on the heap while a run is repeated, so that addresses are other ones."""
    return [object() for _ in range(1_000 + number % 977)]


def _without_reason(event: Event | None) -> Event | None:
    if type(event) is Return and event.outcome.kind is OutcomeKind.REFUSED:
        return event._replace(outcome=event.outcome._replace(reason=""))
    return event


def _word_difference(left: Event | None, right: Event | None) -> tuple[str, str] | None:
    """Both events in words; None where they only hold values that know no equality and read the same."""
    if left is None or right is None or type(left) is not type(right):
        return _text(left), _text(right)
    if repr(left) == repr(right):
        return None
    for name, one, other in zip(left._fields, left, right, strict=True):
        if one != other:
            ours, theirs = _apart(one, other)
            return f"{_text(left)}: {name} {ours}", f"{name} {theirs}"
    return None


def _apart(one: Any, other: Any) -> tuple[str, str]:
    """Return two values in words; of two jobs, or other records, what differs alone."""
    names = getattr(one, "_fields", None) if type(one) is type(other) else None
    differ = [name for name in names or () if getattr(one, name) != getattr(other, name)]
    if not differ:
        return _clip(one), _clip(other)
    ours, theirs = (", ".join(f"{name} {_clip(getattr(value, name))}" for name in differ) for value in (one, other))
    return ours, theirs


def _text(event: Event | None) -> str:
    if event is None:
        return "no event"
    parts = [str(getattr(event, name)) for name in ("actor", "verb", "name", "job") if getattr(event, name, None)]
    return f"{format_duration(event.at)} {type(event).__name__.lower()} {' '.join(parts)}"


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:159] + "…"
