"""What a processor decided in a run, and where a run of the same choices first decides differently.

A decision is what others see of a delivery: a side effect, a fact about a step, a job that it
enqueues, how it ends. Times are none, nor is what a queue or a fault did.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from job_harness.core.history import STEP, Call, Effect, History, Observed
from job_harness.core.model import COMPLETED, JobId

ENDED: Final = "ended"
NOTHING: Final = "(nothing more)"
MOST_BEFORE: Final = 3
"""Decisions that are shown before the first one that differs."""
SHOWN: Final = 300
"""Characters of a decision."""
_NOT_SAID: Final = re.compile(r"\w+=None, |, \w+=None")


class Decision(NamedTuple):
    """One thing that a delivery did, in words."""

    attempt: int
    words: str


class OtherDecision(NamedTuple):
    """Where a run first differs from the recorded one."""

    job: JobId
    tool: str
    attempt: int
    before: tuple[str, ...]
    """The last decisions on which both agree."""
    recorded: str
    now: str


def divergence(recorded: History, now: History) -> OtherDecision | None:
    """Return where the first job differs; None where all decisions are the same."""
    mine, its = decisions(recorded), decisions(now)
    tools = {**_tools(now), **_tools(recorded)}
    for job in dict.fromkeys((*mine, *its)):
        before: list[Decision] = []
        for one, other in zip_longest(mine.get(job, []), its.get(job, [])):
            if one != other:
                attempt = (one or other).attempt
                agreed = tuple(each.words for each in before if each.attempt == attempt)[-MOST_BEFORE:]
                return OtherDecision(
                    job, tools.get(job, ""), attempt, agreed, _words(one, attempt), _words(other, attempt)
                )
            before.append(one)
    return None


def _words(decision: Decision | None, attempt: int) -> str:
    if decision is None:
        return NOTHING
    return decision.words if decision.attempt == attempt else f"{NOTHING}; attempt {decision.attempt} follows"


def decisions(history: History) -> dict[JobId, list[Decision]]:
    """Return by job what its deliveries decided, one attempt after the other."""
    told: dict[JobId, list[Decision]] = {}
    for job, decision in _decisions(history):
        told.setdefault(job, []).append(decision)
    return {job: sorted(each, key=lambda decision: decision.attempt) for job, each in told.items()}


def _decisions(history: History) -> Iterator[tuple[JobId, Decision]]:
    for event in history:
        if isinstance(event, Effect) and (words := _of_effect(event)):
            yield event.job, Decision(event.attempt, words[:SHOWN])
        elif isinstance(event, Call) and event.verb == "enqueue" and event.job:
            yield event.job, Decision(0, f"is enqueued: {_NOT_SAID.sub('', str(event.arguments[0]))}"[:SHOWN])
        elif isinstance(event, Observed) and event.after is not None and event.verb == "complete":
            if event.after.status is COMPLETED and event.after.output is not None:
                output = f"its output is {_json(event.after.output)}"
                yield event.job, Decision(event.after.attempts, output[:SHOWN])
        elif isinstance(event, Call) and event.verb == "fail" and event.job and list(event.arguments[-1:]) == [True]:
            yield event.job, Decision(event.arguments[0][1], "asks for no other attempt")


def _of_effect(event: Effect) -> str:
    if event.name == STEP:
        return f"{event.data['step']} of {event.data['run']} {event.data['did']}"
    if event.name == ENDED:
        return f"ends with {event.data}"
    if event.declared is None:
        return ""
    about = [event.identity, None if event.data in (None, {}) else _json(event.data)]
    return " ".join(filter(None, [event.name, *about]))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _tools(history: History) -> dict[JobId, str]:
    return {event.job: event.after.tool for event in history if isinstance(event, Observed) and event.after is not None}
