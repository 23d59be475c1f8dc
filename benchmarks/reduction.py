"""What a partial-order reduction could save of an exhaustive search, counted in whole scopes.

In each state all pairs of enabled moves of different actors (time counts as one) are made in both orders. They are
independent in one of three senses, each narrower than the one before:

- *commute*: both orders lead to the same canonical state, monitors included, and neither shows an anomaly. No sound
  reduction can use another pair.
- *observed*: neither read or wrote what the other wrote. Reads are declared: a verb on one job reads its row, any other
  verb the whole table, and a step reads what the monitors that see its events remember. Writes are what changed in
  this state. A search knows that once it has made both moves, so sleep sets can use it.
- *declared*: the same, but what is read may be written too. Only that can be known of moves that are yet to come, as
  persistent sets ask for. It is generous all the same: events are those that were observed.

A pair that is independent by its footprints must commute, or the benchmark fails. The pairs bound what is saved:

- Sleep sets reach every state. They skip a move only if it is the second one of an independent pair. So of the moves
  into one state they skip at most those, and at most all but one.
- A persistent set is enough to be followed in a state: whatever others do, for as long as they do not make one of its
  moves, is independent of all of them. The smallest is found here by trying all that others can do, which no search
  could afford; that runs may go in circles beside it is passed over. Other choices may save more or less.

Usage: benchmarks/reduction.py [FIRST_SCOPES]
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple, TypeAlias

from job_harness.core.faults import FaultPlan
from job_harness.core.history.event import Call, Observed
from job_harness.core.sim.choices import FIRST, NEXT, TIME, Option
from job_harness.search.scope.bounds import JobKind, Scope
from job_harness.search.scope.canonical import Key, StateKeys
from job_harness.search.scope.rig import SnapshotRig
from job_harness.search.scope.search import Explorer
from job_harness.search.scope.state import Component, GlobalState, Move
from job_harness.search.targets import open_engine

SCOPES = (
    ("memory", Scope(jobs=1)),
    ("memory", Scope(jobs=1, faults=FaultPlan(crash=1))),
    ("memory", Scope(jobs=1, faults=FaultPlan(lost_message=1))),
    ("memory", Scope(jobs=1, stalls=0, faults=FaultPlan(pause=1))),
    ("memory", Scope(jobs=1, workers=3)),
    ("memory", Scope()),
    ("memory", Scope(cancels=1)),
    ("memory", Scope(unique=True)),
    ("memory", Scope(priorities=(0, 1))),
    ("memory", Scope(faults=FaultPlan(crash=1), cancels=1)),
    ("memory", Scope(jobs=3)),
    ("memory+stale-complete", Scope(jobs=1, faults=FaultPlan(crash=1))),
    ("memory+token-not-raised", Scope(faults=FaultPlan(crash=1))),
    ("memory+cancel-overwritten", Scope(cancels=1)),
    ("memory+retries-never-due", Scope(kinds=(JobKind("fails once"),))),
    ("reference", Scope(jobs=1, faults=FaultPlan(crash=1))),
    ("reference", Scope()),
)
OF_ONE_ROW = frozenset({"enqueue", "complete", "fail", "release", "heartbeat", "cancel", "retry"})
"""Verbs that read one job's row, as long as there are no unique keys."""

Act: TypeAlias = tuple[str, Option | None]
"""Whose move it is, and what strikes it: names the same move in several states."""
Thing: TypeAlias = tuple[Any, ...]
Independent: TypeAlias = Callable[[int, GlobalState, "Made", "Made"], Key | None]
"""Returns the key of the state in which two independent moves from a state end; None where they are dependent."""
Edges: TypeAlias = Mapping[int, Mapping[Act, int]]
"""By node, where each of its moves leads."""


class Footprint(NamedTuple):
    """What a move reads and may write, and what it wrote."""

    touched: frozenset[Thing]
    written: frozenset[Thing]


class Made(NamedTuple):
    """A move that was made, and where it led."""

    act: Act
    state: GlobalState
    key: Key | None
    """None: it shows an anomaly, which ends the run."""
    footprint: Footprint | None
    """None: it moved time or a clock, which everything reads."""


class Second(NamedTuple):
    """A move that comes second in an independent pair, and the key of the state in which both orders end."""

    source: int
    act: Act
    end: Key


@dataclass(slots=True)
class Saved:
    """What a search could save that knew which pairs of moves are independent in one sense."""

    pairs: int = 0
    seconds: set[Second] = field(default_factory=set)
    persistent: dict[int, Sequence[Act]] = field(default_factory=dict)
    """By node, the smallest set of moves that suffices; all of them where no smaller one does."""

    def skipped_by_sleep(self, edges: Edges, ids: Mapping[Key, int]) -> int:
        """Return how many moves sleep sets could skip at most.

        The names of twins may be exchanged in a state that was met before, so of the moves from one state to another
        only their number is compared.
        """
        between = Counter((node, end) for node, moves in edges.items() for end in moves.values())
        seconds = Counter((source, ids[end]) for source, _, end in self.seconds)
        into, skippable = Counter[int](), Counter[int]()
        for (node, end), count in between.items():
            into[end] += count
            skippable[end] += min(count, seconds[node, end])
        return sum(min(skippable[end], count - 1) for end, count in into.items())

    def followed(self, edges: Edges, roots: Iterable[int]) -> dict[int, dict[Act, int]]:
        """Return the states and the moves of a search that follows persistent sets."""
        left: dict[int, dict[Act, int]] = {}
        waiting = deque(roots)
        while waiting:
            node = waiting.popleft()
            if node not in left:
                left[node] = {act: edges[node][act] for act in self.persistent[node] if act in edges[node]}
                waiting.extend(left[node].values())
        return left


class PairCounter(Explorer):
    """A search that also makes every pair of moves of different actors in both orders."""

    def __init__(self, target: str, scope: Scope) -> None:
        super().__init__(open_engine(target), scope, first_only=False)
        self._pairs = 0
        self._senses = {
            "commute": (self._commute, Saved()),
            "observed": (self._observed, Saved()),
            "declared": (self._declared, Saved()),
        }
        self._edges: dict[int, dict[Act, int]] = {}
        self._outcomes: dict[tuple[int, Key], tuple[Made, ...]] = {}
        self._commuting: dict[tuple[int, Key, Act, Act], Key | None] = {}

    def counts(self) -> Counter[str]:
        """Return what was counted, by what it is."""
        roots = [node for node, parent in enumerate(self.graph.parents) if parent < 0]
        nodes = {key: entry[0] for key, entry in self.graph.ids.items() if entry}
        counts = Counter(states=len(self._edges), moves=_moves(self._edges), pairs=self._pairs)
        for sense, (_, saved) in self._senses.items():
            left = saved.followed(self._edges, roots)
            skipped = _moves(self._edges) - _moves(left)
            counts[f"pairs {sense}"] = saved.pairs
            counts[f"sleep sets {sense}"] = saved.skipped_by_sleep(self._edges, nodes)
            counts[f"states {sense}"] = len(self._edges) - len(left)
            counts[f"persistent sets {sense}"] = skipped
            counts[f"both {sense}"] = skipped + saved.skipped_by_sleep(left, nodes)
        return counts

    def _expand(self, node: int, state: GlobalState, following: deque[tuple[int, GlobalState]]) -> None:
        super()._expand(node, state, following)
        workload = self.graph.workloads[node]
        made = self._made(workload, state)
        self._edges[node] = {one.act: self.graph.ids[one.key][0] for one in made if one.key is not None}
        for one, other in combinations(made, 2):
            if one.act[0] != other.act[0]:
                self._pairs += 1
                for independent, saved in self._senses.values():
                    end = independent(workload, state, one, other)
                    if end is not None:
                        saved.pairs += 1
                        seconds = ((one, other), (other, one))
                        saved.seconds |= {
                            Second(self.graph.ids[first.key][0], then.act, end) for first, then in seconds
                        }
        for independent, saved in self._senses.values():
            saved.persistent[node] = self._smallest(workload, state, made, independent)

    def _made(self, workload: int, state: GlobalState) -> tuple[Made, ...]:
        """Return the moves of a state, and where they lead."""
        at = (workload, state.raw)
        known = self._outcomes.get(at)
        if known is None:
            rig, keys = self._rig(workload)
            assert isinstance(rig, SnapshotRig), "only a queue that can be set back is counted"
            known = self._outcomes[at] = tuple(self._each(rig, keys, state))
        return known

    def _each(self, rig: SnapshotRig, keys: StateKeys, state: GlobalState) -> Iterator[Made]:
        rests, moves = rig.outlook(state)
        for move in () if rests else moves:
            made = rig.make(move, state)
            key = None if rig.session.judge.anomalies else keys.of(made)
            yield Made(act_of(move, state), made, key, footprint(rig, move, state, made))

    def _then(self, workload: int, first: Made, act: Act) -> Key | None:
        return next((made.key for made in self._made(workload, first.state) if made.act == act), None)

    def _commute(self, workload: int, state: GlobalState, one: Made, other: Made) -> Key | None:
        """Return the key of the state in which both orders end; None where they do not end in one."""
        if one.act[0] == other.act[0] or one.key is None or other.key is None:
            return None
        end = self._then(workload, one, other.act)
        return end if end is not None and end == self._then(workload, other, one.act) else None

    def _observed(self, workload: int, state: GlobalState, one: Made, other: Made) -> Key | None:
        """Return the same for moves that did not touch what the other wrote; None for all others."""
        if one.footprint is None or other.footprint is None:
            return None
        ours, theirs = one.footprint, other.footprint
        if not ours.written.isdisjoint(theirs.touched) or not theirs.written.isdisjoint(ours.touched):
            return None
        return self._sure(workload, state, one, other)

    def _declared(self, workload: int, state: GlobalState, one: Made, other: Made) -> Key | None:
        """Return the same for moves that touch nothing in common; None for all others."""
        if one.footprint is None or other.footprint is None:
            return None
        if not one.footprint.touched.isdisjoint(other.footprint.touched):
            return None
        return self._sure(workload, state, one, other)

    def _sure(self, workload: int, state: GlobalState, one: Made, other: Made) -> Key | None:
        if one.act[0] == other.act[0] or one.key is None or other.key is None:
            return None
        end = self._commute(workload, state, one, other)
        assert end is not None, f"{one.act} and {other.act} do not commute, so these were not all: {one.footprint}"
        return end

    # persistent sets ------------------------------------------------------------------------------------------------

    def _smallest(
        self, workload: int, state: GlobalState, made: tuple[Made, ...], independent: Independent
    ) -> Sequence[Act]:
        """Return the smallest persistent set of moves."""
        made = tuple(
            sorted(made, key=lambda one: str(one.act))
        )  # of sets of one size the same one is taken in every run
        groups = [{one.act} for one in made]
        for one, other in combinations(made, 2):
            if independent(workload, state, one, other) is None:
                joined = [group for group in groups if one.act in group or other.act in group]
                groups = [group for group in groups if group not in joined] + [set().union(*joined)]
        sets = [set().union(*chosen) for count in range(1, len(groups)) for chosen in combinations(groups, count)]
        for acts in sorted(sets, key=len):
            if self._is_persistent(workload, state, acts, independent):
                return [one.act for one in made if one.act in acts]
        return [one.act for one in made]

    def _is_persistent(self, workload: int, state: GlobalState, acts: set[Act], independent: Independent) -> bool:
        """Say whether whatever others do, as long as none of these moves is made, is independent of all of them."""
        met, waiting = {state.raw}, deque([state])
        while waiting:
            now = waiting.popleft()
            made = self._made(workload, now)
            mine = [one for one in made if one.act in acts]
            for other in made:
                if other.act in acts:
                    continue
                if any(independent(workload, now, one, other) is None for one in mine):
                    return False
                if other.state.raw not in met:
                    met.add(other.state.raw)
                    waiting.append(other.state)
        return True


def _moves(edges: Edges) -> int:
    return sum(map(len, edges.values()))


def act_of(move: Move, state: GlobalState) -> Act:
    """Return whose move it is, and what strikes it."""
    first, last = move.gates[0], move.gates[-1]
    if not state.ready or (first is not None and first.kind == TIME):
        return "time", first if not state.ready else None
    actor = first.actor if first is not None and first.kind in (FIRST, NEXT) else state.ready[0]
    return actor, None if last is None or last.kind == FIRST else last


def footprint(rig: SnapshotRig, move: Move, state: GlobalState, made: GlobalState) -> Footprint | None:
    """Return the footprint of the move that was made last."""
    actor, names = act_of(move, state)[0], list(rig.kernel.actors)
    if actor == "time" or made.clocks.number != state.clocks.number:
        return None
    step = rig._steps.find(rig._steps.key(move, state))
    events = rig.session.recorder.history.events if step is None else step.events
    witnesses = {place for event in events for _, place in rig.session.judge.watching(event)}
    touched: set[Thing] = {("actor", actor), ("told to stop", actor)}
    touched.update(("monitor", place) for place in witnesses)
    touched.update(thing for event in events if type(event) is Call for thing in _touched_by(event, rig))
    written: set[Thing] = {("actor", name) for name in state.stalled ^ made.stalled}
    written.update(("actor", names[place]) for place in _changed(state.actors, made.actors))
    written.update(("monitor", place) for place in _changed(state.monitors.parts, made.monitors.parts))
    written.update(("told to stop", name) for name in state.stopping ^ made.stopping)
    written.update(("budget", place) for place, left in enumerate(made.budgets) if left != state.budgets[place])
    written.update(("row", event.job) for event in events if type(event) is Observed)
    if _beside_rows(state) != _beside_rows(made):
        written.add(("beside the rows",))
    return Footprint(frozenset(touched | written), frozenset(written))


def _touched_by(call: Call, rig: SnapshotRig) -> Iterator[Thing]:
    yield ("beside the rows",)
    if call.verb in OF_ONE_ROW and not rig.scope.unique:
        yield ("row", call.job)
    else:
        yield from (("row", job) for job in rig.scenario.plan_of())


def _changed(before: Sequence[Any], after: Sequence[Any]) -> Iterator[int]:
    return (place for place, part in enumerate(after) if part.number != before[place].number)


def _beside_rows(state: GlobalState) -> list[int]:
    return [part.number for part in state.rows.parts if type(part) is Component]


SENSES = ("commute", "observed", "declared")
SAVED = {"pairs": "pairs", "sleep sets": "moves", "states": "states", "persistent sets": "moves", "both": "moves"}
"""What is counted in each sense, and of what it is a share."""


def name_of(scope: Scope) -> str:
    """Return the bounds of a scope, with what its sentence leaves out."""
    beside = ["one unique key"] * scope.unique
    beside += [f"{len(scope.priorities)} priorities"] * (len(scope.priorities) > 1)
    beside += [kind.ending for kind in scope.kinds if kind != JobKind()]
    return ", ".join((scope.sentence(), *beside))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else len(SCOPES)
    shown = ("states", "moves", "pairs", *[f"{part} {sense}" for part in ("pairs", "both") for sense in SENSES])
    heads = ["engine", "scope", "anomalies", *[name.replace("both", "moves skipped,") for name in shown]]
    print(f"| {' | '.join(heads)} |\n| --- | --- |{' ---: |' * (len(heads) - 2)}")
    total: Counter[str] = Counter()
    for target, scope in SCOPES[:count]:
        counter = PairCounter(target, scope)
        counter.run()
        assert counter.complete, f"{target}, {scope.sentence()}: {counter.stopped_by}"
        counts = counter.counts()
        total += counts
        cells = [target, name_of(scope), len(counter.sightings), *[counts[name] for name in shown]]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print(f"| all | | | {' | '.join(str(total[name]) for name in shown)} |")
    saved = (
        ("pairs that are independent", "pairs"),
        ("moves that sleep sets skip, at most", "sleep sets"),
        ("states that persistent sets skip", "states"),
        ("moves that persistent sets skip", "persistent sets"),
        ("moves that both skip", "both"),
    )
    print(f"\n| of all | {' | '.join(SENSES)} |\n| --- |{' ---: |' * len(SENSES)}")
    for sentence, part in saved:
        shares = [f"{100 * total[f'{part} {sense}'] / total[SAVED[part]]:.1f} %" for sense in SENSES]
        print(f"| {sentence} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
