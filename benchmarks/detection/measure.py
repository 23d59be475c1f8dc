"""Measures one wrong queue under one way of looking: runs and CPU seconds to detection, and what is left of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from detection.bugs import UNDER
from detection.coverage import cells, touched
from job_harness.core.model.settings import Settings
from job_harness.core.port import Engine
from job_harness.core.run.session import Session
from job_harness.core.run.stock import StockApplication
from job_harness.core.run.worker import Worker
from job_harness.engines.memory import MemoryEngine, MemoryQueue, QueueRules
from job_harness.engines.reference import ReferenceEngine
from job_harness.search.counterfactual import repairs, with_fixes
from job_harness.search.sampling import DRAWN_LIMITS, Sampler, run_seed
from job_harness.search.state_machine import LifecycleMachine
from job_harness.search.strategy import Strategy
from job_harness.search.wrong_queues import CATALOGUE

HITS = 100
"""A density is counted until there are this many hits, or all runs are done."""
DEFAULTS = Settings()
REPLAYS = 100
EXAMPLES = 300


@dataclass(frozen=True, slots=True)
class Detection:
    """One campaign of one seed. `runs` is None where nothing was found."""

    mistake: str
    way: str
    seed: int
    runs: int | None
    seconds: float
    """CPU until it was found and made small, or until the campaign ended."""
    rows: int = 0
    """What is left: jobs, workers beyond the first, deviations, settings that differ."""
    replayed: int = 0
    """Of `REPLAYS` replays, those that show the anomaly again."""


@dataclass(frozen=True, slots=True)
class Density:
    """How many random runs show an anomaly at all, and how soon a run that did was seen."""

    mistake: str
    runs: int
    hits: int
    reached: int
    """Runs in which the code that is wrong was executed at all."""
    witness: tuple[str, ...]
    """The tape of the smallest run that shows it."""


def detect(mistake: str, strategy: Strategy, *, number: int, runs: int) -> Detection:
    """Look for a mistake with one strategy, in at most `runs` runs; shrink and replay what is found."""
    wrong = CATALOGUE[mistake]
    engine = wrong.engine("memory")
    began = time.process_time()
    sampler = Sampler(engine, _settings(mistake), frozenset({wrong.anomaly}), strategy=strategy)
    campaign = sampler.explore(seed=number, runs=runs)
    seconds = time.process_time() - began
    finding = campaign.finding
    if finding is None:
        return Detection(mistake, strategy, number, None, seconds)
    again = sum(
        wrong.anomaly in Session(finding.scenario, engine=engine, limits=DRAWN_LIMITS).run().found
        for _ in range(REPLAYS if number == 0 else 1)
    )
    scenario = finding.scenario
    rows = len(scenario.jobs) + len(scenario.workers) - 1 + len(scenario.tape)
    return Detection(mistake, strategy, number, campaign.runs, seconds, rows, again)


def _settings(mistake: str) -> Settings:
    return UNDER.get(mistake, DEFAULTS)


def by_hypothesis(mistake: str, *, number: int) -> Detection:
    """Let Hypothesis alone draw until something shows."""
    engine = CATALOGUE[mistake].engine("memory")
    examples = 0

    class Machine(LifecycleMachine):
        def make_engine(self) -> Engine:
            nonlocal examples
            examples += 1
            return engine

    quick = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    began = time.process_time()
    found = False
    try:
        run_state_machine_as_test(seed(number)(Machine), settings=quick)  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - any failure is a find here; the correct queue has none
        found = True
    return Detection(mistake, "hypothesis", number, examples if found else None, time.process_time() - began)


def density(mistake: str, *, runs: int) -> Density:
    """Count the uniform random runs that show a mistake, until there are enough hits."""
    wrong = CATALOGUE[mistake]
    reached = 0
    calls = 0

    def counted(wrong: type, right: type) -> type:
        """Return the wrong class, which tells when its own code is run."""
        own = {name: counting(method) for name, method in _own_methods(wrong, right)}
        return type(f"Counted{wrong.__name__}", (wrong,), own)

    def counting(method: Callable[..., object]) -> object:
        inner = method.__func__ if isinstance(method, staticmethod) else method

        def call(*given: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            return inner(*given, **named)

        return staticmethod(call) if isinstance(method, staticmethod) else call

    assert wrong.queue is not None
    engine = MemoryEngine(
        counted(wrong.queue, MemoryQueue),
        rules=tuple(counted(each, _kind_of(each)) for each in wrong.rules),
        name=f"memory+{mistake}",
        application=StockApplication(counted(wrong.worker, Worker)),
    )
    sampler = Sampler(engine, _settings(mistake), strategy=Strategy.UNIFORM)
    hits = done = 0
    while done < runs and hits < HITS:
        calls = 0
        run = sampler.sample(run_seed(99, done))
        done += 1
        reached += calls > 0
        hits += wrong.anomaly in run.found
    seeker = Sampler(wrong.engine("memory"), _settings(mistake), frozenset({wrong.anomaly}))
    witness = seeker.explore(seed=1, runs=runs)
    tape = () if witness.finding is None else tuple(str(item) for item in witness.finding.scenario.tape)
    return Density(mistake, done, hits, reached, tape)


def _kind_of(rules: type[QueueRules]) -> type[QueueRules]:
    """Return the right rules that these take the place of."""
    return next(kind for kind in rules.__mro__ if kind.__base__ is QueueRules)


def _own_methods(wrong: type, right: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """Return the functions that a wrong class has and the right one has not, or otherwise."""
    for kind in wrong.__mro__:
        if issubclass(right, kind):
            return
        for name, value in vars(kind).items():
            if callable(value) and not name.startswith("__"):
                yield name, value


def false_alarms(engine: Engine, *, steps: int) -> tuple[int, int, int]:
    """Run a right queue for this many steps; return runs, steps, and runs in which anything was reported."""
    sampler = Sampler(engine)
    runs = done = alarms = 0
    while done < steps:
        run = sampler.sample(run_seed(7, runs))
        runs += 1
        done += run.steps
        alarms += bool(run.anomalies or run.failures)
    return runs, done, alarms


def first_seen(mistake: str, *, number: int, runs: int) -> int | None:
    """Return after how many runs of the default way a mistake shows, unshrunk; None: not within `runs`."""
    wrong = CATALOGUE[mistake]
    sampler = Sampler(wrong.engine("memory"), _settings(mistake), frozenset({wrong.anomaly}))
    hits = (done + 1 for done in range(runs) if wrong.anomaly in sampler.sample(run_seed(number, done)).found)
    return next(hits, None)


@dataclass(frozen=True, slots=True)
class Quiet:
    """Runs of a right queue, of which nothing should be reported."""

    runs: int
    steps: int
    alarms: Sequence[str]
    """The seeds of the runs of which something was, each with its first words."""
    touched: Mapping[str, int]
    """By blind spot, the runs that went there."""
    cells: Mapping[str, int]
    """By `capability, setting`, the steps of runs that had both."""


def added(parts: Iterable[Quiet]) -> Quiet:
    """Add up parts of one campaign."""
    runs = steps = 0
    alarms: list[str] = []
    touches: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for part in parts:
        runs += part.runs
        steps += part.steps
        alarms += part.alarms
        touches.update(part.touched)
        pairs.update(part.cells)
    return Quiet(runs, steps, alarms, dict(touches), dict(pairs))


RIGHT: Final[Mapping[str, Callable[[], Engine]]] = {
    "memory": MemoryEngine,
    "reference": lambda: ReferenceEngine("reference"),
    "postgres": lambda: ReferenceEngine("postgres"),
}
"""The queues of which no bug is known."""


def quiet(name: str, *, number: int, runs: int) -> Quiet:
    """Do runs of a right queue, or of one that does what the contract of a wrong queue documents."""
    wrong = CATALOGUE.get(name)
    engine = RIGHT[name]() if wrong is None else MemoryEngine(rules=wrong.documented, contract=wrong.contract)
    touches: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    alarms: list[str] = []
    steps = 0
    try:
        sampler = Sampler(engine)
        for seed in (run_seed(QUIET + number, done) for done in range(runs)):
            run = sampler.sample(seed)
            steps += run.steps
            touches.update(touched(run))
            for cell in cells(run):
                pairs[cell] += run.steps
            if run.anomalies or (run.failures and not run.cut):
                alarms.append(f"{seed}: {min(run.found) if run.found else run.failures[0]}")
    finally:
        engine.close()
    return Quiet(runs, steps, alarms, dict(touches), dict(pairs))


QUIET = 5_000
"""Of these campaigns, so that they repeat no run of another table."""
FRESH = 9_000
"""Of the campaigns that try a fix: no search of these pages has such a seed."""


def tried_fixes(mistake: str, *, number: int, runs: int, fresh: int) -> list[tuple[str, int]]:
    """Find a mistake, ask what fixes it, and count the fresh runs with each setting named in which it still shows."""
    wrong = CATALOGUE[mistake]
    engine = wrong.engine("memory")
    sampler = Sampler(engine, _settings(mistake), frozenset({wrong.anomaly}))
    finding = sampler.explore(seed=number, runs=runs).finding
    if finding is None:
        return []
    before = finding.scenario.settings
    changes = dict(repairs(before, heartbeat=engine.info.capabilities.heartbeat))
    told = with_fixes(finding.run, engine=engine, anomaly=wrong.anomaly).trials
    counted = []
    for trial in (trial for trial in told if trial.stops and trial.kind == "setting"):
        settings = changes[trial.name]
        held = {name: getattr(settings, name) for name in Settings.names()}
        again = Sampler(engine, settings, frozenset({wrong.anomaly}), held=held)
        seen = sum(wrong.anomaly in again.sample(run_seed(FRESH + number, done)).found for done in range(fresh))
        counted.append((trial.name, seen))
    return counted
