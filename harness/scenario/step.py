"""One line of a scenario, understood: who does what, and what must come of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.model.duration import Duration, parse_duration


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
_JOB = rf"(?P<job>{_NAME})"
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
    ("resume", rf"{_ACTOR} continues", "w1 continues"),
    ("stop", rf"stop {_ACTOR}", "stop w1"),
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
    (
        "clock",
        r"(?P<actor>store|[A-Za-z_][\w-]*) clock is (?P<duration>\S+) (?P<verb>ahead|behind)",
        "store clock is 5s ahead",
    ),
)
"""Kind, pattern, example: the whole language of steps, in the order in which it is tried."""

_COMPILED = tuple((kind, re.compile(pattern)) for kind, pattern, _ in GRAMMAR)


def parse_step(text: str, *, line: int = 0) -> Step:
    """Understand one step.

    Raises ValueError that lists the forms there are.
    """
    folded = " ".join(text.split())
    for kind, pattern in sorted(_COMPILED, key=lambda entry: entry[0] == "act"):
        match = pattern.fullmatch(folded)
        if match is not None:
            return _step(kind, folded, line, match.groupdict())
    forms = "\n    ".join(example for _, _, example in GRAMMAR)
    raise ValueError(f"no such step: {text!r}. Steps look like:\n    {forms}")


def _step(kind: str, text: str, line: int, found: dict[str, str | None]) -> Step:
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
