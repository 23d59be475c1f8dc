"""The run before all others of a search: nothing goes wrong in it, so what it does not come to no other run can judge.

It is judged by the target itself, for only that knows what has to happen in it.
"""

from __future__ import annotations

from typing import Final

from job_harness.core.port import Engine
from job_harness.core.run.session import Limits, Session
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.errors import HarnessError
from job_harness.search.search_time import SearchTime
from job_harness.search.watchdog import StepWatchdog

SHORT: Final = Limits(steps=2_000)
"""Most systems are at rest by then; one that never is may have shown all by then."""
UNDISTURBED: Final = "undisturbed"
"""The one job that is sent."""
WORKERS: Final = ("w1", "w2", "w3")


def play_undisturbed(engine: Engine, *, limits: Limits, watchdog: StepWatchdog, search_time: SearchTime) -> None:
    """Play the undisturbed run of a target that judges one. Raises what it says of a run by which nothing is judged."""
    judge = engine.info.undisturbed
    if judge is None:
        return
    scenario = Scenario(
        title="undisturbed",
        jobs=(JobPlan(UNDISTURBED),),
        workers=WORKERS,
        settings=engine.info.settings or Scenario().settings,
    )

    def play(most: Limits) -> Run:
        watchdog.opening()
        try:
            session = Session(scenario, engine=engine, limits=most)
            watchdog.watch(session)
            search_time.watch(session)
            return session.run_for_good()
        finally:
            watchdog.done()
            search_time.done()

    run = play(SHORT)
    try:
        judge(run)
    except HarnessError:
        if not run.cut or search_time.over:
            raise
        judge(play(limits))
