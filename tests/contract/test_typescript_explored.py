"""A search deviates inside a TypeScript processor: at each timer of its code, and at each reply of a stub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.contract.node_at_hand import needs_node, written

from job_harness.core.run.session import as_on_tape
from job_harness.core.sim.choices import Choices, Deviation, ListedGates, Replay
from job_harness.subjects.processors import JobHarness, effect
from job_harness.subjects.processors.assertions import JobHandle
from job_harness.subjects.processors.typescript import TypeScriptProcessor

pytestmark = needs_node

PAY = """
const sleep = (seconds: number) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
export const pay = async (job: any) => {
  await Promise.all([sleep(1), (async function beside() { await sleep(1); })()]);
  await charge(job.input);
  await sleep(1);
  return { success: true };
};
"""


def played(folder: Path, choices: Choices, look: Callable[[JobHarness, JobHandle], Any]) -> Any:
    """Let one job be paid for under these choices, and look at the result."""
    target = written(folder, PAY, name="pay.ts") + "#pay"
    with JobHarness(choices=choices, faults=as_on_tape()) as jobs:
        stubs = {"charge": lambda order: effect("charged", order=order)}
        jobs.register("pay", TypeScriptProcessor(target, globals=stubs))
        job = jobs.enqueue("pay", 7)
        jobs.run_until_idle()
        return look(jobs, job)


def test_each_timer_of_the_code_and_each_reply_of_a_stub_is_a_gate_under_a_name_of_the_users(tmp_path: Path) -> None:
    listed = ListedGates()
    played(tmp_path, listed, lambda jobs, job: None)
    inside = [label.removeprefix("worker-1 ") for label, _, _ in listed.gates if "job-1" in label]
    assert inside == [
        "before starting job-1", "pay.ts:sleep job-1", "pay.ts:sleep job-1", "charged job-1",
        "reply of charge() job-1", "pay.ts:sleep job-1", "complete job-1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("option", "attempts", "charged"),
    [
        ("crash", 2, [2]),
        ("pause 1s", 1, [1]),
        ("others first", 1, [1]),
        ("stand still a poll", 1, [1]),
        ("pause a lease + a retry", 2, [1, 2]),
    ],
)
def test_what_goes_wrong_at_a_timer_happens_to_the_node_process(
    tmp_path: Path, option: str, attempts: int, charged: list[int]
) -> None:
    def looked(jobs: JobHarness, job: JobHandle) -> tuple[Any, ...]:
        return job.status, job.attempts, sorted(done.attempt for done in jobs.effects("charged"))

    struck = Replay([Deviation("worker-1 pay.ts:sleep job-1", 2, option)])
    assert played(tmp_path, struck, looked) == ("COMPLETED", attempts, charged)
    assert len(struck.tape) == 1
