"""15: a job is what its producer, or its schedule, asked for; what can be sent is taken, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.history.event import Call, Observed, Return
from harness.history.outcome import OutcomeKind
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId, JobView
from harness.model.json_value import canonical, json_problem

OPTIONS = ("tool", "priority", "unique_key", "serial_key", "dead_letter")


class OptionsHonoured(Monitor):
    """Compares new rows with what was asked for."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"enqueue", "schedule"}),
        "on_return": frozenset({"enqueue"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._asked: dict[JobId, Any] = {}
        self._new: dict[int, Any] = {}
        """Enqueues under way of jobs that were never asked for before."""
        self._schedules: dict[str, Any] = {}

    def on_call(self, event: Call) -> None:
        request = event.arguments[0]
        if event.verb == "schedule":
            self._schedules[request.name] = request.job
        elif request.id not in self._asked:
            self._asked[request.id] = self._new[event.number] = request

    def on_created(self, event: Observed) -> None:
        after = event.after
        if after is None:
            return
        asked = self._asked.get(event.job) if after.schedule is None else self._schedules.get(after.schedule)
        if asked is not None and after.dead_of is None:
            self._compare(after, asked)

    def _compare(self, after: JobView, asked: Any) -> None:
        wanted = {name: getattr(asked, name) for name in OPTIONS}
        wanted["max_attempts"] = asked.max_attempts or self.settings.max_attempts
        for name, value in wanted.items():
            if (getattr(after, name) or None) != (value or None):
                self.breach("option_dropped", f"asked for {name} {value!r}, got {getattr(after, name)!r}", job=after.id)
        if json_problem(asked.input) is None and after.input is not None and not _same(after.input, asked.input):
            self.breach("option_dropped", f"sent {asked.input!r:.100}, kept {after.input!r:.100}", job=after.id)

    def on_return(self, event: Return) -> None:
        request = self._new.pop(event.number, None)
        if request is None or not event.answered:
            return
        problem = request.problem
        if problem is not None:
            if event.outcome.done:
                self.breach("invalid_input_accepted", f"the queue took it: {problem}", job=event.job)
        elif event.outcome.kind is OutcomeKind.UNKNOWN:
            self.breach("valid_request_refused", f"enqueue raised: {event.outcome.reason}", job=event.job)
        elif not event.outcome.done and request.unique_key is None and request.transaction is None:
            self.breach("valid_request_refused", f"nothing speaks against it: {event.outcome.reason}", job=event.job)


def _same(kept: Any, sent: Any) -> bool:
    return kept is sent or (json_problem(kept) is None and canonical(kept) == canonical(sent))


INVARIANT = Invariant(
    id="options_honoured",
    number=15,
    sentence="A job is what its producer or its schedule asked for; what JSON can hold is taken, and nothing else.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("option_dropped", Guarantee.OPTIONS, "A new job is not what was asked for."),
        AnomalyKind("invalid_input_accepted", Guarantee.OPTIONS, "An input that JSON cannot hold was accepted."),
        AnomalyKind("valid_request_refused", Guarantee.OPTIONS, "A job that can be sent was not taken."),
    ),
    make=OptionsHonoured,
)
