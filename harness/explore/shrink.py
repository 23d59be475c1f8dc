"""Makes a failing run smaller: drops jobs, workers and deviations, then makes what is left more boring.

The result is minimal in the sense that no single further step keeps the anomaly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from harness.faults import phrase_of, read_option
from harness.model.settings import Settings
from harness.run.session import Session
from harness.run.verdict import Run
from harness.scenario.job_plan import Ending, JobPlan
from harness.scenario.scenario import Scenario
from harness.scenario.span import Span
from harness.sim.choices import Deviation, Tape

PAIRED = ("batch_size", "heartbeat_interval")
"""A batch needs heartbeats: taken back one by one they would make a wrong setting out of a right one."""
TOGETHER = (PAIRED, *((name,) for name in Settings.names() if name not in PAIRED))

PLAINER = (
    ("retry_after",),
    ("cancel_after",),
    ("transaction", "open_for"),
    ("open_for",),
    ("payload",),
    ("dead_letter",),
    ("serial_key",),
    ("unique_key",),
    ("start_after",),
    ("max_attempts",),
    ("at",),
    ("tool",),
    ("priority",),
    ("outcomes",),
    ("takes",),
)
"""Keys of a job that become plain again, those together that need each other."""

ALMOST = Span(factor=0.95, setting="job_timeout")
"""What hangs may be needed for its length alone."""

Open = Callable[[Scenario], Session]


class Shrinker:
    """Holds the smallest run so far."""

    def __init__(self, run: Run, anomaly: str, open_session: Open, *, base: Settings, limit: int = 2_000) -> None:
        self.best = run
        self.scenario = replace(run.scenario, tape=run.tape)
        self.runs = 0
        self._anomaly = anomaly
        self._open = open_session
        self._base = base
        self._limit = limit

    def shrink(self) -> None:
        """Go on until nothing gets smaller, or the limit of runs is reached."""
        while self.runs < self._limit:
            if not any(self._try(candidate) for candidate in self._candidates()):
                return

    def _try(self, candidate: Scenario) -> bool:
        if self.runs >= self._limit:
            return False
        self.runs += 1
        run = self._open(candidate).run()
        if self._anomaly not in run.found:
            return False
        self.best = run
        self.scenario = replace(candidate, tape=run.tape)
        return True

    def _candidates(self) -> Iterator[Scenario]:
        scenario = self.scenario
        yield from self._shorter_tapes(scenario)
        for job in scenario.jobs:
            if len(scenario.jobs) > 1:
                yield replace(scenario, jobs=tuple(other for other in scenario.jobs if other is not job))
        for count in range(1, len(scenario.workers)):
            yield replace(scenario, workers=scenario.workers[:count])
        yield from self._plainer_settings(scenario)
        for job in scenario.jobs:
            for plainer in _plainer(job):
                yield replace(scenario, jobs=tuple(plainer if other is job else other for other in scenario.jobs))

    def _shorter_tapes(self, scenario: Scenario) -> Iterator[Scenario]:
        tape = scenario.tape
        if tape:
            yield replace(scenario, tape=())
        size = len(tape) // 2
        while size:
            for start in range(0, len(tape), size):
                for shorter in _without(tape, start, start + size):
                    yield replace(scenario, tape=shorter)
            size //= 2
        for index, deviation in enumerate(tape):
            for option in _plainer_options(deviation.option):
                changed = Deviation(deviation.label, deviation.nth, option)
                yield replace(scenario, tape=(*tape[:index], changed, *tape[index + 1 :]))

    def _plainer_settings(self, scenario: Scenario) -> Iterator[Scenario]:
        if scenario.settings == self._base:
            return
        yield replace(scenario, settings=self._base)
        for names in TOGETHER:
            values = {name: getattr(self._base, name) for name in names}
            changed = scenario.settings.changed(**values)
            if changed != scenario.settings:
                yield replace(scenario, settings=changed)


def _without(tape: Tape, start: int, end: int) -> Iterator[Tape]:
    """Leave deviations out. A question that is no longer put off comes up earlier: the later ones move up, or not."""
    dropped, rest = tape[start:end], tape[end:]
    moved = tuple(
        item._replace(nth=item.nth - sum(other.label == item.label and other.nth < item.nth for other in dropped))
        for item in rest
    )
    if moved != rest:
        yield (*tape[:start], *moved)
    yield (*tape[:start], *rest)


def _plainer_options(words: str) -> tuple[str, ...]:
    phrase = phrase_of(read_option(words))
    return (phrase.plainer,) if phrase is not None and phrase.plainer else ()


def _plainer(job: JobPlan) -> Iterator[JobPlan]:
    plain = JobPlan(job.name)
    if Ending.HANG in job.outcomes:
        yield replace(job, outcomes=plain.outcomes, takes=(ALMOST,))
    for names in PLAINER:
        values = {name: getattr(plain, name) for name in names}
        if any(getattr(job, name) != value for name, value in values.items()):
            yield replace(job, **values)
    if job.count > 2:
        yield replace(job, count=2)
