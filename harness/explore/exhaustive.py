"""Exhaustive search: every state within a scope, breadth first, so that what is found first is found shortest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.explore.positions import Unfaithful
from harness.explore.replay_rig import ReplayRig
from harness.explore.rig import Numbers, Rig, SnapshotRig, Stepped
from harness.explore.scope import Scope
from harness.explore.script import BORING, Move, Path
from harness.explore.state import State
from harness.explore.state_key import Key, Keys
from harness.invariants import gravity
from harness.port import Engine, as_stepped
from harness.run.session import Session
from harness.scenario.scenario import Scenario

CHECKED = 997
"""Every so many states one is reached again from an empty queue, and must be the same."""
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


class Explorer:
    """Searches one scope on one engine. `sightings` and `progress` tell what came of it, also after Ctrl-C."""

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

        `at_work` is told of every session before it is stepped. Without `merge`, every path is a state of its own:
        only for tiny scopes, to compare with.
        """
        self.engine = as_stepped(engine)
        self.scope = scope
        self.looking_for = looking_for
        self.first_only = first_only
        self.state_limit = state_limit
        self.progress = Progress()
        self.sightings: dict[str, Sighting] = {}
        self.outcomes: set[Any] = set()
        """What was at rest: the statuses of all jobs, up to the names of twins."""
        self.complete = False
        self.stopped_by = ""
        """What ended the search before it was complete."""
        self.reexecuted = not engine.info.capabilities.snapshot
        self._application = application
        self._merge = merge
        self._at_work = at_work
        self._numbers: Numbers = {}
        self._begin()

    def _begin(self) -> None:
        self.progress = Progress()
        self.sightings = {}
        self.scenarios = list(self.scope.scenarios())
        self._rigs: dict[int, tuple[Rig, Keys]] = {}
        self._ids: dict[Key, int] = {}
        self._raw: dict[Any, int] = {}
        self._parents: list[int] = []
        self._moves: list[Move] = []
        self._workloads: list[int] = []
        self.boring: list[int] = []
        """By node, the node that follows where nobody deviates."""
        self._basins: list[int] = []
        """By node, one that it comes to where nobody deviates: where they all end is a rest, or a circle."""

    # the search -----------------------------------------------------------------------------------------------------

    def run(self, watch: Watch = lambda progress: True) -> None:
        """Search until nothing is left, something is found, or `watch` answers False.

        Raises Unfaithful where the queue's snapshot lies or an actor does not come back to where it stood.
        """
        try:
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
        layer: deque[tuple[int, State]] = deque()
        for workload in range(len(self.scenarios)):
            rig, keys = self._rig(workload)
            state = rig.root()
            node, new = self._new(state, keys, -1, BORING, workload)
            if new:
                layer.append((node, state))
        while layer:
            self.progress.layers.append(len(layer))
            following: deque[tuple[int, State]] = deque()
            while layer:
                self.progress.frontier = len(layer) + len(following)
                if not self._may_go_on(watch):
                    return
                node, state = layer.popleft()
                self._expand(node, state, following)
                if self.first_only and self.sightings:
                    self.stopped_by = "an anomaly"
                    return
            layer = following
            self.progress.depth += bool(layer)
        self.progress.frontier = 0
        self.complete = True

    def _may_go_on(self, watch: Watch) -> bool:
        if self.progress.states >= self.state_limit:
            self.stopped_by = f"the limit of {self.state_limit} states"
            return False
        if not watch(self.progress):
            self.stopped_by = self.stopped_by or "the limit of time"
            return False
        return True

    def _rig(self, workload: int) -> tuple[Rig, Keys]:
        if workload not in self._rigs:
            kind = ReplayRig if self.reexecuted else SnapshotRig
            rig = kind(
                self.engine, self.scope, self.scenarios[workload], numbers=self._numbers, application=self._application
            )
            self._rigs[workload] = rig, Keys(rig, workload=workload, numbers=self._numbers)
        return self._rigs[workload]

    def _new(self, state: State, keys: Keys, parent: int, move: Move, workload: int) -> tuple[int, bool]:
        """Take in a state; answer its node, and whether it is new."""
        node = len(self._parents)
        if self._merge:
            raw = (workload, state.raw)
            known = self._raw.get(raw)
            if known is None:
                known = self._raw[raw] = self._ids.setdefault(keys.of(state), node)
            if known != node:
                return known, False
        self._parents.append(parent)
        self._moves.append(move)
        self._workloads.append(workload)
        self.boring.append(CUT)
        self._basins.append(node)
        self.progress.states += 1
        return node, True

    def _expand(self, node: int, state: State, following: deque[tuple[int, State]]) -> None:
        workload = self._workloads[node]
        rig, keys = self._rig(workload)
        rig.enter(state)
        if rig.at_rest():
            self._rest(node, state, rig)
            return
        circles = False
        todo = deque(rig.moves())
        while todo:
            move = todo.popleft()
            rig.enter(state)
            self._at_work(rig.session)
            made = rig.make(move, state)
            self.progress.transitions += 1
            todo.extend(_other_picks(move, rig.script.asked))
            if rig.session.judge.anomalies and self._sight(rig, node, move, workload):
                continue
            reached, new = self._new(made, keys, node, move, workload)
            if move == BORING:
                self.boring[node] = reached
                circles = self._flow(node, reached)
            if new:
                following.append((reached, made))
                if reached % CHECKED == 0 and not self.reexecuted:
                    self._check(reached, made)
        if circles:
            self._judge_from_the_start(min(self._circle(node)))

    def _rest(self, node: int, state: State, rig: Rig) -> None:
        self.boring[node] = REST
        self.outcomes.add(tuple(sorted(str(view.status) for view in state.views.values())))
        rig.judge_rest()
        for anomaly in rig.session.judge.anomalies:
            self._see(anomaly.name, node, at_rest=True)

    def _flow(self, node: int, reached: int) -> bool:
        """Note that one node leads to another where nobody deviates. True: that closes a circle."""
        basins = self._basins
        while basins[reached] != reached:
            basins[reached] = basins[basins[reached]]
            reached = basins[reached]
        basins[node] = reached
        return node == reached

    def _circle(self, node: int) -> Iterator[int]:
        """Answer the nodes of a circle."""
        yield node
        following = self.boring[node]
        while following != node:
            yield following
            following = self.boring[following]

    def _sight(self, rig: Rig, node: int, move: Move, workload: int) -> bool:
        """Note what a transition breached. False: nothing that counts."""
        names = [anomaly.name for anomaly in rig.session.judge.anomalies]
        wanted = [name for name in names if not self.looking_for or name in self.looking_for]
        if not wanted:
            return False
        self._parents.append(node)
        self._moves.append(move)
        self._workloads.append(workload)
        self.boring.append(CUT)
        self._basins.append(len(self._basins))
        for name in sorted(wanted, key=gravity):
            self._see(name, len(self._parents) - 1, at_rest=False)
        return True

    def _see(self, anomaly: str, node: int, *, at_rest: bool) -> None:
        if not self.looking_for or anomaly in self.looking_for:
            self.sightings.setdefault(anomaly, Sighting(anomaly, node, at_rest))

    def _check(self, node: int, state: State) -> None:
        """Reach a state again from an empty queue: it must be the same."""
        workload = self._workloads[node]
        rig = ReplayRig(
            self.engine, self.scope, self.scenarios[workload], numbers=self._numbers, application=self._application
        )
        try:
            again = rig.root()
            for move in self.path(node):
                again = rig.make(move, again)
                rig.session.recorder.history.events.clear()
                rig.memory.changed.clear()
        finally:
            rig.close()
        if again.views != state.views or again.now != state.now:
            raise Unfaithful(
                f"the snapshot of {self.engine.info.name} lies: restored step by step it shows "
                f"{dict(state.views)!r:.300}, "
                f"run from the start it shows {dict(again.views)!r:.300}",
                hint="snapshot and restore must hold everything that decides what the queue does next; "
                "or declare Capabilities(snapshot=False).",
            )

    def _judge_from_the_start(self, node: int) -> None:
        """Judge a run that goes in a circle where nobody deviates: it stops only once faults do, or it never does.

        Where pollers alone go on and nothing changes, that is its rest; where jobs do, a livelock.
        """
        workload = self._workloads[node]
        rig = ReplayRig(
            self.engine, self.scope, self.scenarios[workload], numbers=self._numbers, application=self._application
        )
        try:
            for move in self.path(node):
                rig.go(move)
            rig.judge_rest()
            for anomaly in rig.session.judge.anomalies:
                self._see(anomaly.name, node, at_rest=True)
        finally:
            rig.close()

    # paths ----------------------------------------------------------------------------------------------------------

    def path(self, node: int) -> Path:
        """Answer the moves that lead to a node."""
        moves: list[Move] = []
        while self._parents[node] >= 0:
            moves.append(self._moves[node])
            node = self._parents[node]
        return tuple(reversed(moves))

    def scenario_of(self, node: int) -> Scenario:
        """Answer the workload that a node belongs to."""
        return self.scenarios[self._workloads[node]]


def _other_picks(move: Move, asked: list[Any]) -> list[Move]:
    """List the moves that answer one more of the picks otherwise."""
    first = [options[0] for options in asked]
    return [
        Move(move.gates, (*move.picks, *first[len(move.picks) : place], option))
        for place in range(len(move.picks), len(asked))
        for option in asked[place][1:]
    ]
