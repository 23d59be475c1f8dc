"""Two engines under one run: every verb goes to both, and what they answer and show is compared after each.

The left engine is the one that the run believes; the right one follows. The first difference ends
the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from job_harness.core.faults import FaultPlan
from job_harness.core.history import Call, Outcome, OutcomeKind
from job_harness.core.model import Instant, JobId, JobView, Json, Settings, format_duration
from job_harness.core.port import Capabilities, Claim, Engine, EngineClocks, EngineInfo, JobRequest, QueueUnderTest
from job_harness.core.run.session import NO_FAULTS, Session
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim import Choices
from job_harness.errors import HarnessError

UNORDERED: Final = frozenset({"expire", "rescue", "reconcile", "purge"})
"""Verbs that return a set of jobs: no queue promises the order in which they are named. Neither are the words in which
a verb refuses; everything else has to be equal, times to the microsecond."""


class Difference(NamedTuple):
    """One thing that the engines tell differently."""

    where: str
    """`outcome`, or the job and its field."""
    left: Any
    right: Any


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first step at which two engines differ."""

    engines: tuple[str, str]
    step: int
    """The number of the call, from 1."""
    at: Instant
    actor: str
    verb: str
    job: JobId | None
    arguments: tuple[Any, ...]
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        """Name the step, then each difference on a line, left and right."""
        left, right = self.engines
        what = self.verb if self.job is None else f"{self.verb} {self.job}"
        head = f"step {self.step} at {format_duration(self.at)}: {self.actor} {what}: {left} and {right} differ"
        width = max(len(item.where) for item in self.differences)
        lines = [
            f"  {item.where:<{width}}  {left}: {_write_short(item.left)}  {right}: {_write_short(item.right)}"
            for item in self.differences
        ]
        return "\n".join([head, *lines])


def _write_short(value: Any) -> str:
    """Write a value as short as it is clear: a claim by its job and attempt, a status by its name."""
    match value:
        case StrEnum():
            return str(value)
        case Claim():
            return f"{value.job} (attempt {value.attempt})"
        case list() | tuple():
            return ", ".join(_write_short(item) for item in value) or "nothing"
        case _:
            return repr(value)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a run in lockstep came to: the left engine's run, or the step at which the right one left it."""

    steps: int
    run: Run | None = None
    divergence: Divergence | None = None


class Diverged(HarnessError):
    """The engines differ; ends the run."""

    def __init__(self, differences: tuple[Difference, ...]) -> None:
        super().__init__("the engines differ: " + ", ".join(item.where for item in differences))
        self.differences = differences


class SharedJitter:
    """Hands the numbers drawn by the left queue to the right one, statement by statement."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._drawn: list[float] = []
        self._taken = 0

    def begin(self) -> None:
        """Forget what the statement before drew."""
        self._drawn.clear()
        self._taken = 0

    def left(self) -> float:
        """Draw."""
        self._drawn.append(self._draw())
        return self._drawn[-1]

    def right(self) -> float:
        """Return what the left queue drew; one more draw than it made is a draw of its own."""
        self._taken += 1
        return self._drawn[self._taken - 1] if self._taken <= len(self._drawn) else self._draw()


class LockstepQueue:
    """Does each verb on both queues; `jobs` compares, and raises `Diverged` where they differ."""

    def __init__(
        self, left: QueueUnderTest, right: QueueUnderTest, capabilities: Capabilities, jitter: SharedJitter
    ) -> None:
        self.capabilities = capabilities
        self._left = left
        self._right = right
        self._jitter = jitter
        self._unequal: tuple[Difference, ...] = ()

    def _both(self, verb: str, *arguments: Any) -> Outcome:
        self._jitter.begin()
        left = _finished(getattr(self._left, verb), arguments)
        right = _finished(getattr(self._right, verb), arguments)
        self._unequal = tuple(_unequal_outcomes(verb, left, right))
        return left

    def enqueue(self, request: JobRequest) -> Outcome:
        """Accept a job on both."""
        return self._both("enqueue", request)

    def claim(self, worker: str, limit: int) -> Outcome:
        """Take due jobs of both."""
        return self._both("claim", worker, limit)

    def heartbeat(self, claim: Claim) -> Outcome:
        """Extend a lease on both."""
        return self._both("heartbeat", claim)

    def complete(self, claim: Claim, output: Json) -> Outcome:
        """Settle as a success on both."""
        return self._both("complete", claim, output)

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        """Settle as a failure on both."""
        return self._both("fail", claim, error, final)

    def release(self, claim: Claim) -> Outcome:
        """Give a job back on both."""
        return self._both("release", claim)

    def cancel(self, job: JobId) -> Outcome:
        """Cancel a job on both."""
        return self._both("cancel", job)

    def retry(self, job: JobId) -> Outcome:
        """Open a new attempt budget on both."""
        return self._both("retry", job)

    def expire(self) -> Outcome:
        """Take back what is overdue on both."""
        return self._both("expire")

    def reconcile(self) -> Outcome:
        """Make the rows of both agree."""
        return self._both("reconcile")

    def rescue(self) -> Outcome:
        """Take back what is stuck on both."""
        return self._both("rescue")

    def purge(self) -> Outcome:
        """Delete what is past its retention on both."""
        return self._both("purge")

    def jobs(self) -> Mapping[JobId, JobView]:
        """Return the left queue's jobs. Raises `Diverged` where an outcome or a job differs."""
        left = self._left.jobs()
        differences = (*self._unequal, *_unequal_jobs(left, self._right.jobs(), inputs=self.capabilities.inputs))
        if differences:
            raise Diverged(differences)
        return left

    def changed(self) -> Iterable[JobId] | None:
        """Return what the left queue touched."""
        self._right.changed()
        return self._left.changed()

    def close(self) -> None:
        """Close both."""
        self._left.close()
        self._right.close()


_APART: Final = ("snapshot", "transactions", "pausing", "presets", "schedules", "sessions")
"""What a `LockstepQueue` has no methods for, whatever its two queues can do."""


class LockstepEngine:
    """An engine made of two, which it does not own: the code that opened them closes them."""

    def __init__(self, left: Engine, right: Engine) -> None:
        self.left = left
        self.right = right
        able = (left.info.capabilities, right.info.capabilities)
        both = {name: all(getattr(one, name) for one in able) for name in Capabilities.names()}
        capabilities = Capabilities(**{**both, **dict.fromkeys(_APART, False)})
        self.info = EngineInfo(f"{left.info.name} | {right.info.name}", capabilities, confirm=self._confirm)

    def _confirm(self) -> None:
        self.left.info.confirm()
        self.right.info.confirm()

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> LockstepQueue:
        """Open a queue on each; both draw the same numbers."""
        shared = SharedJitter(jitter)
        left = self.left.open(settings, clocks, shared.left)
        try:
            right = self.right.open(settings, clocks, shared.right)
        except BaseException:
            left.close()
            raise
        return LockstepQueue(left, right, self.info.capabilities, shared)

    def close(self) -> None:
        """Nothing of its own to give back."""


def compare(
    scenario: Scenario, *, left: Engine, right: Engine, choices: Choices | None = None, faults: FaultPlan = NO_FAULTS
) -> Comparison:
    """Run a scenario, or the tape in it, on two engines at once."""
    engine = LockstepEngine(left, right)
    return watch(Session(scenario, engine=engine, choices=choices, faults=faults))


def watch(session: Session) -> Comparison:
    """Run a session that was opened on a `LockstepEngine`; return the first divergence in place of a run."""
    try:
        run = session.run()
    except Diverged as diverged:
        calls = [event for event in session.recorder.history if type(event) is Call]
        return Comparison(len(calls), divergence=_located(session.engine, calls[-1], len(calls), diverged.differences))
    return Comparison(sum(type(event) is Call for event in run.history), run=run)


def _located(engine: Engine, call: Call, step: int, differences: tuple[Difference, ...]) -> Divergence:
    assert isinstance(engine, LockstepEngine)
    return Divergence(
        engines=(engine.left.info.name, engine.right.info.name),
        step=step,
        at=call.at,
        actor=call.actor,
        verb=call.verb,
        job=call.job,
        arguments=call.arguments,
        differences=differences,
    )


def _finished(verb: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """Do a verb to its end, through all its points. What it raises is an unknown outcome."""
    try:
        reply = verb(*arguments)
        while hasattr(reply, "send"):
            try:
                reply.send(None)
            except StopIteration as end:
                reply = end.value
    except HarnessError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a queue raises is an observation
        return Outcome.unknown(f"{type(error).__name__}: {error}")
    assert isinstance(reply, Outcome)
    return reply


def _unequal_outcomes(verb: str, left: Outcome, right: Outcome) -> Iterable[Difference]:
    if left.kind is not right.kind:
        yield Difference("outcome", _word_outcome(left), _word_outcome(right))
    elif _value(verb, left) != _value(verb, right):
        yield Difference("value", left.value, right.value)


def _value(verb: str, outcome: Outcome) -> Any:
    return sorted(outcome.value) if verb in UNORDERED and outcome.kind is OutcomeKind.DONE else outcome.value


def _word_outcome(outcome: Outcome) -> str:
    return f"{outcome.kind}: {outcome.reason}" if outcome.reason else str(outcome.kind)


def _unequal_jobs(
    left: Mapping[JobId, JobView], right: Mapping[JobId, JobView], *, inputs: bool
) -> Iterable[Difference]:
    for job in dict.fromkeys((*left, *right)):
        one, other = left.get(job), right.get(job)
        if one == other:
            continue
        if one is None or other is None:
            yield Difference(
                job, "missing" if one is None else one.status, "missing" if other is None else other.status
            )
            continue
        for field, value, opposite in zip(JobView._fields, one, other, strict=True):
            if value != opposite and (inputs or field != "input"):
                yield Difference(f"{job}.{field}", value, opposite)
