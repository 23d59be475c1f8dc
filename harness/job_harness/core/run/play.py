"""Plays one scenario on one engine the way its file says: the outcome, what could not be judged, what explains it.

Every judge of a scenario does it here: the command line, pytest, the conformance suite. Knows no
names of engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from job_harness.core.history import History
from job_harness.core.model import Settings, format_duration
from job_harness.core.port import Contract, Engine
from job_harness.core.run.context import RealProcessors
from job_harness.core.run.session import NO_FAULTS, Limits, Session, as_on_tape
from job_harness.core.run.verdict import Run, Verdict
from job_harness.core.scenario.scenario import Scenario, needed_capabilities
from job_harness.core.sim import Boring, Choices, Replay, Uniform
from job_harness.errors import EnvironmentUnavailable

DEFAULTS: Final = Settings()
DURATIONS: Final = Settings.duration_names()
NO_LIMITS = Limits()
"""Those of every run."""
MOST_PLACES: Final = 12
"""How many of the places that did come up are named beside one that did not."""
REPLAYED_AT_MOST: Final = 5
"""How often a tape is played until a database lets its waiting sessions go in the order that the tape has."""


class Played(NamedTuple):
    """A scenario that was played, and what the engine's contract says of its failure."""

    run: Run
    explanation: Explanation | None


def examine(scenario: Scenario, *, engine: Engine, **options: Any) -> Played:
    """Play a scenario as `play` does, and look in the engine's contract for what explains its failure."""
    run = play(scenario, engine=engine, **options)
    return Played(run, explanation(case_name(scenario.path), run, engine.info.contract))


def case_name(path: str) -> str:
    """Name a scenario as contracts do: its folder and file."""
    return "/".join(Path(path).with_suffix("").parts[-2:])


class ExplanationKind(StrEnum):
    """Two explanations of a failure."""

    DIFFERENT = "different"
    """The engine documents that it does this otherwise, and no promise is broken."""
    KNOWN = "known"
    """A promise is broken, and that is recorded."""


class Explanation(NamedTuple):
    """One of them, with its place."""

    kind: ExplanationKind
    place: str


def explanation(name: str, run: Run, contract: Contract) -> Explanation | None:
    """Return what a contract says of a scenario (`theme/name`) that failed; None where it did not, or nothing is said.

    A documented difference excuses what a scenario expects; an anomaly has to be among those that
    are known of it.
    """
    if run.verdict is not Verdict.FAIL:
        return None
    known = contract.known.get(name)
    if run.anomalies:
        told = known is not None and run.found <= known.anomalies
        return Explanation(ExplanationKind.KNOWN, known.place) if told and known is not None else None
    place = contract.differences.get(name)
    return None if place is None else Explanation(ExplanationKind.DIFFERENT, place)


def play(
    scenario: Scenario,
    *,
    engine: Engine,
    seed: int | None = None,
    processors: Callable[[Scenario], RealProcessors] | None = None,
    limits: Limits = NO_LIMITS,
    choices: Choices | None = None,
) -> Run:
    """Run a scenario. Its tape decides what is undetermined; without one a seed does; without both, the boring choice.

    `choices` decide in their place, with every fault possible.

    `processors` opens the scenario's real processors; without it their jobs are scripted, and the run inconclusive.
    What the engine cannot do, and what the tape names and the run never came to, makes the run inconclusive. A tape is
    played again, `REPLAYED_AT_MOST` times, where a database let its waiting sessions go in another order.
    Raises whatever the engine raises where it breaks outside a verb.
    """
    missing = uncovered_capabilities(scenario, engine)
    remarks: tuple[str, ...] = ()
    if missing and _found_there(scenario, engine):
        remarks, missing = (f"settings changed since it was found: {_changed_since(scenario, engine)}",), ()
        scenario = replace(scenario, settings=engine.info.contract.effective(scenario.settings))
    if missing:
        return Run(scenario, engine.info.name, history=History(), tape=(), uncovered=missing, seed=seed)
    for _ in range(1 if choices is not None else REPLAYED_AT_MOST):
        run, as_picked = _played(scenario, engine, seed, processors, limits, choices)
        if as_picked:
            break
    return replace(run, remarks=(*remarks, *run.remarks))


def _played(
    scenario: Scenario,
    engine: Engine,
    seed: int | None,
    processors: Callable[[Scenario], RealProcessors] | None,
    limits: Limits,
    choices: Choices | None,
) -> tuple[Run, bool]:
    """Run it once. Also return whether everything outside, such as the order of lock waits, was as the tape has it."""
    faults = NO_FAULTS if choices is None and not scenario.tape else as_on_tape()
    choices, used_seed = _choices(scenario, seed) if choices is None else (choices, seed)
    real: RealProcessors | None = None
    unanswered: list[str] = []
    if scenario.processors and processors is not None:
        try:
            real = processors(scenario)
        except EnvironmentUnavailable as error:
            missing = f"{error.message}; {error.hint}" if error.hint else error.message
            return Run(scenario, engine.info.name, history=History(), tape=(), uncovered=(missing,), seed=seed), True
    else:
        unanswered = _scripted(scenario)
    left: list[str] = []
    try:
        session = Session(scenario, engine=engine, choices=choices, faults=faults, processors=real, limits=limits)
        run = session.run()
    finally:
        if real is not None:
            left = real.close()
    run = replace(run, failures=(*left, *run.failures))  # What hung or was left explains the outcome.
    uncovered = (*run.uncovered, *_unused(choices), *unanswered)
    run = replace(run, uncovered=uncovered, remarks=tuple(_ignored(scenario, engine)), seed=used_seed)
    return run, not session.kernel.surprises


def _found_there(scenario: Scenario, engine: Engine) -> bool:
    """Whether this is a finding on this very target, which lacks nothing and has another setting by now.

    It says what went wrong and expects nothing, so it is judged under the settings that the target
    has today: a longer lease in a queue file may be the repair.
    """
    found_on_it = bool(scenario.about) and scenario.application == engine.info.name
    return found_on_it and not scenario.expect and not _lacking(scenario, engine)


def uncovered_capabilities(scenario: Scenario, engine: Engine) -> tuple[str, ...]:
    """Say, one sentence each, what a scenario needs and an engine does not have."""
    return _lacking(scenario, engine) or fixed_otherwise(scenario, engine, asked=True)


def _lacking(scenario: Scenario, engine: Engine) -> tuple[str, ...]:
    needed = needed_capabilities(scenario)
    return tuple(
        f"{engine.info.name} has no {name}, which {needed[name]} needs; run it on an engine that has it"
        for name in engine.info.capabilities.missing(needed)
    )


def fixed_otherwise(scenario: Scenario, engine: Engine, *, asked: bool = False) -> tuple[str, ...]:
    """Name the first setting that an engine has no way to take, and that a scenario wants to be another.

    `asked`: only what it asks for, and not what it leaves at its default. Then it can be played all the same: what it
    finds is so, and only what it expects may be for the other setting.
    """
    for name, fixed, wanted in _fixed_settings(scenario, engine):
        if wanted != fixed and not (asked and wanted == getattr(DEFAULTS, name)):
            at, written = _write_setting(name, fixed), _write_setting(name, wanted)
            return (f"{engine.info.name} fixes {name} at {at}, and this is written for {written}",)
    return ()


def _ignored(scenario: Scenario, engine: Engine) -> Iterator[str]:
    """Say, one sentence each, what a scenario sets and the engine goes on without."""
    contract = engine.info.contract
    own = contract.effective(DEFAULTS) if contract.ignored else DEFAULTS
    for name, place in contract.ignored.items():
        wanted = getattr(scenario.settings, name)
        if wanted not in (getattr(own, name), getattr(DEFAULTS, name)):
            yield f"{name} {_write_setting(name, wanted)} changes nothing on {engine.info.name}: {place}"


def _changed_since(scenario: Scenario, engine: Engine) -> str:
    changes = _fixed_settings(scenario, engine)
    return ", ".join(
        [
            f"{name} {_write_setting(name, was)} -> {_write_setting(name, now)}"
            for name, now, was in changes
            if was != now
        ]
    )


def _fixed_settings(scenario: Scenario, engine: Engine) -> Iterator[tuple[str, Any, Any]]:
    """Yield what an engine has no way to take: its name, what it is there, and what the scenario says."""
    contract = engine.info.contract
    own = contract.effective(scenario.settings)
    for name in sorted(contract.fixed):
        yield name, getattr(own, name), getattr(scenario.settings, name)


def _write_setting(name: str, value: Any) -> str:
    return format_duration(value) if name in DURATIONS else str(value).lower()


def _choices(scenario: Scenario, seed: int | None) -> tuple[Choices, int | None]:
    if scenario.tape:
        return Replay(scenario.tape), None
    return (Boring(), None) if seed is None else (Uniform(seed), seed)


def _unused(choices: Choices) -> list[str]:
    unused = choices.unused if type(choices) is Replay else []
    met = choices.met if type(choices) is Replay else {}
    return [f"cannot be replayed: `{item}` never came up here{_places_met(item.label, met)}" for item in unused]


def _places_met(label: str, met: Mapping[str, int]) -> str:
    """Say which places of the same actor did come up, and how often."""
    actor = label.partition(" ")[0]
    own = {each: count for each, count in met.items() if each.partition(" ")[0] == actor}
    known = [f"`{each}`{f' {count} times' if count > 1 else ''}" for each, count in own.items()]
    return f"; of {actor} these did: {', '.join(known[:MOST_PLACES])}" if known else ""


def _scripted(scenario: Scenario) -> list[str]:
    return [
        f"{plan.run} was not run for {tool!r}: its jobs were scripted; run the scenario itself to have it run"
        for tool, plan in scenario.processors.items()
    ]
