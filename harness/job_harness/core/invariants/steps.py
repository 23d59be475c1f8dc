"""The steps of a workflow: what its engine stored as done is done once, and what is done is stored or compensated.

A fact about a step is an effect named `step`, whose data say the `run` (one execution of a
workflow, through all of its lives), the `step` in it, and what `did` happen: it begins, finishes,
is recorded (also where that is read back), is compensated, or a signal is taken. A step that begins
again before it was recorded breaks nothing: every durable engine runs a step at least once. What it
did outside is judged by `at_most_once`, with a key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from job_harness.core.history import STEP, Effect, StepFact
from job_harness.core.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from job_harness.core.model import COMPLETED, JobId, JobView, canonical

OF_STEPS: Final[Mapping[str, frozenset[str]]] = {"on_effect": frozenset({STEP})}


class StepsKept(Monitor):
    """Remembers by run and step what was recorded, and what was done."""

    only: ClassVar[Mapping[str, frozenset[str]]] = OF_STEPS

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._recorded: dict[tuple[str, Any], Effect] = {}
        """By run and by the step's number, or its name where it has none: the first record of it."""
        self._open: dict[tuple[str, str], JobId] = {}
        """Steps that were finished and are neither recorded nor compensated, by run and name."""
        self._taken: dict[tuple[str, str], Effect] = {}

    def on_effect(self, event: Effect) -> None:
        run, step, number = event.data["run"], event.data["step"], event.data.get("number")
        key = (run, step if number is None else number)
        known = self._recorded.get(key)
        name = step if known is None else known.data["step"]
        match event.data["did"]:
            case StepFact.BEGINS if known is not None and name == step:
                told = f"{step} of {run} begins in {event.actor}, although {known.actor} has recorded it as done"
                self.breach("step_repeated", told, job=event.job, others=[known.job])
            case StepFact.FINISHES:
                self._open[(run, step)] = event.job
            case StepFact.RECORDS:
                self._open.pop((run, step), None)
                self._recorded.setdefault(key, event)
            case StepFact.COMPENSATES:
                self._open.pop((run, step), None)
            case StepFact.TAKES:
                if (before := self._taken.get((run, step))) is not None:
                    told = f"{step} of {run} is taken by {event.actor}, and before that by {before.actor}"
                    self.breach("signal_taken_twice", told, job=event.job, others=[before.job])
                self._taken[(run, step)] = event
        if known is not None and name != step:
            told = f"step {number} of {run} is {step} in {event.actor}, and was recorded as {name} by {known.actor}"
            self.breach("nondeterministic_replay", told, job=event.job, others=[known.job])

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for (run, step), job in self._open.items():
            view = views.get(job)
            if view is not None and view.status is COMPLETED:
                told = f"{job} completed; {step} of {run} was done, and is neither recorded nor compensated"
                self.breach("step_unrecorded", told, job=job)
        self._open.clear()


STEPS_KEPT = Invariant(
    id="steps_kept",
    sentence="A step that is recorded as done is not done again; what is done is recorded or compensated.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("step_repeated", Guarantee.OWN, "A step began again although it was recorded as done."),
        AnomalyKind(
            "step_unrecorded",
            Guarantee.OWN,
            "A job completed whose step was done, and neither recorded nor compensated.",
        ),
        AnomalyKind(
            "nondeterministic_replay", Guarantee.OWN, "A resumed run took another step than the one recorded there."
        ),
        AnomalyKind("signal_taken_twice", Guarantee.OWN, "A signal, an approval or a timer was taken twice."),
    ),
    make=StepsKept,
)
STEPS: Final[tuple[Invariant, ...]] = (STEPS_KEPT,)
"""They judge every test of `job_harness`; where no step is declared, they judge nothing."""
UNORDERED: Final = AnomalyKind("step_out_of_order", Guarantee.OWN, "A step began before those before it were recorded.")
UNCOMPENSATED: Final = AnomalyKind(
    "not_compensated", Guarantee.OWN, "What a failed workflow had done outside was not taken back."
)


def steps_in_order(*steps: str) -> Invariant:
    """Return an invariant: in each run, a step begins only once all those named before it are recorded."""

    class StepsInOrder(Monitor):
        only: ClassVar[Mapping[str, frozenset[str]]] = OF_STEPS

        def __init__(self, rules: Rules, breach: Reporter) -> None:
            super().__init__(rules, breach)
            self._recorded: dict[str, set[str]] = {}

        def on_effect(self, event: Effect) -> None:
            run, step = event.data["run"], event.data["step"]
            recorded = self._recorded.setdefault(run, set())
            if event.data["did"] == StepFact.RECORDS:
                recorded.add(step)
            elif event.data["did"] == StepFact.BEGINS and step in steps:
                lacking = [each for each in steps[: steps.index(step)] if each not in recorded]
                if lacking:
                    self.breach(
                        UNORDERED.name, f"{step} of {run} begins, and {lacking[0]} is not recorded", job=event.job
                    )

    return Invariant(
        id="steps_in_order",
        sentence=f"The steps of a run keep their order: {', '.join(steps)}.",
        kind=Kind.ALWAYS,
        anomalies=(UNORDERED,),
        make=StepsInOrder,
    )


class Compensation(Monitor):
    """Judges whether one side effect was taken back by another; a subclass says which."""

    done: ClassVar[str]
    taken_back: ClassVar[str]
    otherwise: ClassVar[str | None]
    told_by: ClassVar[tuple[str, ...]]

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._open: dict[str, Effect] = {}
        self._happened = False

    @property
    def idle(self) -> bool:
        """Whether there was nothing to take back."""
        return not self._happened

    def on_effect(self, event: Effect) -> None:
        data = event.data or {}
        key = ", ".join(f"{part}={canonical(data.get(part))}" for part in self.told_by) or event.identity or event.job
        if event.name == self.done:
            self._happened = True
            self._open[key] = event
        else:
            self._open.pop(key, None)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for key, event in self._open.items():
            view = views.get(event.job)
            if self.otherwise is None and (view is None or view.status is COMPLETED):
                continue
            nor = "" if self.otherwise is None else f", nor did {self.otherwise} happen"
            told = f"{self.done}({key}) by {event.actor} in attempt {event.attempt} has no {self.taken_back}{nor}"
            self.breach(UNCOMPENSATED.name, told, job=event.job)
        self._open.clear()


def compensated(name: str, *, by: str, per: Sequence[str] = (), unless: str | None = None) -> Invariant:
    """Return an invariant: at rest, the side effect `name` was followed by the side effect `by` with the same data.

    Not where its job completed, or, with `unless`, where that side effect happened instead. `per`
    names the data by which one effect is told from another, as for `at_most_once`; without it they
    count by identity, or by job.
    """

    class Compensated(Compensation):
        only: ClassVar[Mapping[str, frozenset[str]]] = {"on_effect": frozenset({name, by, unless or name})}
        done, taken_back, otherwise, told_by = name, by, unless, tuple(per)

    return Invariant(
        id=f"{name}_compensated",
        sentence=f"The side effect {name!r} is taken back by {by!r} where its workflow fails.",
        kind=Kind.ALWAYS,
        anomalies=(UNCOMPENSATED,),
        make=Compensated,
        effect=name,
        per=tuple(per),
    )
