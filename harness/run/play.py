"""Plays one scenario on one engine the way its file says, and tells what could not be judged there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.errors import EnvironmentUnavailable
from harness.history.event import History
from harness.port import Engine
from harness.run.processing import RealProcessors
from harness.run.session import NO_FAULTS, Limits, Session, as_on_tape
from harness.run.verdict import Run
from harness.scenario.scenario import Scenario, needed_capabilities
from harness.sim.choices import Boring, Choices, Replay, Uniform

NO_LIMITS = Limits()
"""Those of every run."""


def play(
    scenario: Scenario,
    *,
    engine: Engine,
    seed: int | None = None,
    processors: Callable[[Scenario], RealProcessors] | None = None,
    limits: Limits = NO_LIMITS,
) -> Run:
    """Run a scenario. Its tape answers what is undetermined; without one a seed does; without both, the boring answer.

    `processors` opens the scenario's real processors; without it their jobs are scripted, and the run inconclusive.
    What the engine cannot do, and what the tape names and the run never came to, makes the run inconclusive.
    Raises whatever the engine raises where it breaks outside a verb.
    """
    missing = uncovered_capabilities(scenario, engine)
    if missing:
        return Run(scenario, engine.name, history=History(), tape=(), uncovered=missing, seed=seed)
    choices, used_seed = _choices(scenario, seed)
    faults = as_on_tape() if scenario.tape else NO_FAULTS
    real: RealProcessors | None = None
    unanswered: list[str] = []
    if scenario.processors and processors is not None:
        try:
            real = processors(scenario)
        except EnvironmentUnavailable as error:
            missing = (f"{error.message}; {error.hint}" if error.hint else error.message,)
            return Run(scenario, engine.name, history=History(), tape=(), uncovered=missing, seed=seed)
    else:
        unanswered = _scripted(scenario)
    try:
        session = Session(scenario, engine=engine, choices=choices, faults=faults, processors=real, limits=limits)
        run = session.run()
    finally:
        if real is not None:
            real.close()
    return replace(run, uncovered=(*run.uncovered, *_unused(choices), *unanswered), seed=used_seed)


def uncovered_capabilities(scenario: Scenario, engine: Engine) -> tuple[str, ...]:
    """Say, one sentence each, what a scenario needs and an engine does not have."""
    needed = needed_capabilities(scenario)
    return tuple(
        f"{engine.name} has no {name}, which {needed[name]} needs; run it on an engine that has it"
        for name in engine.capabilities.missing(needed)
    )


def _choices(scenario: Scenario, seed: int | None) -> tuple[Choices, int | None]:
    if scenario.tape:
        return Replay(scenario.tape), None
    return (Boring(), None) if seed is None else (Uniform(seed), seed)


def _unused(choices: Choices) -> list[str]:
    unused = choices.unused if type(choices) is Replay else []
    return [f"the tape no longer fits: `{item}` never came up here" for item in unused]


def _scripted(scenario: Scenario) -> list[str]:
    return [
        f"{plan.run} was not run for {tool!r}: its jobs were scripted; run the scenario itself to have it run"
        for tool, plan in scenario.processors.items()
    ]
