"""What producers and operators do under a state machine: send jobs of every kind, send them again, cancel, retry."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from harness.explore.machine_features import featured
from harness.explore.machine_play import JOBS, WHICH, Play, can, some
from harness.explore.workload import DELAYS, ENDINGS, SPANS
from harness.scenario.job_plan import JobPlan


class Producers(Play):
    """Rules of those who send jobs and look after them."""

    @precondition(lambda machine: machine._room())
    @rule(
        ending=st.sampled_from((*("succeeds",) * len(ENDINGS), *ENDINGS)),
        takes=st.sampled_from((*("1s",) * len(SPANS), *SPANS)),
        priority=st.sampled_from((0, 5, -5)),
        start_after=st.sampled_from((*("none",) * 8, *DELAYS)),
        unique_key=st.sampled_from((None, None, None, "k")),
        claimed=st.booleans(),
        which=st.integers(0, 11),
    )
    def enqueue(
        self,
        ending: str,
        takes: str,
        priority: int,
        start_after: str,
        unique_key: str | None,
        claimed: bool,
        which: int,
    ) -> None:
        """Send a new job, and let an idle worker claim at once."""
        able = self.engine.info.capabilities
        delay = DELAYS[start_after] if able.start_after else None
        plan = JobPlan(
            JOBS[len(self._plans)],
            outcomes=ENDINGS[ending],
            takes=(SPANS[takes],),
            priority=priority if able.priorities else 0,
            start_after=None if delay is None else delay.resolve(self.session.settings),
            unique_key=unique_key if able.unique else None,
            held_back=True,
        )
        plan = featured(self._feature, plan, which, self.session.settings)
        self._plans.append(plan)
        self.session.plan_job(plan)
        self.play(f"enqueue {plan.name}")
        if claimed and (claims := self._claims()):
            self._play_one(claims, len(self._plans))

    @precondition(some("_outside"))
    @rule(which=WHICH)
    def enqueue_again(self, which: int) -> None:
        """Send a job that was sent before."""
        self.play(f"enqueue {self._outside()[which % len(self._outside())].name}")

    @precondition(can("cancel"))
    @precondition(some("_jobs"))
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """Cancel a job, whatever its status."""
        self.play(f"cancel {self._plans[which % len(self._plans)].name}")

    @precondition(can("retry"))
    @precondition(some("_jobs"))
    @rule(which=WHICH)
    def retry(self, which: int) -> None:
        """Open a new attempt budget, whatever the status."""
        self.play(f"retry {self._plans[which % len(self._plans)].name}")
