"""Checks of more than one delivery: a queue delivers at least once, and sometimes twice at once."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from harness.model.json_value import canonical
from harness.processors.contract.check import MOST_SHOWN, Check, Finding, Outcome, failed_unless_empty
from harness.processors.contract.probe import Probe
from harness.processors.contract.trial import World

NO_EFFECTS = "no side effect was declared with effect(...): only answers were compared"
OTHERWISE = "another process would have its own: make it inside the processor, where it is first used"
Effects = list[tuple[str, Any]]


def same_input_twice(probe: Probe) -> Finding:
    """Judge a job that is delivered again after it was done, as after a lost reply."""
    world = probe.twice
    found = _last_fails(world, "delivered again after it had succeeded")
    found += [f"delivered twice, {told}" for told in _repeated(probe, world)]
    return failed_unless_empty(found, *_notes(probe))


def survives_crash(probe: Probe) -> Finding:
    """Judge a job whose process dies at each moment, and which is delivered again."""
    unsafe = bool(_repeated(probe, probe.twice))
    found, undecided = [], []
    for at, world in probe.crashed:
        where = f"killed at moment {at}{_after(world)}{_at(world)} and delivered again"
        if world.last.in_vain is not None:
            undecided.append(f"{where}, {world.last.in_vain}; {OTHERWISE}")
            continue
        found += _last_fails(world, where)
        found += [f"{where}, {told}" for told in _lost(probe, world)]
        if not unsafe:
            found += [f"{where}, {told}" for told in _repeated(probe, world)]
    covered = f"killed at {probe.coverage(len(probe.crashed), first=2)}"
    return _decided(found, undecided, covered, *_notes(probe))


def survives_zombie(probe: Probe) -> Finding:
    """Judge a delivery that stalls, loses its lease to a twin, and goes on when the twin is done."""
    if _repeated(probe, probe.twice):
        return Finding(
            Outcome.INCONCLUSIVE, ("two deliveries one after the other are not safe yet: repair that first",)
        )
    found, undecided = [], []
    for at, world in probe.stalled:
        where = f"stalled at moment {at}{_after(world)}{_at(world)} while a second delivery ran to its end"
        if world.broken:
            found.append(f"{where}: {world.broken}")
            continue
        twin = world.last
        if twin.in_vain is not None:
            undecided.append(f"{where}: {twin.in_vain}; {OTHERWISE}")
            continue
        if not twin.succeeded:
            found.append(f"{where}: the second delivery did not succeed, {twin.words}")
        found += [f"{where}, {told}" for told in (*_lost(probe, world), *_repeated(probe, world))]
    covered = f"stalled at {probe.coverage(len(probe.stalled), first=2)}"
    return _decided(found, undecided, covered, *_notes(probe))


def _decided(found: list[str], undecided: list[str], *notes: str) -> Finding:
    if undecided and not found:
        return Finding(Outcome.INCONCLUSIVE, tuple(undecided[:MOST_SHOWN]))
    return failed_unless_empty(found, *notes)


def _last_fails(world: World, where: str) -> list[str]:
    if world.broken:
        return [f"{where}: {world.broken}"]
    return [] if world.last.succeeded else [f"{where}, {world.last.words}"]


def _repeated(probe: Probe, world: World) -> list[str]:
    """Name the side effects that happened more often than without a disturbance."""
    usual = _counted(_usual(probe))
    return [
        f"{_shown(key)} happened {count} times"
        for key, count in _counted(world.effects).items()
        if count > max(1, usual[key]) and key[0] not in probe.repeatable
    ]


def _lost(probe: Probe, world: World) -> list[str]:
    """Name the side effects that never happened although the job was answered as a success."""
    if not world.last.succeeded:
        return []
    there = _counted(world.effects)
    return [
        f"it answered success and {_shown(key)} never happened" for key in _counted(_usual(probe)) if not there[key]
    ]


def _usual(probe: Probe) -> Effects:
    assert probe.good is not None
    return list(probe.good.world.first.effects)


def _counted(effects: Effects) -> Counter[tuple[str, str]]:
    return Counter((name, canonical(data)) for name, data in effects)


def _shown(key: tuple[str, str]) -> str:
    return f"{key[0]} {key[1]}" if key[1] != "{}" else key[0]


def _after(world: World) -> str:
    names = [name for name, _ in world.first.effects]
    return f", after {', '.join(names)}," if names else ""


def _at(world: World) -> str:
    return f" ({world.first.place})" if world.first.place else ""


def _notes(probe: Probe) -> list[str]:
    return [] if _usual(probe) else [NO_EFFECTS]


DELIVERIES: Final = (
    Check(
        "same_input_twice",
        "Delivered again after it has succeeded, it succeeds again and does nothing outside a second time.",
        "Hand job.id to the outside world as an idempotency key, or record what was done in the same transaction.",
        same_input_twice,
        needs_success=True,
    ),
    Check(
        "survives_crash",
        "Killed at any moment and delivered again, it completes, with every side effect and none twice.",
        "Record a step as done only after it is done, in one transaction with it or keyed by job.id.",
        survives_crash,
        needs_success=True,
    ),
    Check(
        "survives_zombie",
        "A delivery that stalls and goes on after its twin has ended does nothing a second time.",
        "Look whether the job is still yours right before a side effect, or let the receiver refuse a repeated key.",
        survives_zombie,
        needs_success=True,
    ),
)
