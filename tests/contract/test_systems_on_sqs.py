"""Systems whose processes share an SQS: requests are gates, a long poll waits in virtual time, the rest is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.opened_systems import open_systems, play_jobs

from job_harness.core.history.event import Observed
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Run
from job_harness.core.sim.choices import Deviation
from job_harness.errors import HarnessError
from job_harness.search.finding import first_difference
from job_harness.search.sampling import Sampler
from job_harness.subjects.systems import SystemEngine
from job_harness.worlds.clock import ClockedTree

pytestmark = pytest.mark.slow
pytest.importorskip("moto", reason="moto is not installed: pip install 'job-harness[sqs]'")

SQS = """
import http.client, json, os, ssl, time, urllib.request

HOST, ACCOUNT = "sqs.us-east-1.amazonaws.com", "http://sqs.us-east-1.amazonaws.com/123456789012/"
connection = http.client.HTTPConnection(HOST)

def ask(action, queue="work", **arguments):
    body = json.dumps({"QueueUrl": ACCOUNT + queue, **arguments})
    headers = {"x-amz-target": "AmazonSQS." + action, "content-type": "application/x-amz-json-1.0"}
    connection.request("POST", "/", body, headers)
    reply = connection.getresponse()
    told = json.loads(reply.read() or b"{}")
    if reply.status != 200:
        raise RuntimeError(told)
    return told

def receive(queue="work", **arguments):
    return ask("ReceiveMessage", queue, **arguments).get("Messages", [])
"""
API = (
    SQS
    + """
from http.server import BaseHTTPRequestHandler, HTTPServer

class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        if ANSWERS_FIRST:
            self.do_GET()
        ask("SendMessage", MessageBody=self.path[8:])
        if not ANSWERS_FIRST:
            self.do_GET()

    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever(3600)
"""
)
WORKER = """
while True:
    for message in receive(WaitTimeSeconds=20):
        time.sleep(2)
        ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"])
"""
FILE = """
format: 1
system: a queue
clock: supervisor
ready_seconds: 30
stores: {sqs: {queues: {dead: {}, work: {visibility_timeout: 30s, max_receives: 3, dead_letters: dead}}}}
processes:
  worker: {command: python worker.py, instances: 2}
  api: {command: python api.py, http: {port_env: PORT}}
send: {request: "POST /orders/${job}", to: api}
jobs: sqs
settings: {job_timeout: 10s, lease: 30s, stuck_timeout: 2m, retry_delay: 1s, cron_period: 1s, expire_interval: 1s}
"""
Opened = Callable[..., SystemEngine]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    with open_systems(lambda: ClockedTree(options=("--own-net",)).close()) as opens:

        def make(worker: str = WORKER, *, file: str = FILE, answers_first: bool = False) -> SystemEngine:
            api = f"ANSWERS_FIRST = {answers_first}\n{API}"
            for name, text in {"worker.py": SQS + worker, "api.py": api, "system.yaml": file}.items():
                (tmp_path / name).write_text(text)
            return opens(tmp_path / "system.yaml")

        yield make


def gates(run: Run, actor: str) -> set[str]:
    return {sent.gate for _, sent in run.statements if sent.actor == actor}


def test_each_request_is_a_gate_and_a_long_poll_is_answered_when_another_process_sends(opened: Opened) -> None:
    engine = opened()
    run = play_jobs(engine, jobs="a")
    assert run.history.path("a") == ["PENDING", "PROCESSING", "COMPLETED"]
    assert "send work" in gates(run, "api")
    assert {"receive work", "delete work"} <= gates(run, "w1") | gates(run, "w2")
    seen = [event.at for event in run.history if type(event) is Observed]
    assert seen == pytest.approx([0, 0, 2_000_000], abs=1_000), "the work alone takes time"
    again = play_jobs(engine, jobs="a")
    assert first_difference(run.history.events, again.history.events) is None


def test_a_message_comes_back_when_its_visibility_ends_and_dies_of_too_many_receives(opened: Opened) -> None:
    run = play_jobs(opened("while True:\n    receive(WaitTimeSeconds=20)\n"), jobs="a")
    seen = [
        (event.at, str(event.after.status), event.after.attempts)
        for event in run.history
        if type(event) is Observed and event.after
    ]
    assert [(status, attempts) for _, status, attempts in seen] == [
        ("PENDING", 0),
        ("PROCESSING", 1),
        ("PROCESSING", 2),
        ("PROCESSING", 3),
        ("FAILED", 3),
    ]
    assert [at for at, _, _ in seen][1:] == pytest.approx([0, 30e6, 60e6, 90e6], abs=10_000)


def test_a_job_that_was_accepted_and_never_reached_the_queue_is_lost_though_the_file_has_no_id(opened: Opened) -> None:
    engine = opened(answers_first=True)
    assert play_jobs(engine, jobs="a").found == frozenset()
    run = play_jobs(engine, jobs="a", tape=(Deviation("api send work", 1, "crash"),))
    assert run.found == {"job_vanished"}


HOGS = WORKER.replace("receive(WaitTimeSeconds=20)", "receive(WaitTimeSeconds=20, VisibilityTimeout=43200)")


@pytest.mark.long
def test_a_message_that_nobody_else_may_see_for_hours_is_stuck_after_a_kill_and_again_by_its_tape(
    opened: Opened,
) -> None:
    engine = opened(HOGS)
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    run = next(run for run in map(sampler.sample, range(12)) if "job_stuck" in run.found)
    again = play(replace(run.scenario, tape=run.tape), engine=engine, seed=run.seed)
    assert first_difference(run.history.events, again.history.events) is None


TLS = "connection = http.client.HTTPSConnection(HOST, context=ssl.create_default_context())\n"
SHORT = """
while True:
    found = receive()
    if not found:
        time.sleep(1)
    for message in found:
        ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"])
"""


@pytest.mark.parametrize("worker", [TLS + WORKER, SHORT], ids=["over TLS, at Amazon's own name", "by short polls"])
def test_a_worker_is_served_in_each_way_that_clients_have(opened: Opened, worker: str) -> None:
    run = play_jobs(opened(worker), jobs="ab")
    assert [run.history.path(job)[-1] for job in "ab"] == ["COMPLETED", "COMPLETED"]
    assert run.found == frozenset()


@pytest.mark.parametrize(
    ("worker", "file", "told"),
    [
        ('ask("StartMessageMoveTask")\n', FILE, "SQS: moto's SQS has no "),
        (
            'connection.sock or connection.connect()\nconnection.sock.send(b"no HTTP\\r\\n\\r\\n")\ntime.sleep(9)\n',
            FILE,
            "not HTTP/1.1",
        ),
        (WORKER, FILE.replace("jobs: sqs", "jobs: rq"), "'rq' needs `stores: {redis: {}}`"),
        (WORKER, FILE.replace("clock: supervisor", "clock: inside"), "it needs `clock: supervisor`"),
        (WORKER, FILE.replace("dead_letters: dead", "dead_letters: deed"), "no queue 'deed' for its dead letters"),
        (WORKER, FILE.replace("max_receives: 3, ", ""), "give `max_receives` and `dead_letters`, or neither"),
        (WORKER, FILE.replace("dead_letters: dead", "dead_letters: work"), "has `dead_letters` too"),
        (WORKER, FILE.replace("dead", "dead.fifo").replace("dead.fifo_", "dead_"), "both have to be FIFO queues"),
        (WORKER, FILE.replace("30s,", "1500ms,", 1), "SQS takes whole seconds"),
        (WORKER, FILE.replace("dead: {}", "dead: {content_based_deduplication: true}"), "Call it dead.fifo"),
        (WORKER, f"{FILE}outside: {{sqs.us-east-1.amazonaws.com: {{}}}}\n", "has an SQS of that name"),
    ],
)
def test_what_cannot_be_is_named(opened: Opened, worker: str, file: str, told: str) -> None:
    with pytest.raises(HarnessError, match=re.escape(told)):
        play_jobs(opened(worker, file=file), jobs="a")
