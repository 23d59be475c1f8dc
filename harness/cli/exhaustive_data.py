"""What an exhaustive search came to, as JSON: what the screen says, and the new states by depth."""

from __future__ import annotations

import json
from typing import NamedTuple

from harness.cli.campaign_screen import Told, finding_data
from harness.errors import ExitCode, HarnessError
from harness.exhaust.search import Explorer, statement
from harness.explore.finding import Finding
from harness.report.wording import changed_settings


class Ending(NamedTuple):
    """How a search ended."""

    seconds: float
    interrupted: bool
    trouble: HarnessError | None


class Shown(NamedTuple):
    """A finding, and what was said of it."""

    finding: Finding
    told: Told


def exhaustive_data(explorer: Explorer, ending: Ending, *, told: list[Shown]) -> str:
    """Write the verdict, the scope and the findings."""
    progress, scope, trouble = explorer.progress, explorer.scope, ending.trouble
    data = {
        "engine": explorer.engine.name,
        "verdict": _verdict(explorer, trouble),
        "complete": explorer.complete,
        "interrupted": ending.interrupted,
        "stopped_by": explorer.stopped_by or None,
        "trouble": None if trouble is None else trouble.message,
        "statement": statement(explorer, ending.seconds, interrupted=ending.interrupted),
        "scope": scope.sentence(),
        "kinds": [str(kind) for kind in scope.kinds],
        "settings": {name: value for name, (value, _) in changed_settings(scope.settings).items()},
        "states": progress.states,
        "transitions": progress.transitions,
        "depth": progress.depth,
        "new_states_by_depth": progress.layers,
        "waiting": progress.frontier,
        "seconds": round(ending.seconds, 3),
        "anomalies": sorted(explorer.sightings),
        "findings": [finding_data(*shown) for shown in told],
    }
    return json.dumps(data, indent=2) + "\n"


def _verdict(explorer: Explorer, trouble: HarnessError | None) -> str:
    if explorer.sightings or (trouble is not None and trouble.exit_code is ExitCode.FAIL):
        return "fail"
    return "pass" if explorer.complete else "inconclusive"
