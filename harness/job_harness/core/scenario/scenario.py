"""A scenario as a value: what is at work, what goes wrong, what must come out, and what a queue must be able to do for
it.

Hides the language of steps (`GRAMMAR`) and which part of a scenario needs which capability. Reading
it from YAML and writing it back are other modules' work.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from job_harness.core.model import SECOND, Duration, Settings, format_duration, parse_duration
from job_harness.core.scenario.job_plan import OPERATED, Ending, JobPlan, ProcessorPlan
from job_harness.core.sim import Tape
from job_harness.errors import LONGEST_NAME

# steps ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """`kind` names a method of the director; the rest are its arguments."""

    kind: str
    text: str
    line: int = 0
    actor: str | None = None
    verb: str | None = None
    job: str | None = None
    point: str | None = None
    duration: Duration | None = None
    expect: str | None = None
    """The outcome asserted: done, refused or unknown; for `check` a status."""


VERBS = {
    "claims": "claim",
    "polls": "poll",
    "starts": "start",
    "completes": "complete",
    "fails": "fail",
    "releases": "release",
    "heartbeats": "heartbeat",
    "settles": "settle",
}
_NAME = r"[A-Za-z_][\w-]*"
_ACTOR = rf"(?P<actor>{_NAME})"
_JOB = r"(?P<job>[A-Za-z_][\w:.-]*)"
_EXPECT = r"(?: -> (?P<expect>done|refused|unknown))?"
_WHEN = rf"(?:(?P<when>before claiming|before starting|while running|before completing|before failing)(?: {_JOB})?"
_WHEN += r'|(?:at|before) "(?P<point>[^"]+)")'
_POINTS = {
    "before claiming": "claim",
    "before starting": "start",
    "while running": "running",
    "before completing": "complete",
    "before failing": "fail",
}

GRAMMAR: tuple[tuple[str, str, str], ...] = (
    ("act", rf"{_ACTOR} (?P<verb>{'|'.join(VERBS)})(?: {_JOB})?{_EXPECT}", "w1 claims a -> done"),
    ("crash", rf"crash {_ACTOR}(?: {_WHEN})?", "crash w1 while running a"),
    ("restart", rf"restart {_ACTOR}", "restart w1"),
    ("pause", rf"{_ACTOR} pauses(?: {_WHEN})?", 'maintenance pauses at "rescue"'),
    (
        "suspend",
        rf"{_ACTOR} pauses for (?P<duration>\S+)(?: {_WHEN})?",
        "w1 pauses for 5m before completing a",
    ),
    ("resume", rf"{_ACTOR} continues", "w1 continues"),
    ("stop", rf"stop {_ACTOR}", "stop w1"),
    ("deploy", rf"deploy {_ACTOR}", "deploy w1"),
    ("lose", rf"{_ACTOR} loses the (?P<verb>request|reply) {_WHEN}", "w1 loses the reply before completing a"),
    ("twice", rf"{_ACTOR} delivers twice {_WHEN}", "w1 delivers twice before completing a"),
    ("advance", r"advance (?P<duration>\S+)", "advance 15m"),
    ("jump", r"jump (?P<duration>\S+)", "jump 1h"),
    ("run", r"run until idle", "run until idle"),
    ("upkeep", r"(?P<actor>queue|maintenance) runs(?P<verb> twice)?", "maintenance runs twice"),
    ("enqueue", rf"enqueue {_JOB}{_EXPECT}", "enqueue b -> refused"),
    ("cancel", rf"cancel {_JOB}{_EXPECT}", "cancel a -> done"),
    ("retry", rf"retry {_JOB}{_EXPECT}", "retry a -> done"),
    ("check", rf"{_JOB} is (?P<expect>PENDING|PROCESSING|COMPLETED|FAILED|CANCELLED|gone)", "a is PENDING"),
    ("away", r"the store is away for (?P<duration>\S+)", "the store is away for 5m"),
    ("cut", rf"{_ACTOR} is cut off for (?P<duration>\S+)", "w1 is cut off for 5m"),
    (
        "delay",
        rf"{_ACTOR} delays the request by (?P<duration>\S+) {_WHEN}",
        "w1 delays the request by 5m before completing a",
    ),
    ("hold", r"(?P<actor>pause|unpause) tool (?P<point>\S+)", "pause tool mail"),
    (
        "wait",
        rf"wait until {_JOB} is (?P<expect>PENDING|PROCESSING|COMPLETED|FAILED|CANCELLED|gone)",
        "wait until a is FAILED",
    ),
    (
        "clock",
        r"(?P<actor>store|[A-Za-z_][\w-]*) clock is (?P<duration>\S+) (?P<verb>ahead|behind)",
        "store clock is 5s ahead",
    ),
)
"""Kind, pattern, example: the whole language of steps, in the order in which it is tried."""

_WORD = re.compile(r"(?<![<\\\w])[A-Za-z]{2,}(?![\w>])")
"""A literal word of a pattern; no name of a group and no class of characters."""
MOST_WORDS = 12
"""Longer text is no mistyped step."""


def parse_step(text: str, *, line: int = 0) -> Step:
    """Understand one step.

    Raises ValueError that lists the forms there are, and names the one word that is mistyped.
    """
    folded = " ".join(text.split())
    found = _match(folded)
    if found is not None:
        kind, match = found
        return _matched_step(kind, folded, line, match.groupdict())
    forms = "\n    ".join(example for _, _, example in GRAMMAR)
    raise ValueError(f"no such step: {text!r}{_meant(folded.split())}. Steps look like:\n    {forms}")


def _match(folded: str) -> tuple[str, re.Match[str]] | None:
    """Return the kind of a step, the more special ones first, and what its parts are."""
    for kind, pattern, _ in sorted(GRAMMAR, key=lambda entry: entry[0] == "act"):
        if (match := re.fullmatch(pattern, folded)) is not None:
            return kind, match
    return None


def _meant(words: list[str]) -> str:
    """Return ` (did you mean 'x'?)` where one word of the language, in place of a similar one, makes a step."""
    known = {word.lower(): word for _, pattern, _ in GRAMMAR for word in _WORD.findall(pattern.replace(_NAME, ""))}
    for place, word in enumerate(words if len(words) <= MOST_WORDS else ()):
        short = word.lower() if len(word) <= LONGEST_NAME else ""
        for right in map(known.__getitem__, difflib.get_close_matches(short, sorted(known), n=3, cutoff=0.7)):
            if right != word and _match(" ".join([*words[:place], right, *words[place + 1 :]])) is not None:
                return f" (did you mean {right!r}?)"
    return ""


def _matched_step(kind: str, text: str, line: int, found: dict[str, str | None]) -> Step:
    duration = found.get("duration")
    verb = found.get("verb")
    when = found.get("when")
    return Step(
        kind=kind,
        text=text,
        line=line,
        actor=found.get("actor"),
        verb=VERBS.get(verb, verb.strip()) if verb else None,
        job=found.get("job"),
        point=_POINTS[when] if when else found.get("point"),
        duration=parse_duration(duration) if duration else None,
        expect=found.get("expect"),
    )


# the scenario ---------------------------------------------------------------------------------------------------------


DEFAULTS = Settings()
SCHEDULERS = ("scheduler-1", "scheduler-2")
"""Two instances tick where a job is scheduled: what one of them misses or doubles shows beside the other."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must come out for one job; None is not asked."""

    status: str | None = None
    attempts: int | None = None
    runs: int | None = None
    path: tuple[str, ...] | None = None
    gaps: tuple[tuple[Duration, Duration], ...] | None = None
    """The waits between one attempt's end and the next one's start, shortest and longest allowed."""
    output: Any = None
    error: str | None = None
    """A part of the error text."""
    effects: Mapping[str, int] | None = None
    """How often each side effect was declared; one that is not listed, never."""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Control:
    """A wrong queue, a wrong setting or another engine on which the scenario must find a named anomaly."""

    finds: str
    queue: str | None = None
    engine: str | None = None
    application: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0

    @property
    def name(self) -> str:
        """Name it, for test ids."""
        lengths = Settings.duration_names()
        changed = [
            f"{key}={format_duration(value) if key in lengths else value}" for key, value in self.settings.items()
        ]
        return " ".join([*(name for name in (self.queue, self.engine, self.application) if name), *changed])


FOUND: Final = " (found by exploration)"
"""Follows the name of the anomaly in the title of a scenario that a search wrote."""


@dataclass(frozen=True, slots=True)
class PausePlan:
    """An operator holds back the jobs of a tool, and lets them go."""

    tool: str
    at: Duration
    """When, from the start of the run."""
    lasts: Duration


@dataclass(frozen=True, slots=True)
class AuditPlan:
    """An audit looks on while the jobs run, and reports this anomaly, as one of production would."""

    anomaly: str
    stuck_after: Duration
    """How long a job may be late, or its two rows differ."""
    job: str | None = None
    """Of this job alone; None: of any."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is at work, what goes wrong, what must come out."""

    title: str = ""
    why: str = ""
    settings: Settings = DEFAULTS
    env: Mapping[str, str | None] = field(default_factory=dict)
    processors: Mapping[str, ProcessorPlan] = field(default_factory=dict)
    workers: tuple[str, ...] = ("w1",)
    serves: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By worker, the tools that it serves; who is not named serves all."""
    pauses: tuple[PausePlan, ...] = ()
    presets: Mapping[str, int] = field(default_factory=dict)
    """By counter of the queue, the value that it is set to before the first job."""
    jobs: tuple[JobPlan, ...] = ()
    steps: tuple[Step, ...] = ()
    tape: Tape = ()
    """What deviates from the boring run, as the explorer wrote it."""
    early_rounds: bool = False
    """Expiry and cron also look half-way to the time at which something is due: what they take back then is not due."""
    restart_after: Duration | None = None
    """A crashed process comes back after this; None: it stays down until a step restarts it, or the system heals."""
    queue: str | None = None
    """A wrong queue to run on, by name."""
    application: str | None = None
    """An application of your own to run on: `module:factory` or `path.py:factory`, `+SAFEGUARD` behind it."""
    audit: AuditPlan | None = None
    """What an audit of it reports beside what the run itself comes to; None: nothing."""
    expect: Mapping[str, Expectation] = field(default_factory=dict)
    controls: tuple[Control, ...] = ()
    path: str = ""
    """The file it came from."""
    application_line: int = field(default=0, compare=False)
    """Where that file names the application."""

    @property
    def about(self) -> str:
        """The anomaly that a written finding shows, which its title names; empty for other scenarios."""
        return self.title.removesuffix(FOUND) if self.title.endswith(FOUND) else ""

    def plan_of(self) -> dict[str, JobPlan]:
        """Return the plan of every job by id."""
        return {name: plan for plan in self.jobs for name in plan.names()}


RESTART_AFTER: Duration = 5 * SECOND
"""What a platform needs to bring a process back; the explorer's scenarios use it."""


# what it needs of a queue ---------------------------------------------------------------------------------------------


def without_maintenance(settings: Settings) -> Settings:
    """Return settings that ask for no maintenance: if there is none, nothing goes by the stuck timeout."""
    return settings.changed(stuck_timeout=max(settings.stuck_timeout, settings.lease))


def needed_capabilities(scenario: Scenario) -> dict[str, str]:
    """Return the capabilities that a scenario needs, each with what needs it."""
    needed: dict[str, str] = {}
    never_there = {plan.name for plan in scenario.jobs if plan.transaction is not None or plan.payload is not None}
    for name, why in _asked_by_settings(scenario.settings):
        needed.setdefault(name, why)
    for name, why in _asked_by_expectations(scenario.expect, never_there):
        needed.setdefault(name, why)
    for name, why, asks in (
        ("worker_tools", "serves", scenario.serves),
        ("pausing", "pauses", scenario.pauses),
        ("presets", "presets", scenario.presets),
    ):
        if asks:
            needed.setdefault(name, why)
    for plan in scenario.jobs:
        for name in _asked_by_job(plan):
            needed.setdefault(name, f"job {plan.name}")
    for step in scenario.steps:
        for name in _asked_by_step(step, never_there):
            needed.setdefault(name, f"the step `{step.text}`")
    return needed


def _asked_by_settings(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.heartbeat_interval:
        yield "heartbeat", "settings.heartbeat_interval"
    for name in ("concurrency", "tool_concurrency"):
        if getattr(settings, name):
            yield "concurrency_limits", f"settings.{name}"
    if settings.rate_limit:
        yield "rate_limits", "settings.rate_limit"
    if settings.stuck_timeout < settings.lease:
        yield "maintenance", "a stuck_timeout that is shorter than the lease"


def _asked_by_expectations(
    expect: Mapping[str, Expectation], never_there: Collection[str]
) -> Iterator[tuple[str, str]]:
    for name, expectation in expect.items():
        if expectation.status == "gone" and name not in never_there:
            yield "maintenance", f"the deletion of {name}"
        if expectation.output is not None or expectation.error is not None:
            yield "results", f"what is expected of {name}"


def _asked_by_job(plan: JobPlan) -> list[str]:
    asks = {
        "priorities": plan.priority != 0,
        "unique": plan.unique_key is not None,
        "blank_keys": plan.unique_key is not None and not plan.unique_key.strip(),
        "serial_keys": plan.serial_key is not None,
        "dead_letters": plan.dead_letter is not None,
        "transactions": plan.transaction is not None,
        "schedules": plan.scheduled,
        "inputs": plan.payload is not None,
        "start_after": plan.start_after is not None,
        "final_errors": Ending.FAIL_FINALLY in plan.outcomes,
        "own_attempts": plan.max_attempts is not None,
        "own_leases": plan.lease is not None or plan.timeout is not None,
        "own_delays": plan.retry_delay is not None,
        "unique_windows": plan.unique_for is not None,
        "calendars": plan.cron is not None,
        "flows": bool(plan.depends_on) or plan.parent is not None,
        "parents": plan.parent is not None,
        "groups": plan.group is not None,
        "splits": plan.children is not None,
        "wide_values": 16 < _bits_of(plan.priority) <= 32,
        "big_priorities": _bits_of(plan.priority) > 32,
    }
    return [*(name for name, does in asks.items() if does), *(OPERATED[act.verb] for act in plan.operated())]


def _bits_of(number: int) -> int:
    """Return how many bits a column of signed integers needs for it: 16 from -32768 to 32767."""
    return (number if number >= 0 else ~number).bit_length() + 1


def _asked_by_step(step: Step, never_there: Collection[str]) -> Iterator[str]:
    if step.kind == "check" and step.expect == "gone" and step.job not in never_there:
        yield "maintenance"
    does = {"act": step.verb, "upkeep": step.actor, "stop": "release", "deploy": "signals"}.get(step.kind, step.kind)
    if step.actor == "maintenance" or (step.kind in ("pause", "suspend") and step.actor == "queue"):
        does = "maintenance"  # Where the queue's own upkeep stands still, maintenance has to do the rescue.
    if does in ("maintenance", "heartbeat", "release", "cancel", "retry", "signals"):
        yield does
    if step.kind in ("twice", "delay", "lose"):
        yield "remote"
