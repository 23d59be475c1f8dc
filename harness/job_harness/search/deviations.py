"""Which single deviation comes first: one order for every search that knows the gates of an undisturbed run.

A death right after something left the process (a declared effect, an outside call, a job that was
sent) repeats it, so that is tried first, then one right before. Where jobs share a step, one stands
still there while the others go on: at each place once, before a place that had its turn for one job
has it for another. Each of these has its turn from the first runs on, and among gates alike the
first at a place comes before its repetitions: a loop of forty waits is tried once before anything
is tried forty times. The rest follows, the gravest first; and in each turn one outside call fails,
which is the last of the turn: what is found by a death is found as early as without it. Must not
know: tests, workloads, what a fault does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from string import digits
from typing import Final, NamedTuple

from job_harness.core.faults import gravest_first
from job_harness.core.faults.messages import OUTSIDE_CALL
from job_harness.core.faults.outages import HOST, LAG
from job_harness.core.faults.processes import BRIEFLY, CRASH, DIES, STANDS_STILL
from job_harness.core.sim import OTHERS_FIRST, Deviation, Option

Gate = tuple[str, int, tuple[Option, ...]]
"""Label, number and options."""
AS_LONG_AS_A_RUN: Final = "a timeout"
"""How long a host is in trouble where that is aimed at: each way has one length, or they would keep deaths waiting."""
LEAVING: Final = ("after ", "reply of ")
"""How the place begins where an outside call has just been answered, or a job was sent."""


class GatePlace(NamedTuple):
    """Where a gate is: who stands there, in front of what, for which job."""

    actor: str
    step: str
    job: str

    @classmethod
    def of(cls, label: str) -> GatePlace:
        """Read a label."""
        actor, _, rest = label.partition(" ")
        step, _, job = rest.rpartition(" ")
        return cls(actor, step or rest, job if step else "")


def process_of(actor: str) -> str:
    """Return the process of a system that an actor is one of, without the number of its instance."""
    return actor.rstrip(digits)


def places_to_strike(gates: Iterable[Gate], *, job: str) -> tuple[tuple[GatePlace, Option], ...]:
    """Return where a process may die in a run of this one job: what came up once is its work, what came often a poll.

    So the rarest come first. A place that names the job is the same for every job. Where a process
    calls a host, that may also be in trouble, in each of the ways, and where it commits, a replica
    may begin to lag: these come before any death. So do pauses before the commits of a process that
    is no worker: a job that it has sent by another store, the workers have by then, and not the
    rows that it is about to commit.
    """
    met = Counter[tuple[GatePlace, Option]]()
    for label, _, options in gates:
        place = GatePlace.of(label)
        place = place._replace(actor=process_of(place.actor), job="" if place.job == job else place.job)
        met.update((place, option) for option in options if option == DIES or _is_trouble(option))
        if place.step.partition(" ")[0] == "commit" and place.actor != WORKER and BRIEFLY in options:
            met[place, BRIEFLY] += 1
    return tuple(sorted(met, key=lambda each: (each[1] == DIES, met[each])))


WORKER: Final = "w"
"""What `process_of` makes of the names of workers."""


def _is_trouble(option: Option) -> bool:
    return option.kind in (HOST.id, LAG.id) and option.argument == AS_LONG_AS_A_RUN


def singles_first(
    gates: Sequence[Gate], *, effects: Collection[str], answers: Iterable[Deviation] = ()
) -> list[Deviation]:
    """List every single deviation that breaks something by itself, in the order in which they are worth a run.

    `effects` are the names of declared side effects: a gate of that name stands right after one. `answers` are those
    that something outside may give instead of its first.
    """
    places = {label: GatePlace.of(label) for label, _, _ in gates}
    calls, others = ([gate for gate in gates if _is_call(gate) is wanted] for wanted in (True, False))
    failing = (Deviation(*gate[:2], option.words) for gate in _new_places_first(calls, places) for option in gate[2])
    ranked = _new_places_first(others, places)
    jobs = Counter(step for step, _ in {(place.step, place.job) for place in places.values() if place.job})
    left = [gate for gate in ranked if places[gate[0]].step in effects or places[gate[0]].step.startswith(LEAVING)]
    shared = [gate for gate in ranked if jobs[places[gate[0]].step] > 1]
    new = {*{places[gate[0]].step: gate for gate in reversed(ranked)}.values()}
    waits = sorted([*left, *shared], key=lambda gate: gate not in new)
    grave = gravest_first()
    dies, dies_late = (option for option in grave if option.kind == CRASH.id)
    stands = next(option for option in grave if STANDS_STILL.reads(option.words))
    first = (
        _each(left, dies),
        iter(answers),
        _each(waits, stands),
        _each(_before(left, others, places), dies),
        _each(ranked, dies),
        _each(ranked, dies_late),
        _each(shared, OTHERS_FIRST),
        _by_turns([_each([*left, *ranked], option) for option in (*grave, OTHERS_FIRST)]),
        failing,
    )
    return list(dict.fromkeys(_by_turns(first)))


def _is_call(gate: Gate) -> bool:
    return any(option.kind == OUTSIDE_CALL for option in gate[2])


def _new_places_first(gates: Sequence[Gate], places: Mapping[str, GatePlace]) -> list[Gate]:
    """Sort by how often a step of a process came up before, whichever job it was for; workers before maintenance."""
    seen: Counter[tuple[bool, str]] = Counter()
    nth: list[tuple[int, int, Gate]] = []
    for gate in gates:
        place = places[gate[0]]
        worker = place.actor.startswith("worker-")
        seen[worker, place.step] += 1
        nth.append((seen[worker, place.step], not worker, gate))
    return [gate for *_, gate in sorted(nth, key=lambda one: one[:2])]


def _before(left: Sequence[Gate], gates: Sequence[Gate], places: Mapping[str, GatePlace]) -> list[Gate]:
    """Return for each of these gates the one of the same job before it: what lies between them cannot be parted."""
    last: dict[str, Gate] = {}
    found: dict[tuple[str, int], Gate] = {}
    for gate in gates:
        job = places[gate[0]].job
        if job in last:
            found[gate[:2]] = last[job]
        last[job] = gate
    return [found[gate[:2]] for gate in left if gate[:2] in found]


def _each(gates: Iterable[Gate], option: Option) -> Iterator[Deviation]:
    return (Deviation(label, nth, option.words) for label, nth, options in gates if option in options)


def _by_turns(parts: Iterable[Iterator[Deviation]]) -> Iterator[Deviation]:
    """Take one of each in turn, until all are used up."""
    return (one for turn in zip_longest(*parts) for one in turn if one is not None)
