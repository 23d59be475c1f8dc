"""What goes wrong under a state machine: crashes, stalls, shutdowns, lost messages, wrong clocks; and time."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from harness.explore.machine_acts import when
from harness.explore.machine_play import WHICH, Play, can, some
from harness.model.duration import format_duration
from harness.model.moments import moments
from harness.model.settings import Settings
from harness.scenario.scenario import SCHEDULERS

MOMENTS = tuple(moments(Settings()))
SHORT = (MOMENTS[0], MOMENTS[1]) * 6
"""A long time lets every job end; most races are run in a short one."""
LATE = (*("now",) * len(MOMENTS), *MOMENTS)
"""On time as often as late."""
MOST_CLOCKS = 2
"""How often a clock is set wrong in one example: more would crowd out what meets a wrong clock."""


class Mishaps(Play):
    """Rules of what goes wrong, and of time."""

    _clocks_set = 0

    @precondition(some("_busy"))
    @rule(which=WHICH)
    def crash(self, which: int) -> None:
        """Kill a worker that holds a job, where it stands."""
        actor = self._busy()[which % len(self._busy())]
        self.play(f"crash {actor.name}{when(actor)}")

    @precondition(some("_down"))
    @rule(which=WHICH)
    def restart(self, which: int) -> None:
        """Bring a worker back that crashed or stopped."""
        self.play(f"restart {self._down()[which % len(self._down())].name}")

    @precondition(some("_going"))
    @rule(which=WHICH)
    def pause(self, which: int) -> None:
        """Stall a worker, the queue's upkeep, the cron or a scheduler."""
        actor = self._going()[which % len(self._going())]
        self.play(f"{actor.name} pauses{when(actor)}")

    @precondition(some("_held"))
    @rule(which=WHICH)
    def go_on(self, which: int) -> None:
        """Let who was stalled go on."""
        self.play(f"{self._held()[which % len(self._held())].name} continues")

    @precondition(can("release"))
    @precondition(some("_unstopped"))
    @rule(which=WHICH)
    def stop(self, which: int) -> None:
        """Ask a worker to shut down gracefully."""
        self.play(f"stop {self._unstopped()[which % len(self._unstopped())].name}")

    @precondition(some("_calling"))
    @rule(which=WHICH, how=st.sampled_from(("loses the request", "loses the reply", "delivers twice")))
    def lose(self, which: int, how: str) -> None:
        """Lose or double a message; nothing repeats a claim on its own."""
        actor = self._calling()[which % len(self._calling())]
        repeats_claim = how == "delivers twice" and when(actor).endswith("claiming")
        self.play(f"{actor.name} {'loses the reply' if repeats_claim else how}{when(actor)}")

    @precondition(lambda machine: machine._clocks_set < MOST_CLOCKS)
    @rule(whose=st.sampled_from(("store", "somebody")), way=st.sampled_from(("ahead", "behind")))
    def set_clock(self, whose: str, way: str) -> None:
        """Set a clock wrong, within the declared skew."""
        self._clocks_set += 1
        somebody = SCHEDULERS[0] if self._schedules else self.workers[0]
        name = "store" if whose == "store" else somebody
        self.play(f"{name} clock is {format_duration(self.session.settings.max_skew)} {way}")

    @rule(moment=st.sampled_from((*MOMENTS, *SHORT)))
    def advance(self, moment: str) -> None:
        """Let time pass and everything due happen."""
        self.play(f"advance {self._length(moment)}")

    @rule(late=st.sampled_from(LATE))
    def expire(self, late: str) -> None:
        """Run the queue's upkeep, on time or late."""
        self._late(late)
        self.play("queue runs")

    @precondition(can("maintenance"))
    @rule(late=st.sampled_from(LATE), twice=st.booleans())
    def maintain(self, late: str, twice: bool) -> None:
        """Run the cron, on time or late, once or twice."""
        self._late(late)
        self.play(f"maintenance runs{' twice' if twice else ''}")
