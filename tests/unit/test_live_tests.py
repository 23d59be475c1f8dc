"""A user's test on the kernel: what it asks to go wrong is on a tape, and a search deviates at its gates."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from job_harness.core.faults import FaultPlan, cause_of
from job_harness.core.history.event import SideEffect
from job_harness.core.history.jsonl import dump_history
from job_harness.core.run.session import as_on_tape
from job_harness.core.sim.choices import Boring, Choices, Deviation, Replay, Tape, Uniform
from job_harness.engines.reference.application import START, JobProcessor
from job_harness.subjects.processors import JobHarness, JobResult, ToolJob, at_most_once, effect

ROOT = Path(__file__).resolve().parents[2]
CALLED = re.compile(r"(?<![\w.])(?<!class )(?<!def )(Judge|judge_of|Recorder)\(")
FAULTS = FaultPlan(crash=1, pause=1, lost_message=1, duplicate=1)


async def charge_then_record(job: ToolJob) -> JobResult:
    await asyncio.sleep(1)
    effect("charged", order=job.input)
    await asyncio.sleep(1)
    return JobResult(success=True)


def played(
    script: Callable[[JobHarness], None], choices: Choices | None = None, *, faults: FaultPlan | None = None
) -> tuple[str, Tape, set[str]]:
    """Run a test; return its history, its tape and the anomalies it showed."""
    options = {} if faults is None else {"faults": faults}
    harness = JobHarness(choices=choices, invariants=[at_most_once("charged", per=("order",))], **options)
    with harness:
        harness.register("pay", charge_then_record)
        script(harness)
        anomalies = {anomaly.name for anomaly in harness.bench.session.judge.anomalies}
        return dump_history(harness.history), harness.tape, anomalies


def two_payments(harness: JobHarness) -> None:
    harness.enqueue("pay", 7)
    harness.enqueue("pay", 8)
    harness.run_until_idle()


def test_a_crash_that_a_test_asks_for_comes_whatever_a_search_has_drawn() -> None:
    def crashing(harness: JobHarness) -> None:
        job = harness.enqueue("pay", 7)
        harness.crash_worker(at="before starting")
        harness.wait_for(job, "COMPLETED")

    history, tape, anomalies = played(crashing, Boring(), faults=FaultPlan(pause=1))
    assert (history.count('"kind":"fault"'), history.count('"name":"crash"')) == (1, 1)
    assert (len(tape), anomalies) == (1, set())


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("before starting", "worker-1 before starting job-1 #1: crash"),
        ("charged", "worker-1 charged job-1 #1: crash"),
        ("before complete", "worker-1 complete job-1 #1: crash"),
        ("after complete", "worker-1 complete job-1 #1: crash after"),
        ("while running", "worker-1 while running job-1 #1: crash"),
    ],
)
def test_a_crash_that_a_test_asks_for_is_a_deviation_on_its_tape(at: str, said: str) -> None:
    def crashing(harness: JobHarness) -> None:
        harness.crash_worker(at=at)
        harness.enqueue("pay", 7)
        harness.run_until_idle()

    history, tape, _ = played(crashing)
    assert [str(deviation) for deviation in tape] == [said]
    assert history.count('"crash"') == 1


def test_a_delivery_that_a_test_asks_for_twice_is_a_deviation_and_is_found() -> None:
    def twice(harness: JobHarness) -> None:
        harness.deliver_twice(harness.enqueue("pay", 7))
        harness.run_until_idle()

    _, tape, anomalies = played(twice)
    assert [str(deviation) for deviation in tape] == ["worker-1 before starting job-1 #1: hand out twice"]
    assert cause_of(tape[0])[:2] == ("job-1 is delivered twice (to worker-1)", True)
    assert "effect_repeated" in anomalies


def test_a_search_finds_the_double_charge_and_its_tape_gives_the_same_bytes() -> None:
    quiet, nothing, _ = played(two_payments)
    assert nothing == ()
    for seed in range(200):
        history, tape, anomalies = played(two_payments, Uniform(seed, rate=0.1), faults=FAULTS)
        if "effect_repeated" in anomalies:
            break
    else:
        pytest.fail("no double charge in 200 runs")
    again, same, found = played(two_payments, Replay(tape), faults=as_on_tape())
    assert (again, same, found) == (history, tape, anomalies)
    assert played(two_payments, Replay(()), faults=as_on_tape())[0] == quiet


def test_gates_are_named_by_the_nearest_function_of_the_user() -> None:
    asked: list[str] = []

    class Listening(Replay):
        def gate(self, label: str, options: Callable[[], object]) -> None:  # type: ignore[override]
            asked.append(label)

    played(two_payments, Listening(()), faults=FAULTS)
    timers = [label for label in asked if "charge_then_record" in label]
    assert timers.count("worker-1 test_live_tests.py:charge_then_record job-1") == 2
    assert not [label for label in asked if "asyncio" in label or "site-packages" in label]


def test_a_pause_stalls_the_whole_process_so_that_its_lease_runs_out() -> None:
    tape = Replay([Deviation("worker-1 charged job-1", 1, "pause a lease + a retry")])
    history, _, anomalies = played(two_payments, tape, faults=FAULTS)
    assert '"heartbeat"' not in history
    assert '"expire"' in history
    assert anomalies == {"effect_repeated"}


def test_a_lost_reply_is_insisted_on_and_changes_nothing() -> None:
    tape = Replay([Deviation("worker-1 complete job-1", 1, "lose reply")])
    history, _, anomalies = played(two_payments, tape, faults=FAULTS)
    assert anomalies == set()
    assert history.count('"lose reply"') == 1


def test_one_place_makes_a_judge_and_a_recorder() -> None:
    makers = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in (ROOT / "harness").rglob("*.py")
        for name in CALLED.findall(path.read_text(encoding="utf-8"))
    }
    audit = {
        ("harness/job_harness/review/audit/judging.py", "Judge")
    }  # It has a source in the place of a queue, and keeps no history.
    assert makers == {
        ("harness/job_harness/core/run/observation.py", "judge_of"),
        ("harness/job_harness/core/run/observation.py", "Recorder"),
        *audit,
    }


@pytest.mark.parametrize("length", ["a lease - 1s", "a lease", "a lease + a retry"])
def test_a_claim_whose_answer_took_a_lease_is_saved_or_given_back(length: str) -> None:
    tape = Replay([Deviation("worker-1 claim", 1, f"pause {length}")])
    history, _, anomalies = played(two_payments, tape, faults=FAULTS)
    assert anomalies == set()
    assert '"expire"' not in history


def test_a_report_that_is_lost_after_the_workers_own_lease_is_sent_again() -> None:
    slow = [
        Deviation("worker-1 claim", 1, "pause a timeout"),
        Deviation("worker-1 charged job-1", 1, "pause a cron"),
        Deviation("worker-1 complete job-1", 1, "lose request"),
    ]
    history, _, anomalies = played(two_payments, Replay(slow), faults=FaultPlan(pause=2, lost_message=1))
    assert "outcome_lost" not in anomalies
    assert history.count('"verb":"complete","job":"job-1"') > 2, "it was called twice"


@pytest.mark.parametrize(("idempotent", "found"), [(False, {"effect_repeated"}), (True, set())])
def test_a_deed_counts_by_its_identity_and_may_come_again_where_its_receiver_ignores_that(
    idempotent: bool, found: set[str]
) -> None:
    async def pay(job: ToolJob) -> JobResult:
        effect(SideEffect("charged", f"order-{job.input}", {"by": job.attempts}, idempotent=idempotent))
        return JobResult(success=True)

    with JobHarness(invariants=[at_most_once("charged")]) as harness:
        harness.register("pay", pay)
        harness.enqueue("pay", 7)
        harness.enqueue("pay", 7)  # Another job, the same deed.
        harness.run_until_idle()
        assert {anomaly.name for anomaly in harness.anomalies} == found
        assert '"identity":"order-7"' in dump_history(harness.history)


@pytest.mark.parametrize("option", ["others first", "pause 1s"])
def test_a_processor_goes_on_when_the_stall_of_its_worker_is_over(option: str) -> None:
    stall = Replay([Deviation("worker-1 charged job-1", 1, option)])
    with JobHarness(choices=stall, faults=as_on_tape()) as harness:
        harness.register("pay", charge_then_record)
        job = harness.enqueue("pay", 7)
        harness.run_until_idle()
        assert (job.status, job.attempts, len(harness.tape)) == ("COMPLETED", 1, 1)


async def wait(job: ToolJob) -> JobResult:
    await asyncio.sleep(1)
    return JobResult(success=True, output=time.time())  # noqa: TID251 - a processor's own clock


def wait_on_a_thread(job: ToolJob) -> JobResult:
    time.sleep(1)  # noqa: TID251 - a processor's own
    return JobResult(success=True, output=time.time())  # noqa: TID251 - a processor's own clock


@pytest.mark.parametrize("processor", [wait, wait_on_a_thread])
def test_a_run_stands_still_while_its_worker_goes_on_with_another(processor: JobProcessor) -> None:
    gate = f"test_live_tests.py:{processor.__name__} job-1"
    stall = Deviation(f"worker-1 {gate}", 1, "stand still half a timeout")
    with JobHarness() as harness:
        harness.play.reopen(Replay([stall]), as_on_tape(), forked=False)
        harness.register("pay", processor)
        still, other = harness.enqueue("pay", 7), harness.enqueue("pay", 8)
        harness.run_until_idle()
        assert (still.output - other.output, still.attempts, harness.tape) == (300.0, 1, (stall,))
        assert not harness.anomalies
    told = f"the run of job-1 stands still for half a timeout before `{gate}`, and worker-1 goes on with the others"
    assert cause_of(stall)[0] == told


def test_a_run_stands_still_no_longer_than_until_its_timeout() -> None:
    async def pay(job: ToolJob) -> JobResult:
        await asyncio.sleep(400)
        return JobResult(success=True, output=time.time())  # noqa: TID251 - a processor's own clock

    stall = Replay([Deviation("worker-1 test_live_tests.py:pay job-1", 1, "stand still half a timeout")])
    with JobHarness() as harness:
        harness.play.reopen(stall, as_on_tape(), forked=False)
        harness.register("pay", pay)
        job = harness.enqueue("pay", 7)
        harness.run_until_idle()
        assert (job.status, job.attempts, job.output - START.timestamp()) == ("COMPLETED", 1, 599.0)


def test_a_check_without_a_name_is_told_by_its_place() -> None:
    with JobHarness() as harness:
        harness.always(lambda seen: len(seen.effects("charged")) == 0)
        harness.register("pay", charge_then_record)
        two_payments(harness)
        told = [anomaly.message for anomaly in harness.bench.session.judge.anomalies]
    line = test_a_check_without_a_name_is_told_by_its_place.__code__.co_firstlineno + 2
    assert f"the lambda at test_live_tests.py:{line}: it returned False" in told[0]
