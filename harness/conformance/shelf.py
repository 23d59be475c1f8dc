"""Where the cases are: scenario files, in the installed package or in a checkout beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from harness.conformance.level import Level
from harness.errors import EnvironmentUnavailable
from harness.scenario.reader import read_scenario
from harness.scenario.scenario import Scenario

HERE: Final = Path(__file__).resolve().parent
PLACES: Final = (HERE / "scenarios", HERE.parents[1] / "scenarios")


class Case(NamedTuple):
    """One scenario of a level; its name is its folder and file."""

    level: Level
    name: str
    scenario: Scenario


def cases(levels: Collection[Level] = tuple(Level), *, queues: Collection[str] | None = None) -> Iterator[Case]:
    """Answer the cases of these levels, in order. `queues` are the wrong queues that their controls may name.

    Raises EnvironmentUnavailable where the installation has no scenarios, ScenarioError for one that is broken.
    """
    root = next((place for place in PLACES if place.is_dir()), None)
    if root is None:
        raise EnvironmentUnavailable(
            f"this installation has no scenarios in {PLACES[0]}", hint="Install job-harness again."
        )
    for level in Level:
        if level not in levels:
            continue
        for theme in level.themes:
            for path in sorted((root / theme).glob("*.yaml")):
                scenario = read_scenario(path, queues=queues)
                yield Case(level, f"{theme}/{path.stem}", replace(scenario, path=f"{theme}/{path.name}"))
