"""What the workers of a state machine do: claim, start, settle, and act with a claim that was taken back."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from harness.explore.machine_acts import next_act, when
from harness.explore.machine_play import WHICH, Play, some
from harness.explore.machine_standing import HOLDING
from harness.model.duration import format_duration
from harness.model.job import JobId
from harness.sim.actor import Actor, State

STEPS_TO_IDLE = 6
"""Start, heartbeat and settle, for a batch of two."""


class Workers(Play):
    """Rules of the workers."""

    @precondition(some("_claims"))
    @rule(which=WHICH)
    def claim(self, which: int) -> None:
        """Let an idle worker claim."""
        self._play_one(self._claims(), which)

    @precondition(some("_acts", "start"))
    @rule(which=WHICH)
    def start(self, which: int) -> None:
        """Let a worker start the job that it claimed."""
        self._play_one(self._acts("start"), which)

    @precondition(some("_acts", "complete", "start"))
    @rule(which=WHICH)
    def complete(self, which: int) -> None:
        """Let a worker run to the end of its job and complete it."""
        self._settle("complete", which)

    @precondition(some("_acts", "fail", "start"))
    @rule(which=WHICH)
    def fail(self, which: int) -> None:
        """Let a worker run to the end of its job and report its failure."""
        self._settle("fail", which)

    def _settle(self, verb: str, which: int) -> None:
        acts = self._acts(verb, "start")
        act = acts[which % len(acts)]
        if act.verb == "start":
            self.play(act.text)
            acts = [later for later in self._acts(verb) if later.actor == act.actor]
        if acts:
            self._play_one(acts, which)

    @precondition(some("_acts", "heartbeat"))
    @rule(which=WHICH)
    def heartbeat(self, which: int) -> None:
        """Let a worker extend a lease."""
        self._play_one(self._acts("heartbeat"), which)

    @precondition(some("_acts", "release"))
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        """Let a worker that shuts down give a job back."""
        self._play_one(self._acts("release"), which)

    @precondition(some("_stale_acts"))
    @rule(which=WHICH)
    def act_as_zombie(self, which: int) -> None:
        """Let a worker act with a claim that was taken back."""
        self._play_one(self._stale_acts(), which)

    @precondition(lambda machine: machine._acts(*HOLDING) or machine._claims())
    @rule(which=WHICH, awakes=st.sampled_from((True, True, False)))
    def be_overtaken(self, which: int, awakes: bool) -> None:
        """Stall a worker past its lease, take its job back, let another worker claim; then the first may go on."""
        if not self._acts(*HOLDING):
            self._play_one(self._claims(), which)
        holding = self._acts(*HOLDING)
        if not holding:
            return
        act = holding[which % len(holding)]
        if act.verb == "start":
            self.play(act.text)
        self.play(f"{act.actor} pauses{when(self.session.kernel.actors[act.actor])}")
        self.play(f"jump {self._length('a lease + 1s')}")
        self.play("queue runs")
        self._come_due(act.job)
        for other in self._workers():
            if other.name != act.actor:
                self._become_idle(other)
        if claims := [claim for claim in self._claims() if claim.actor != act.actor]:
            self._play_one(claims, which)
        if awakes:
            for ahead in [mine for mine in self._stale_acts() if mine.actor == act.actor]:
                self.play(ahead.text)

    def _come_due(self, job: JobId | None) -> None:
        view = self.session.board.views.get(job or "")
        if view is not None and (wait := view.start_after - self.session.clocks.store()) > 0:
            self.play(f"jump {format_duration(wait)}")

    def _become_idle(self, actor: Actor) -> None:
        """Bring a worker back that is down or stalled, and let it settle what it holds, a batch at most."""
        if not actor.alive:
            self.play(f"restart {actor.name}")
        elif actor.state is State.HELD:
            self.play(f"{actor.name} continues")
        for _ in range(STEPS_TO_IDLE):
            act = next_act(self.session, actor)
            if act is None or act.verb == "claim" or not self._nameable(actor):
                return
            self.play(act.text)

    @precondition(some("_acts", *HOLDING))
    @rule(which=WHICH)
    def go_ahead(self, which: int) -> None:
        """Let a worker that holds a job do what comes next."""
        self._play_one(self._acts(*HOLDING), which)
