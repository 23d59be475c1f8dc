"""Makes a failing run smaller: drops jobs, workers and deviations, then makes what is left plainer.

`Shrinker` takes one step at a time, until no single one keeps the anomaly. `JointShrinker` then takes several at once.
A job that is stuck or loops makes every run as long as a run may be, and most candidates are no smaller in that. So a
candidate may take no more than twice the steps of the best run so far: first it is asked how few of them show the
anomaly, and where the best run is long, the settings that make it long are tried before anything else. All candidates
together have a budget of steps, because a step is what costs time on every engine, and, unlike time, it is the same on
every machine: the same seed shrinks to the same scenario.
A job often stays only because the tape counts: without it, every later occurrence at the same gate has another number.
So jobs and workers are dropped together with their deviations, the numbers behind them lowered, and where no tape fits,
a few runs of the smaller scenario are drawn anew. A chain of retries is cut short by allowing fewer attempts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import ClassVar, Generic, TypeVar

from job_harness.core.faults import kinds, phrase_of, read_option
from job_harness.core.history import Excuse
from job_harness.core.model import Duration, Settings
from job_harness.core.model.moments import moments
from job_harness.core.run.session import Session
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import Ending, JobPlan, Span
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim import Choices, Deviation, Tape, Uniform
from job_harness.review.audit.judging import audited

PAIRED = ("batch_size", "heartbeat_interval", "lease")
"""A batch, and a lease below the timeout, need heartbeats: without them a right setting becomes a wrong one."""
TOGETHER = (PAIRED, ("lease",), *((name,) for name in Settings.names() if name not in PAIRED))

PLAINER = (
    ("then",),
    ("retry_after",),
    ("cancel_after",),
    ("transaction", "open_for"),
    ("open_for",),
    ("payload",),
    ("dead_letter",),
    ("serial_key",),
    ("depends_on",),
    ("parent",),
    ("group",),
    ("children",),
    ("unique_for",),
    ("unique_key", "unique_for"),
    ("lease", "timeout"),
    ("retry_delay",),
    ("missed",),
    ("start_after",),
    ("max_attempts",),
    ("at",),
    ("tool",),
    ("priority",),
    ("outcomes",),
    ("takes",),
)
"""Keys of a job that become plain again, those together that need each other."""

FEWEST_STEPS = 1_200
"""Any candidate may take 1 200 steps: a run that is a little longer is often plainer."""
ROOM = 2
"""A candidate may take this many times the steps of the best run."""
MOST_STEPS = 60_000
"""Steps that all candidates together may take."""

ALMOST = Span(factor=0.95, setting="job_timeout")
"""What hangs may be needed for its length alone."""

Open = Callable[[Scenario], Session]
Agrees = Callable[[Run, str], bool]
"""Says if a run shows an anomaly as it was recorded."""
Held = Callable[[Settings], Settings]
"""Returns settings as the target leaves them: what is fixed there is nothing to shrink."""


def _as_given(settings: Settings) -> Settings:
    return settings


def never() -> bool:
    """Let a search take the time that it takes."""
    return False


Candidate = TypeVar("Candidate")
Tried = TypeVar("Tried")


class Reducer(Generic[Candidate, Tried]):
    """Holds the smallest run so far, and tries what may be smaller, one candidate at a time."""

    def __init__(self, run: Tried, *, limit: int, hurries: Callable[[], bool] = never) -> None:
        """Begin with this run; after `limit` runs, or once `hurries` returns True, its best so far is the result."""
        self.best = run
        self.runs = 0
        self._limit = limit
        self._hurries = hurries
        self.cut_short = False
        """Whether time, runs or steps were used up before nothing could get smaller."""

    def shrink(self) -> None:
        """Go on until nothing gets smaller, or what may be used is used up. Each success begins anew."""
        while not self._spent and any(self._try(candidate) for candidate in self._candidates()):
            pass

    @property
    def _spent(self) -> bool:
        self.cut_short = self.cut_short or self._is_used_up() or self._hurries()
        return self.cut_short

    def _is_used_up(self) -> bool:
        return self.runs >= self._limit

    def _try(self, candidate: Candidate) -> bool:
        if self._spent:
            return False
        run = self._play(candidate)
        if not self._shows(run):
            return False
        self._take(run, candidate)
        return True

    def _candidates(self) -> Iterator[Candidate]:
        """Return what may be smaller than the best, what saves most first."""
        raise NotImplementedError

    def _play(self, candidate: Candidate) -> Tried:
        """Play a candidate, and count it in `runs`."""
        raise NotImplementedError

    def _shows(self, run: Tried) -> bool:
        """Whether a candidate's run still shows what is looked for, and is smaller."""
        raise NotImplementedError

    def _take(self, run: Tried, candidate: Candidate) -> None:
        self.best = run


class Shrinker(Reducer[Scenario, Run]):
    """Makes the run of a scenario smaller."""

    most_steps: ClassVar[int] = MOST_STEPS

    def __init__(
        self,
        run: Run,
        anomaly: str,
        open_session: Open,
        *,
        base: Settings,
        held: Held = _as_given,
        limit: int = 2_000,
        hurries: Callable[[], bool] = never,
        agrees: Agrees | None = None,
    ) -> None:
        """Begin with this run; once `hurries` returns True, its best so far is the result.

        With `agrees`, a run shows the anomaly only where that returns True too.
        """
        super().__init__(run, limit=limit, hurries=hurries)
        self._agrees = agrees
        self._first = run
        self.scenario = replace(run.scenario, tape=run.tape)
        self.steps = 0
        """Of all candidates together."""
        self._hastened = False
        """Whether a run was kept that had reached its limit."""
        self._room = self._allowed = ROOM * run.steps
        self._anomaly = anomaly
        self._open = open_session
        self._base = held(base)
        self._held = held

    def shrink(self) -> None:
        """Go on until nothing gets smaller, the limit of runs or steps is reached, or time is over."""
        self._hasten()
        super().shrink()

    def _is_used_up(self) -> bool:
        return super()._is_used_up() or self.steps >= self.most_steps

    def finish(self, play: Callable[[Scenario], Run]) -> Run:
        """Play the result to its end, and return its run; `scenario` is what replays it.

        What looked endless within few steps, and ends within all of them, shows nothing: then the
        first run counts.
        """
        run = play(self.scenario)
        if self._shows(run):
            return run
        if self._hastened:
            self.best, self.runs, self.cut_short = self._first, 0, True
            self.scenario = replace(self._first.scenario, tape=self._first.tape)
        return self.best

    def smallest(self, play: Callable[[Scenario], Run]) -> tuple[Run, BaseException | None]:
        """Shrink and finish; where that is cut short, return its best so far, and what cut it short."""
        try:
            self.shrink()
            return self.finish(play), None
        except BaseException as cut:  # noqa: BLE001 - whatever it is, the finding is kept; the caller reports it
            return self.best, cut

    def _play(self, candidate: Scenario) -> Run:
        return self._played(self._open(candidate))

    def _shows(self, run: Run) -> bool:
        return self._anomaly in run.found and (self._agrees is None or self._agrees(run, self._anomaly))

    def _hasten(self) -> None:
        """Ask how few steps show the anomaly, where the run took many: it may have gone on, or looped, for long."""
        most = FEWEST_STEPS
        while most < self.best.steps and not self._spent:
            run = self._played(self._open(self.scenario), most)
            if self._shows(run):
                self._take(run, self.scenario)
                return
            most *= ROOM

    def _played(self, session: Session, most: int = 0) -> Run:
        """Do a candidate's run, which reaches its limit after `most` steps; 0: as many as a candidate may take."""
        self.runs += 1
        self._allowed = most or max(FEWEST_STEPS, self._room)
        session.kernel.step_limit = min(session.kernel.step_limit, self._allowed)
        run = audited(session.run_for_good())
        self.steps += run.steps
        return run

    def _take(self, run: Run, scenario: Scenario) -> None:
        """Keep a run as the best. One that reached its limit gives the next one no more room than it had."""
        reached = run.steps > self._allowed
        self._hastened |= reached
        self._room = self._allowed if reached else ROOM * run.steps
        self.best = run
        self.scenario = replace(scenario, tape=run.tape)

    def _candidates(self) -> Iterator[Scenario]:
        # The order decides the cost: a pass that makes all later runs shorter comes before one
        # that makes the scenario plainer. So a crowd of jobs goes first, then the settings where
        # they alone make the run long, then the tape by halves, since most of a drawn tape does
        # nothing; jobs and workers after it, because what is left of the tape says which of them
        # matter. Values come last: they change no length. The search starts over after each
        # success, so an early pass sees what a later one made possible.
        scenario = self.scenario
        yield from _less_crowded(scenario)
        if self.best.steps > FEWEST_STEPS:
            yield from self._plainer_settings(scenario)
        yield from self._shorter_tapes(scenario)
        for job in scenario.jobs:
            if len(scenario.jobs) > 1:
                yield replace(scenario, jobs=tuple(other for other in scenario.jobs if other is not job))
        for count in range(1, len(scenario.workers)):
            yield _with_workers(scenario, scenario.workers[:count])
        if scenario.serves:
            yield replace(scenario, serves={})
        if scenario.pauses:
            yield replace(scenario, pauses=())
        if scenario.presets:
            yield replace(scenario, presets={})
        if scenario.early_rounds:
            yield replace(scenario, early_rounds=False)
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
                for shorter in without(tape, start, start + size):
                    yield replace(scenario, tape=shorter)
            size //= 2
        for index, deviation in enumerate(tape):
            for option in _plainer_options(deviation.option):
                changed = Deviation(deviation.label, deviation.nth, option)
                yield replace(scenario, tape=(*tape[:index], changed, *tape[index + 1 :]))

    def _plainer_settings(self, scenario: Scenario) -> Iterator[Scenario]:
        if scenario.settings == self._base:
            return
        for names in (Settings.names(), *TOGETHER):
            values = {name: getattr(self._base, name) for name in names}
            changed = self._held(scenario.settings.changed(**values))
            if changed != scenario.settings and not _loses_heartbeats(scenario, changed):
                yield replace(scenario, settings=changed)


def _loses_heartbeats(scenario: Scenario, settings: Settings) -> bool:
    """Whether a job asks for a lease below its timeout, and these settings leave out the heartbeats that kept it."""
    if settings.heartbeat_interval or not scenario.settings.heartbeat_interval:
        return False
    return any(job.lease is not None and job.lease < (job.timeout or settings.job_timeout) for job in scenario.jobs)


CROWDED = 10
"""A plan of at least this many jobs makes every run of its scenario long."""


def _less_crowded(scenario: Scenario) -> Iterator[Scenario]:
    """Leave out what makes every run long, before anything is tried that takes many runs."""
    for job in scenario.jobs:
        if job.count >= CROWDED:
            others = tuple(other for other in scenario.jobs if other is not job)
            if others:
                yield replace(scenario, jobs=others)
            yield replace(scenario, jobs=tuple(replace(one, count=2) if one is job else one for one in scenario.jobs))
    put_off = scenario.presets.get("put_off", 0)
    for count in dict.fromkeys((0, put_off // 8, put_off // 2)):
        if count < put_off:
            kept = {name: value for name, value in scenario.presets.items() if name != "put_off"}
            yield replace(scenario, presets=kept | ({"put_off": count} if count else {}))


def _with_workers(scenario: Scenario, workers: tuple[str, ...]) -> Scenario:
    """Leave the other workers out, and what they served: no scenario file may name a worker that is not there."""
    serves = {worker: tools for worker, tools in scenario.serves.items() if worker in workers}
    return replace(scenario, workers=workers, serves=serves)


def _served(scenario: Scenario) -> bool:
    """Say whether every job has a worker that serves its tool; on a right queue it would never run otherwise."""
    if any(worker not in scenario.serves for worker in scenario.workers):
        return True
    served = {tool for worker in scenario.workers for tool in scenario.serves[worker]}
    return all(job.tool in served for job in scenario.jobs)


def without(tape: Tape, start: int, end: int) -> Iterator[Tape]:
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
    for at in range(len(job.then) if len(job.then) > 1 else 0):
        yield replace(job, then=job.then[:at] + job.then[at + 1 :])
    for count in dict.fromkeys((2, job.count // 2)):
        if 2 <= count < job.count:
            yield replace(job, count=count)


REDRAWN = 24
"""How often a smaller scenario is drawn anew."""
REDRAWN_RATES = (0.0, 0.05, 0.15)
PAIRS = 8
"""Of at most this many deviations, every two are dropped together."""

Redraw = Callable[[Scenario, Choices], Session]


class JointShrinker(Shrinker):
    """Shrinks step by step, then jointly, until neither helps."""

    def __init__(
        self,
        run: Run,
        anomaly: str,
        open_session: Open,
        *,
        base: Settings,
        redraw: Redraw,
        redrawn: int = REDRAWN,
        held: Held = _as_given,
        limit: int = 2_000,
        hurries: Callable[[], bool] = never,
        agrees: Agrees | None = None,
    ) -> None:
        """Take what a shrinker takes, and how a scenario is run with other choices than its tape's, and how often."""
        super().__init__(run, anomaly, open_session, base=base, held=held, limit=limit, hurries=hurries, agrees=agrees)
        self._redraw, self._redrawn = redraw, redrawn

    def shrink(self) -> None:
        """Go on until nothing gets smaller, or the limit of runs is reached."""
        while any(self._try(one) or self._try_redrawn(one) for one in _less_crowded(self.scenario)):
            pass  # a crowd's tape fits no scenario without it, and each run with it takes long
        super().shrink()
        while not self._spent and (self._any_fewer_attempts() or self._any_joint() or self._any_redrawn()):
            super().shrink()

    def _any_fewer_attempts(self) -> bool:
        """A chain of retries is read faster when it is short: then this setting stays off its default."""
        if not any(self._try_sooner(candidate) for candidate in _fewer_attempts(self.scenario, self._held)):
            return False
        self._base = self._base.changed(max_attempts=self.scenario.settings.max_attempts)
        return True

    def _try_sooner(self, candidate: Scenario) -> bool:
        if self._spent:
            return False
        run = self._played(self._open(candidate))
        if not self._shows(run) or _events(run, self._anomaly) >= _events(self.best, self._anomaly):
            return False
        self._take(run, candidate)
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
            fewer = _with_workers(scenario, tuple(other for other in scenario.workers if other != worker))
            if _served(fewer):
                yield fewer

    def _try_redrawn(self, candidate: Scenario) -> bool:
        for number in range(self._redrawn):
            if self._spent:
                return False
            choices = Uniform(number, rate=REDRAWN_RATES[number % len(REDRAWN_RATES)])
            run = self._played(self._redraw(replace(candidate, tape=()), choices))
            if self._shows(run):
                self._take(run, run.scenario)
                return True
        return False


def _events(run: Run, anomaly: str) -> int:
    """Return how many events it takes until the anomaly shows."""
    shown = run.led_by(anomaly)
    return len(run.history) if shown is None else shown.event


def _fewer_attempts(scenario: Scenario, held: Held) -> Iterator[Scenario]:
    """Allow fewest attempts first; what struck at a later attempt strikes at an earlier one.

    Where the target fixes how many there are, only the tape changes: a scenario for fewer would not
    be judged there.
    """
    most = scenario.settings.max_attempts
    for attempts in range(1, most):
        fewer = replace(scenario, settings=held(scenario.settings.changed(max_attempts=attempts)))
        if fewer.settings != scenario.settings:
            yield fewer
        for lowered in range(1, most - attempts + 1):
            tape = tuple(item._replace(nth=max(1, item.nth - lowered)) for item in scenario.tape)
            if tape != scenario.tape:
                yield replace(fewer, tape=tape)
        if fewer.settings == scenario.settings:
            return


# A tape names its gates by actor, point and count. Without one deviation, every later one at the
# same gate has another count, and after a death the worker has another name; a tape that was
# merely cut fits nothing. That is why the numbers behind a dropped deviation are lowered here and
# in `without`.
def _fitting(scenario: Scenario, candidate: Scenario) -> Iterator[Tape]:
    """Return tapes that may fit once jobs or workers are gone."""
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
            yield tuple(renamed(item, worker, other) for item in kept)


def _words(item: Deviation) -> set[str]:
    return {*item.label.replace("client-", "client- ").split(), read_option(item.option).actor.removeprefix("client-")}


def renamed(item: Deviation, old: str, new: str) -> Deviation:
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


def shorter_tapes(tape: Tape) -> Iterator[Tape]:
    """Return tapes with fewer deviations that may show the same: the shortest first, then those that were moved."""
    size = len(tape) // 2
    while size:
        for start in range(0, len(tape), size):
            yield from without(tape, start, start + size)
        size //= 2
    yield from _without_attempts(tape)


def _without_attempts(tape: Tape) -> Iterator[Tape]:
    """Leave out what cost an attempt: what happened in the next one happens in this one.

    After a death it was another worker's: then this one does it itself, and so on.
    """
    for index, item in enumerate(tape):
        others = (*tape[:index], *tape[index + 1 :])
        earlier = tuple(other._replace(nth=max(1, other.nth - 1)) for other in others)
        if earlier != others:
            yield earlier
        worker = re.match(r"worker-(\d+) ", item.label)
        kind = kinds().get(read_option(item.option).kind)
        if worker is None or kind is None or kind.excuses is not Excuse.DEATH:
            continue
        for number in range(int(worker[1]), int(worker[1]) + len(tape)):
            others = tuple(renamed(other, f"worker-{number + 1}", f"worker-{number}") for other in others)
        yield others
