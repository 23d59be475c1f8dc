"""What would have stopped an anomaly: each change alone, told honestly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from job_harness.core.history.event import Fault, History
from job_harness.core.invariants import Anomaly
from job_harness.core.model.duration import MINUTE
from job_harness.core.model.settings import Settings
from job_harness.core.port import WrittenSource
from job_harness.core.run.verdict import Run, Trial, fix_line
from job_harness.core.scenario.job_plan import JobPlan, Span
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.target import Target
from job_harness.engines.memory import MemoryEngine
from job_harness.report.blame import with_source
from job_harness.report.screen import first_screen, screen_text
from job_harness.search.cases import with_fixes as with_fixes_on
from job_harness.search.counterfactual import Counterfactual, repairs, under, with_fixes
from job_harness.search.sampling import Sampler
from job_harness.search.targets import Engines
from job_harness.search.watchdog import SearchTime
from job_harness.search.wrong_queues import CATALOGUE

LATE = Trial("late", "setting", False, False, tried=False)
BATCH = Settings(batch_size=5, lease=10 * MINUTE)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (Settings(), ["heartbeat_interval 2m45s"]),
        (Settings(stuck_timeout=10 * MINUTE), ["stuck_timeout 13m", "heartbeat_interval 2m45s"]),
        (
            BATCH,
            [
                "lease 51m (batch x timeout + margin) with stuck_timeout 53m",
                "batch_size 1",
                "heartbeat_interval 2m30s",
            ],
        ),
        (Settings(max_attempts=1, retention=MINUTE, heartbeat_interval=MINUTE), []),
    ],
    ids=["defaults", "stuck", "batch", "rarer"],
)
def test_each_rule_that_the_settings_may_break_is_a_repair(settings: Settings, names: list[str]) -> None:
    assert [name for name, _ in repairs(settings, heartbeat=True)] == names


def test_a_repaired_setting_leaves_the_work_as_long_as_it_was() -> None:
    scenario = Scenario(settings=BATCH, jobs=(JobPlan("a", takes=(Span(factor=0.95, setting="lease"),)),))

    repaired = under(scenario, BATCH.changed(lease=60 * MINUTE))

    assert repaired.jobs[0].duration(1, repaired.settings) == 9.5 * MINUTE


def found(engine: MemoryEngine, settings: Settings, anomaly: str) -> Run:
    finding = Sampler(engine, settings, frozenset({anomaly})).explore(seed=0, runs=500).finding
    assert finding is not None
    return finding.run


def test_a_wrong_setting_is_stopped_by_its_repair_and_the_screen_says_so() -> None:
    engine = MemoryEngine()
    run = found(engine, Settings(stuck_timeout=5 * MINUTE), "concurrent_execution")

    told = with_fixes(run, engine=engine, anomaly="concurrent_execution")

    assert [trial.name for trial in told.trials if trial.stops] == ["stuck_timeout 13m"]
    assert "Fixed by: stuck_timeout 13m (" in screen_text(first_screen(told))


def test_a_wrong_queue_is_stopped_by_the_safeguard_it_lacks() -> None:
    with Engines() as engines:
        engine = engines.get(Target.parse("memory+stale-fail"))
        run = found(engine, Settings(), "stale_fail")  # type: ignore[arg-type]
        told = with_fixes_on(run, Target.parse("memory+stale-fail"), engines)
        late = with_fixes_on(run, Target.parse("memory+stale-fail"), engines, seconds=0)

    assert not any(trial.tried for trial in late.trials), "the time for fixes is what was given"
    assert "the right queue, with fencing: the token compared in every settlement" in [
        trial.name for trial in told.trials if trial.stops
    ]


@pytest.mark.slow
def test_a_tape_that_no_longer_fits_proves_nothing_by_its_replay() -> None:
    engine = MemoryEngine()
    run = found(engine, Settings(stuck_timeout=5 * MINUTE), "concurrent_execution")
    broken = replace(run.scenario, tape=())
    asked = Counterfactual(replace(broken, settings=Settings()), "concurrent_execution", engine)

    confirmed = asked._verified(Trial("x", "setting", True, True, unused=1), engine, asked.scenario)

    assert (confirmed.runs, confirmed.seen, confirmed.seen_without) == (300, 0, 0)
    assert not confirmed.stops


@pytest.mark.parametrize(
    ("mistake", "seed", "change"),
    [("cancel-then-retry", 9, "heartbeat_interval 2m45s"), ("own-lease-lost-on-heartbeat", 0, "batch_size 1")],
)
def test_a_change_that_only_helps_the_replay_is_no_fix(mistake: str, seed: int, change: str) -> None:
    wrong = CATALOGUE[mistake]
    engine = wrong.engine("memory")
    finding = Sampler(engine, looking_for=frozenset({wrong.anomaly})).explore(seed=seed, runs=100).finding
    assert finding is not None

    trials = with_fixes(finding.run, engine=engine, anomaly=wrong.anomaly).trials

    trial = next(trial for trial in trials if trial.name == change)
    assert not trial.stops
    assert trial.seen == 1, "the replay passes, and a fresh run shows it"


@pytest.mark.parametrize("answers", [[True], [False, True]], ids=["at once", "before its fresh runs"])
def test_a_change_for_which_the_time_is_over_is_told_as_not_tried(answers: list[bool]) -> None:
    engine = MemoryEngine()
    run = found(engine, Settings(stuck_timeout=5 * MINUTE), "concurrent_execution")

    class Answers(SearchTime):
        @property
        def over(self) -> bool:
            return answers.pop(0) if len(answers) > 1 else answers[0]

    trials = with_fixes(run, engine=engine, time=Answers()).trials

    assert [(trial.name, trial.tried, trial.stops) for trial in trials] == [
        ("stuck_timeout 13m", False, False),
        ("heartbeat_interval 2m45s", False, False),
    ]


def test_a_run_without_an_anomaly_is_left_as_it_is() -> None:
    engine = MemoryEngine()
    run = Sampler(engine).sample(1)

    assert with_fixes(run, engine=engine) is run


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        ((), ""),
        (
            (Trial("a", "safeguard", True, True), Trial("b", "setting", False, False)),
            "Fixed by: a (b does not help)",
        ),
        ((Trial("a", "safeguard", True, True),), "Fixed by: a"),
        (
            (Trial("a", "safeguard", True, True), Trial("b", "setting", True, True, ("y",), stays=("y",))),
            "Fixed by: a; b, though y stays",
        ),
        (
            (Trial("a", "safeguard", True, True), *(Trial(name, "setting", False, False) for name in "bcdef")),
            "Fixed by: a (b, c, d and 2 more do not help)",
        ),
        ((Trial("a", "safeguard", False, False, ("x",)),), "No fix found: tried a, which does not help"),
        (
            (Trial("a", "safeguard", False, False, ("x",)), Trial("b", "setting", False, False, ("x",))),
            "No fix found: tried a and b, and none of them helps on its own",
        ),
        (
            (Trial("a", "safeguard", False, True, ("y",)),),
            "No fix found: tried a, which does not help; with a the run shows y instead",
        ),
        (
            (Trial("a", "setting", False, False, runs=37, seen=1),),
            "No fix found: tried a, which does not help; a helps this run only: 1 of 37 new runs shows it again",
        ),
        (
            (Trial("a", "safeguard", True, True, unused=1, runs=300, seen_without=9),),
            "Fixed by: a (cannot be replayed with this change; in 300 new runs: 0 with it, 9 without)",
        ),
        (
            (Trial("a", "safeguard", True, True), LATE),
            "Fixed by: a (the time for fixes was over before late could be tried)",
        ),
        (
            (Trial("a", "safeguard", True, True), Trial("b", "setting", False, False), LATE),
            "Fixed by: a (b does not help; the time for fixes was over before late could be tried)",
        ),
        (
            (Trial("a", "setting", False, False), LATE),
            "No fix found: tried a, which does not help; the time for fixes was over before late could be tried",
        ),
        ((LATE,), "No fix found: the time for fixes was over before late could be tried"),
    ],
)
def test_what_fixes_it_is_told_in_a_line(trials: tuple[Trial, ...], told: str) -> None:
    assert "".join(fix_line(trials)) == told


def test_a_change_after_which_another_job_shows_it_does_not_help_and_says_so() -> None:
    told = Trial(
        "PGBOSS_BATCH_SIZE=1", "safeguard", stops=False, gone=False, shows=("terminal_job_revived",), instead=("b",)
    )
    assert fix_line((told,)) == ("No fix found: ", "with PGBOSS_BATCH_SIZE=1, job b shows it instead")
    assert fix_line((Trial("a", "safeguard", True, True), told))[1].endswith(
        " (with PGBOSS_BATCH_SIZE=1, job b shows it instead)"
    )


def test_where_nothing_that_was_done_is_to_blame_the_source_is_the_statement_at_which_a_fault_struck() -> None:
    gates = {"insert queue": WrittenSource("insert queue, sent at create.ts:16")}
    info = replace(MemoryEngine().info, written=lambda gate, sql: gates.get(gate))
    history = History([Fault(1, "api", "crash", {"at": "commit insert queue", "after": False})])
    run = Run(
        Scenario(), "memory", history, (), (Anomaly("orphan_row", "tables_agree", 2, 0, "a", "its row is missing"),)
    )
    source = with_source(run, info).source
    assert source is not None
    assert source.title == "api crashes at insert queue, sent at create.ts:16"
