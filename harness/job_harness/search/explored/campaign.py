"""The runs of an explored test: which are played, in which order, and what is said of them together.

First the undisturbed run, twice; then one deviation at a time, the gravest first; then several at
random. What is found is made small.
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
from itertools import repeat, zip_longest
from typing import Final

from job_harness.core.faults import FaultPlan, cause_of, kinds
from job_harness.core.faults.processes import CRASH
from job_harness.core.history.jsonl import dump_history, without_reason
from job_harness.core.invariants import Anomaly
from job_harness.core.invariants.effects import KEY_VARIES, REPEATED
from job_harness.core.printable import printable
from job_harness.core.run.play import REPLAYED_AT_MOST
from job_harness.core.run.session import as_on_tape
from job_harness.core.sim import Choices, Deviation, ListedGates, Replay, Tape, Uniform
from job_harness.engines.reference.application import (
    JobResult,
    ToolJob,
)
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.as_scenario import TestScript
from job_harness.search.deviations import Gate, singles_first
from job_harness.search.explored.isolation import (
    Inherited,
    Kept,
)
from job_harness.search.explored.played import NONE_MET, AtOnce, Compared, Play, PlayedTest, Standby, begin_in_child
from job_harness.search.explored.traces import Loads
from job_harness.search.finding import Finding
from job_harness.search.loop import Here, play_in_order
from job_harness.search.shrink import Reducer, shorter_tapes
from job_harness.subjects.processors.delivery import effect
from job_harness.subjects.processors.job_harness import JobHarness
from job_harness.subjects.processors.other_start import OtherStart
from job_harness.worlds.patience import Deadline

RUNS: Final = 200
"""Of a campaign that is asked for without a number."""
MOST_RUNS: Final = 1_000_000
"""Of a campaign that is bounded by time."""
MOST_HUNG: Final = 3
"""Runs that hung after which a campaign gives up: each takes as long as one may."""
SINGLE_SHARE: Final = 0.6
"""The share of the runs with a single deviation, where there are more of them than runs."""
SINGLE_LEAST: Final = 20
"""Of these first runs all have one: a short search is for what breaks most processors."""
MOST_SHRINKING: Final = 200
_NUMBER: Final = re.compile(r'"number":\d+')
_AT: Final = re.compile(r'"(?:at|clock|\w+_(?:at|until|after))":\d+')
"""The times in a line of a history."""
DIFFERING_SHOWN: Final = 200
"""Characters of each of two lines that differ."""
ERROR_SHOWN: Final = 100
"""Characters of an error within a sentence."""
DIFFERING_BEFORE: Final = 60
"""Of these, before the place where they part."""
WARMING_RUNS: Final = 20
COMPARE_EVERY: Final = 100
"""Runs in one process of which one is played in a process of its own too."""
COMPARED_AFTER: Final = (5, 50)
"""Disturbed runs in this process after which the undisturbed one is played again, beside once they are over."""
REPLAYS: Final = 3
"""How often a run is played again that showed something which no smaller one did."""


def how_found(finding: Finding[PlayedTest]) -> str:
    """Say what it took to find it."""
    if not finding.runs:
        return "Found in the undisturbed run: nothing had to go wrong beside what the test itself asks for."
    smaller = f"shrunk in {_counted(finding.shrink_runs)}" if finding.shrink_runs else "already minimal"
    return f"Found in {_counted(finding.runs)}; {smaller}."


class TapeReducer(Reducer[Tape, PlayedTest]):
    """Leaves out deviations, one at a time, as long as the anomaly stays."""

    def __init__(self, run: PlayedTest, anomaly: str, play: Callable[[Tape], PlayedTest]) -> None:
        super().__init__(run, limit=MOST_SHRINKING)
        self._anomaly = anomaly
        self._again = play

    def _candidates(self) -> Iterator[Tape]:
        return shorter_tapes(self.best.tape)

    def _play(self, candidate: Tape) -> PlayedTest:
        self.runs += 1
        return self._again(candidate)

    def _shows(self, run: PlayedTest) -> bool:
        return self._anomaly in run.found and len(run.tape) < len(self.best.tape)


@dataclass(slots=True)
class TestExploration:
    """Plays one test many times. `finding` is the first anomaly; `unsure` says why nothing can be said."""

    __test__ = False

    runs: int = 100
    seconds: float | None = None
    """A bound in real time; None: only the number of runs."""
    seed: int = 0
    finding: Finding[PlayedTest] | None = None
    unsure: str = ""
    failed: PlayedTest | None = None
    """The undisturbed run, where nothing can be said because it fails by what the test raised."""
    undisturbed: int = 0
    """How many runs were played in which nothing was to go wrong, before all others."""
    disturbed: int = 0
    """How many runs were played in which something was to go wrong."""
    lost: dict[str, list[Tape]] = field(default_factory=dict)
    """Why runs were not judged, and the tapes of these; a tape is empty where it was lost with its process."""
    hung: int = 0
    """How many of those hung."""
    unheld: Counter[str] = field(default_factory=Counter)
    """By what the test itself raised, in how many disturbed runs it did so though every job was COMPLETED."""
    first_unheld: Tape = ()
    """What the first of them was."""
    ignored: list[Tape] = field(default_factory=list)
    """Those of them in which a failed call came to nothing else."""
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
    changed: list[str] = field(default_factory=list)
    """What earlier runs changed, where that may be why nothing can be said."""
    alone_may_help: bool = False
    """Whether something could be said of runs that each have a process of their own."""
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
    unreached: frozenset[tuple[str, bool]] = frozenset()
    """The settings that the test gives, and that no run came to, each with whether that is owed."""
    apart: AtOnce = NONE_MET
    """How many jobs of the test's own met in the undisturbed run; none where some worker ran two at the same time."""
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
    replays: tuple[Tape, ...] = ()
    """The tapes of recorded runs, which are played instead of a search."""
    records: bool = False
    """Whether each run that was searched is kept, with its history."""
    recorded: dict[Tape, PlayedTest] = field(default_factory=dict)
    """By its tape, each run that was kept, or played instead of a search."""
    singles: frozenset[Deviation] = frozenset()
    """Every single deviation of the undisturbed run, a crash at each of its gates among them.

    Not each comes up: only the first run may come to a gate, as before a cache is filled, and a
    server may answer jobs that wait for one lock in another order.
    """
    _deadline: Deadline | None = None
    _searched: dict[Tape, None] = field(default_factory=dict)
    """The tapes of the runs of a search."""

    @property
    def played(self) -> int:
        """How many runs were played to search, with the undisturbed ones before."""
        return self.undisturbed + self.disturbed

    @property
    def taken(self) -> str:
        """Say how many disturbed runs were played, and in which time."""
        return f"{self.disturbed} disturbed run{'s' * (self.disturbed != 1)} in {self.spent:.1f} s"

    @property
    def whole(self) -> str:
        """Say how many of the single deviations were tried; empty where something was found, or a run told nothing."""
        if self.finding is not None or self.unsure or self.lost or not self.singles:
            return ""
        left = len(self._untried())
        if not left:
            return "; every crash at every gate was tried"
        return f"; {len(self.singles) - left} of {len(self.singles)} single faults came up"

    def not_judged(self) -> Iterator[tuple[str, Tape]]:
        """Say why runs were not judged, how many, and what struck the first of them; with the tape of that one."""
        judged = self.finding is None and sum(map(len, self.lost.values())) < self.disturbed
        others = ", and the others show nothing" if judged else ""
        for why, tapes in self.lost.items():
            were = "was" if len(tapes) == 1 else "were"
            gates = {item.label.partition(" ")[2] for item in tapes[0]}
            effects = {gate for gate in gates if gate.rpartition(" ")[0] in self.happened}
            causes = [cause_of(item, effects=effects).words for item in tapes[0] if item.label != "jitter"]
            first = f"; the first: {', '.join(causes)}" if causes else "; what struck the first is not known"
            yield f"{why}, so {len(tapes)} of {self.disturbed} runs {were} not judged{others}{first}", tapes[0]

    def used_up(self) -> Iterator[str]:
        """Say of which tools a job ended as FAILED by errors that the undisturbed run has not."""
        for tool, count in self.given_up.items():
            ended = f"a job of {tool!r} ended as FAILED in {count} of {self.disturbed} disturbed runs"
            error = " ".join(printable(self.errors[tool]).split())[:ERROR_SHOWN]
            yield f"{ended}, by an error that it does not have undisturbed ({error})"

    def not_reached(self) -> Iterator[str]:
        """Say which settings that are owed no run came to, and that no two jobs met that were due at the same time."""
        for name in sorted(name for name, owed in self.unreached if owed):
            yield f"{name}: no run reached it, so it was not judged: let the test advance past it, or leave it out"
        if self.apart.due > 1:  # One after another may be what a test is about, as where one job is sent each night.
            yield from self.never_met()

    def never_met(self) -> Iterator[str]:
        """Say that jobs of the test never ran at the same time, unless nothing could have come between their steps."""
        if self.apart.ran > 1 and self.apart.tools - {*self.gateless}:
            unjudged = f"so what one of the {self.apart.ran} does to another was not judged"
            cure = "send both before jobs are to run, with a batch_size above 1"
            yield f"no two jobs ran at the same time, {unjudged}; {cure}"

    def only_said(self) -> list[str]:
        """Say which other settings of the test no run came to, where nothing was found."""
        if self.finding is not None or self.unsure or not self.disturbed:
            return []
        names = sorted(name.removeprefix("settings: ") for name, owed in self.unreached if not owed)
        told = [f"the setting {name}: no run reached it, so nothing was judged of it" for name in names]
        return told if self.apart.due > 1 else [*told, *self.never_met()]

    def not_held(self, *, into: str = "always()", replayed: Callable[[Tape], str] = lambda tape: "") -> Iterator[str]:
        """Say that assertions of the test itself failed in disturbed runs, though every job was COMPLETED there.

        They belong `into` a check; `replayed` says by what the first of these runs is played again.
        """
        if self.unheld:
            runs = f"{self.unheld.total()} of {self.disturbed} disturbed runs in which every job was COMPLETED"
            often = self.unheld.most_common(1)[0][0] + (", among others" if len(self.unheld) > 1 else "")
            by = replayed(self.first_unheld)
            yield f"the test itself failed in {runs} ({often}); put what must hold there too into {into}{by}"

    def explore(self) -> None:
        """Play the undisturbed test twice, then disturbed ones until one shows an anomaly or the bound is reached.

        Raises InChild in every child.
        """
        if self.rerun is None:
            _warm()
        began, used = time.monotonic(), cpu_seconds()  # noqa: TID251 - what a campaign costs is real time
        self._deadline = None if self.seconds is None else Deadline(self.seconds)
        try:
            first, again = self._baseline()
            self.gated, self.calm, self.gateless = bool(first.gates), first.script, first.gateless
            self.remembered = first.remembered
            fails_in_both = bool(first.failure and again.failure)  # However they differ beside that.
            if not fails_in_both and (why := differ(first, again)):
                self.unsure = self._with_changes(why, first, again)
            elif self.replays:
                self._record(self.replays)
            elif first.failure:
                self.failed = replace(first, remembered=first.remembered or (*self.left_behind(),))
                self.unsure = f"undisturbed, it fails: {first.failure}"
            elif not first.sent:
                self.unsent = True
            elif first.anomalies:
                self.finding = Finding(first.anomalies[0].name, first, runs=0, shrink_runs=0)
            else:
                self._search(first)
                if self.finding is None and not (self.unsure or self.late):
                    self._vary_keys(first)
                if self.records:
                    self._record(((), *self._searched))
                if self.rerun is not None and not self.unsure:
                    self._compare(first)
            if self.finding is not None:
                kept = first.remembered or (*self.left_behind(),)
                self.finding = replace(self.finding, run=replace(self.finding.run, remembered=kept))
        except EnvironmentUnavailable as error:
            self.unsure = str(error)
        finally:
            self.spent, self.used = time.monotonic() - began, cpu_seconds() - used  # noqa: TID251

    def _baseline(self) -> tuple[PlayedTest, PlayedTest]:
        """Play the undisturbed test twice; again where only the order differs: a database lets go whom it likes."""
        seen = [self._undisturbed()]
        if self.standby is not None:
            self.standby.begin(left=self.left_behind())
        if seen[0].lost:
            return seen[0], seen[0]
        for _ in range(REPLAYED_AT_MOST):
            again = self._undisturbed()
            same = next((each for each in seen if not differ(each, again)), None)
            if same is not None or self.left_behind() or not in_another_order(seen[0], again):
                return same or seen[0], again
            seen.append(again)
        return seen[0], seen[-1]

    def _undisturbed(self) -> PlayedTest:
        self.undisturbed += 1
        return self._play(ListedGates(), as_on_tape())

    def _search(self, first: PlayedTest) -> None:
        self.declared, self.happened, self.idle = first.declared, first.happened, first.idle
        self.unreached, self.apart = first.unreached, first.at_once
        for left, seen in play_in_order(self._plans(first), Here(self._disturb), goes_on=self._goes_on):
            self.disturbed += 1
            if not seen.hung:
                self._searched[seen.tape] = None
            self.declared |= seen.declared
            self.happened |= seen.happened
            self.idle -= seen.happened
            self.unreached &= seen.unreached
            if max(first.at_once.running, seen.at_once.running) > 1:
                self.apart = NONE_MET
            if not (seen.anomalies or seen.lost):
                self._note(seen, first)
            unsent = "" if seen.sent or not seen.failure else f"it failed before it sent a job: {_first_line(seen)}"
            if told := seen.lost or unsent:
                self.lost.setdefault(told, []).append(seen.tape)
                self.hung += seen.hung
            elif seen.anomalies:
                anomaly = seen.anomalies[0].name
                sure = self._made_sure(seen, anomaly, left if seen.left is None else list(seen.left))
                if sure is not None:
                    self._shrink(sure, anomaly)
                return
            elif self.rerun is not None and self.disturbed in COMPARED_AFTER:
                self._compare(first)
                if self.unsure:
                    return

    def _record(self, tapes: Sequence[Tape]) -> None:
        """Play each of these tapes for its history."""
        plans = ((Compared(tape), as_on_tape()) for tape in tapes)
        played = play_in_order(plans, Here(lambda plan: self._play(*plan)))
        self.recorded = dict(zip(tapes, played, strict=True))

    def _goes_on(self) -> bool:
        self.late = self._deadline is not None and self._deadline.passed
        return not self.late and self.disturbed < self.runs and self.hung < MOST_HUNG

    def _disturb(self, plan: tuple[Choices, FaultPlan]) -> tuple[list[str], PlayedTest]:
        """Play one run; return it, and before it what earlier ones had left behind."""
        left = self.left_behind()
        choices, faults = plan
        seen = self._play(choices, faults)
        if seen.lost and not seen.tape and isinstance(choices, Replay):
            seen = replace(seen, tape=(*choices.tape, *choices.unused))
        return left, seen

    def _vary_keys(self, first: PlayedTest) -> None:
        """Let a job come again after each kind of side effect: here, and with other chance just before a year ends.

        A run that has more of them there than it has undisturbed repeats one; where its keys are
        others than here, they come from chance or from a clock, and tell no repetition. A batch
        that goes on has as many, and the same keys. A key that only the user's fake sees shows by
        what it lets through: an effect that is repeated there alone.
        """
        runs = self.disturbed

        def again(*tape: Deviation) -> PlayedTest:
            nonlocal runs
            runs += 1
            return self._again(tape)

        for name, is_judged in dict.fromkeys((each.effect, each.is_judged) for each in first.keys):
            death = _death_after(name, first.gates)
            here = None if death is None else again(death)
            if death is None or here is None or not (done := [each for each in here.keys if each.effect == name]):
                continue
            other = OtherStart.before_a_year_ends(done[0].at)
            there, calm = again(other.deviation, death), again(other.deviation)
            keys = [{each.key for each in run.keys if each.effect == name} for run in (here, there, calm)]
            if any(run.lost for run in (here, there, calm)):
                continue
            if REPEATED.name in there.found - here.found - calm.found:
                self.finding = Finding(REPEATED.name, replace(there, script=None), runs, shrink_runs=0)
                return
            if len(keys[1]) <= len(keys[2]) or keys[0] == keys[1]:
                continue
            if is_judged:
                seen = again(other.varying(name).deviation, death)
                if KEY_VARIES.name in seen.found:
                    self.finding = Finding(KEY_VARIES.name, replace(seen, script=None), runs, shrink_runs=0)
            else:
                self.repeated[name] += 1

    def _note(self, seen: PlayedTest, first: PlayedTest) -> None:
        """Keep what nothing judges: a side effect that came again, a job that its processor's errors used up."""
        self.repeated.update(set(seen.repeated) - set(first.repeated))
        if seen.all_done and seen.failure:
            self.first_unheld = self.first_unheld if self.unheld else seen.tape
            self.unheld[_first_line(seen)] += 1
            if seen.ignored_call:
                self.ignored.append(seen.tape)
        used_up = {tool: error for tool, error in seen.given_up if tool not in first.failing}
        self.given_up.update(used_up.keys())
        self.errors = {**used_up, **self.errors}

    def _made_sure(self, seen: PlayedTest, anomaly: str, left: Sequence[str]) -> PlayedTest | None:
        """Return a run that shows the anomaly whatever earlier runs have `left`; None, and why, where none does."""
        again = None if self.standby is None else self._new(self.standby.play(Replay(seen.tape), as_on_tape()))
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
            self.alone_may_help, self.changed = True, list(left)
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
        why, after = "", first
        plans = ((ListedGates(), as_on_tape()) for _ in range(REPLAYED_AT_MOST))
        for after in play_in_order(plans, Here(lambda plan: self._play(*plan))):
            why = differ(first, after)
            if not (why and in_another_order(first, after)):
                break
        if why:
            why = self._with_changes(why, first, after)
            self.unsure, self.finding = f"after {self.disturbed} disturbed runs, {why}", None
        elif left := self.left_behind():
            self.notes = [f"left behind in this process: {', '.join(left)}"]

    def _with_changes(self, why: str, first: PlayedTest, again: PlayedTest) -> str:
        """Add what the runs before changed to the reason why two runs differ."""
        left = self.left_behind()
        # Opened before the test, a connection is no change; and a run that hangs does so in any process.
        self.alone_may_help = not (first.lost or again.lost or _opened(first, again))
        self.changed = left if self.alone_may_help else []
        return f"{why}\nChanged by the runs before: {', '.join(left)}." if left else why

    def _plans(self, first: PlayedTest) -> Iterator[tuple[Choices, FaultPlan]]:
        singles = singles_first(first.gates, effects=first.happened, answers=first.answers)
        self.singles = frozenset(singles)
        share = max(int(self.runs * SINGLE_SHARE), min(self.runs, SINGLE_LEAST))
        most = len(singles) if len(singles) < self.runs else share
        for deviation in singles[:most]:
            yield Replay([deviation]), as_on_tape()
        untried = self._untried()
        for deviation in filter(untried.__contains__, singles[:most]):
            yield Replay([deviation]), as_on_tape()
        rates = (1.5 / max(1, len(first.gates)), 3 / max(1, len(first.gates)), 0.25)
        for number in range(self.runs):
            seed = self.seed * 1_000_003 + number
            yield Uniform(seed, rate=min(0.5, rates[number % len(rates)])), FaultPlan.in_a_test(seed)

    def _untried(self) -> frozenset[Deviation]:
        return self.singles.difference(*self._searched)

    def _shrink(self, seen: PlayedTest, anomaly: str) -> None:
        reducer = TapeReducer(seen, anomaly, self._again)
        try:
            reducer.shrink()
        finally:  # What was found is told also where the rest is interrupted.
            self.finding = Finding(anomaly, reducer.best, self.disturbed, reducer.runs, not reducer.cut_short)
        if reducer.best is seen and not self._comes_again(seen, anomaly):
            self.finding = None
            tape = "; ".join(map(str, seen.tape))
            self.unsure = (
                f"{anomaly} was seen ({tape}), but not in {REPLAYS} more plays of the same run, so it depends on "
                "something that is not under control: the order of replies of a server, for one. A check that reads a "
                "database in several statements may read between two of a job: read it in one."
            )

    def _comes_again(self, seen: PlayedTest, anomaly: str) -> bool:
        """Whether another play of the same run shows it."""
        return any(anomaly in run.found for run in play_in_order(repeat(seen.tape, REPLAYS), Here(self._again)))

    def _again(self, tape: Tape) -> PlayedTest:
        choices, faults = Replay(tape), as_on_tape()
        return self._play(choices, faults) if self.standby is None else self._new(self.standby.play(choices, faults))

    # one run --------------------------------------------------------------------------------------------------------

    def _play(self, choices: Choices, faults: FaultPlan) -> PlayedTest:
        if self.rerun is not None:
            return self._new(self.rerun(choices, faults))
        self.harness.bench.application.prepare_children()
        heard = begin_in_child(self.harness, choices, faults, inherited=self.inherited)
        try:
            seen = heard()
        finally:
            for kept in self.kept:
                kept.restore()
        if seen.lost:
            self.harness.bench.application.forget_children()
        return self._new(seen)


class Leaves(Exception):
    """A run has left something in a process that was to play the next one too, or is another one elsewhere."""


@dataclass(slots=True)
class PlayedOn:
    """Plays runs one after another in one process, and some of them in one of their own as well, for comparison."""

    alone: Standby
    going_on: Standby
    _played: int = 0

    def play(self, choices: Choices, faults: FaultPlan) -> PlayedTest:
        """Play one. Raises Leaves and Loads."""
        seen = self._play(choices, faults)
        self._played += 1
        if not (seen.lost or seen.anomalies) and (self._played == 2 or self._played % COMPARE_EVERY == 0):
            again = self.alone.play(Compared(seen.tape), as_on_tape())
            if why := differ(self._play(Compared(seen.tape), as_on_tape()), again):
                raise Leaves(f"does not do the same in a process of its own: {why}")
        return seen

    def _play(self, choices: Choices, faults: FaultPlan) -> PlayedTest:
        seen = self.going_on.play(choices, faults)
        if seen.loads:
            raise Loads(seen.loads)
        if seen.traces:
            raise Leaves(seen.traces)
        return seen


def cpu_seconds() -> float:
    """Return what this process and those that it has ended have used."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


@cache
def _warm() -> None:
    """Play a few small runs in this process, so that no child has to learn what they teach it.

    What a run fills or changes for the first time is memory that each child would copy page by
    page: the routes of the judges, code that CPython specializes as it runs (3.11 and later).
    """
    faults = FaultPlan.of(*(kind for kind in kinds().values() if kind.strikes_one))
    for number in range(WARMING_RUNS):
        with JobHarness(choices=Uniform(number, rate=0.1), faults=faults) as harness:
            harness.register("warm", _warming)
            harness.enqueue("warm")
            harness.enqueue("warm")
            harness.play.come_to_rest()
            dump_history(harness.history)


async def _warming(job: ToolJob) -> JobResult:
    await asyncio.sleep(1)
    effect("warmed")
    if job.attempts == 1:
        raise ConnectionError("the first attempt fails")
    return JobResult(success=True)


def _first_line(seen: PlayedTest) -> str:
    return " ".join(printable(seen.failure.partition("\n")[0]).split())[:ERROR_SHOWN]


def fits(key: str, anomaly: Anomaly) -> bool:
    """Whether a known finding is this one: by its name, or by its name and the beginning of its message."""
    return key == anomaly.name or (": " in key and f"{anomaly.name}: {anomaly.message}".startswith(key))


def differ(first: PlayedTest, again: PlayedTest) -> str:
    """Say why two undisturbed runs are not one and the same."""
    for seen in (first, again):
        if seen.lost:
            return f"undisturbed, {seen.lost}"
    histories = ([without_reason(line) for line in seen.history.splitlines()] for seen in (first, again))
    pairs = list(zip_longest(*histories, fillvalue="(nothing)"))
    same = first.failure == again.failure and first.found == again.found
    if same and all(one == other for one, other in pairs):
        return ""
    # What no event of a job tells, a check of the test may see: a row that only the first run wrote. Only that it does
    # is compared: its words may have what differs from run to run, such as ids of a sequence that was not reset.
    ends = [(first.failure, again.failure), (_found_in(first), _found_in(again))]
    differing = next((one, other) for one, other in (*pairs, *ends) if one != other)
    return (
        "two undisturbed runs differ, so no disturbed one can be judged; the first difference:\n"
        f"{_side_by_side(*differing)}\n{usual_cause(pairs, first, again)}"
    )


def _found_in(seen: PlayedTest) -> str:
    return "; ".join(f"{each.name}: {each.message}" for each in seen.anomalies) or "(nothing)"


def in_another_order(first: PlayedTest, again: PlayedTest) -> bool:
    """Whether the same happened in two runs, and in another order."""
    one, other = (Counter(_NUMBER.sub("", line) for line in seen.history.splitlines()) for seen in (first, again))
    return one == other and first.failure == again.failure and first.found == again.found


NETWORK: Final = "network: "
OPENS: Final = "it opens a connection to "
"""What replies.mjs says where only the bytes of a connection are known."""


def _opened(first: PlayedTest, again: PlayedTest) -> str:
    """Return the note of a connection that only the first of two runs opens; empty: there is none."""
    return next((note for seen in (first, again) for note in seen.uncontrolled if OPENS in note), "")


def usual_cause(pairs: Sequence[tuple[str, ...]], first: PlayedTest, again: PlayedTest) -> str:
    """Say what makes two runs differ, and what to do."""
    if opened := _opened(first, again):
        return (
            f"Not under control here: {opened}, and the next run finds it open. Open it before the test, as in a "
            'beforeAll. A crash closes it, and runs still differ? Use a pool of pg, or { isolate: "worker" }.'
        )
    apart = [pair for pair in pairs if len({*pair}) > 1]
    if apart and all(len({_AT.sub("", line) for line in pair}) == 1 for pair in apart):
        return (
            "Only times differ. The usual cause is a rate limiter, a cache or a token that a fixture makes: it has "
            "read the machine's clock, and a processor reads virtual time. Make it inside the processor, or "
            "in pytest call job_clock.freeze() before it is made."
        )
    if told := "; ".join(again.uncontrolled[:3]):
        cure = "A fixture can give it the same answer in each run, by monkeypatch."
        if NETWORK in told:
            cure = "Of two jobs that ask it at the same moment, it decides which comes first: let one start later."
        return f"Not under control here: {told}. {cure}"
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


def _counted(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"
