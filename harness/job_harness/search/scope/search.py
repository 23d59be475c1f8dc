"""The search of a scope: every state within it, breadth first, so that what is found first is found shortest.

With it what comes of a search: an estimate of its size from smaller ones, a counterexample as a
finding like any other, and the statement of what it may claim.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import factorial
from typing import Any, NamedTuple

from job_harness import __version__
from job_harness.core.faults import FaultPlan
from job_harness.core.garbage import collecting_seldom
from job_harness.core.history.answers import VerbAnswers
from job_harness.core.interruption import INTERRUPTIONS
from job_harness.core.invariants import gravity
from job_harness.core.model import Duration, JobId, JobView, Settings, format_duration
from job_harness.core.port import Engine, as_stepped
from job_harness.core.run.session import Limits, Session
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.scenario import Scenario
from job_harness.errors import UsageError
from job_harness.search.finding import ScenarioFinding
from job_harness.search.loop import Here, play_in_order
from job_harness.search.scope.bounds import Scope
from job_harness.search.scope.canonical import Key, StateKeys
from job_harness.search.scope.checkpoint import START_AGAIN, Checkpoint, look_of, words_of
from job_harness.search.scope.memo import Asked, Numbers
from job_harness.search.scope.rig import ReplayRig, Rig, Script, SnapshotRig, Stepped, Unfaithful
from job_harness.search.scope.state import BORING, GlobalState, Move, Path
from job_harness.search.shrink import Shrinker

CHECKED = 997
"""After this many states one is reached again from an empty queue, and must be the same."""
REST, CUT = -1, -2
"""Instead of a boring successor: the run is at rest here, or an anomaly ended it."""


class Sighting(NamedTuple):
    """An anomaly where it showed first."""

    anomaly: str
    node: int
    at_rest: bool


@dataclass(slots=True)
class Progress:
    """How far a search has come."""

    states: int = 0
    transitions: int = 0
    depth: int = 0
    frontier: int = 0
    layers: list[int] = field(default_factory=list)
    """New states by depth."""


Watch = Callable[[Progress], bool]


YOUNG = 200_000
"""How many new objects there are before the garbage collector looks at them: a search keeps nearly all of them."""


@contextmanager
def _keeping_states() -> Iterator[None]:
    """Let the collector look seldom. What is left counts as old: nothing is gone through only because a search ends."""
    with collecting_seldom(young=YOUNG):
        try:
            yield
        finally:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()


class Expanding(NamedTuple):
    """A state whose moves are being made, and how far the search was before that."""

    node: int
    state: GlobalState
    nodes: int
    following: int
    states: int
    transitions: int


def _changed(engine: Engine) -> UsageError:
    return UsageError(
        f"{engine.info.name} does not reach the saved states: the engine or the file has changed since",
        hint=START_AGAIN,
    )


class Frontier:
    """What a search has yet to look at: the rest of one layer, and what it has found of the next."""

    def __init__(self) -> None:
        self.layer: deque[tuple[int, GlobalState]] = deque()
        self.following: deque[tuple[int, GlobalState]] = deque()
        self.expanding: Expanding | None = None
        """The state of which the moves are being made."""


class StateGraph:
    """The states that a search has met, as numbered nodes, each with the move that first led to it."""

    def __init__(self, *, merge: bool) -> None:
        """With `merge`, states that are equal are one node; else every path has a node of its own."""
        self.merge = merge
        self.parents: list[int] = []
        self.moves: list[Move] = []
        self.workloads: list[int] = []
        self.boring: list[int] = []
        """By node, the node that follows without any deviation."""
        self.ended: list[int] = []
        """The nodes at which an anomaly ended the run: no states."""
        self.ids: dict[Key, list[int]] = {}
        """By key the node that has it, the last one where several have; none where none was taken in yet."""
        self._raw: dict[Any, list[int]] = {}
        """The same lists by what a state is before names are given: whether it is met here depends on the hash seed."""
        self._quiet: list[Duration] = []
        """By node, for how long no job had changed there: the run is cut off as at rest after a while of that."""
        self._basins: list[int] = []
        """By node, one that it reaches without any deviation: where they all end is a rest, or a circle."""

    def take_in(self, state: GlobalState, keys: StateKeys, parent: int, move: Move, workload: int) -> tuple[int, bool]:
        """Take in a state; return its node, and whether it is new.

        It is also new where a job changed more recently than in the state that it is equal to: its
        run goes on for longer before it counts as at rest. The other way round nothing is lost,
        since the longer run does the rest too.
        """
        quiet = state.now - state.last_change
        if self.merge:
            raw = (workload, state.raw)
            entry = self._raw.get(raw)
            if entry is None:
                entry = self._raw[raw] = self.ids.setdefault(keys.of(state), [])
            if entry and self._quiet[entry[0]] <= quiet:
                return entry[0], False
            entry[:] = [len(self.parents)]
        return self.add(parent, move, workload, quiet), True

    def add(self, parent: int, move: Move, workload: int, quiet: Duration) -> int:
        """Add a node, and return it."""
        node = len(self.parents)
        self.parents.append(parent)
        self.moves.append(move)
        self.workloads.append(workload)
        self._quiet.append(quiet)
        self.boring.append(CUT)
        self._basins.append(node)
        return node

    def flow(self, node: int, reached: int) -> bool:
        """Note that one node leads to another without any deviation. True: that closes a circle."""
        basins = self._basins
        while basins[reached] != reached:
            basins[reached] = basins[basins[reached]]
            reached = basins[reached]
        basins[node] = reached
        return node == reached

    def circle(self, node: int) -> Iterator[int]:
        """Return the nodes of a circle."""
        yield node
        following = self.boring[node]
        while following != node:
            yield following
            following = self.boring[following]

    def path(self, node: int) -> Path:
        """Return the moves that lead to a node."""
        moves: list[Move] = []
        while self.parents[node] >= 0:
            moves.append(self.moves[node])
            node = self.parents[node]
        return tuple(reversed(moves))


class Explorer:
    """Searches one scope on one engine. `sightings` and `progress` hold the result, also after Ctrl-C."""

    def __init__(
        self,
        engine: Engine,
        scope: Scope,
        *,
        looking_for: frozenset[str] = frozenset(),
        first_only: bool = True,
        state_limit: int = 5_000_000,
        application: Callable[[], Any] | None = None,
        merge: bool = True,
        at_work: Callable[[Session], None] = lambda session: None,
    ) -> None:
        """Search for these anomalies, by default all; go on after the first unless `first_only`.

        `at_work` is told about every session before it is stepped. Without `merge`, every path is a state of its own:
        only for tiny scopes, to compare with.
        """
        self.engine = as_stepped(engine)
        self.scope = scope
        self.looking_for = looking_for
        self.first_only = first_only
        self.state_limit = state_limit
        self.progress = Progress()
        self.sightings: dict[str, Sighting] = {}
        self.answers = VerbAnswers()
        self.outcomes: set[Any] = set()
        """What was at rest: the statuses of all jobs, up to the names of twins."""
        self.complete = False
        self.stopped_by = ""
        """What ended the search before it was complete."""
        self.reexecuted = not engine.info.capabilities.snapshot
        self._application = application
        self.graph = StateGraph(merge=merge)
        self._at_work = at_work
        self._numbers: Numbers = {}
        self._resumed: Checkpoint | None = None
        self._begin()

    def _begin(self) -> None:
        self.progress = Progress()
        self.answers = VerbAnswers()
        self.sightings = {}
        self.scenarios = list(self.scope.scenarios())
        self._rigs: dict[int, tuple[Rig, StateKeys]] = {}
        self.graph = StateGraph(merge=self.graph.merge)
        self._frontier = Frontier()

    @property
    def unproven(self) -> tuple[str, ...]:
        """What a complete search says nothing of: verbs that no state of the scope let succeed."""
        return tuple(self.answers.unproven(whole=True)) if self.complete else ()

    @property
    def not_reached(self) -> tuple[str, ...]:
        """Of what the target says of itself, what no state came to."""
        declared = self.engine.info.declared
        return tuple(part.name for part in declared if part.name not in self.answers.exercised)

    # the search -----------------------------------------------------------------------------------------------------

    def run(self, watch: Watch = lambda progress: True) -> None:
        """Search until nothing is left, something is found, or `watch` returns False.

        Raises Unfaithful where the queue's snapshot lies or an actor does not come back to where it
        stood.
        """
        try:
            with _keeping_states():
                self._run(watch)
        except Stepped:
            self.close()
            self.reexecuted = True
            self._begin()
            self._run(watch)
        finally:
            self.close()

    def close(self) -> None:
        """Give everything back."""
        for rig, _ in self._rigs.values():
            rig.close()
        self._rigs.clear()

    def _run(self, watch: Watch) -> None:
        if self._resumed is None:
            self._start()
        elif not self._make_again(self._resumed, watch):
            return
        self._go_deeper()
        for _ in play_in_order(self._breadth_first(), Here(self._play), goes_on=lambda: self._may_go_on(watch)):
            if self.first_only and self.sightings:
                self.stopped_by = "an anomaly"
                return
            self._go_deeper()

    def _breadth_first(self) -> Iterator[tuple[int, GlobalState]]:
        """Yield the states that wait, those of fewest moves first; what they lead to waits behind them."""
        while self._frontier.layer:
            yield self._frontier.layer.popleft()
        self.progress.frontier = 0
        self.complete = True

    def _go_deeper(self) -> None:
        """Begin with the next layer where nothing of this one is left."""
        if not self._frontier.layer and self._frontier.following:
            self._frontier.layer, self._frontier.following = self._frontier.following, deque()
            self.progress.depth += 1
            self.progress.layers.append(len(self._frontier.layer))

    def _play(self, waiting: tuple[int, GlobalState]) -> None:
        """Make all moves from a state."""
        progress = self.progress
        self._frontier.expanding = Expanding(
            *waiting, len(self.graph.parents), len(self._frontier.following), progress.states, progress.transitions
        )
        self._expand(*waiting, self._frontier.following)
        self._frontier.expanding = None

    def _start(self) -> None:
        for workload in range(len(self.scenarios)):
            rig, keys = self._rig(workload)
            state = rig.root()
            node, new = self._new(state, keys, -1, BORING, workload)
            if new:
                self._frontier.layer.append((node, state))
        self.progress.layers.append(len(self._frontier.layer))

    # stopped, and gone on with --------------------------------------------------------------------------------------

    @property
    def identity(self) -> dict[str, str]:
        """What this search is of, by name."""
        left_out = ", ".join(sorted(self.engine.info.contract.never_reported))
        return {
            "version": __version__,
            "engine": self.engine.info.name,
            "scope": repr(self.scope),
            "choice of anomalies": f"{', '.join(sorted(self.looking_for)) or 'all'}; left out: {left_out or 'none'}",
        }

    def checkpoint(self) -> Checkpoint:
        """Return how far the search came. What was under way when it was cut short is not counted."""
        if self._resumed is not None:
            return self._resumed
        progress, cut = self.progress, self._frontier.expanding
        layer, following = list(self._frontier.layer), list(self._frontier.following)
        count, states, transitions = len(self.graph.parents), progress.states, progress.transitions
        if cut is not None:
            layer, following = [(cut.node, cut.state), *layer], following[: cut.following]
            count, states, transitions = cut.nodes, cut.states, cut.transitions
        boring = self.graph.boring[:count]
        if cut is not None:
            boring[cut.node] = CUT
        moves, words = words_of(self.graph.moves[:count])
        frontier = len(layer) + len(following)
        return Checkpoint(
            identity=self.identity,
            complete=self.complete,
            reexecuted=self.reexecuted,
            parents=self.graph.parents[:count],
            moves=moves,
            words=words,
            ended=[node for node in self.graph.ended if node < count],
            boring=boring,
            waiting=([node for node, _ in layer], [node for node, _ in following]),
            looks=[look_of(state) for _, state in (*layer, *following)],
            progress=asdict(replace(progress, states=states, transitions=transitions, frontier=frontier)),
            sightings=[
                (seen.anomaly, seen.node, seen.at_rest)
                for seen in self.sightings.values()
                if seen.node < count and (cut is None or not seen.at_rest or seen.node != cut.node)
            ],
            outcomes=sorted(self.outcomes),
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from here once it is run.

        Raises UsageError where that is no part of this search.
        """
        checkpoint.refuse_other(self.identity)
        if self.first_only and checkpoint.sightings:
            raise UsageError(
                f"the saved search ended with {checkpoint.sightings[0][0]}",
                hint="Add --keep-going to search the rest.",
            )
        self.reexecuted = checkpoint.reexecuted
        self._resumed = checkpoint

    def _make_again(self, saved: Checkpoint, watch: Watch) -> bool:
        """Make the states of a search that was stopped, each by the one move that reached it. False: told to stop."""
        ended, waiting = set(saved.ended), [*saved.waiting[0], *saved.waiting[1]]
        needed = {parent: node for node, parent in enumerate(saved.parents) if parent >= 0 and node not in ended}
        needed |= dict.fromkeys(waiting, len(saved.parents))
        made: dict[int, GlobalState] = {}
        roots = 0
        for node, (parent, move) in enumerate(zip(saved.parents, saved.moves_by_node(), strict=True)):
            if not watch(self.progress):
                self.stopped_by = "the limit of time"
                return False
            workload = roots if parent < 0 else self.graph.workloads[parent]
            roots += parent < 0
            if node in ended:
                self.graph.ended.append(self.graph.add(parent, move, workload, 0))
                continue
            rig, keys = self._rig(workload)
            self._at_work(rig.session)
            state = rig.root() if parent < 0 else rig.make(move, made[parent])
            self._take_answers(rig)
            if self._new(state, keys, parent, move, workload) != (node, True):
                raise _changed(self.engine)
            if needed.get(parent) == node:
                del made[parent]
            if node in needed:
                made[node] = state
        if [look_of(made[node]) for node in waiting] != saved.looks:
            raise _changed(self.engine)
        self.graph.boring = list(saved.boring)
        for node, reached in enumerate(self.graph.boring):
            if reached >= 0:
                self.graph.flow(node, reached)
        self.progress = Progress(**saved.progress)
        self.sightings = {name: Sighting(name, node, at_rest) for name, node, at_rest in saved.sightings}
        self.outcomes = {tuple(outcome) for outcome in saved.outcomes}
        self._frontier.layer, self._frontier.following = (
            deque((node, made[node]) for node in nodes) for nodes in saved.waiting
        )
        self._resumed = None
        return True

    def _may_go_on(self, watch: Watch) -> bool:
        self.progress.frontier = len(self._frontier.layer) + len(self._frontier.following)
        if not self.progress.frontier:
            return True
        if self.progress.states >= self.state_limit:
            self.stopped_by = f"the limit of {self.state_limit} states"
            return False
        if not watch(self.progress):
            self.stopped_by = self.stopped_by or "the limit of time"
            return False
        return True

    def _rig(self, workload: int) -> tuple[Rig, StateKeys]:
        if workload not in self._rigs:
            kind = ReplayRig if self.reexecuted else SnapshotRig
            rig = kind(
                self.engine, self.scope, self.scenarios[workload], numbers=self._numbers, application=self._application
            )
            self._rigs[workload] = rig, StateKeys(rig, workload=workload, numbers=self._numbers)
        return self._rigs[workload]

    def _new(self, state: GlobalState, keys: StateKeys, parent: int, move: Move, workload: int) -> tuple[int, bool]:
        node, new = self.graph.take_in(state, keys, parent, move, workload)
        self.progress.states += new
        return node, new

    def path(self, node: int) -> Path:
        """Return the moves that lead to a node."""
        return self.graph.path(node)

    def _expand(self, node: int, state: GlobalState, following: deque[tuple[int, GlobalState]]) -> None:
        workload = self.graph.workloads[node]
        rig, keys = self._rig(workload)
        rests, moves = rig.outlook(state)
        if rests:
            self._rest(node, state, rig)
            return
        circles = False
        todo = deque(moves)
        while todo:
            move = todo.popleft()
            self._at_work(rig.session)
            made = rig.make(move, state)
            self._take_answers(rig)
            self.progress.transitions += 1
            if rig.asked:
                todo.extend(_other_picks(move, rig.asked))
            if rig.session.judge.anomalies and self._sight(rig, node, move, workload):
                continue
            reached, new = self._new(made, keys, node, move, workload)
            if move == BORING:
                self.graph.boring[node] = reached
                circles = self.graph.flow(node, reached)
            if new:
                following.append((reached, made))
                if reached % CHECKED == 0 and not self.reexecuted:
                    self._check(reached, made)
        if circles:
            self._judge_from_the_start(min(self.graph.circle(node)))

    def _rest(self, node: int, state: GlobalState, rig: Rig) -> None:
        self.graph.boring[node] = REST
        self._end(state.views, rig)
        rig.judge_rest(state)
        self._take_answers(rig)
        for anomaly in rig.session.judge.anomalies:
            self._see(anomaly.name, node, at_rest=True)

    def _take_answers(self, rig: Rig) -> None:
        events = rig.session.recorder.history.events
        self.answers.take(events)
        self.answers.exercise(self.engine.info.declared, events)

    def _end(self, views: Mapping[JobId, JobView], rig: Rig) -> None:
        """Note jobs at rest."""
        self.outcomes.add(tuple(sorted(str(view.status) for view in views.values())))

    def _sight(self, rig: Rig, node: int, move: Move, workload: int) -> bool:
        """Note what a transition breached. False: nothing that counts."""
        names = [anomaly.name for anomaly in rig.session.judge.anomalies]
        wanted = [name for name in names if not self.looking_for or name in self.looking_for]
        if not wanted:
            return False
        ended = self.graph.add(node, move, workload, 0)
        self.graph.ended.append(ended)
        for name in sorted(wanted, key=gravity):
            self._see(name, ended, at_rest=False)
        return True

    def _see(self, anomaly: str, node: int, *, at_rest: bool) -> None:
        if not self.looking_for or anomaly in self.looking_for:
            self.sightings.setdefault(anomaly, Sighting(anomaly, node, at_rest))

    def _check(self, node: int, state: GlobalState) -> None:
        """Reach a state again from an empty queue: it must be the same."""
        workload = self.graph.workloads[node]
        rig = ReplayRig(
            self.engine, self.scope, self.scenarios[workload], numbers=self._numbers, application=self._application
        )
        try:
            again = rig.root()
            for move in self.path(node):
                again = rig.make(move, again)
        finally:
            rig.close()
        if again.views != state.views or again.now != state.now:
            raise Unfaithful(
                f"the snapshot of {self.engine.info.name} is wrong: restored step by step, it shows "
                f"{dict(state.views)!r:.300}, "
                f"but run from the start, it shows {dict(again.views)!r:.300}",
                hint="snapshot and restore must hold everything that decides what the queue does next; "
                "or declare Capabilities(snapshot=False).",
            )

    def _judge_from_the_start(self, node: int) -> None:
        """Judge a run that goes in a circle without any deviation: it stops only once faults do, or it never does.

        Where pollers alone go on and nothing changes, that is its rest; where jobs do, a livelock.
        """
        workload = self.graph.workloads[node]
        if self.reexecuted:  # its queue may hold locks that the other run would wait for; it is opened anew later
            self._rig(workload)[0].close()
        rig = ReplayRig(
            self.engine, self.scope, self.scenarios[workload], numbers=self._numbers, application=self._application
        )
        try:
            for move in self.path(node):
                rig.go(move)
            views, last_change = dict(rig.session.job_index.views), rig.session.recorder.last_change
            rig.judge_rest()
            if rig.session.recorder.last_change == last_change:
                self._end(views, rig)
            for anomaly in rig.session.judge.anomalies:
                self._see(anomaly.name, node, at_rest=True)
        finally:
            rig.close()

    # paths ----------------------------------------------------------------------------------------------------------

    def scenario_of(self, node: int) -> Scenario:
        """Return the workload that a node belongs to."""
        return self.scenarios[self.graph.workloads[node]]


def _other_picks(move: Move, asked: Asked) -> list[Move]:
    """List the moves that answer one more of the picks otherwise."""
    first = [options[0] for options in asked]
    return [
        Move(move.gates, (*move.picks, *first[len(move.picks) : place], option))
        for place in range(len(move.picks), len(asked))
        for option in asked[place][1:]
    ]


REPLAYED = Limits(steps=20_000)


def run_to(node: int, explorer: Explorer) -> Run:
    """Do the run that leads to a node, from an empty queue to its verdict; its tape is part of it."""
    scope, choices = explorer.scope, Script(explorer.path(node), jitters=explorer.scope.jitters)
    scenario, engine = explorer.scenario_of(node), explorer.engine
    session = Session(scenario, engine=engine, choices=choices, faults=scope.faults, limits=REPLAYED)
    session.kernel.deviations.every_turn = True
    return session.run()


def finding_of(explorer: Explorer, sighting: Sighting, *, shrink: bool = True) -> ScenarioFinding:
    """Return the finding: the shortest run, replayed from its tape alone, and shrunk unless that is interrupted.

    Raises Unfaithful where the anomaly does not show when the run is done from the start.
    """
    engine, anomaly = explorer.engine, sighting.anomaly
    run = run_to(sighting.node, explorer)
    scenario = replace(explorer.scenario_of(sighting.node), tape=run.tape)
    if anomaly in run.found:
        run = Session(scenario, engine=engine, limits=REPLAYED).run()
    if anomaly not in run.found:
        raise Unfaithful(
            f"the search of {engine.info.name} found {anomaly}, but the same run does not show it "
            "when it starts from the beginning",
            hint="The snapshot lacks something that decides what the queue does, or an actor remembers more than its "
            "replies. Fix that, or declare Capabilities(snapshot=False).",
        )

    def open_session(candidate: Scenario) -> Session:
        return Session(candidate, engine=engine, limits=REPLAYED, until=anomaly)

    held = engine.info.contract.held
    shrinker = Shrinker(run, anomaly, open_session, base=Settings(), held=held, hurries=lambda: not shrink)
    smallest, stop = shrinker.smallest(lambda last: Session(last, engine=engine, limits=REPLAYED).run())
    if stop is not None and not isinstance(stop, INTERRUPTIONS):
        raise stop
    minimal = stop is None and not shrinker.cut_short
    states = explorer.progress.states
    return ScenarioFinding(anomaly, smallest, states, shrinker.runs, minimal, scenario=shrinker.scenario)


PILOT_STATES = 4_000
"""A smaller search that has not ended by then counts with what it has seen."""
OF_JOBS = ("cancels", "retries")


class Forecast(NamedTuple):
    """How many states a scope may have, and how long they may take."""

    states: int
    seconds: float
    pilots: int
    """This many smaller scopes were searched for it."""
    at_least: bool
    """Whether one of them was cut short, so that there may be many more."""

    def __str__(self) -> str:
        least = "at least " if self.at_least else ""
        digits = len(str(self.states))
        states = round(self.states, 2 - digits) if digits > 2 else self.states
        return (
            f"{least}about {states} states, {max(1, round(self.seconds))} s: "
            f"estimated from {self.pilots} smaller scopes; it may take a few times as long"
        )


def worth_it(scope: Scope) -> bool:
    """Say whether a search is large enough to be estimated first."""
    return scope.jobs + sum(scope.faults.counts().values()) + scope.cancels + scope.retries > 2


class Forecaster:
    """Searches smaller scopes, each once."""

    def __init__(
        self, engine: Engine, scope: Scope, *, clock: Callable[[], float], at_work: Callable[[Session], None]
    ) -> None:
        """Measure by this clock, in seconds; `at_work` is told about every session before it is stepped."""
        self._engine = engine
        self._clock = clock
        self._at_work = at_work
        self._plain = replace(scope, faults=FaultPlan(), cancels=0, retries=0)
        self._scope = scope
        self._known: dict[Scope, int] = {}
        self._seconds = 0.0
        self._cut = False

    def forecast(self) -> Forecast:
        """Take what each fault makes of one job to be what it makes of all; k alike count k! times less."""
        scope = self._scope
        states = self._of_jobs(scope.jobs)
        for name, count in scope.faults.counts().items():
            growth = self._states(1, faults=FaultPlan(**{name: 1})) / self._states(1)
            states *= growth**count / factorial(count)
        for name in OF_JOBS:
            if count := getattr(scope, name):
                jobs = min(2, scope.jobs)
                states *= (self._states(jobs, **{name: 1}) / self._states(jobs)) ** count
        measured = sum(self._known.values())
        return Forecast(int(states), states * self._seconds / measured, len(self._known), self._cut)

    def _of_jobs(self, jobs: int) -> float:
        if jobs < 3:
            return float(self._states(jobs))
        return self._states(2) * (self._states(2) / self._states(1)) ** (jobs - 2)

    def _states(self, jobs: int, **more: Any) -> int:
        scope = replace(self._plain, jobs=jobs, **more)
        if scope not in self._known:
            explorer = Explorer(self._engine, scope, first_only=False, state_limit=PILOT_STATES, at_work=self._at_work)
            started = self._clock()
            explorer.run()
            self._seconds += self._clock() - started
            self._cut = self._cut or not explorer.complete
            self._known[scope] = explorer.progress.states
        return self._known[scope]


def statement(explorer: Explorer, seconds: float, *, stopped_by: str = "") -> list[str]:
    """Return the lines of the verdict. Only a search that left nothing to look at is called complete.

    `stopped_by` is what ended it from outside, if anything did.
    """
    progress = explorer.progress
    spent = f"{progress.states} states, {progress.transitions} transitions, depth {progress.depth}, {seconds:.1f} s"
    return [_verdict(explorer, spent, stopped_by or explorer.stopped_by), *_scope(explorer), *_standing(explorer)]


def _verdict(explorer: Explorer, spent: str, stopped_by: str) -> str:
    engine, found = explorer.engine.info.name, explorer.sightings
    if explorer.unproven and not found:
        return f"inconclusive: no anomaly on {engine} within the scope, but {'; '.join(explorer.unproven)}: {spent}."
    if explorer.complete and not found:
        return f"complete: no anomaly on {engine} within the scope: {spent}."
    if explorer.complete:
        many = "1 anomaly" if len(found) == 1 else f"{len(found)} anomalies"
        return f"complete: {many} on {engine} within the scope: {spent}."
    if found:
        return f"Searched until {stopped_by}: {spent}."
    return f"inconclusive: stopped by {stopped_by}, no anomaly on {engine} so far: {spent}."


def _scope(explorer: Explorer) -> Iterator[str]:
    scope = explorer.scope
    if explorer.unproven:
        yield "  What this verb does was not judged: widen the scope (such as --kind fails), or repair the verb."
    if not explorer.complete and not explorer.sightings:
        progress = explorer.progress
        yield f"  Every run of up to {max(0, progress.depth)} moves was checked; {progress.frontier} states wait."
    yield f"  Scope: {scope.sentence()}"
    stalls = "any number of" if scope.stalls is None else f"at most {scope.stalls}"
    yield f"  Stalls, where an actor that could act does nothing for a while: {stalls}"
    yield f"  Job kinds: {'; '.join(map(str, scope.kinds))}"
    if scope.priorities != (0,):
        yield f"  Priorities: {', '.join(map(str, scope.priorities))}"
    if scope.unique:
        yield "  All jobs share one unique key."
    if scope.settings.retry_backoff:
        yield f"  Retry delays take {scope.jitters} of 4 values of their jitter."
    yield f"  Settings: {', '.join(_settings(scope.settings))}; a crashed process is back after " + format_duration(
        scope.restart_after
    )


def _settings(settings: Settings) -> Iterator[str]:
    lengths, default = Settings.duration_names(), Settings()
    for name in Settings.names():
        value = getattr(settings, name)
        if value != getattr(default, name):
            yield f"{name} {format_duration(value) if name in lengths else str(value).lower()}"


def _standing(explorer: Explorer) -> Iterator[str]:
    if explorer.complete and explorer.not_reached:
        yield f"  Not reached within this scope, so not judged: {', '.join(explorer.not_reached)}."
    if explorer.engine.info.stepped is not None:
        yield "  The workers are the stock ones: the engine's own cannot be restored; the sampled search runs those."
    if explorer.scope.symmetry:
        yield "  Workers are treated as interchangeable, and so are jobs of one kind."
    if explorer.reexecuted:
        yield "  The queue cannot be restored, so runs were repeated from the start. Jobs that look alike were"
        yield "  treated as equal: differences that the queue does not show were ignored."
