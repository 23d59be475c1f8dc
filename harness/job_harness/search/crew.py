"""Who does the runs of a campaign elsewhere: stretches are handed out, and taken back in the order of their runs.

Which of a crew does a run changes nothing in what it comes to: the number of a run alone decides what is drawn in it.
Local processes and the tasks of a cluster stand behind the same few methods; nothing here knows either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from job_harness.core.model.settings import Settings
from job_harness.core.port import Engine, without_anomalies
from job_harness.core.run.session import Limits
from job_harness.search.finding import Tally, Unsteady
from job_harness.search.sampling import DRAWN_LIMITS, Sampler, Watch
from job_harness.search.shards import WHOLE, Shard
from job_harness.search.strategy import Strategy
from job_harness.search.watchdog import PATIENCE, StepHung, StepWatchdog

SMALLEST = 4
"""How many runs are handed out at a time at first, and where a run takes long."""
TICK = 0.2
"""Real seconds after which a crew that waits looks up."""


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """What a member of a crew needs to know; it opens the target itself."""

    opener: str
    """`module:function`, which returns an engine for a target."""
    target: str
    settings: Settings
    looking_for: frozenset[str] = frozenset()
    strategy: Strategy = Strategy.PORTFOLIO
    keep_going: bool = False
    patience: float = PATIENCE
    steps: int = DRAWN_LIMITS.steps
    """After this many steps a run ends."""
    without: frozenset[str] = frozenset()
    """Anomalies that are not reported."""
    shard: Shard = WHOLE
    """Which runs are done here."""
    left_out: frozenset[str] = frozenset()
    """What no drawn workload has."""

    def open(self) -> Engine:
        """Open the target; the caller closes it. Raises whatever the opener raises."""
        module, _, name = self.opener.partition(":")
        engine: Engine = getattr(import_module(module), name)(self.target)
        return without_anomalies(engine, self.without, why="--without")

    def sampler(self, engine: Engine, watchdog: StepWatchdog) -> Sampler:
        """Return who does the runs on an engine that was opened."""
        return Sampler(
            engine,
            self.settings,
            self.looking_for,
            strategy=self.strategy,
            keep_going=self.keep_going,
            watchdog=watchdog,
            limits=Limits(steps=self.steps),
            left_out=self.left_out,
        )


class Crew(Protocol):
    """Does stretches of runs, several at a time."""

    @property
    def plan(self) -> CampaignPlan:
        """What is searched."""
        ...

    @property
    def stretch(self) -> int:
        """How many runs to hand out at a time."""
        ...

    def free(self) -> int:
        """Return how many more stretches can be handed out now."""
        ...

    def give(self, *, seed: int, first: int, count: int) -> None:
        """Begin a stretch."""
        ...

    def taken(self) -> Iterable[Tally] | None:
        """Wait for `TICK` at most and return what is done; None where nothing was in hand."""
        ...


def in_order(
    crew: Crew, *, seed: int, runs: int, watch: Watch, following: int = 0, counted: int = 0
) -> Iterator[Tally]:
    """Hand out stretches and yield what they came to, in the order of their runs.

    `counted` runs are done already, and `following` is the number of the next.
    """
    order: deque[int] = deque()
    done: dict[int, Tally] = {}
    going = True
    while True:
        going = going and watch(counted)
        for _ in range(crew.free() if going else 0):
            following, count = _next(crew, following, runs)
            if not count:
                going = False
                break
            order.append(following)
            crew.give(seed=seed, first=following, count=count)
            following += count
        taken = crew.taken()
        if taken is None:
            return
        for tally in taken:
            done[tally.first] = tally
            counted += tally.runs
            stop = tally.trouble is not None or tally.unsteady is not None
            going = going and not stop and (crew.plan.keep_going or not tally.hits)
        while order and order[0] in done:
            yield done.pop(order.popleft())


def _next(crew: Crew, following: int, runs: int) -> tuple[int, int]:
    """Return the next run to do and how many from there; those of a campaign in one part lie in a row."""
    shard = crew.plan.shard
    if shard == WHOLE:
        return following, min(crew.stretch, runs - following)
    first, own = shard.after(following, runs)
    return first, min(crew.stretch, own)


def paced(stretch: int, seconds: float, *, aim: float, most: int) -> int:
    """Return how many runs to hand out, where the last stretch took this long and should take `aim`."""
    size = stretch * 2 if seconds < aim / 2 else stretch // 2 if seconds > aim * 2 else stretch
    return max(SMALLEST, min(most, size))


def first_run_again(sampler: Sampler) -> Unsteady | None:
    """Do the first run of a member once more; what breaks now is no finding: it went through once."""
    try:
        return sampler.again()
    except (StepHung, Exception):  # noqa: BLE001 - whatever it is, there is nothing to compare
        return None
