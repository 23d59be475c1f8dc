"""The exhaustive search comes to what the plain one comes to, and each way to make it wrong shows in that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.detection.plain_search import TooLarge, compared

from job_harness.core.faults import FaultPlan
from job_harness.core.model.duration import SECOND
from job_harness.core.run.stock import StockApplication
from job_harness.core.run.worker import Worker
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.memory import MemoryEngine, MemoryQueue
from job_harness.search.scope import bounds as scopes
from job_harness.search.scope.bounds import SCOPE_SETTINGS, JobKind, Scope
from job_harness.search.scope.canonical import StateKeys
from job_harness.search.scope.memo import StepTable, Witnesses
from job_harness.search.wrong_queues import CATALOGUE

ONE = Scope(workers=1, jobs=1)
SOON = SCOPE_SETTINGS.changed(
    job_timeout=20 * SECOND,
    lease=25 * SECOND,
    stuck_timeout=60 * SECOND,
    retry_delay=5 * SECOND,
    cron_period=30 * SECOND,
    expire_interval=15 * SECOND,
    max_skew=SECOND,
)
"""Nothing takes long: a run that goes in a circle is soon cut."""
SCOPES = {
    "one job": ONE,
    "two workers": replace(ONE, workers=2),
    "two jobs": replace(ONE, jobs=2, stalls=0),
    "one key": replace(ONE, jobs=2, stalls=0, unique=True),
    "two priorities": replace(ONE, jobs=2, stalls=0, priorities=(0, 1)),
    "two kinds": replace(ONE, jobs=2, stalls=0, kinds=(JobKind(), JobKind("fails"))),
    "fails": replace(ONE, kinds=(JobKind("fails"),)),
    "fails once": replace(ONE, kinds=(JobKind("fails once"),)),
    "hangs once": replace(ONE, kinds=(JobKind("hangs once"),)),
    "runs for a lease": replace(ONE, kinds=(JobKind("succeeds", "1x lease"),)),
    "cancel": replace(ONE, cancels=1),
    "cancel and retry": replace(ONE, cancels=1, retries=1, stalls=0),
    "crash": replace(ONE, faults=FaultPlan(crash=1), stalls=0),
    "crash, soon": replace(ONE, faults=FaultPlan(crash=1), stalls=0, settings=SOON),
    "lost message": replace(ONE, faults=FaultPlan(lost_message=1), stalls=0),
    "duplicate": replace(ONE, faults=FaultPlan(duplicate=1), stalls=0),
    "shutdown": replace(ONE, faults=FaultPlan(shutdown=1), stalls=0),
    "clock": replace(ONE, faults=FaultPlan(clock_offset=1), stalls=0),
    "workers that look by turns": replace(ONE, workers=2, stalls=0, settings=SOON.changed(poll_interval=2 * SECOND)),
    "batches": replace(ONE, jobs=2, stalls=0, settings=SOON.changed(batch_size=2, heartbeat_interval=10 * SECOND)),
    "two jobs, soon": replace(ONE, jobs=2, stalls=0, settings=SOON.changed(stuck_timeout=30 * SECOND)),
}
WRONG = {
    "one job": "token-not-raised retries-never-due attempts-not-counted reclaim-not-counted crash-counts-twice "
    "expire-fails-for-good expire-never error-kept-on-success completes-in-two-steps expire-reads-first",
    "two workers": "stale-complete documented-late-result-spreads",
    "two jobs": "claims-one-more",
    "one key": "unique-ignored unique-among-waiting-only waiting-again-collides repush-resets-running "
    "refusal-swallowed",
    "two priorities": "priority-ignored priority-reversed options-dropped",
    "fails": "late-failure-revives expire-ignores-max-attempts one-attempt-too-few start-after-ignored "
    "backoff-additive retried-at-once error-lost one-bad-row-stops-expire worker-hangs-on-an-error "
    "documented-loss-spreads",
    "fails once": "one-attempt-too-many",
    "cancel": "claim-unchecked cancel-overwritten cancel-ignored-while-running",
    "crash": "claims-running-job",
    "crash, soon": "retry-put-off",
    "lost message": "result-overwritten worker-gives-up-at-once completes-in-the-try",
    "duplicate": "output-lost",
    "shutdown": "release-forgotten worker-strands-its-batch",
    "clock": "worker-clock-lease",
    "two jobs, soon": "completes-one-table-only",
}
"""By the scope, the wrong queues that show in it."""


def cases() -> Iterator[Any]:
    """Return all scopes with the right queue, and those with wrong queues; of each sixth the default tests look."""
    named = [("", scope) for scope in SCOPES]
    named += [(mistake, scope) for scope, mistakes in WRONG.items() for mistake in mistakes.split()]
    for nth, (mistake, scope) in enumerate(named):
        marks = () if nth % 6 == 0 else pytest.mark.long
        yield pytest.param(mistake, SCOPES[scope], id=f"{scope}-{mistake or 'right'}", marks=marks)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("mistake", "scope"), list(cases()))
def test_a_scope_has_the_anomalies_the_shortest_runs_and_the_ends_of_the_plain_search(
    mistake: str, scope: Scope
) -> None:
    engine: Any = CATALOGUE[mistake].engine("memory") if mistake else MemoryEngine()
    assert compared(engine, scope) == []


# drawn models ---------------------------------------------------------------------------------------------------------

FAULTS = ("crash", "lost_message", "duplicate", "shutdown", "clock_offset", "clock_drift", "lateness", "pause")
ENDINGS = ("succeeds", "fails once", "fails", "fails finally", "hangs once", "kills its worker", "returns NaN")
SPANS = ("1s", "0.95x timeout", "1x lease", "1.05x timeout")


def drawn(draw: random.Random) -> tuple[MemoryEngine, Scope]:
    """Draw a queue with up to three mistakes at once, and a scope. Raises TypeError where they exclude each other."""
    mistakes = [
        CATALOGUE[name] for name in draw.sample(" ".join(WRONG.values()).split(), draw.choice((0, 1, 1, 2, 2, 3)))
    ]
    classes = dict.fromkeys(mistake.queue for mistake in mistakes if mistake.queue not in (None, MemoryQueue))
    queue: Any = type("Drawn", (*classes, MemoryQueue), {})
    rules = tuple(dict.fromkeys(rule for mistake in mistakes for rule in mistake.rules))
    workers = [mistake.worker for mistake in mistakes if mistake.worker is not Worker]
    engine = MemoryEngine(
        queue,
        rules=rules,
        name="+".join(["memory", *(mistake.name for mistake in mistakes)]),
        application=StockApplication(workers[0]) if workers else None,
        contract=next((mistake.contract for mistake in mistakes if mistake.contract), None),
    )
    settings = SOON.changed(
        max_attempts=draw.choice((1, 2, 2, 3)),
        poll_interval=draw.choice((1, 1, 2)) * SECOND,
        batch_size=draw.choice((1, 1, 2)),
        heartbeat_interval=draw.choice((0, 0, 10)) * SECOND,
        retry_backoff=draw.choice((False, False, False, True)),
        concurrency=draw.choice((0, 0, 0, 1)),
        retention=draw.choice((SOON.retention, 40 * SECOND)),
    )
    kinds = [JobKind(draw.choice(ENDINGS), draw.choice(SPANS)) for _ in range(draw.choice((1, 1, 2)))]
    return engine, Scope(
        workers=draw.choice((1, 1, 2)),
        jobs=draw.choice((1, 1, 2)),
        cancels=draw.choice((0, 0, 0, 1)),
        retries=draw.choice((0, 0, 0, 0, 1)),
        faults=FaultPlan(**{draw.choice(FAULTS): 1} if draw.choice((True, False)) else {}),
        stalls=draw.choice((0, 0, 1)),
        kinds=tuple(dict.fromkeys(kinds)),
        priorities=draw.choice(((0,), (0,), (0, 1))),
        unique=draw.choice((False, False, False, True)),
        jitters=draw.choice((1, 2)),
        settings=settings,
    )


def differences_of(seed: int) -> list[str]:
    """Compare the first model of a seed that is small enough."""
    draw = random.Random(seed)
    while True:
        try:
            engine, scope = drawn(draw)
            return [f"{engine.info.name} {scope}: {told}" for told in compared(engine, scope, most=60)]
        except (TooLarge, TypeError):
            continue


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 500, 2))])
def test_drawn_models_have_the_same_in_both_searches(first: int) -> None:
    assert [told for seed in (first, first + 1) for told in differences_of(seed)] == []


# made wrong on purpose ------------------------------------------------------------------------------------------------


class MixedKinds(Scope):
    """Leaves out the workloads in which all jobs are planned alike."""

    def scenarios(self) -> Iterator[Scenario]:
        """Return the others."""
        return (one for one in Scope.scenarios(self) if len({replace(plan, name="") for plan in one.jobs}) > 1)


def without_who_polled(patch: pytest.MonkeyPatch) -> None:
    of_actor = StateKeys._of_actor
    patch.setattr(
        StateKeys, "_of_actor", lambda self, actor, *rest: of_actor(self, actor._replace(last_tick=-1), *rest)
    )


def all_jobs_as_twins(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Scope, "twins", lambda self, scenario: [tuple(plan.name for plan in scenario.jobs)])


def workers_that_look_by_turns_as_twins(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scopes, "first_look", lambda worker, scenario: 0)


def without_clocks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StateKeys, "_of_clocks", lambda self, state, form: 0)


def memo_without(place: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Leave out one part of what a step of an actor depends on."""

    def sabotage(patch: pytest.MonkeyPatch) -> None:
        key = StepTable.key

        def shorter(self: StepTable, move: Any, state: Any) -> Any:
            known = key(self, move, state)
            return known if known is None or len(known) == 2 else (*known[:place], 0, *known[place + 1 :])

        patch.setattr(StepTable, "key", shorter)

    return sabotage


def lessons_without_what_was_shown(patch: pytest.MonkeyPatch) -> None:
    wanted = Witnesses._wanted
    blurred: Any = lambda *given: [(place, 0, seen) for place, _, seen in wanted(*given)]  # noqa: E731
    patch.setattr(Witnesses, "_wanted", blurred)


AT_ONCE = SCOPE_SETTINGS.changed(max_attempts=1)
SABOTAGES = [
    pytest.param(without_who_polled, "", Scope(stalls=0, settings=AT_ONCE), id="who polled at this instant",
                 marks=pytest.mark.long),
    pytest.param(all_jobs_as_twins, "", MixedKinds(workers=1, kinds=(JobKind(), JobKind("fails finally")),
                 settings=AT_ONCE), id="jobs of different kinds", marks=pytest.mark.long),
    pytest.param(workers_that_look_by_turns_as_twins, "", Scope(jobs=1, stalls=0, settings=AT_ONCE.changed(
                 poll_interval=2 * SECOND)), id="workers that look by turns"),
    pytest.param(without_clocks, "worker-clock-lease", SCOPES["clock"], id="clocks in the key",
                 marks=pytest.mark.long),
    pytest.param(memo_without(7), "", ONE, id="the time of a step"),
    pytest.param(memo_without(6), "worker-clock-lease", SCOPES["clock"], id="the clocks of a step",
                 marks=pytest.mark.long),
    pytest.param(memo_without(5), "", ONE, id="the queue of a step"),
    pytest.param(memo_without(8), "release-forgotten", SCOPES["shutdown"], id="who is told to stop, of a step"),
    pytest.param(lessons_without_what_was_shown, "", ONE, id="what a monitor was shown"),
]  # fmt: skip


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("sabotage", "mistake", "scope"), SABOTAGES)
def test_what_is_left_out_of_an_equivalence_is_told(
    sabotage: Callable[[pytest.MonkeyPatch], None], mistake: str, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = CATALOGUE[mistake].engine("memory") if mistake else MemoryEngine()
    assert compared(engine, scope) == []
    sabotage(monkeypatch)
    assert compared(engine, scope) != []
