"""A search deviates inside a TypeScript processor: at each timer of its code, and at each reply of a stub."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.node_at_hand import needs_node, written

from job_harness.core.run.session import as_on_tape
from job_harness.core.sim.choices import Choices, Deviation, ListedGates, Replay
from job_harness.subjects.processors import JobHarness, effect
from job_harness.subjects.processors.job_book import JobHandle
from job_harness.subjects.processors.typescript.target import TypeScriptProcessor

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


ADD = """
import net from "node:net";
const said = (line: string) => new Promise<number>((resolve, reject) => {
  const callback = (length: number, bytes: Buffer) => socket.emit("data", bytes.subarray(0, length));
  const onread = process.env.ONREAD ? { buffer: Buffer.alloc(100), callback } : undefined;
  const at = { port: Number(process.env.LEDGER), host: "127.0.0.1", onread };
  const socket: net.Socket = net.connect(at, () => socket.write(line));
  socket.on("error", reject);
  socket.once("data", (text) => (socket.destroy(), resolve(Number(String(text)))));
});
export async function add(job: any) {
  const before = await said("get\\n");
  await said(`set ${before + job.input}\\n`);
  return { success: true };
}
"""


class Ledger(socketserver.StreamRequestHandler):
    """Keeps one number: `get` reads it, `set 7` writes it; either is answered with it."""

    number = 0

    def handle(self) -> None:
        verb, *given = self.rfile.readline().decode().split()
        if verb == "set":
            Ledger.number = int(given[0])
        self.wfile.write(f"{Ledger.number}\n".encode())


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Ledger]]:
    Ledger.number = 0
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Ledger) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("LEDGER", str(server.server_address[1]))
        yield Ledger
        server.shutdown()


def added(folder: Path, choices: Choices, *inputs: int) -> tuple[JobHarness, list[JobHandle]]:
    """Let jobs add to the ledger under these choices."""
    with JobHarness(choices=choices, faults=as_on_tape()) as jobs:
        jobs.register("add", TypeScriptProcessor(written(folder, ADD, name="add.ts") + "#add"))
        handles = [jobs.enqueue("add", each) for each in inputs]
        jobs.run_until_idle()
        return jobs, handles


@pytest.mark.parametrize("reads", ["", "onread"])
def test_each_reply_of_a_connection_is_a_gate_at_which_the_worker_may_die(
    tmp_path: Path, ledger: type[Ledger], reads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONREAD", reads)
    listed = ListedGates()
    added(tmp_path, listed, 5)
    replies = [label for label, _, _ in listed.gates if "reply to a connection" in label]
    assert replies == ["worker-1 reply to a connection to 127.0.0.1 in add.ts job-1"] * 2
    ledger.number = 0
    added(tmp_path, Replay([Deviation(replies[1], 2, "crash")]), 5)
    assert ledger.number == 10  # It had written before it died, and the next attempt reads that.


def test_two_jobs_of_one_worker_interleave_at_their_replies_in_an_order_that_is_chosen(
    tmp_path: Path, ledger: type[Ledger]
) -> None:
    listed = ListedGates()
    added(tmp_path, listed, 5, 7)
    assert ledger.number == 7  # Both had read 0: the update of the first is lost.
    ledger.number = 0
    first = next(label for label, _, _ in listed.gates if "reply to" in label and "job-1" in label)
    added(tmp_path, Replay([Deviation(first, 1, "others first")]), 5, 7)
    assert ledger.number == 5
