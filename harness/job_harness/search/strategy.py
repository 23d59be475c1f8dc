"""Who draws a run: uniformly, by partial-order sampling, as a swarm, or all of them by turns.

A strategy knows the labels and options of choices, never what a queue does with them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from job_harness.core.faults import families, family_of
from job_harness.core.faults.messages import TWICE
from job_harness.core.faults.outages import HOST, LAG
from job_harness.core.faults.processes import CRASH, LONG_PAST, PAST, PAUSE, SHUTDOWN, STOPS
from job_harness.core.sim import FIRST, ORDER, Actor, Choices, Deviation, Kernel, Option, Options, Uniform, VerbCall
from job_harness.search.deviations import GatePlace, process_of
from job_harness.search.workload import BYSTANDER, WORKERS

RATES = (0.02, 0.1, 0.25)
"""How often a run deviates at a gate; one of them a run."""
SEED_STRIDE: Final = 1_000_003
"""Between the first runs of two seeds of a search."""
APART = 0x5DEECE66D
"""Keeps the numbers that draw a workload apart from those that disturb it."""


class Strategy(StrEnum):
    """How a run is drawn."""

    UNIFORM = "uniform"
    """Everything uniformly, deviations at one of three rates."""
    POS = "pos"
    """The order of steps by partial-order sampling, the rest uniformly."""
    SWARM = "swarm"
    """A random part of faults, job kinds and settings, by random weights, perhaps with a slow actor."""
    AIMED = "aimed"
    """One disturbance at one kind of step, such as a long pause before a release, in a workload that has both."""
    PORTFOLIO = "portfolio"
    """All of them by turns."""


_CYCLE = (Strategy.UNIFORM, Strategy.POS, Strategy.UNIFORM, Strategy.SWARM)
TURNS = (*_CYCLE, Strategy.UNIFORM, Strategy.POS, Strategy.AIMED, Strategy.SWARM)
"""The portfolio's turns."""
TURNS_OF_A_SYSTEM = tuple(
    strategy for turn in TURNS for strategy in ((turn, Strategy.AIMED) if turn is Strategy.UNIFORM else (turn,))
)
"""Its turns where the places are known at which a process of a system may die: most gates of a system are polls, so
that faults which are drawn uniformly hardly ever come between two writes."""


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """Who draws the workload of one run, and who disturbs it."""

    strategy: Strategy
    drawing: Choices
    choices: Choices

    @property
    def about(self) -> str:
        """Say how the run was drawn."""
        told = f": {self.choices.describe()}" if isinstance(self.choices, SwarmChoices | AimedChoices) else ""
        return f"{self.strategy}{told}"


def policy_of(
    strategy: Strategy, seed: int, *, application: bool = False, places: Sequence[tuple[GatePlace, Option]] = ()
) -> RunPolicy:
    """Return who draws the run of a seed; the same seed gives the same run.

    `places` are those at which a process of a system comes to die, or a host to be in trouble, one in each aimed run.
    """
    turn, aimed = seed, seed // len(TURNS)
    if strategy is Strategy.PORTFOLIO:
        turns = TURNS_OF_A_SYSTEM if places else TURNS
        strategy = turns[seed % len(turns)]
        first = seed - seed % SEED_STRIDE
        turn = _turns_before(seed, turns, strategy) - _turns_before(first, turns, strategy)
    rate = RATES[(seed // len(_CYCLE)) % len(RATES)]
    disturbing = seed ^ APART
    if strategy is Strategy.AIMED:
        aims = OF_APPLICATIONS if application else AIMS
        aim = _strike(places, turn) if places and (turn + 1) % PAUSED_EVERY else aims[aimed % len(aims)]
        return RunPolicy(strategy, LeaningDrawing(seed, aim), AimedChoices(disturbing, aim))
    if strategy is Strategy.SWARM:
        return RunPolicy(strategy, SwarmDrawing(seed), SwarmChoices(disturbing))
    if strategy is Strategy.POS:
        return RunPolicy(strategy, Uniform(seed), Priorities(disturbing, rate=rate))
    return RunPolicy(strategy, Uniform(seed), Uniform(disturbing, rate=rate))


def _turns_before(seed: int, turns: Sequence[Strategy], strategy: Strategy) -> int:
    return seed // len(turns) * turns.count(strategy) + turns[: seed % len(turns)].count(strategy)


SWARM_RATES = (0.02, 0.1, 0.25, 0.5)
LATE_RATES = (0.02, 0.1, 0.4)
WEIGHTS = (0, 0, 1, 4)
SLOW = (None, None, "w1", "w2", "maintenance", "queue")
SLOW_RATE = 0.6
"""How often the slow actor is passed over at its own gate."""
KEPT_WHOLE = frozenset({"jobs", "workers", "faults"})
"""What is always drawn from all its options."""


PLACES: Final = (("job", 4), ("worker", 16), ("job", 8), ("any", 24))
"""Where one fault strikes in runs in a row: at a worker's step that names a job, at any of its steps, or anywhere; and
how many such places may be passed over."""
UNCLAIMED: Final = (("other", 4), ("other", 8), ("any", 24))
"""The same for a job that no worker had: at a step of a process that is no worker."""
REORDERS: Final = 0.1
"""How often a run that deviates in the order of steps does so at a gate."""
FAVOURED: Final = 0.7
"""How often a fault of a favoured length strikes, where one is offered."""


class OneFaultChoices(Uniform):
    """Strikes once, by one of some kinds of faults; every other run also deviates in the order of steps."""

    def __init__(
        self,
        seed: int,
        kinds: frozenset[str],
        *,
        jobs: frozenset[str],
        lengths: frozenset[str],
        places: Sequence[tuple[str, int]] = PLACES,
    ) -> None:
        """Favour faults whose length is one of these, by its name."""
        super().__init__(seed ^ APART)
        self._kinds, self._jobs, self._lengths = kinds, jobs, lengths
        self._where, reach = places[seed % len(places)]
        self._passes = int(self._draw() * reach)
        self._reorders = REORDERS if seed // len(places) % 2 else 0.0

    def gate(self, label: str, options: Options) -> Option | None:
        """Strike at the chosen place."""
        struck = self._struck(options()) if self._passes >= 0 and self._is_place(label.split(" ")) else None
        if struck is None and self._draw() < self._reorders:
            ordered = [each for each in options() if each.kind in ORDER]
            struck = ordered[int(self._draw() * len(ordered))] if ordered else None
        return self._answer(label, struck)

    def _is_place(self, words: list[str]) -> bool:
        if self._where == "any":
            return True
        if self._where == "other":
            return words[0] not in WORKERS
        return words[0] in WORKERS and (self._where == "worker" or not self._jobs.isdisjoint(words[1:]))

    def _struck(self, options: Sequence[Option]) -> Option | None:
        offered = [each for each in options if each.kind in self._kinds]
        self._passes -= bool(offered)
        if not offered or self._passes >= 0:
            return None
        favoured = [each for each in offered if each.argument in self._lengths]
        if favoured and self._draw() < FAVOURED:
            offered = favoured
        return offered[int(self._draw() * len(offered))]


class SwarmDrawing:
    """Draws a workload from a random part of the options: the same part for every job of a run."""

    def __init__(self, seed: int) -> None:
        self.tape: list[Deviation] = []
        self.kept: dict[str, tuple[str, ...]] = {}
        """What this run draws from, by subject, where that is less than all."""
        self._draw = random.Random(seed).random

    def gate(self, label: str, options: Options) -> Option | None:
        """A workload has no gates."""
        return None

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Return uniformly among what this run kept of the options."""
        subject = label.rpartition(" of ")[0] or label
        kept = self.kept.get(subject)
        if kept is None or not set(kept) <= set(options):
            kept = self._part(subject, options)
        return kept[int(self._draw() * len(kept))]

    def _part(self, subject: str, options: Sequence[str]) -> tuple[str, ...]:
        if subject in KEPT_WHOLE or self._draw() < 0.3:
            kept = tuple(options)
        else:
            kept = tuple(option for option in options if self._draw() < 0.4) or (options[0],)
        self.kept[subject] = kept
        return kept


class SwarmChoices(Uniform):
    """Deviates by weights that are drawn once a run; picks uniformly."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        draw = self._draw
        self.rate = SWARM_RATES[int(draw() * len(SWARM_RATES))]
        self.late_rate = LATE_RATES[int(draw() * len(LATE_RATES))]
        self.weights = {name: WEIGHTS[int(draw() * len(WEIGHTS))] for name in families()}
        self.slow = SLOW[int(draw() * len(SLOW))]

    def gate(self, label: str, options: Options) -> Option | None:
        """Deviate: more often before time moves, or at the gate of the slow actor, where the run says so."""
        slow = label.partition(" ")[0] == self.slow
        strikes = self._draw() < (self.late_rate if label == "time" else SLOW_RATE if slow else self.rate)
        return self._answer(label, self._weighted(options()) if strikes else None)

    def _weighted(self, offered: Sequence[Option]) -> Option | None:
        by_family: dict[str, list[Option]] = {}
        for option in offered:
            by_family.setdefault(family_of(option), []).append(option)
        total = sum(self.weights[name] for name in by_family)
        left = self._draw() * total
        for name, members in by_family.items():
            left -= self.weights[name]
            if left < 0:
                return members[int(self._draw() * len(members))]
        return None

    def describe(self) -> str:
        """Say what this run drew."""
        strong = [name for name, weight in self.weights.items() if weight == max(WEIGHTS)]
        off = [name for name, weight in self.weights.items() if not weight]
        parts = [f"deviates at {self.rate:.0%} of gates, late at {self.late_rate:.0%}"]
        parts += [f"often {', '.join(strong)}"] if strong else []
        parts += [f"never {', '.join(off)}"] if off else []
        parts += [f"slow {self.slow}"] if self.slow else []
        return "; ".join(parts)


class Aim(NamedTuple):
    """A place and what is to strike there."""

    position: str
    """The kind of step before which it strikes; with a job's name, before that job's alone."""
    words: str
    """The option, as a tape says it."""
    leanings: Mapping[str, tuple[str, ...]]
    """By label of the workload, the options that make it possible; they are drawn more often."""
    first: tuple[str, str] = ("", "")
    """A position and an option that lead there: a worker that is told to stop gives back what it has not started."""
    alone: bool = False
    """Whether it strikes in every such run, and nothing else does: where a run takes a second, there are few."""
    process: str = ""
    """Of which process the step is, without the number of its instance; empty: of any."""


SIMPLE: Mapping[str, tuple[str, ...]] = {
    "faults": ("some",),
    "workers": ("2", "3"),
    "send time?": ("no",),
    "start time?": ("no",),
    "operator": ("none",),
    "retry delay": ("as set",),
    "attempts": ("as set",),
}
"""A workload in which nothing but the aim takes a job from its worker."""
LONG = ("0.95x timeout", "1x timeout")
PAUSED: Mapping[str, tuple[str, ...]] = {**SIMPLE, f"faults: {PAUSE.id}": ("1", "2")}
HELD: Mapping[str, tuple[str, ...]] = {**PAUSED, "duration": LONG, "max attempts": ("as set",)}
"""Who takes the job over still has it when the first worker wakes."""
IN_A_BATCH: Mapping[str, tuple[str, ...]] = {**HELD, "batch": ("2",), "jobs": ("2", "3")}
FAILING = ("fails", "fails once")
GIVING_BACK: Mapping[str, tuple[str, ...]] = {**IN_A_BATCH, f"faults: {SHUTDOWN.id}": ("1",)}
SHARED_KEY: Mapping[str, tuple[str, ...]] = {
    "jobs": ("2", "3"), "key": ("k",), "ending": ("fails finally", "succeeds"), "duration": ("1s", "0.95x timeout"),
    "operator": ("none", "retries"), "retry": ("1s", "1x timeout", "1.05x timeout", "1x lease"),
    "send time?": ("no", "yes"), "send time": ("1s", "1x timeout"),
}  # fmt: skip
"""One job after the other under one key, of which some fail for good or are retried."""
RELEASED = Aim("release", PAST.words, GIVING_BACK, first=("start", STOPS.words))
AIMS = (
    Aim("complete", PAST.words, HELD),
    RELEASED,
    Aim("fail", PAST.words, {**HELD, "ending": FAILING}),
    Aim("enqueue", TWICE.words, SHARED_KEY),
    Aim("heartbeat", PAST.words, IN_A_BATCH),
    RELEASED,
    Aim("complete", LONG_PAST.words, PAUSED),
    Aim("fail", LONG_PAST.words, {**PAUSED, "ending": FAILING, "max attempts": ("2",)}),
)
"""What uniform draws rarely bring together; a run has one of them, by turns."""
OF_APPLICATIONS = (
    Aim(f"running {BYSTANDER.name}", PAST.words, {**PAUSED, "jobs": ("1",), "duration": ("1s",)}, alone=True),
)
"""What an application's own workers meet: their steps are their own, so only the run of a job is known by name.

The second attempt of that job is a long one: a worker that wakes finds it in other hands.
"""
PAUSED_EVERY: Final = 4
"""One in this many aimed runs of a system pauses a worker while its job runs; in the others a process dies."""
TROUBLED: Mapping[str, tuple[str, ...]] = {
    **SIMPLE, f"faults: {HOST.id}": ("1",), "jobs": ("2", "3"), "ending": ("succeeds",), "duration": ("1s",),
}  # fmt: skip
"""Several jobs whose work would go well, if its host were not in trouble."""
LAGGED: Mapping[str, tuple[str, ...]] = {**TROUBLED, f"faults: {HOST.id}": ("0",), f"faults: {LAG.id}": ("1",)}
AHEAD: Mapping[str, tuple[str, ...]] = {**PAUSED, "duration": ("1s",), "ending": ("succeeds",)}
"""Jobs that workers may have finished before their sender commits."""
DYING: Mapping[str, tuple[str, ...]] = {**SIMPLE, f"faults: {CRASH.id}": ("1",), "jobs": ("1", "2")}


def _strike(places: Sequence[tuple[GatePlace, Option]], turn: int) -> Aim:
    """Return the strike that has this turn: each of the places has one before the first has another."""
    place, option = places[(turn - turn // PAUSED_EVERY) % len(places)]
    leanings = {CRASH.id: DYING, PAUSE.id: AHEAD, LAG.id: LAGGED, HOST.id: TROUBLED}[option.kind]
    return Aim(" ".join(filter(None, place[1:])), option.words, leanings, alone=True, process=place.actor)


LEANS = 0.9
"""How often a workload is drawn so that its aim is possible."""
STRIKES = 0.6
"""How often the aim strikes where it can."""
BESIDE = 0.02
"""How often anything else goes wrong: little, so that what was aimed at is met by healthy actors."""


class LeaningDrawing(Uniform):
    """Draws a workload uniformly, as a rule among what an aim needs: all of that together, or it is worth little."""

    def __init__(self, seed: int, aim: Aim) -> None:
        super().__init__(seed)
        self._leanings = aim.leanings if self._draw() < LEANS or aim.alone else {}

    def pick(self, label: str, options: Sequence[str]) -> str:
        """Return uniformly among what the aim needs."""
        wanted = self._leanings.get(label) or self._leanings.get(label.rpartition(" of ")[0])
        if wanted is not None:
            options = [option for option in options if option in wanted] or options
        return super().pick(label, options)


class AimedChoices(Uniform):
    """Strikes with one kind of disturbance at one kind of step, and rarely otherwise."""

    def __init__(self, seed: int, aim: Aim) -> None:
        super().__init__(seed, rate=0 if aim.alone else BESIDE)
        self._aim = aim
        self._strikes = 1 if aim.alone else STRIKES
        self._at = (
            {aim.position: aim.words} if not aim.first[0] else {aim.position: aim.words, aim.first[0]: aim.first[1]}
        )

    def gate(self, label: str, options: Options) -> Option | None:
        """Strike where the aim says so; elsewhere deviate uniformly, at a low rate."""
        actor, _, place = label.partition(" ")
        words = self._at.get(place) or self._at.get(place.partition(" ")[0]) or self._at.get(place.rpartition(" ")[0])
        if self._aim.process not in ("", process_of(actor)):
            words = None
        if words is None or self._draw() >= self._strikes:
            return super().gate(label, options)
        option = next((one for one in options() if one.words == words), None)
        return super().gate(label, options) if option is None else self._answer(label, option)

    def describe(self) -> str:
        """Say what this run aimed at."""
        return f"`{self._aim.words}` before `{self._aim.position}`"


class Priorities(Uniform):
    """Orders actors by priority at every gate; faults strike at a fixed rate, uniformly; picks uniformly."""

    def __init__(self, seed: int, *, rate: float) -> None:
        super().__init__(seed, rate=rate)
        self._priority: dict[str, float] = {}
        self._kernel: Kernel | None = None

    def attach(self, kernel: Kernel) -> None:
        """Take the kernel whose ready actors are to be ordered."""
        self._kernel = kernel

    def gate(self, label: str, options: Options) -> Option | None:
        """Strike with a fault, or return the actor of the highest priority."""
        option = self._fault(options) if self._draw() < self.rate else None
        return self._answer(label, option or self._order())

    def _fault(self, options: Options) -> Option | None:
        faults = [option for option in options() if option.kind != FIRST]
        return faults[int(self._draw() * len(faults))] if faults else None

    def _order(self) -> Option | None:
        kernel = self._kernel
        if kernel is None or not kernel.deviations.free_order or len(kernel.ready) < 2:
            return None
        priority = self._priority
        for actor in kernel.ready:
            if actor.name not in priority:
                priority[actor.name] = self._draw()
        chosen = max(kernel.ready, key=lambda actor: priority[actor.name])
        for actor in kernel.ready:
            if actor is chosen or _meet(actor, chosen):
                priority.pop(actor.name, None)  # tasks of one process share a priority
        return None if chosen is kernel.ready[0] else chosen.first


def _meet(one: Actor, other: Actor) -> bool:
    """Say whether the next steps of two actors may touch the same job; a verb on many jobs meets every verb."""
    first, second = one.request, other.request
    if type(first) is not VerbCall or type(second) is not VerbCall:
        return False
    return first.job is None or second.job is None or first.job == second.job
