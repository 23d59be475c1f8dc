"""A finding outside the search that found it: the file that keeps it, what its replay comes to, where engines part.

Whatever goes wrong here costs only itself: it is a value that says so, and the caller prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from job_harness.core.invariants import kind_of
from job_harness.core.port import Engine
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.document import ScenarioError
from job_harness.core.scenario.scenario import FOUND, Scenario
from job_harness.core.scenario.writer import write_scenario
from job_harness.core.target import Target
from job_harness.errors import HarnessError, UsageError
from job_harness.review.audit.judging import audited
from job_harness.search.finding import ScenarioFinding
from job_harness.search.lockstep import Divergence, compare

FOUND_FOLDER: Final = Path(".job-harness") / "found"
"""Where a finding is written by default."""


def scenario_of(finding: ScenarioFinding, *, queue: str | None, application: str | None) -> Scenario:
    """Return the scenario that replays a finding, titled; `queue` and `application` say on what it stands."""
    return replace(
        finding.scenario,
        title=f"{finding.anomaly}{FOUND}",
        why=kind_of(finding.anomaly).sentence,
        queue=queue,
        application=application,
    )


def keep(scenario: Scenario, write: Callable[[str], None]) -> str:
    """Write a scenario by `write`, which takes its text; return why that cannot be done, or nothing."""
    try:
        text = write_scenario(scenario)
        from job_harness.core.scenario.reader import (
            read_scenario_text,  # and pydantic: only who keeps a finding reads it back
        )

        if read_scenario_text(text) != scenario:
            raise UsageError("a scenario file cannot hold this run: read back, it is another one")
        write(text)
    except ScenarioError as error:
        return f"a scenario file cannot hold this run: {error.problems[0].message}"
    except HarnessError as error:
        return error.message
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return ""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What it came to when a finding was replayed on an engine."""

    engine: Target
    run: Run | None = None
    problem: str = ""
    """Why it was not replayed, or not compared."""
    compared: bool = False
    """Whether it was held beside the engine on which it was found: only where the anomaly does not show here."""
    divergence: Divergence | None = None
    """The first step at which the two differ."""


def reproduce(
    scenario: Scenario, anomaly: str, *, engine: Target, found_on: Target, get: Callable[[Target], Engine]
) -> Reproduction:
    """Replay on an engine; where the anomaly does not show there, compare the two verb by verb."""
    try:
        run = audited(play(scenario, engine=get(engine)))
        if engine == found_on or anomaly in run.found:
            return Reproduction(engine, run)
        compared = compare(scenario, left=get(found_on), right=get(engine))
    except HarnessError as error:
        return Reproduction(engine, problem=error.message)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a target may raise anything; the finding stands all the same
        return Reproduction(engine, problem=f"{type(error).__name__}: {error}")
    return Reproduction(engine, run, compared=True, divergence=compared.divergence)
