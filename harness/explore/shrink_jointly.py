"""Takes several steps at once where no single one makes a failing run smaller.

A job often stays only because the tape counts: without it, every later occurrence at the same gate has another number.
So jobs and workers are dropped together with their deviations, the numbers behind them lowered, and where no tape fits,
a few runs of the smaller scenario are drawn anew. A chain of retries is cut short by allowing fewer attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations

from harness.explore.shrink import Open, Shrinker
from harness.faults import phrase_of, read_option
from harness.model.duration import Duration
from harness.model.moments import moments
from harness.model.settings import Settings
from harness.run.session import Session
from harness.run.verdict import Run
from harness.scenario.scenario import Scenario
from harness.sim.choices import Choices, Deviation, Tape, Uniform

REDRAWN = 24
"""How often a smaller scenario is drawn anew."""
REDRAWN_RATES = (0.0, 0.05, 0.15)
PAIRS = 8
"""Of at most so many deviations, every two are dropped together."""

Redraw = Callable[[Scenario, Choices], Session]


class JointShrinker(Shrinker):
    """Shrinks step by step, then jointly, until neither helps."""

    def __init__(
        self, run: Run, anomaly: str, open_session: Open, *, base: Settings, redraw: Redraw, limit: int = 2_000
    ) -> None:
        """Take what a shrinker takes, and how a scenario is run with other choices than its tape's."""
        super().__init__(run, anomaly, open_session, base=base, limit=limit)
        self._redraw = redraw

    def shrink(self) -> None:
        """Go on until nothing gets smaller, or the limit of runs is reached."""
        super().shrink()
        while self.runs < self._limit and (self._any_fewer_attempts() or self._any_joint() or self._any_redrawn()):
            super().shrink()

    def _any_fewer_attempts(self) -> bool:
        """A chain of retries is read faster when it is short: then this setting stays off its default."""
        if not any(self._try_sooner(candidate) for candidate in _fewer_attempts(self.scenario)):
            return False
        self._base = self._base.changed(max_attempts=self.scenario.settings.max_attempts)
        return True

    def _try_sooner(self, candidate: Scenario) -> bool:
        if self.runs >= self._limit:
            return False
        self.runs += 1
        run = self._open(candidate).run()
        if self._anomaly not in run.found or _events(run, self._anomaly) >= _events(self.best, self._anomaly):
            return False
        self.best = run
        self.scenario = replace(candidate, tape=run.tape)
        return True

    def _any_joint(self) -> bool:
        return any(self._try(candidate) for candidate in self._joint_candidates())

    def _any_redrawn(self) -> bool:
        return any(self._try_redrawn(candidate) for candidate in self._smaller())

    def _joint_candidates(self) -> Iterator[Scenario]:
        scenario = self.scenario
        for candidate in self._smaller():
            for tape in _fitting(scenario, candidate):
                yield replace(candidate, tape=tape)
        tape = scenario.tape
        if len(tape) <= PAIRS:
            for pair in combinations(tape, 2):
                yield replace(scenario, tape=tuple(item for item in tape if item not in pair))
        for index, item in enumerate(tape):
            for option in _shorter(item.option, moments(scenario.settings)):
                changed = Deviation(item.label, item.nth, option)
                yield replace(scenario, tape=(*tape[:index], changed, *tape[index + 1 :]))

    def _smaller(self) -> Iterator[Scenario]:
        """Fewest jobs first, then one worker less; all with the tape as it is."""
        scenario = self.scenario
        for count in range(1, len(scenario.jobs)):
            for jobs in combinations(scenario.jobs, count):
                yield replace(scenario, jobs=jobs)
        for worker in scenario.workers if len(scenario.workers) > 1 else ():
            yield replace(scenario, workers=tuple(other for other in scenario.workers if other != worker))

    def _try_redrawn(self, candidate: Scenario) -> bool:
        for number in range(REDRAWN):
            if self.runs >= self._limit:
                return False
            self.runs += 1
            choices = Uniform(number, rate=REDRAWN_RATES[number % len(REDRAWN_RATES)])
            run = self._redraw(replace(candidate, tape=()), choices).run()
            if self._anomaly in run.found:
                self.best = run
                self.scenario = replace(run.scenario, tape=run.tape)
                return True
        return False


def _events(run: Run, anomaly: str) -> int:
    """Answer how many events it takes until the anomaly shows."""
    shown = run.led_by(anomaly)
    return len(run.history) if shown is None else shown.event


def _fewer_attempts(scenario: Scenario) -> Iterator[Scenario]:
    """Allow fewest attempts first; what struck at a later attempt strikes at an earlier one."""
    most = scenario.settings.max_attempts
    for attempts in range(1, most):
        fewer = replace(scenario, settings=scenario.settings.changed(max_attempts=attempts))
        yield fewer
        for lowered in range(1, most - attempts + 1):
            tape = tuple(item._replace(nth=max(1, item.nth - lowered)) for item in scenario.tape)
            if tape != scenario.tape:
                yield replace(fewer, tape=tape)


def _fitting(scenario: Scenario, candidate: Scenario) -> Iterator[Tape]:
    """Answer tapes that may fit once jobs or workers are gone."""
    gone = {job.name for job in scenario.jobs} - {job.name for job in candidate.jobs}
    kept = tuple(item for item in scenario.tape if gone.isdisjoint(_words(item)))
    yield kept
    for lowered in range(1, len(gone) + 1):
        yield tuple(item._replace(nth=max(1, item.nth - lowered)) for item in kept)
        for index, item in enumerate(kept):
            if item.nth > lowered:
                yield (*kept[:index], item._replace(nth=item.nth - lowered), *kept[index + 1 :])
    for worker in sorted(set(scenario.workers) - set(candidate.workers)):
        for other in candidate.workers:
            yield tuple(_renamed(item, worker, other) for item in kept)


def _words(item: Deviation) -> set[str]:
    return {*item.label.replace("client-", "client- ").split(), read_option(item.option).actor.removeprefix("client-")}


def _renamed(item: Deviation, old: str, new: str) -> Deviation:
    label = " ".join(new if word == old else word for word in item.label.split(" "))
    option = read_option(item.option)
    if option.actor == old:
        option = option._replace(actor=new, words=option.words.replace(old, new, 1))
    return Deviation(label, item.nth, option.words)


def _shorter(words: str, named: dict[str, Duration]) -> list[str]:
    """Return the same disturbance for the shorter times, the shortest first."""
    option = read_option(words)
    phrase, length = phrase_of(option), named.get(option.argument)
    if phrase is None or not phrase.timed or length is None:
        return []
    shorter = sorted((duration, name) for name, duration in named.items() if duration < length)
    return [phrase.words + name for _, name in shorter]
