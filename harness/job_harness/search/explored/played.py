"""One run of an explored test: played in this process, in a forked child, or in a copy from before all runs.

Hides how a run is carried out: what of the harness is made anew, how a child tells what it saw, and
how one that hangs or dies is ended with whatever it has started.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pickle
import re
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import FrameType
from typing import Any, Final, NamedTuple, NoReturn

import pytest

from job_harness.core.faults import FaultPlan
from job_harness.core.faults.messages import CALL_EVENTS
from job_harness.core.history import Call, Effect, Fault, History, Observed
from job_harness.core.history.answers import declared_settings
from job_harness.core.history.jsonl import dump_history, load_history
from job_harness.core.invariants import Anomaly
from job_harness.core.model import COMPLETED, FAILED, TERMINAL, JobId, Settings, canonical
from job_harness.core.own_code import CodeLine
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim import Choices, Deviation, ListedGates, Replay, Tape
from job_harness.core.sim.loop import place_of
from job_harness.core.sim.watchdog import ControlTaken, Watched
from job_harness.engines.reference.application import BEFORE_STARTING, GUIDE
from job_harness.errors import EnvironmentUnavailable, Hung
from job_harness.search.as_scenario import TestScript, script_of
from job_harness.search.deviations import Gate
from job_harness.search.explored.isolation import (
    Inherited,
    Kept,
    unforkable_threads,
)
from job_harness.search.explored.traces import Loads, Traces
from job_harness.subjects.processors.chance import THE_SAME, SharedGenerators, same_chance
from job_harness.subjects.processors.contract.forked_runner import fork
from job_harness.subjects.processors.demands import VERBS
from job_harness.subjects.processors.job_harness import JobHarness
from job_harness.subjects.processors.other_start import EffectKey, seed_of
from job_harness.worlds.patience import LOOK_SECONDS, WorkLimit, ready
from job_harness.worlds.peers.peer import end_descendants, end_tree

RUN_SECONDS: Final = 30.0
"""What one run of a test may spend before it counts as hanging: see `WorkLimit`."""
ENDING_SECONDS: Final = 10.0
"""What a standby may spend, beside that of the run, to end it and to tell."""
COLLECT_EVERY: Final = 10
"""Runs after which a process that plays them all collects garbage."""
HEADER_BYTES: Final = 8
"""In which a child says how long its message is."""


class AtOnce(NamedTuple):
    """How many jobs of the test's own met in a run."""

    ran: int = 0
    tools: frozenset[str] = frozenset()
    """Of those that ran."""
    due: int = 0
    """How many were due and had not ended, at the same time."""
    running: int = 0
    """How many one worker ran at the same time."""


NONE_MET: Final = AtOnce()


@dataclass(frozen=True, slots=True)
class PlayedTest:
    """What one run of a test came to."""

    anomalies: tuple[Anomaly, ...] = ()
    tape: Tape = ()
    history: str = ""
    """As JSON lines; empty where the run was disturbed and showed nothing."""
    lines: Mapping[int, CodeLine] = field(default_factory=dict)
    """By index in the history, the user's own line that did it, or that was struck."""
    failure: str = ""
    """What the test's own code raised."""
    gates: tuple[Gate, ...] = ()
    """Label, number and options of every gate, where they were listed."""
    answers: tuple[Deviation, ...] = ()
    """What else something outside might have answered, where gates were listed."""
    passed: tuple[tuple[JobId, str], ...] = ()
    """The gates that processors passed, by job and place, in their order; of a run that shows something, or fails."""
    now: int = 0
    lost: str = ""
    """Why nothing is known of it: the process died or hung."""
    hung: bool = False
    uncontrolled: tuple[str, ...] = ()
    """What its processors read or did past the harness, where that may be wanted."""
    script: TestScript | None = None
    """What a scenario can say of it, where that may be wanted."""
    declared: bool = False
    """Whether a processor declared a side effect, or the test judges by checks of its own."""
    happened: frozenset[str] = frozenset()
    """The names of the side effects that were declared."""
    idle: frozenset[str] = frozenset()
    """Those that the test's own invariants and checks ask about, and of which there was none."""
    unreached: frozenset[tuple[str, bool]] = frozenset()
    """The settings that the test gives, by which it came to nothing, and whether each is owed."""
    at_once: AtOnce = NONE_MET
    keys: tuple[EffectKey, ...] = ()
    """Of side effects, in their order."""
    sent: bool = True
    """Whether there was any job."""
    remembered: tuple[str, ...] = ()
    """What of the modules of processors their deliveries changed, where gates were listed."""
    gateless: tuple[str, ...] = ()
    """The tools whose processors came to no gate of their own, where gates were listed."""
    repeated: tuple[str, ...] = ()
    """The side effects that a job had more than once, with the same data."""
    failing: tuple[str, ...] = ()
    """The tools of whose attempts one ended by an error of its processor's own."""
    given_up: tuple[tuple[str, str], ...] = ()
    """The tools of which a job is FAILED, its last attempt by such an error, and that error."""
    all_done: bool = False
    """Whether every job that was sent ended as COMPLETED."""
    ignored_call: bool = False
    """Whether the test itself failed though only one outside call went wrong, and no job was tried again."""
    left: tuple[str, ...] | None = None
    """What earlier runs had changed as it began; None: it cannot tell, and `left_behind` says it before each run."""

    traces: str = ""
    """What the run has left in its process, where that plays the next one too."""
    loads: tuple[str, ...] = ()
    """The modules of the project that were loaded by then."""

    def led(self, name: str) -> Anomaly:
        """Return the first anomaly of this name."""
        return next(anomaly for anomaly in self.anomalies if anomaly.name == name)

    @property
    def found(self) -> frozenset[str]:
        """The names of the anomalies."""
        return frozenset(anomaly.name for anomaly in self.anomalies)

    def run(self, *, title: str, settings: Settings, engine: str) -> Run:
        """Return it as a run, for a report."""
        history: History = load_history(self.history.splitlines())
        return Run(
            scenario=Scenario(title=title, settings=settings),
            engine=engine,
            history=history,
            tape=self.tape,
            anomalies=self.anomalies,
            now=self.now,
            lines=self.lines,
            passed=self.passed,
            remembered=self.remembered,
        )


Play = Callable[[Choices, FaultPlan], PlayedTest]


@dataclass(slots=True)
class Turn:
    """One run that is played in this process, and what it came to."""

    choices: Choices
    faults: FaultPlan
    seen: PlayedTest | None = None

    @contextmanager
    def playing(self, harness: JobHarness) -> Generator[None]:
        """Play it inside the block. What the test raises is written down; what ends the session passes."""
        harness.play.reopen(self.choices, self.faults, forked=False, remembers=isinstance(self.choices, ListedGates))
        error: BaseException | None = None
        over = f"it did not end within {RUN_SECONDS:g} s"
        hung: list[str] = []

        def break_off(frame: FrameType | None) -> str:
            hung.append(f"{over}, and is at {place_of(frame)}")
            harness.bench.break_off(over)
            return f"{hung[0]}; it cannot be interrupted, so the process ends here, and nothing more was judged"

        try:
            with Watched(RUN_SECONDS, signs=lambda: 0, on_hung=break_off).at_work(), same_chance(seed_of(self.choices)):
                try:
                    yield
                except (KeyboardInterrupt, pytest.exit.Exception):
                    raise
                except BaseException as raised:  # noqa: BLE001 - a disturbed test is not held to its own assertions
                    error = raised
                self.seen = _judge_test(harness, self.choices, error)
        except ControlTaken:
            pass
        if hung:
            self.seen = PlayedTest(lost=over, hung=True, tape=tuple(self.choices.tape))


def _judge_test(harness: JobHarness, choices: Choices, error: BaseException | None) -> PlayedTest:
    """Bring the jobs to rest, and return what the run came to."""
    if isinstance(error, Hung):
        return PlayedTest(lost=error.message, hung=True, tape=harness.tape)
    at_work = harness.bench.running.at_work  # Then the test has looked too early.
    try:
        harness.play.come_to_rest()
    except Hung as raised:
        return PlayedTest(lost=f"{raised.message}, after the test itself was over", tape=harness.tape)
    lost = str(error) if isinstance(error, EnvironmentUnavailable) else harness.review.undecided
    if not harness.anomalies and (left := harness.bench.leaks.left_behind()):
        words = re.sub(r"process \d+", "process", left[0])
        lost = f"a processor left something running: {words}"
    # To write a history, and to read what processors load, would cost as much as a fork; of most runs neither is read.
    wanted = isinstance(choices, ListedGates | Compared) or harness.anomalies
    effects = [event for event in harness.history.events if isinstance(event, Effect) and event.declared is not None]
    failing, given_up = _own_failures(harness.history)
    folders = harness.bench.running.folders
    return PlayedTest(
        anomalies=harness.anomalies,
        tape=harness.tape,
        history=_as_in_any_run(dump_history(harness.history), folders) if wanted else "",
        lines=harness.bench.session.recorder.lines if wanted else {},
        failure="" if error is None else _as_in_any_run(f"{type(error).__name__}: {error}", folders),
        gates=tuple(choices.gates) if isinstance(choices, ListedGates) else (),
        answers=tuple(choices.answers) if isinstance(choices, ListedGates) else (),
        passed=tuple(_of_processors(choices.passed))
        if isinstance(choices, Replay) and (error or harness.anomalies)
        else (),
        now=harness.bench.instant,
        lost=lost,
        uncontrolled=tuple(note for note in harness.notes() if not note.startswith(THE_SAME)) if wanted else (),
        script=script_of(harness) if wanted else None,
        declared=bool(effects) or harness.review.has_own_checks,
        happened=frozenset(event.name for event in effects),
        idle=harness.review.idle,
        unreached=_unreached(harness),
        at_once=_at_once(harness.history, sent_by_jobs=harness.bench.descent.jobs),
        keys=harness.review.keys,
        sent=any(type(event) is Observed for event in harness.history.events),
        repeated=_repeated(effects),
        failing=failing,
        given_up=() if harness.review.has_own_checks else given_up,
        all_done=not at_work
        and all(view.status is COMPLETED for view in harness.bench.session.job_index.views.values()),
        ignored_call=error is not None and _ignored_call(harness.history),
        remembered=tuple(harness.play.remembered),
        gateless=_gateless(harness.history, choices.gates) if isinstance(choices, ListedGates) else (),
    )


def _as_in_any_run(told: str, folders: Mapping[str, str]) -> str:
    """Call the test's own folder what gates call it: a rerun has another one, and is no other run for that."""
    for folder, name in folders.items():
        if folder != tempfile.gettempdir():
            told = re.sub(rf"{re.escape(json.dumps(folder)[1:-1])}(?!\w)", name, told)
    return told


def _ignored_call(history: History) -> bool:
    faults = [event.name for event in history.events if type(event) is Fault]
    began = [event.job for event in history.events if type(event) is Effect and event.name == "started"]
    return len(faults) == 1 and faults[0] in CALL_EVENTS.values() and len(began) == len({*began})


def _gateless(history: History, gates: Sequence[Gate]) -> tuple[str, ...]:
    """Name the tools whose processors ran from their beginning to their end without a gate."""
    tools = {event.job: event.after.tool for event in history.events if isinstance(event, Observed) and event.after}
    began = {event.job for event in history.events if isinstance(event, Effect) and event.name == "started"}
    gated = {job for job, _ in _of_processors(label for label, _, _ in gates)}
    return tuple(sorted({tools[job] for job in began if job in tools} - {tools[job] for job in gated if job in tools}))


def _of_processors(labels: Iterable[str]) -> Iterator[tuple[JobId, str]]:
    """Read from the labels of gates those that stand in the code of processors: each the job, and the place."""
    for label in labels:
        place, _, job = label.partition(" ")[2].rpartition(" ")
        if place and place not in (BEFORE_STARTING, "claim", *VERBS):
            yield JobId(job), place


def _at_once(history: History, *, sent_by_jobs: Collection[JobId]) -> AtOnce:
    """Count the jobs that met. A worker that replaces a dead one has another name, so nothing meets a dead run."""
    tools: dict[JobId, str] = {}
    ran: set[JobId] = set()
    due: set[JobId] = set()
    running: defaultdict[str, set[JobId]] = defaultdict(set)
    most_due = most_running = 0
    for event in history.events:
        if type(event) is Observed and event.after is not None and event.job not in sent_by_jobs:
            tools[event.job] = event.after.tool
            waits = event.after.status in TERMINAL or event.after.start_after > event.clock
            (due.discard if waits else due.add)(event.job)
            most_due = max(most_due, len(due))
        elif type(event) is Effect and event.name == "started" and event.job in tools:
            ran.add(event.job)
            running[event.actor].add(event.job)
            most_running = max(most_running, len(running[event.actor]))
        elif type(event) is Effect and event.name == "ended":
            running[event.actor].discard(event.job)
    return AtOnce(len(ran), frozenset(tools[job] for job in ran), most_due, most_running)


def _unreached(harness: JobHarness) -> frozenset[tuple[str, bool]]:
    """Name the settings that a test gives, and of which nothing came, each with whether it is owed."""
    given = {name for name in Settings.names() if getattr(harness.settings, name) != getattr(GUIDE, name)}
    parts = declared_settings(given, harness.settings)
    left = (part for part in parts if not any(map(part.shows, harness.history.events)))
    return frozenset((part.name, part.owed) for part in left)


def _repeated(effects: Sequence[Effect]) -> tuple[str, ...]:
    """Name the side effects that a job repeated, unless their receiver ignores a repetition."""
    counted = Counter((event.name, event.job, canonical(event.data)) for event in effects if not event.idempotent)
    return tuple(dict.fromkeys(name for (name, _, _), count in counted.items() if count > 1))


def _own_failures(history: History) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Tell the tools with an attempt that its processor failed, and those that were given up after one, with its error.

    One that says itself that another attempt is of no use is not given up: that is its answer. Nor
    is one of whose outside calls one was made to fail.
    """
    tools: dict[str, str] = {}
    ended: dict[str, bool] = {}
    failing: dict[str, None] = {}
    given_up: dict[str, tuple[str, str]] = {}
    called = {
        event.data["job"] for event in history.events if isinstance(event, Fault) and event.name in CALL_EVENTS.values()
    }
    for event in history.events:
        if isinstance(event, Observed) and event.after is not None:
            tools[event.job] = event.after.tool
            if event.verb == "fail" and event.after.status is FAILED and ended.get(event.job):
                given_up[event.job] = event.after.tool, str(event.after.error)
            else:
                given_up.pop(event.job, None)
        elif isinstance(event, Effect) and event.name == "ended":
            ended[event.job] = event.data == "failure" and event.job not in called
            if ended[event.job] and event.job in tools:
                failing[tools[event.job]] = None
        elif isinstance(event, Call) and event.verb == "fail" and event.job and event.arguments[-1:] == (True,):
            ended[event.job] = False
    return tuple(failing), tuple(given_up.values())


class InChild(BaseException):
    """Raised in a forked child, for the code that plays the test to catch."""

    def __init__(self, child: ChildRun) -> None:
        super().__init__()
        self.child = child


class ChildRun:
    """The forked side of one run: the test is played here, and nothing of it gets out but what is written."""

    def __init__(
        self,
        harness: JobHarness,
        choices: Choices,
        faults: FaultPlan,
        *,
        to: int,
        generators: SharedGenerators,
        inherited: Inherited | None = None,
    ) -> None:
        self._harness = harness
        self._choices = choices
        self._to = to
        self._pid = os.getpid()
        self._inherited = inherited
        os.setpgid(0, 0)  # Whatever it starts can be ended with it, and Ctrl-C is the parent's to hear.
        _be_quiet()
        self._chance = same_chance(seed_of(choices))
        self._chance.__enter__()  # For as long as this process lives.
        generators.put_back()
        harness.play.reopen(choices, faults, remembers=isinstance(choices, ListedGates))
        if inherited is not None:
            inherited.cut()

    def finish(self, error: BaseException | None) -> NoReturn:
        """Bring the jobs to rest, tell what was seen, and end this process with everything it has started."""
        try:
            if os.getpid() == self._pid:  # else the test itself has forked, and this is its own child
                self._tell(error)
        except BaseException as unforeseen:  # noqa: BLE001 - also what a check of the test's own raises
            with suppress(OSError):
                _send(self._to, PlayedTest(lost=f"it could not be judged: {type(unforeseen).__name__}: {unforeseen}"))
        finally:
            os._exit(0)

    def _tell(self, error: BaseException | None) -> None:
        """Say what was seen, last of all: once it is told, the parent ends this process without looking for others."""
        # Told last, once everything that this child has started was ended: the parent ends the
        # child as soon as it has the answer, and looks for nothing that outlives it. And a run
        # that has used a connection of its parent's shows nothing, however it ended: the parent
        # and all other runs use the same one.
        seen = _judge_test(self._harness, self._choices, error)
        if self._inherited is not None and (shared := self._inherited.used()):
            seen = PlayedTest(lost=shared)
        self._harness.bench.node.close()
        end_descendants()
        _send(self._to, seen)


class Compared(Replay):
    """Replays a tape in a run that is compared with another one, so its history is wanted."""


def _send(to: int, said: object) -> None:
    told = pickle.dumps(said)
    with os.fdopen(to, "wb") as out:
        out.write(len(told).to_bytes(HEADER_BYTES, "big") + told)


class Standby:
    """A copy of this process from before its disturbed runs, which plays the runs that it is asked to play.

    A run of a test that is played again and again in one process may need what an earlier one has
    left in a module. So it forks a child for each run, in which none has been; or, with `traces`,
    it plays them all itself, and says after each what that has left. It begins before the first
    run, or right after it where that made fixtures for a whole module or session: else each child
    would make them anew.
    """

    def __init__(
        self,
        play: Play,
        *,
        opened: Collection[tuple[int, int, int]],
        traces: Callable[[], Traces] | None = None,
        loads: Sequence[str] = (),
        kept: Sequence[Kept] = (),
    ) -> None:
        """What `play` tells will come from its children, or from itself; `opened` is as in `ExploredTest.explore`.

        `loads` are modules that it loads first; what is `kept` outside of it is put back after each run.
        """
        self._play = play
        self._opened = opened
        self._traces = traces
        self._loads = loads
        self._kept = kept
        self._pid = 0
        self.left: Sequence[str] = ()
        """What the first run had changed where it began after that."""

    def begin(self, *, left: Sequence[str] = ()) -> None:
        """Fork it, unless that is done."""
        if self._pid:
            return
        self.left = left
        asks, self._asks = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = fork()
        if self._pid == 0:
            try:
                os.setpgid(0, 0)  # Ctrl-C is the parent's to hear.
                os.close(self._asks)
                os.close(self._answers)
                for name in self._loads:
                    with suppress(Exception):  # The run that loads it says so.
                        importlib.import_module(name)
                if self._traces is None:
                    _stand_by(self._play, asks, answers, self._opened)
                else:
                    _play_on(self._play, asks, answers, self._opened, self._traces)
            finally:
                os._exit(0)
        os.close(asks)
        os.close(answers)

    @classmethod
    @contextmanager
    def beside(cls, play: Play, *, threads: Sequence[Any], **options: Any) -> Generator[Standby | None]:
        """Have one while the block runs; None where this process cannot be copied."""
        if not hasattr(os, "fork") or sys.platform == "darwin" or unforkable_threads(threads):
            yield None
            return
        standby = cls(play, **options)
        try:
            yield standby
        finally:
            standby.close()

    def play(self, choices: Choices, faults: FaultPlan) -> PlayedTest:
        """Play one run."""
        try:
            return self._played(choices, faults)
        finally:
            for kept in self._kept:
                kept.restore()

    def _played(self, choices: Choices, faults: FaultPlan) -> PlayedTest:
        if self._traces is not None:
            self.begin()
        if not self._pid:
            return PlayedTest(lost="the process that was to play it is gone")
        with suppress(BrokenPipeError):  # It has ended: to read from it says so.
            _send(os.dup(self._asks), (choices, faults))
        told = _read(self._answers, self._pid, seconds=RUN_SECONDS + ENDING_SECONDS)
        if not told:
            ended = self.close()  # What it says too late would be taken for the next run.
            return PlayedTest(lost=_unheard(told, ended), hung=told is None)
        seen: PlayedTest = pickle.loads(told)
        return seen

    def close(self) -> int:
        """End it, with whatever it has started, and return how it ended; the next run begins another one."""
        if not self._pid:
            return 0
        pid, self._pid = self._pid, 0
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            _kill(pid)
        _signal_group(pid)
        _, status = os.waitpid(pid, 0)
        os.close(self._asks)
        os.close(self._answers)
        return os.waitstatus_to_exitcode(status)


def _requests(asks: int) -> Generator[tuple[Choices, FaultPlan]]:
    """Read what runs are to be played, until the other process has closed its end."""
    with os.fdopen(asks, "rb") as requests:
        while header := requests.read(HEADER_BYTES):
            yield pickle.loads(requests.read(int.from_bytes(header, "big")))


def _stand_by(play: Play, asks: int, answers: int, opened: Collection[tuple[int, int, int]]) -> None:
    """In the copy: let a child play each run."""
    inherited: Inherited | None = None
    for choices, faults in _requests(asks):
        inherited = inherited or Inherited.look_at(own=(), opened=opened)
        out, into = os.pipe()
        if (pid := fork()) == 0:
            try:
                os.setpgid(0, 0)
                _be_quiet()
                inherited.cut()
                seen = play(choices, faults)
                shared = inherited.used()
                end_descendants()
                _send(into, PlayedTest(lost=shared) if shared else seen)
            finally:
                os._exit(0)
        os.close(into)
        _send(os.dup(answers), _heard(pid, out))


def _play_on(
    play: Play, asks: int, answers: int, opened: Collection[tuple[int, int, int]], traces: Callable[[], Traces]
) -> None:
    """In the copy: play each run here, and say what it has left."""
    _be_quiet()
    inherited = Inherited.look_at(own=(asks, answers), opened=opened)
    inherited.cut()
    watched = traces()
    gc.freeze()  # What there is by now is looked at no more: a collection costs what a few runs have made.
    for number, (choices, faults) in enumerate(_requests(asks)):
        watched.begin()
        seen = play(choices, faults)
        left = watched.end()
        loaded: tuple[str, ...] = ()
        looks = not left and isinstance(choices, Compared | ListedGates)
        if looks or number % COLLECT_EVERY == 0:
            gc.collect()  # What a dead worker had open is closed with it.
        if looks:
            try:
                left = watched.look()
            except Loads as loads:
                loaded = loads.modules
        shared = inherited.used()
        seen = PlayedTest(lost=shared) if shared else seen
        _send(os.dup(answers), replace(seen, traces=left, loads=loaded))


def _be_quiet() -> None:
    """In a child: collect no garbage and print nothing."""
    gc.disable()  # A run is short, and a collection would copy every page that is shared with the parent.
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    # Those of pytest lead to a file that the parent reads, too. This one is never closed, which would be a warning.
    sys.stdout = sys.stderr = os.fdopen(quiet, "w", closefd=False)


def begin_in_child(
    harness: JobHarness, choices: Choices, faults: FaultPlan, *, inherited: Inherited | None
) -> Callable[[], PlayedTest]:
    """Fork a child that plays one run, and return what waits for its answer. Raises InChild in the child."""
    out, into = os.pipe()
    generators = SharedGenerators.now()
    if (pid := fork()) == 0:
        os.close(out)
        raise InChild(_begun(harness, choices, faults, to=into, generators=generators, inherited=inherited))
    os.close(into)
    return partial(_heard, pid, out)


def _begun(
    harness: JobHarness,
    choices: Choices,
    faults: FaultPlan,
    *,
    to: int,
    generators: SharedGenerators,
    inherited: Inherited | None,
) -> ChildRun:
    """Begin a run in a forked child; where that fails, say why and end the child: it must never return to the test."""
    try:
        return ChildRun(harness, choices, faults, to=to, generators=generators, inherited=inherited)
    except BaseException as error:  # noqa: BLE001 - also what a user's own module raises as it is loaded
        try:
            _send(to, PlayedTest(lost=f"it could not begin: {type(error).__name__}: {error}"))
        finally:
            os._exit(0)


def _heard(pid: int, out: int) -> PlayedTest:
    """Read what a child tells, and end it with whatever it has started; one that hangs is killed."""
    try:
        told = _read(out, pid, seconds=RUN_SECONDS)
    except BaseException:
        _kill(pid)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(out)
    if told is None:
        _kill(pid)
    elif told:
        _signal_group(pid)
    _, status = os.waitpid(pid, 0)
    ended = os.waitstatus_to_exitcode(status)
    if not told:
        _signal_group(pid)
    if not told:
        return PlayedTest(lost=_unheard(told, ended), hung=told is None)
    try:
        seen: PlayedTest = pickle.loads(told)
    except Exception as error:  # noqa: BLE001 - whatever a processor wrote among it
        return PlayedTest(lost=f"what its process reported cannot be read ({type(error).__name__})")
    return seen


def _unheard(told: bytes | None, ended: int) -> str:
    """Say why a process told nothing: it hung, or ended so."""
    if told is None:
        return f"it did not end within {RUN_SECONDS:g} s"
    how = f"killed by {signal.Signals(-ended).name}" if ended < 0 else f"exit code {ended}"
    return f"its process ended before it was judged ({how})"


def _read(out: int, pid: int, *, seconds: float) -> bytes | None:
    """Read one message, even if another process still holds the pipe. Empty: the child sent none; None: it hangs."""
    told, limit = bytearray(), WorkLimit(pid, seconds)
    while not limit.passed:
        if not ready([out], seconds=LOOK_SECONDS)[0]:  # It may have ended while another process holds its pipe.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            if not ready([out], seconds=0)[0]:  # It may have told and ended since it was looked for.
                return b""
        part = os.read(out, 1 << 16)
        told += part
        size = int.from_bytes(told[:HEADER_BYTES], "big")
        if len(told) >= HEADER_BYTES and len(told) - HEADER_BYTES >= size:
            return bytes(told[HEADER_BYTES:])
        if not part:
            return b""
    return None


def _kill(pid: int) -> None:
    """End a child and whatever it has started."""
    end_tree(pid)
    _signal_group(pid)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _signal_group(pid: int) -> None:
    """Kill a child and all of its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
