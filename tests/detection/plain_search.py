"""The exhaustive search without anything that makes it fast, to compare with: small, slow and obviously right.

Every move is made in a run that is done from an empty queue. Nothing is set back, looked up or renamed, no workload is
taken for another, and two states are one only if everything in them is equal: the time of day, all that actors were
told, and all that monitors remember, with what they remember for a moment or could work out. What it shares with the
search is what a move is: the gates of a run, and how often an actor may stall.

It also asks for the keys under which the search takes states for one, and believes none: states of one key must have
one future. That shows a wrong key in scopes in which the states that it mixes up happen to come to one end.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations, product
from typing import Any, NamedTuple

from job_harness.core.invariants.memory import freeze, freeze_attributes
from job_harness.core.invariants.property import GIVEN
from job_harness.core.model.job import JobView
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.actor import Actor, State
from job_harness.engines.memory import MemoryEngine
from job_harness.search.scope.bounds import Scope
from job_harness.search.scope.canonical import StateKeys
from job_harness.search.scope.memo import Numbers
from job_harness.search.scope.rig import ReplayRig, Rig
from job_harness.search.scope.search import Explorer
from job_harness.search.scope.state import GlobalState, Move, Path, Vector

ROUNDS = 3
"""A run that has not come to rest after this many times what it may be quiet for is healed and judged there."""
CUT = "cut"


class TooLarge(Exception):
    """More states than were allowed: nothing can be compared."""


@dataclass(slots=True)
class Verdict:
    """What a search came to."""

    shortest: dict[str, int] = field(default_factory=dict)
    """By anomaly, how many moves lead to it at least."""
    circling: set[str] = field(default_factory=set)
    """Anomalies of runs that go in a circle: no state of it is the one at which they show."""
    ends: set[Any] = field(default_factory=set)
    """The jobs of all states at rest, up to the names of workers and of jobs that were planned alike."""

    keys: dict[Any, set[Any]] = field(default_factory=dict)
    """By what may follow, the keys of the states that it may follow; of the search itself, all its keys under None."""
    mixed: list[str] = field(default_factory=list)
    """Why states that have one key should not."""

    def differences(self, plain: Verdict) -> list[str]:
        """Say in what a search and the plain search of one scope do not come to the same."""
        ours, theirs = ({*one.shortest, *one.circling} for one in (self, plain))
        both = self.shortest.keys() & plain.shortest.keys()
        told = [f"one of them found no {name}" for name in sorted(ours ^ theirs)]
        told += [
            f"{name}: {self.shortest[name]} moves and {plain.shortest[name]}"
            for name in sorted(both)
            if self.shortest[name] != plain.shortest[name]
        ]
        if self.keys:
            told += plain.mixed
            told += ["the search left out a state"] * any(
                self.keys[None].isdisjoint(keys) for keys in plain.keys.values()
            )
        return told + [f"one of them has no end {end}" for end in sorted(self.ends ^ plain.ends)]


def plain_search(engine: MemoryEngine, scope: Scope, *, most: int, numbers: Numbers) -> Verdict:
    """Search a scope; raises TooLarge after `most` states. `numbers` are those of the search to compare with."""
    verdict = Verdict()
    for workload, scenario in enumerate(scope.scenarios()):
        for nth, ordered in enumerate(orders_of(scenario)):
            rig = PlainRig(engine, scope, ordered, numbers=numbers)
            try:
                nodes = _search(rig, verdict, most)
                if nth == 0:
                    _compare_keys(nodes, StateKeys(rig, workload=workload, numbers=numbers), ordered, verdict)
            finally:
                rig.close()
    return verdict


def orders_of(scenario: Scenario) -> Iterator[Scenario]:
    """Return a workload with its jobs in every order."""
    names = [plan.name for plan in scenario.jobs]
    for order in dict.fromkeys(permutations([replace(plan, name="") for plan in scenario.jobs])):
        jobs = [replace(plan, name=name) for plan, name in zip(order, names, strict=True)]
        yield replace(scenario, jobs=tuple(jobs))


class PlainRig(ReplayRig):
    """Does each run from the start, on a queue that could be set back."""

    def at(self, path: Path) -> None:
        """Be where these moves lead."""
        self.session.close()
        self._open()
        for move in path:
            self.go(move)
        self._forget_events()

    def _queue(self, views: Mapping[str, Any]) -> tuple[Any, Vector]:
        queue: Any = self.session.queue
        snapshot = queue.snapshot()
        return snapshot, self._rows(snapshot)

    def _progress(self, process: Actor) -> Any:
        return None


class Node(NamedTuple):
    """A state: what the search is shown of it, and where its moves lead, each to a node or to a text."""

    shown: GlobalState
    leads: list[int | str]


def _search(rig: PlainRig, verdict: Verdict, most: int) -> list[Node]:
    """Search one workload, breadth first."""
    horizon = rig.start + ROUNDS * rig.quiet
    met = {whole(rig): 0}
    nodes, paths = [Node(rig.capture(None), [])], list[Path]([()])
    for node, path in zip(nodes, paths, strict=True):  # both grow
        rig.at(path)
        if rest := rig.at_rest():
            verdict.ends.add(end_of(rig.session.job_index.views, rig.scenario))
        if rest or rig.kernel.now > horizon:
            rig.judge_rest()
            names = _found(rig)
            node.leads.append(f"rests with {names}" if rest else CUT)
            _note(verdict, names, len(path) if rest else None)
            continue
        moves = deque(dict.fromkeys(rig.moves()))
        while moves:
            move = moves.popleft()
            rig.at(path)
            rig.go(move)
            moves.extend(_picked_otherwise(move, rig))
            if names := _found(rig):
                node.leads.append(f"shows {names}")
                _note(verdict, names, len(path) + 1)
                continue
            reached = met.setdefault(whole(rig), len(nodes))
            node.leads.append(reached)
            if reached == len(nodes):
                if reached == most:
                    raise TooLarge
                nodes.append(Node(rig.capture(None), []))
                paths.append((*path, move))
    return nodes


def _found(rig: PlainRig) -> list[str]:
    return sorted([anomaly.name for anomaly in rig.session.judge.anomalies])


def _note(verdict: Verdict, names: list[str], moves: int | None) -> None:
    for name in names:
        if moves is None:
            verdict.circling.add(name)
        else:
            verdict.shortest[name] = min(moves, verdict.shortest.get(name, moves))


def _compare_keys(nodes: list[Node], keys: StateKeys, scenario: Scenario, verdict: Verdict) -> None:
    """Look whether states that the search takes for one have one future, and note which keys have which.

    Of a run that goes in a circle nothing is said: where it is cut, what may follow is cut, too.
    """
    if any(CUT in node.leads for node in nodes):
        return
    known: dict[Any, int] = {}
    for (shown, _), future in zip(nodes, futures(nodes, scenario), strict=True):
        key, quiet = keys.of(shown), shown.now - shown.last_change
        if known.setdefault((key, quiet), future) != future:
            verdict.mixed.append(f"one key and two futures: {end_of(shown.views, scenario)}")
        verdict.keys.setdefault((keys, future), set()).add(key)


def futures(nodes: list[Node], scenario: Scenario) -> list[int]:
    """Number what may follow each state: equal where equal jobs are seen, and what may follow after each move."""
    groups: dict[Any, int] = {}
    future_of = [groups.setdefault(end_of(node.shown.views, scenario), len(groups)) for node in nodes]
    while True:
        finer: dict[Any, int] = {}
        following = []
        for future, node in zip(future_of, nodes, strict=True):
            after = frozenset([lead if isinstance(lead, str) else future_of[lead] for lead in node.leads])
            following.append(finer.setdefault((future, after), len(finer)))
        if len(finer) == len(groups):
            return following
        groups, future_of = finer, following


def _picked_otherwise(move: Move, rig: Rig) -> Iterator[Move]:
    """Return the moves that pick something else where this one was the first to be asked."""
    asked = rig.script.asked
    if not move.picks and asked:
        for picks in product(*asked):
            if picks != tuple(options[0] for options in asked):
                yield Move(move.gates, picks)


def whole(rig: Rig) -> Any:
    """Return everything that a state holds, as it stands. The order of those who are ready is open to choice."""
    session, kernel = rig.session, rig.kernel
    clocks, queue = session.clocks, session.queue
    actors = [
        (
            actor.name,
            actor.state,
            actor.point,
            actor.wake if actor.state is State.SLEEPING else None,
            actor.last_tick,
            freeze(rig.memory.told.get(actor.name, []), {}),
        )
        for actor in kernel.actors.values()
    ]
    return (
        kernel.now,
        (clocks.store_offset, freeze(dict(clocks.offsets()), {}), freeze(dict(clocks.drifts()), {})),
        freeze(queue.snapshot(), {}),  # type: ignore[attr-defined]
        session.recorder.last_change,
        tuple([freeze_attributes(vars(monitor), leave_out=GIVEN) for monitor in session.judge.monitors]),
        tuple(actors),
        frozenset([actor.name for actor in kernel.ready]),
        tuple([(wake, actor.name) for wake, _, actor in sorted(kernel.sleeping)]),
        tuple([interference.left for interference in rig.interferences]),
        rig.stalls,
        frozenset(rig.stalled),
        frozenset(session.world.stopping),
    )


def end_of(views: Mapping[str, JobView], scenario: Scenario) -> tuple[str, ...]:
    """Return jobs at rest as texts, without their times: under all exchanges of equal names, the first in order.

    Jobs that were planned alike get names that say how.
    """
    alike: dict[str, list[str]] = {}
    for plan in scenario.jobs:
        alike.setdefault(repr(replace(plan, name="")), []).append(plan.name)
    groups = [(scenario.workers, "worker"), *((names, plan) for plan, names in alike.items())]
    ends = []
    for orders in product(*(permutations(names) for names, _ in groups)):
        named = {
            name: f"{kind} {nth}"
            for order, (_, kind) in zip(orders, groups, strict=True)
            for nth, name in enumerate(order)
        }
        ends.append(tuple(sorted([_shown(view, named) for view in views.values()])))
    return min(ends)


def _shown(view: JobView, named: Mapping[str, str]) -> str:
    told = (view.id, view.status, view.queue_state, view.priority, view.attempts, view.token, view.worker, view.output)
    text = " ".join(map(str, (*told, bool(view.error), view.dead_of)))
    return re.sub(r"\b[wj]\d\b", lambda found: named.get(found[0], found[0]), text)


def compared(engine: MemoryEngine, scope: Scope, *, most: int = 400) -> list[str]:
    """Search a scope both ways, and say in what they differ; raises TooLarge after `most` states."""
    fast = FastSearch(engine, scope, most=most)
    verdict = fast.judged()
    return verdict.differences(plain_search(engine, scope, most=15 * most, numbers=fast.numbers))


class FastSearch(Explorer):
    """The search as it is, which keeps what is needed to compare."""

    def __init__(self, engine: MemoryEngine, scope: Scope, *, most: int) -> None:
        """Search at most `most` states."""
        self.verdict = Verdict()
        super().__init__(engine, scope, first_only=False, state_limit=most)

    @property
    def numbers(self) -> Numbers:
        """Return the numbers in its keys."""
        return self._numbers

    def judged(self) -> Verdict:
        """Search; raises TooLarge after `most` states."""
        self.run()
        if not self.complete:
            raise TooLarge
        if not self.reexecuted:  # what stands in the middle of a verb is told apart by the number of its call
            self.verdict.keys = {None: set(self.graph.ids)}
        for name, sighting in self.sightings.items():
            if name not in self.verdict.circling:
                self.verdict.shortest[name] = len(self.path(sighting.node))
        return self.verdict

    def _end(self, views: Mapping[str, JobView], rig: Rig) -> None:
        super()._end(views, rig)
        self.verdict.ends.add(end_of(views, rig.scenario))

    def _judge_from_the_start(self, node: int) -> None:
        before = set(self.sightings)
        super()._judge_from_the_start(node)
        self.verdict.circling |= self.sightings.keys() - before
