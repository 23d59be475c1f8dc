"""What the steps of a scenario do to a run, and what they say where they cannot be done."""

from __future__ import annotations

import pytest

from job_harness.core.history.event import Effect, Fault, Return
from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.run.play import play
from job_harness.core.run.session import Session
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.engines.memory import MemoryEngine
from job_harness.report.screen import first_screen, screen_text


def run(text: str) -> Run:
    return Session(read_scenario_text("format: 1\n" + text), engine=MemoryEngine()).run()


def test_a_step_that_cannot_be_done_tells_who_ran_the_job_and_is_the_only_failure() -> None:
    done = run("""
workers: [w1, w2]
jobs: {a: {}}
steps: [w2 completes a, crash w1 while running a]
expect: {a: {status: FAILED}}
""")
    assert len(done.failures) == 1
    assert "w1 never reached 'running a'" in done.failures[0]
    assert "a went PENDING PROCESSING COMPLETED, run by w2" in done.failures[0]


def test_a_worker_that_got_another_job_of_the_same_instant_is_told_from_one_that_got_none() -> None:
    done = run("""
workers: [w1, w2]
jobs: {welcome: {}, newsletter: {}}
steps: [crash w1 while running welcome, run until idle]
""")
    [told] = done.failures
    assert told == (
        "crash w1 while running welcome: w1 never reached 'running welcome': w2 claimed it, w1 claimed newsletter. "
        "Send newsletter later (`at: 5s`), or name w2"
    )
    text = screen_text(first_screen(done))
    assert "\nNot reached: crash w1 while running welcome (line 5)\n" in text
    assert "One fault" not in text


def test_a_worker_that_keeps_the_leases_of_its_batch_still_stands_before_each_start() -> None:
    done = run("""
settings: {batch_size: 2, heartbeat_interval: 1m}
jobs: {a: {}, b: {}}
steps: [w1 starts b, b is PROCESSING]
expect: {a: {status: COMPLETED}, b: {status: COMPLETED}}
""")
    assert (done.failures, done.anomalies) == ((), ())


def test_no_seed_lets_a_worker_run_through_a_job_before_the_first_step() -> None:
    scenario = read_scenario_text("""format: 1
jobs: {a: {takes: 30s}, bystander: {}}
steps: [w1 starts a, cancel a -> done]
expect: {a: {status: CANCELLED}}
""")
    runs = [play(scenario, engine=MemoryEngine(), seed=seed) for seed in range(8)]
    assert [done.failures for done in runs] == [()] * 8


def test_a_stop_is_written_into_the_history() -> None:
    done = run("""
workers: [w1, w2]
jobs: {a: {takes: 1m}}
steps: [w1 starts a, stop w1]
""")
    assert [event.name for event in done.history if type(event) is Fault] == ["stop"]


def test_a_pause_of_a_given_length_ends_by_itself_and_shortens_nothing() -> None:
    done = run("""
jobs: {a: {takes: 30s}}
steps: [w1 pauses for 10s while running a, w1 pauses for 5m before completing a]
expect: {a: {status: COMPLETED, runs: 1}}
""")
    assert (done.failures, done.anomalies) == ((), ())
    ends = [event.at for event in done.history if type(event) is Effect and event.name == "ended"]
    settled = [event.at for event in done.history if type(event) is Return and event.verb == "complete"]
    assert (ends, settled) == ([30 * SECOND], [5 * MINUTE + 30 * SECOND])


def test_a_run_is_not_at_rest_while_a_job_waits_for_a_time_far_ahead() -> None:
    done = run("jobs: {a: {start_after: 3d}, b: {at: 2d}}\nexpect: {a: {runs: 1}, b: {status: COMPLETED}}")
    assert (done.failures, done.anomalies) == ((), ())


def test_a_tape_is_played_again_while_a_database_wakes_its_waiting_sessions_in_another_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other_orders: list[str] = []

    class Waking(Session):
        def run(self) -> Run:
            if other_orders:
                self.kernel.surprises.append(other_orders.pop())
            return super().run()

    monkeypatch.setattr("job_harness.core.run.play.Session", Waking)
    scenario = read_scenario_text("format: 1\njobs: {a: {}}\ntape: [{at: w1 claim, do: crash}]\n")
    other_orders += ["lock of w1"] * 2
    assert (play(scenario, engine=MemoryEngine()).uncovered, other_orders) == ((), [])
    other_orders += ["lock of w1"] * 7
    assert (play(scenario, engine=MemoryEngine()).uncovered, len(other_orders)) == (("lock of w1",), 2)
