"""The runs of an explored test: which are played, in which order, and what is said of them together.

First the undisturbed run, twice; then one deviation at a time, the gravest first; then several at random. What is
found is made small.
"""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from itertools import zip_longest
from typing import Final

from job_harness.core.faults import FaultPlan, gravest_first, kinds, read_option
from job_harness.core.faults.processes import CRASH
from job_harness.core.history.event import Excuse
from job_harness.core.history.jsonl import dump_history, without_reason
from job_harness.core.invariants import Anomaly
from job_harness.core.invariants.effects import KEY_VARIES
from job_harness.core.printable import printable
from job_harness.core.run.session import as_on_tape
from job_harness.core.sim.choices import (
    OTHERS_FIRST,
    Choices,
    Deviation,
    ListedGates,
    Replay,
    Tape,
    Uniform,
)
from job_harness.engines.reference.application import (
    JobResult,
    ToolJob,
)
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.as_scenario import TestScript
from job_harness.search.explored.isolation import (
    Inherited,
    Kept,
)
from job_harness.search.explored.played import Gate, Play, PlayedTest, Standby, begin_in_child
from job_harness.search.shrink import renamed, without
from job_harness.subjects.processors.delivery import effect
from job_harness.subjects.processors.job_harness import JobHarness
from job_harness.subjects.processors.other_start import OtherStart

RUNS: Final = 200
"""Of a campaign that is asked for without a number."""
MOST_RUNS: Final = 1_000_000
"""Of a campaign that is bounded by time."""
MOST_HUNG: Final = 3
"""Runs that hung after which a campaign gives up: each takes as long as one may."""
SINGLE_SHARE: Final = 0.6
"""The share of the runs with a single deviation, where there are more of them than runs."""
MOST_SHRINKING: Final = 200
_AT: Final = re.compile(r'"(?:at|clock|\w+_(?:at|until|after))":\d+')
"""The times in a line of a history."""
DIFFERING_SHOWN: Final = 200
"""Characters of each of two lines that differ."""
ERROR_SHOWN: Final = 100
"""Characters of an error within a sentence."""
DIFFERING_BEFORE: Final = 60
"""Of these, before the place where they part."""
WARMING_RUNS: Final = 20


@dataclass(frozen=True, slots=True)
class TestFinding:
    """An anomaly that a disturbed run of a test showed, in the smallest run that was found."""

    __test__ = False  # It is no test of pytest's.

    anomaly: str
    played: PlayedTest
    runs: int
    """How many disturbed runs it took to find; 0: the undisturbed one shows it."""
    shrink_runs: int

    def told(self) -> str:
        """Say what it took."""
        if not self.runs:
            return "Found in the undisturbed run: nothing had to go wrong beside what the test itself asks for."
        smaller = f"shrunk in {_counted(self.shrink_runs)}" if self.shrink_runs else "already minimal"
        return f"Found in {_counted(self.runs)}; {smaller}."


@dataclass(slots=True)
class TestExploration:
    """Plays one test many times. `finding` is the first anomaly; `unsure` says why nothing can be said."""

    __test__ = False

    runs: int = 100
    seconds: float | None = None
    """A bound in real time; None: only the number of runs."""
    seed: int = 0
    finding: TestFinding | None = None
    unsure: str = ""
    fails: bool = False
    """Whether nothing can be said because the undisturbed run fails, by what the test raised."""
    played: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    """Why runs told nothing, and how often."""
    hung: int = 0
    """How many of those hung."""
    spent: float = 0.0
    """Real seconds."""
    used: float = 0.0
    """Seconds of a processor's time, in this process and in the children that it has seen end."""
    known: Mapping[str, date] = field(default_factory=dict)
    """What is tolerated today."""
    tolerated: dict[str, None] = field(default_factory=dict)
    """What of the known was found."""
    notes: list[str] = field(default_factory=list)
    late: bool = False
    """Whether time ended it."""
    gated: bool = False
    """Whether the undisturbed run came to any gate."""
    calm: TestScript | None = None
    """What a scenario can say of the undisturbed run."""
    harness: JobHarness = field(init=False, repr=False)
    """Of the run that pytest itself calls."""
    inherited: Inherited | None = None
    """What children get from this process, where they are forked."""
    kept: list[Kept] = field(default_factory=list)
    """What is made after each forked run as it was before: the test's `tmp_path` and its databases."""
    rerun: Play | None = None
    """Plays a run in this process; None: each is forked."""
    standby: Standby | None = None
    """Where runs are played in this process: plays one that no earlier run has a hand in."""
    left_behind: Callable[[], list[str]] = field(default=list)
    """Names what earlier runs in this process have changed for later ones."""
    renew: str = "reset it in a fixture, or write job_explore(isolation='fork')"
    """How that is avoided."""
    unsent: bool = False
    """Whether the undisturbed run has no job, so that there is nothing to disturb."""
    declared: bool = False
    """Whether any run declared a side effect, or was judged by checks of the test's own."""
    happened: frozenset[str] = frozenset()
    """The names of the side effects that any run declared."""
    idle: frozenset[str] = frozenset()
    """Those that the test's own invariants and checks ask about, and that happened in no run."""
    remembered: tuple[str, ...] = ()
    """What the undisturbed run's deliveries changed in the modules of their processors."""
    gateless: tuple[str, ...] = ()
    """The tools whose processors came to no gate of their own in the undisturbed run."""
    repeated: Counter[str] = field(default_factory=Counter)
    """In how many disturbed runs without an anomaly a side effect came again that comes once undisturbed."""
    given_up: Counter[str] = field(default_factory=Counter)
    """By tool whose processor never fails undisturbed, in how many disturbed runs it ended a job as FAILED."""
    errors: dict[str, str] = field(default_factory=dict)
    """By such a tool, the first of its errors."""

    @property
    def disturbed(self) -> int:
        """How many runs were played in which something was to go wrong."""
        return max(0, self.played - 2)

    def used_up(self) -> Iterator[str]:
        """Say of which tools a job ended as FAILED by errors that the undisturbed run has not."""
        for tool, count in self.given_up.items():
            ended = f"a job of {tool!r} ended as FAILED in {count} of {self.disturbed} disturbed runs"
            error = " ".join(printable(self.errors[tool]).split())[:ERROR_SHOWN]
            yield f"{ended}, by an error that it does not have undisturbed ({error})"

    def explore(self) -> None:
        """Play the undisturbed test twice, then disturbed ones until one shows an anomaly or the bound is reached.

        Raises InChild in every child.
        """
        if self.rerun is None:
            _warm()
        began, used = time.monotonic(), _used()  # noqa: TID251 - what a campaign costs is real time
        try:
            first = self._play(ListedGates(), as_on_tape())
            if self.standby is not None:
                self.standby.begin(left=self.left_behind())
            again = first if first.lost else self._play(ListedGates(), as_on_tape())
            self.gated, self.calm, self.gateless = bool(first.gates), first.script, first.gateless
            self.remembered = first.remembered
            if why := _unsteady(first, again):
                self.unsure = why + self._leaks()
            elif first.failure:
                self.fails, self.unsure = True, f"undisturbed, it fails: {first.failure}"
            elif not first.sent:
                self.unsent = True
            elif not self._undisturbed(first):
                self._search(first, began)
                if self.finding is None and not (self.unsure or self.late):
                    self._vary_keys(first)
                if self.rerun is not None and not self.unsure:
                    self._compare(first)
        except EnvironmentUnavailable as error:
            self.unsure = str(error)
        finally:
            self.spent, self.used = time.monotonic() - began, _used() - used  # noqa: TID251

    def _undisturbed(self, first: PlayedTest) -> bool:
        """Whether an anomaly needs no search: the undisturbed run shows it."""
        if not first.anomalies:
            return False
        self.finding = TestFinding(first.anomalies[0].name, first, runs=0, shrink_runs=0)
        return True

    def _search(self, first: PlayedTest, began: float) -> None:
        self.declared, self.happened, self.idle = first.declared, first.happened, first.idle
        for choices, faults in self._plans(first):
            self.late = self.seconds is not None and time.monotonic() - began > self.seconds  # noqa: TID251
            if self.played >= self.runs + 2 or self.late or self.hung >= MOST_HUNG:
                return
            left = self.left_behind()
            seen = self._play(choices, faults)
            self.declared |= seen.declared
            self.happened |= seen.happened
            self.idle -= seen.happened
            if not seen.anomalies:
                self._note(seen, first)
            if seen.lost:
                self.lost[seen.lost] = self.lost.get(seen.lost, 0) + 1
                self.hung += seen.hung
            elif seen.anomalies:
                anomaly = seen.anomalies[0].name
                sure = self._made_sure(seen, anomaly, left if seen.left is None else list(seen.left))
                if sure is not None:
                    self._shrink(sure, anomaly)
                return

    def _vary_keys(self, first: PlayedTest) -> None:
        """Let a job come again after each kind of side effect: here, and with other chance just before a year ends.

        A run that has more of them there than it has undisturbed repeats one; where its keys are others than here, they
        come from chance or from a clock, and tell no repetition. A batch that goes on has as many, and the same keys.
        """
        played = self.played
        for name, is_judged in dict.fromkeys((each.effect, each.is_judged) for each in first.keys):
            death = _death_after(name, first.gates)
            here = None if death is None else self._again((death,))
            if death is None or here is None or not (done := [each for each in here.keys if each.effect == name]):
                continue
            other = OtherStart.before_a_year_ends(done[0].at)
            there, calm = self._again((other.deviation, death)), self._again((other.deviation,))
            keys = [{each.key for each in run.keys if each.effect == name} for run in (here, there, calm)]
            if any(run.lost for run in (here, there, calm)) or len(keys[1]) <= len(keys[2]) or keys[0] == keys[1]:
                continue
            if is_judged:
                seen = self._again((other.varying(name).deviation, death))
                if KEY_VARIES.name in seen.found:
                    self.finding = TestFinding(
                        KEY_VARIES.name, replace(seen, script=None), self.disturbed, shrink_runs=0
                    )
            else:
                self.repeated[name] += 1
        self.played = played

    def _note(self, seen: PlayedTest, first: PlayedTest) -> None:
        """Keep what nothing judges: a side effect that came again, a job that its processor's errors used up."""
        self.repeated.update(set(seen.repeated) - set(first.repeated))
        used_up = {tool: error for tool, error in seen.given_up if tool not in first.failing}
        self.given_up.update(used_up.keys())
        self.errors = {**used_up, **self.errors}

    def _made_sure(self, seen: PlayedTest, anomaly: str, left: Sequence[str]) -> PlayedTest | None:
        """Return a run that shows the anomaly whatever earlier runs have `left`; None, and why, where none does."""
        again = None if self.standby is None else self._new(self.standby.play(seen.tape))
        if again is not None and self.standby is not None and anomaly in again.found and not self.standby.left:
            return again
        was_seen = f"{anomaly} was seen ({'; '.join(map(str, seen.tape))}), but "
        changed = f"earlier runs in this process had changed {', '.join(left)}"
        if again is not None and not again.lost and anomaly not in again.found:
            why = f"{changed}; {self.renew}" if left else "what it needs is in a library, or outside of this process"
            self.unsure = f"{was_seen}not where the same run was played in a process without earlier runs: {why}"
            return None
        self.standby = None
        if left:
            self.unsure = f"{was_seen}{changed}, and whether it needs that is not known; {self.renew}"
            return None
        return seen

    def _new(self, seen: PlayedTest) -> PlayedTest:
        """Return a run without its known anomalies, which are remembered: to shrink must not lead to one of them."""
        keys = [next((key for key in self.known if fits(key, anomaly)), None) for anomaly in seen.anomalies]
        self.tolerated.update({key: None for key in keys if key is not None})
        new = tuple(anomaly for anomaly, key in zip(seen.anomalies, keys, strict=True) if key is None)
        return seen if len(new) == len(keys) else replace(seen, anomalies=new, repeated=(), given_up=())

    def _compare(self, first: PlayedTest) -> None:
        """Play the undisturbed run once more: where it is another by now, nothing in between was judged."""
        after = self._play(ListedGates(), as_on_tape())
        self.played -= 1
        if why := _unsteady(first, after):
            self.unsure, self.finding = f"after {self.disturbed} disturbed runs, {why}{self._leaks()}", None
        elif left := self.left_behind():
            self.notes.append(f"left behind in this process: {', '.join(left)}")

    def _leaks(self) -> str:
        left = self.left_behind()
        return f"\nChanged by the runs before: {', '.join(left)}." if left else ""

    def _plans(self, first: PlayedTest) -> Iterator[tuple[Choices, FaultPlan]]:
        singles = _singles(first.gates)
        if len(singles) >= self.runs:
            singles = _some_of(singles, int(self.runs * SINGLE_SHARE))
        for deviation in singles:
            yield Replay([deviation]), as_on_tape()
        rates = (1.5 / max(1, len(first.gates)), 3 / max(1, len(first.gates)), 0.25)
        for number in range(self.runs):
            seed = self.seed * 1_000_003 + number
            yield Uniform(seed, rate=min(0.5, rates[number % len(rates)])), FaultPlan.in_a_test(seed)

    def _shrink(self, seen: PlayedTest, anomaly: str) -> None:
        """Leave out deviations, one at a time, as long as the anomaly stays."""
        found, tried_runs, again = self.disturbed, 0, True
        self.finding = TestFinding(anomaly, seen, runs=found, shrink_runs=0)
        while again and tried_runs < MOST_SHRINKING:
            again = False
            for shorter in shorter_tapes(self.finding.played.tape):
                tried_runs += 1
                tried = self._again(shorter)
                if anomaly in tried.found and len(tried.tape) < len(self.finding.played.tape):
                    self.finding, again = TestFinding(anomaly, tried, runs=found, shrink_runs=tried_runs), True
                    break
        self.played = found + 2
        self.finding = replace(self.finding, shrink_runs=tried_runs)

    def _again(self, tape: Tape) -> PlayedTest:
        return self._play(Replay(tape), as_on_tape()) if self.standby is None else self._new(self.standby.play(tape))

    # one run --------------------------------------------------------------------------------------------------------

    def _play(self, choices: Choices, faults: FaultPlan) -> PlayedTest:
        self.played += 1
        if self.rerun is not None:
            return self._new(self.rerun(choices, faults))
        self.harness.prepare_children()
        heard = begin_in_child(self.harness, choices, faults, inherited=self.inherited)
        try:
            seen = heard()
        finally:
            for kept in self.kept:
                kept.restore()
        if seen.lost:
            self.harness.forget_children()
        return self._new(seen)


def _used() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


@cache
def _warm() -> None:
    """Play a few small runs in this process, so that no child has to learn what they teach it.

    What a run fills or changes for the first time is memory that each child would copy page by page: the routes of the
    judges, code that CPython specializes as it runs (3.11 and later).
    """
    faults = FaultPlan.of(*(kind for kind in kinds().values() if kind.strikes_one))
    for number in range(WARMING_RUNS):
        with JobHarness(choices=Uniform(number, rate=0.1), faults=faults) as harness:
            harness.register("warm", _warming)
            harness.enqueue("warm")
            harness.enqueue("warm")
            harness.come_to_rest()
            dump_history(harness.history)


async def _warming(job: ToolJob) -> JobResult:
    await asyncio.sleep(1)
    effect("warmed")
    if job.attempts == 1:
        raise ConnectionError("the first attempt fails")
    return JobResult(success=True)


def fits(key: str, anomaly: Anomaly) -> bool:
    """Whether a known finding is this one: by its name, or by its name and the beginning of its message."""
    return key == anomaly.name or (": " in key and f"{anomaly.name}: {anomaly.message}".startswith(key))


def _unsteady(first: PlayedTest, again: PlayedTest) -> str:
    """Say why two undisturbed runs are not one and the same."""
    for seen in (first, again):
        if seen.lost:
            return f"undisturbed, {seen.lost}"
    histories = ([without_reason(line) for line in seen.history.splitlines()] for seen in (first, again))
    pairs = list(zip_longest(*histories, fillvalue="(nothing)"))
    if all(one == other for one, other in pairs) and first.failure == again.failure:
        return ""
    differing = next(((one, other) for one, other in pairs if one != other), (first.failure, again.failure))
    return (
        "two undisturbed runs differ, so no disturbed one can be judged; the first difference:\n"
        f"{_side_by_side(*differing)}\n{usual_cause(pairs, again)}"
    )


def usual_cause(pairs: Sequence[tuple[str, ...]], again: PlayedTest) -> str:
    """Say what makes two runs differ, and what to do."""
    if all(len({_AT.sub("", line) for line in pair}) == 1 for pair in pairs):
        return (
            "Only times differ. The usual cause is a rate limiter, a cache or a token that a fixture makes: it has "
            "read the machine's clock, and a processor reads virtual time. Make it inside the processor, or call "
            "job_clock.freeze() before it is made."
        )
    if told := "; ".join(again.uncontrolled[:3]):
        return f"Not under control here: {told}. A fixture can give it the same answer in each run, by monkeypatch."
    return "Real I/O, unseeded chance or state that a test leaves behind in a module are the usual causes."


def _side_by_side(one: str, other: str) -> str:
    """Show two lines around the place where they part, which in a long one is far from its beginning."""
    parts = next(
        (at for at, (mine, its) in enumerate(zip(one, other, strict=False)) if mine != its), min(len(one), len(other))
    )
    begin = 0 if parts < DIFFERING_SHOWN - DIFFERING_BEFORE else parts - DIFFERING_BEFORE
    dots = "..." if begin else ""
    return "\n".join(f"  {dots}{line[begin : begin + DIFFERING_SHOWN]}" for line in (one, other))


def _death_after(effect: str, gates: Sequence[Gate]) -> Deviation | None:
    """Return the first death of a worker right after it had a side effect; None where none can be."""
    for label, nth, options in gates:
        point = label.partition(" ")[2].rpartition(" ")[0]
        dies = next((option for option in options if option.kind == CRASH.id), None)
        if point == effect and dies is not None:
            return Deviation(label, nth, dies.words)
    return None


def _singles(gates: Sequence[Gate]) -> list[Deviation]:
    """List each gate's deviations, the gravest first, workers before maintenance."""
    return [
        Deviation(label, nth, option.words)
        for option in (*gravest_first(), OTHERS_FIRST)
        for worker in (True, False)
        for label, nth, options in gates
        if option in options and label.startswith("worker-") is worker
    ]


def _some_of(singles: Sequence[Deviation], most: int) -> list[Deviation]:
    """Return `most` of them: half are the gravest, the others lie evenly over the rest, so that each kind is tried."""
    gravest = most // 2
    rest, others = singles[gravest:], most - gravest
    return [*singles[:gravest], *(rest[number * len(rest) // others] for number in range(others))]


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


def _counted(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"
