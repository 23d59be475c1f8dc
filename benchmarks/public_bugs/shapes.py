"""What the smallest scenarios of bugs have: shapes that entries name."""

from __future__ import annotations

from collections import Counter
from typing import Final

from job_harness.core.scenario.job_plan import Ending
from job_harness.core.scenario.scenario import Scenario
from public_bugs.entry import Shape


def _shares_a_key(scenario: Scenario) -> bool:
    keys = Counter(job.unique_key for job in scenario.jobs for _ in range(job.count) if job.unique_key is not None)
    return any(count > 1 for count in keys.values())


def _meddles_with_clocks(scenario: Scenario) -> bool:
    return any(" clock " in deviation.option for deviation in scenario.tape)


def ends_with(ending: Ending, about: str) -> Shape:
    """Return the shape of a bug that needs an attempt that ends so."""
    return Shape(about, lambda scenario: any(ending in job.outcomes for job in scenario.jobs))


SHARED_KEY: Final = Shape("two jobs with one unique key", _shares_a_key)
NUL: Final = ends_with(Ending.RAISE_NUL, "an error whose text holds a NUL")
ONE_TO_A_CLAIM: Final = Shape("claims of one job", lambda scenario: scenario.settings.batch_size == 1)
PLAIN: Final = Shape(
    "no hostile job", lambda scenario: all(set(job.outcomes) <= {Ending.SUCCEED, Ending.FAIL} for job in scenario.jobs)
)
ABORT: Final = Shape(
    "a statement that the database aborts",
    lambda scenario: any(deviation.option == "abort" for deviation in scenario.tape),
)
FAILURE: Final = Shape(
    "an attempt that fails", lambda scenario: any(set(job.outcomes) - {Ending.SUCCEED} for job in scenario.jobs)
)
LIMIT: Final = Shape(
    "a limit of jobs at once",
    lambda scenario: bool(scenario.settings.concurrency or scenario.settings.tool_concurrency),
)
CANCELLED: Final = Shape(
    "a job that is cancelled", lambda scenario: any(job.cancel_after is not None for job in scenario.jobs)
)
SCHEDULED: Final = Shape("a schedule", lambda scenario: any(job.scheduled for job in scenario.jobs))
CLOCK: Final = Shape("a clock that is off", _meddles_with_clocks)
RIGHT_CLOCKS: Final = Shape("clocks that are right", lambda scenario: not _meddles_with_clocks(scenario))
MANY_ATTEMPTS: Final = Shape(
    "a job that may be tried more than twenty times",
    lambda scenario: any((job.max_attempts or 0) > 20 for job in scenario.jobs),
)
CRASH: Final = Shape(
    "a worker that crashes", lambda scenario: any(deviation.option.startswith("crash") for deviation in scenario.tape)
)
