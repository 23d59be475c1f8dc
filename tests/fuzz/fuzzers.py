"""The fuzzers: for each, what its inputs are and how the product is judged on one. Must not know: time, processes."""

from __future__ import annotations

import json
import os
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from hypothesis import strategies as st
from psycopg.sql import SQL
from tests.fuzz import strategies
from tests.fuzz.judging import Fault, Files, guarded, said_by

from job_harness.core.history.jsonl import dump_history, load_history
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.replay_token import decode
from job_harness.core.scenario.scenario import Expectation
from job_harness.core.scenario.writer import write_scenario
from job_harness.doors.cli import verify_command
from job_harness.errors import HarnessError, UsageError
from job_harness.review.verify import trial
from job_harness.subjects.processors import JobHarness
from job_harness.worlds.peers.peer import Peer, PeerLost

STEPS: Final = "3000"
"""Of a run: more is never needed to see what a scenario's text does."""
ODD_ATTEMPTS: Final = 77
KINDS: Final = frozenset({"died", "blocked", "flooded", "nonsense", "version"})
"""What a peer may come to, by its contract."""
_PEER: Final = """
import os, sys
reading, writing, life = map(int, os.environ["JOB_HARNESS_PEER"].split(","))
hello, said = (open(os.path.join(sys.argv[1], name), "rb").read() for name in ("hello", "said"))
os.write(writing, hello)
os.read(reading, 1)
os.write(writing, said)
"""


@dataclass(frozen=True, slots=True)
class Fuzzer:
    """`judge` reads an input in a folder and raises `Fault` where a rule is broken."""

    name: str
    about: str
    inputs: Callable[[], st.SearchStrategy[Files]]
    judge: Callable[[Path], None]


# scenarios and tokens -------------------------------------------------------------------------------------------------


def judge_scenario(folder: Path) -> None:
    """Run it as its user would; what passes must fail once it expects what did not happen."""
    report = ("--json", "report.json", "--junit", "report.xml", "--annotations", "--steps", STEPS)
    documents = ("report.json", "report.xml")
    said = said_by("run", "one.yaml", *report, folder=folder, documents=documents, annotated=True)
    if said.code:
        return
    cases = said.report["cases"]
    if not cases or any(case["verdict"] != "pass" for case in cases if "skipped" not in case):
        raise Fault("false green", f"exit code 0, and the report says {cases!r:.400}", place="report")
    _contradict(folder)


def _contradict(folder: Path) -> None:
    scenario = read_scenario(folder / "one.yaml", queues=None)
    job = next((plan.name for plan in scenario.jobs if plan.name in scenario.plan_of()), None)
    if job is None:
        return
    expected = replace(scenario.expect.get(job, Expectation()), attempts=ODD_ATTEMPTS)
    wrong = replace(scenario, expect={**scenario.expect, job: expected})
    (folder / "wrong.yaml").write_text(write_scenario(wrong), encoding="utf-8", errors="surrogatepass")
    try:
        said = said_by("run", "wrong.yaml", "--no-controls", "--steps", STEPS, folder=folder)
    finally:
        (folder / "wrong.yaml").unlink()
    if said.code != 1:
        told = (
            f"it expects {job} to have {ODD_ATTEMPTS} attempts: exit code {said.code}\n{(said.out + said.err)[-400:]}"
        )
        raise Fault("false green" if said.code == 0 else "wrong answer", told, place=f"contradicted: {said.code}")


def judge_token(folder: Path) -> None:
    """Replay it: a pass has played every deviation of the token, and refused anything that is not a token."""
    word = (folder / "token").read_bytes().decode("utf-8", "surrogateescape")
    arguments = ("run", "one.yaml", f"--replay={word}", "--json", "report.json", "--steps", STEPS)
    said = said_by(*arguments, folder=folder, documents=("report.json",))
    if said.code not in (0, 1):
        return
    played = decode(said.report["cases"][0]["run"]["token"]).tape
    if said.code == 0 and set(played) != set(decode(word).tape):
        raise Fault("false green", f"it passes, and played {played} of {decode(word).tape}", place="tape")


# repositories and configuration files ---------------------------------------------------------------------------------


def judge_repository(folder: Path) -> None:
    """Check it: the documents are whole, and a pass has read something that could be judged."""
    reports = ("--json", "report.json", "--sarif", "report.sarif", "--junit", "report.xml", "--annotations")
    names = ("report.json", "report.sarif", "report.xml")
    said = said_by("check", ".", *reports, folder=folder, documents=names, annotated=True)
    found = said.report["findings"]
    if said.code != 0:
        return
    if graver := [item for item in found if item["severity"] != "note"]:
        raise Fault("false green", f"exit code 0 with {graver!r:.300}", place="severity")
    unread = {item["file"] for item in found if item["rule"] == "unreadable_file"}
    whole = [path for path in folder.rglob("*") if path.is_file() and str(path.relative_to(folder)) not in unread]
    if not whole:
        raise Fault("false green", "it passes, and no file of it can be read", place="unread")


def judge_configuration(folder: Path) -> None:
    """Name the files as a user does: a baseline, the variables of a service, the request of `verify`."""
    known = ("--baseline", "baseline.json", "--env", "worker=prod.env")
    said_by("check", ".", *known, "--json", "report.json", folder=folder, documents=("report.json",))
    with guarded(HarnessError), suppress(UsageError):
        trial.read_template(folder / "verify.toml")


# histories ------------------------------------------------------------------------------------------------------------


def judge_history(folder: Path) -> None:
    """Read it: refused with its line, or it answers every question, and is written and read as the same."""
    lines = (folder / "history.jsonl").read_bytes().decode("utf-8", "surrogateescape").split("\n")
    with guarded():
        try:
            history = load_history(lines)
        except UsageError as error:
            if "line" not in error.message and "history" not in error.message:
                raise Fault("wrong answer", f"the error names no line: {error}") from None
            return
        written = dump_history(history)
        if dump_history(load_history(written.splitlines())) != written:
            raise Fault("wrong answer", "what was read is written as something else", place="written")
        for job in history.views():
            history.path(job), history.runs(job), history.of_job(job)


# peers ----------------------------------------------------------------------------------------------------------------


def judge_peer(folder: Path) -> None:
    """Talk to a peer that says this: a turn that ends is ended by its own `idle`; else it is lost, and gone."""
    with guarded(PeerLost):
        peer = Peer([sys.executable, "-ISc", _PEER, str(folder)], name="peer", patience=0.3)
        try:
            said = peer.go("run", {"job": "a"}, actor="1", now=0)
        except PeerLost as lost:
            if lost.kind not in KINDS:
                raise Fault("wrong answer", f"it is lost as {lost.kind!r}", place=lost.kind) from None
            if len(str(lost)) > 4000:
                raise Fault("too much", f"an error of {len(str(lost))} characters", place="error") from None
            said = []
        finally:
            alive = peer.alive
            peer.kill()
        if said and said[-1].get("idle") != 1:
            raise Fault("wrong answer", f"the turn was ended by {said[-1]!r:.200}", place="idle")
        if not said and alive:
            raise Fault("wrong answer", "it counts as lost, and its process is alive", place="alive")


_NODE: Final = r"""
import json, os, sys
if "--version" in sys.argv:
    raise SystemExit(print("v24.0.0"))
reading, writing, life = map(int, os.environ["JOB_HARNESS_PEER"].split(","))
def say(report):
    os.write(writing, json.dumps(report).encode() + bytes([10]))
say({"hello": 1, "clock": True})
for line in open(reading, "rb"):
    number = next(iter(json.loads(line).values()))
    if number > 2:
        say({"idle": number, "next": None})
    else:
        name = ("loaded", "said")[number - 1]
        os.write(writing, open(os.path.join(os.environ["FUZZ_INPUT"], name), "rb").read())
"""
"""Stands for Node."""


def _succeeded(line: bytes) -> bool:
    with suppress(ValueError, KeyError, TypeError):
        report = json.loads(line)
        return report["effect"] == "ended" and report["data"]["result"]["success"] is True
    return False


def judge_typescript(folder: Path) -> None:
    """Run one job in a Node that says this: it ends, or an error of the product's own says why."""
    node = folder / "node"
    node.write_text(f"#!/bin/sh\nexec {sys.executable} -ISc '{_NODE}' \"$@\"\n")
    node.chmod(0o700)
    (folder / "processor.ts").write_text("export const run = 1;\n")
    environment = {"JOB_HARNESS_NODE": str(node), "FUZZ_INPUT": str(folder)}
    with (
        mock.patch.dict(os.environ, environment),
        suppress(HarnessError),
        guarded(HarnessError),
        JobHarness() as jobs,
    ):
        jobs.register("run", f"{folder}/processor.ts#run")
        job = jobs.enqueue("run", {"n": 1})
        jobs.run_until_idle()
        if job.status == "COMPLETED" and not any(map(_succeeded, (folder / "said").read_bytes().splitlines())):
            raise Fault("false green", "the job is COMPLETED, and no report says success", place="completed")


# systems under `verify` -----------------------------------------------------------------------------------------------


class _Answers(socketserver.BaseRequestHandler):
    """Returns the bytes of a file, whatever is asked."""

    def handle(self) -> None:
        asked = self.request.recv(65536)
        name = "created" if asked.startswith(b"POST") else "health"
        with suppress(OSError):
            self.request.sendall((self.server.folder / name).read_bytes())  # type: ignore[attr-defined]


@contextmanager
def _system(folder: Path) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Answers) as server:
        server.folder = folder  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def judge_answers(folder: Path) -> None:
    """Verify a system that answers so; a pass needs a row that says COMPLETED at last, and that it was run."""
    rows: list[Any] = json.loads((folder / "rows.json").read_bytes())
    shown: list[Mapping[str, Any] | None] = [row if isinstance(row, dict) else None for row in rows]
    seen: list[Mapping[str, Any]] = []

    def look(*_: object) -> Any:
        row = shown.pop(0) if shown else None
        if row is None:
            return None
        as_text = {name: None if row.get(name) is None else str(row[name]) for name in ("status", "error")}
        seen.append({**as_text, "started": row.get("started")})
        return seen[-1]

    table = trial.JobLook(SQL("").format(), "tool_job")
    looks = mock.patch.multiple(trial, _row=look, LOOK_EVERY_SECONDS=0.001)
    finds = mock.patch.multiple(verify_command, watched_table=lambda dsn: table, check_look=lambda dsn, jobs: None)
    with _system(folder) as url, looks, finds:
        times = ("--poll", "0.01", "--margin", "0.01", "--takes", "0.03")
        said = said_by("verify", url, "--dsn", "x", *times, "--json", "-", folder=folder)
    if said.code == 0:
        ran = any(row["started"] is not None or row["status"] == "PROCESSING" for row in seen)
        if seen[-1]["status"] != "COMPLETED" or not ran:
            raise Fault("false green", f"the rows were {seen!r:.400}", place="rows")


FUZZERS: Final = (
    Fuzzer("scenario", "scenario files, run in memory", strategies.scenario_inputs, judge_scenario),
    Fuzzer("token", "replay tokens and the tapes in them", strategies.token_inputs, judge_token),
    Fuzzer("repository", "repositories under `check`", strategies.repository_inputs, judge_repository),
    Fuzzer("configuration", "baselines, `.env` files, TOML", strategies.configuration_inputs, judge_configuration),
    Fuzzer("history", "histories as JSON lines", strategies.history_inputs, judge_history),
    Fuzzer("peer", "what a peer says", strategies.peer_inputs, judge_peer),
    Fuzzer("typescript", "what a Node peer says of a processor", strategies.typescript_inputs, judge_typescript),
    Fuzzer("answers", "what a system answers to `verify`", strategies.answer_inputs, judge_answers),
)
