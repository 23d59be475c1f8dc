"""Invariants of the user's own over declared side effects: at most once, exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from job_harness.core.history import Call, Effect
from job_harness.core.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from job_harness.core.model import COMPLETED, JobId, JobView, canonical, slug_of
from job_harness.core.port import JobRequest
from job_harness.errors import did_you_mean

REPEATED: Final = AnomalyKind(
    "effect_repeated", Guarantee.OWN, "A side effect that may happen at most once happened again."
)
"""What `at_most_once` reports. It is none of the queue's promises: a processor has to keep it."""
UNKEYED: Final = AnomalyKind(
    "effect_without_key", Guarantee.OWN, "A side effect lacks the data by which a check tells one from another."
)
"""What `at_most_once` reports of data that does not have a key of `per`, instead of taking all such effects for one."""
KEY_VARIES: Final = AnomalyKind(
    "effect_key_varies",
    Guarantee.OWN,
    "The key of a side effect is another one in each attempt: it tells no repetition.",
)
"""What a search reports of such data in `per`, or such an identity, where it comes from chance or from a clock."""
MISSING: Final = AnomalyKind("effect_missing", Guarantee.OWN, "A job completed, and its side effect never happened.")
"""What `exactly_once` reports besides."""


def at_most_once(name: str, *, per: Sequence[str] = ()) -> Invariant:
    """Return an invariant: a side effect happens at most once for each job, or for each value of the data in `per`.

    It counts over all deliveries: retries, crashes, duplicates and zombies. An effect with an identity counts by that
    instead of by its job, and may be repeated if its receiver ignores repetitions. An effect whose data lacks a key of
    `per` is an anomaly too.
    """

    class AtMostOnce(_AtMostOnce):
        def __init__(self, rules: Rules, breach: Reporter) -> None:
            super().__init__(rules, breach, name, per)

    return Invariant(
        id=f"{name}_at_most_once",
        sentence=f"The side effect {name!r} happens at most once.",
        kind=Kind.ALWAYS,
        anomalies=(REPEATED, UNKEYED),
        make=AtMostOnce,
        effect=name,
        per=tuple(per),
    )


def exactly_once(name: str, *, per: Sequence[str] = (), tool: str | None = None) -> Invariant:
    """Return an invariant: `at_most_once`, and at rest no job has completed without its side effect.

    With `tool`, only jobs of that tool must have it; a repetition is an anomaly whichever tool
    repeats it. A Celery task may have its Celery name, and if it was retried, all its messages
    count as one. With `per`, a job whose input has these keys may leave the effect to another job
    with the same values.
    """

    class ExactlyOnce(_ExactlyOnce):
        def __init__(self, rules: Rules, breach: Reporter) -> None:
            super().__init__(rules, breach, name, per, tool)

    return Invariant(
        id=f"{name}_exactly_once",
        sentence=f"The side effect {name!r} happens exactly once for each job that completes.",
        kind=Kind.ALWAYS,
        anomalies=(REPEATED, UNKEYED, MISSING),
        make=ExactlyOnce,
        tool=tool,
        effect=name,
        per=tuple(per),
    )


def values_of(data: Mapping[str, Any], per: Sequence[str]) -> str:
    """Write the values by which one side effect is told from another; a key that is not there has none."""
    return ", ".join(f"{key}={canonical(data.get(key))}" for key in per)


class _AtMostOnce(Monitor):
    """Remembers the first side effect of each job, or of each value."""

    def __init__(self, rules: Rules, breach: Reporter, name: str, per: Sequence[str]) -> None:
        super().__init__(rules, breach)
        self._name = name
        self._per = tuple(per)
        self._seen: dict[str, Effect] = {}
        self._unkeyed = False
        self._happened = False
        """Whether there was such an effect at all, by whatever key."""
        self._works: dict[JobId, str] = {}
        """The piece of work that a job is one of several parts of."""

    def on_call(self, event: Call) -> None:
        if event.verb == "enqueue":
            for request in event.arguments:
                if isinstance(request, JobRequest) and request.work is not None:
                    self._works[request.id] = request.work

    @property
    def idle(self) -> bool:
        """Whether the side effect never happened: then it was not seen to happen only once."""
        return not self._happened

    def on_effect(self, event: Effect) -> None:
        if event.name != self._name:
            return
        self._happened = True
        if event.idempotent and event.identity is not None:
            return
        data = event.data or {}
        if lacking := [key for key in self._per if key not in data]:
            self._refuse(event, lacking[0], list(data))
            return
        told = self._values(data)
        if not self._per and event.identity is not None:
            told = event.identity
        first = self._seen.setdefault(told or self._work(event.job), event)
        if first is not event:
            what = f"{self._name}({told})" if told else self._name
            self.breach(
                REPEATED.name,
                f"{what} by {event.actor} in attempt {event.attempt} of {event.job}, and before that by "
                f"{first.actor} in attempt {first.attempt} of {first.job}",
                job=event.job,
                others=() if first.job == event.job else (first.job,),
            )

    def _refuse(self, event: Effect, key: str, known: list[str]) -> None:
        if not self._unkeyed:
            self._unkeyed = True
            near = did_you_mean(key, known) or f", only {', '.join(known) or 'no data'}"
            what = f"{self._name} of {event.job} has no {key!r}{near}: per={list(self._per)}"
            self.breach(UNKEYED.name, what, job=event.job)

    def _work(self, job: JobId) -> str:
        """Return what a job is a part of; itself where it is the whole."""
        return self._works.get(job, job)

    def _values(self, data: Mapping[str, Any]) -> str:
        return values_of(data, self._per)


class _ExactlyOnce(_AtMostOnce):
    """Remembers besides which jobs had the side effect."""

    def __init__(self, rules: Rules, breach: Reporter, name: str, per: Sequence[str], tool: str | None) -> None:
        super().__init__(rules, breach, name, per)
        self._tools = None if tool is None else (tool, slug_of(tool))
        self._had: dict[str, JobId] = {}
        """By the piece of work, the first job that had it."""
        self._told: set[JobId] = set()
        self._asks_for: dict[JobId, str] = {}
        """The values in `per` of a job, where its input has these keys."""

    def on_call(self, event: Call) -> None:
        super().on_call(event)
        if event.verb != "enqueue" or not self._per:
            return
        for request in event.arguments:
            given = request.input if isinstance(request, JobRequest) else None
            if isinstance(given, dict) and all(key in given for key in self._per):
                self._asks_for[request.id] = self._values(given)

    def on_effect(self, event: Effect) -> None:
        if event.name == self._name:
            self._had.setdefault(self._work(event.job), event.job)
        super().on_effect(event)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        last = {self._work(job): job for job in self._works}  # the parts before it have left it to the last one
        for job, view in views.items():
            work = self._work(job)
            asked = view.status is COMPLETED and (self._tools is None or view.tool in self._tools)
            asked = asked and last.get(work, job) == job and job not in self._told and work not in self._had
            if asked and self._asks_for.get(job) not in self._seen:
                self._told.add(job)
                what = f"{job} of {view.tool} completed, and {self._name} never happened"
                self.breach(MISSING.name, what + self._may_leave_it(view, views), job=job)

    def _may_leave_it(self, view: JobView, views: Mapping[JobId, JobView]) -> str:
        """Say which other job did it, where a job cannot tell that it may leave it to that one."""
        others = (job for job in self._had.values() if job in views and views[job].tool == view.tool)
        other = next(others, None)
        if other is None or view.id in self._asks_for:
            return ""
        return f"; if it may leave that to {other}, name in per=[...] the keys that the effect and both inputs share"
