"""One table: hostile processors, and every way of running one. Each ends soon, is never green, and leaves nothing.

A cell is a child forked for it: what a processor does there harms no other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from tests.contract import hostile_guests
from tests.contract.node_at_hand import needs_node

import job_harness.doors.cli.run_command
import job_harness.engines.memory
import job_harness.engines.reference.engine
import job_harness.subjects.processors.scenario_processors  # noqa: F401 - once here, and not in every child
from job_harness.doors.cli import _answered
from job_harness.doors.cli.supervised import supervised
from job_harness.doors.pytest.fixtures import exits_are_told
from job_harness.errors import ExitCode, HarnessError
from job_harness.search.explored.campaign import TestExploration
from job_harness.search.explored.played import InChild
from job_harness.subjects.processors import JobHarness
from job_harness.subjects.processors.contract import CheckOutcome, ContractRun
from job_harness.worlds.patience import ready
from job_harness.worlds.peers.peer import end_marked, end_session

pytestmark = pytest.mark.long

BLOCKED_AFTER = 0.2
PATIENT = 10.0
"""The bound where nothing hangs: a loaded machine is no hostile guest."""
CELL_SECONDS = 40
"""Far more than a cell takes: one that gets there hangs."""
MARK = "JOB_HARNESS_HOSTILE_CELL"


class Guest(NamedTuple):
    """What is said of it: in a scenario, and wherever else that reads differently."""

    scenario: str
    elsewhere: str = ""
    contract: str = ""

    def words(self, way: str) -> str:
        if way in ("memory", "reference"):
            return self.scenario
        return (self.contract if way == "contract" else "") or self.elsewhere or self.scenario


FAILED = "expected status COMPLETED, got FAILED"
ENDED = Guest(
    "ended with exit code 0 before everything was judged", "called os._exit(0)", "ended its process with code 0"
)
PYTHON = {
    "computes_for_ever": Guest("kept control for 0.2 s of real time", contract="it was killed at"),
    "computes_whatever_is_raised": Guest("kept control for 0.2 s of real time", contract="it was killed at"),
    "cannot_be_interrupted": Guest("cannot be interrupted, so the process ends here", contract="it was killed at"),
    "computes_on_its_thread": Guest("kept control for 0.2 s of real time", "timed out", "hostile_guests.py:"),
    "waits_in_the_system": Guest("kept control for 0.2 s of real time", contract="it was killed at"),
    "swallows_its_cancellation": Guest("did not end when it was cancelled", "timed out", "it still runs"),
    "gives_way_for_ever": Guest("without time moving", contract="hostile_guests.py:"),
    "sleeps_for_nothing": Guest("without time moving", contract="it was killed at"),
    "leaves_the_process": ENDED,
    "leaves_by_an_exception": Guest(FAILED, "SystemExit"),
    "leaves_when_it_is_read": ENDED,
    "goes_on_twice": Guest(""),
    "forks": Guest("still runs, forked at"),
    "leaves_a_thread": Guest("'straggler' still runs"),
    "leaves_a_child": Guest("(sleep 60) still runs"),
    "answers_deeply": Guest(FAILED, "nested deeper than 500 levels"),
    "fails_deeply": Guest(FAILED, "RecursionError", "its error is a list, not text"),
    "answers_itself": Guest(FAILED, "containing itself", "contains itself"),
    "answers_a_generator": Guest(FAILED, "generator"),
    "closes_the_streams": Guest("standard output was closed"),
}
HANG = (
    "computes_for_ever",
    "computes_whatever_is_raised",
    "cannot_be_interrupted",
    "computes_on_its_thread",
    "waits_in_the_system",
    "gives_way_for_ever",
    "sleeps_for_nothing",
    "setsTimers",
    "computes",
    "waitsForAChild",
)
ENDS_THE_PROCESS = ("computes_whatever_is_raised", "cannot_be_interrupted")
"""What nothing ends but the end of the process, which is no verdict."""
HARMLESS = ("answers_much", "changes_the_surroundings")
"""What is nobody's harm, once the harness has looked after itself."""
UNSEEN = {("closes_the_streams", "job_harness"), ("closes_the_streams", "explore"), ("closes_the_streams", "contract")}
"""pytest, and a child that was forked for a try, have streams of their own."""
RACES = {("goes_on_twice", way) for way in ("memory", "reference", "job_harness", "explore", "contract")}
"""Its other half ends as soon as control comes back to the harness: it may still be seen, or not."""
IN_CHILD_ONLY = {("forks", "contract")}
"""What a processor of a contract forks ends with the try, and is no finding of it."""

TYPESCRIPT = {
    "setsTimers": Guest("#setsTimers (a) set 1", "timers, one after the other, and did not end"),
    "computes": Guest("did not answer for"),
    "waitsForAChild": Guest("virtual time stood still for"),
    "leaves": Guest(FAILED, "ended with exit code 0"),
    "leavesAChild": Guest("still runs, started by"),
    "rejects": Guest(FAILED, "unhandled rejection: Error: unseen"),
    "answersDeeply": Guest(FAILED, "nested"),
}
TYPESCRIPT_SOURCE = """
import { spawn } from "node:child_process";
const after = (milliseconds: number) => new Promise((go) => setTimeout(go, milliseconds));
export async function setsTimers() { for (;;) await after(0); }
export async function computes() { for (;;) {} }
export async function waitsForAChild() {
  await new Promise((go) => spawn("sleep", ["60"]).on("exit", go));
  return { success: true };
}
export async function leaves() { process.exit(0); }
export async function leavesAChild() { spawn("sleep", ["60"]); return { success: true }; }
export async function rejects() { Promise.reject(new Error("unseen")); await after(10); return { success: true }; }
export async function answersDeeply() {
  let value: any = 1;
  for (let n = 0; n < 100_000; n++) value = [value];
  return { success: true, output: value };
}
export async function prints() {
  for (let n = 0; n < 3000; n++) process.stdout.write("y".repeat(999) + "\\n");
  return { success: true };
}
"""

SCENARIO = """
format: 1
title: A hostile guest
processors: {{t: "{run}"}}
jobs: {{a: {{tool: t, max_attempts: 1}}}}
expect: {{a: {{status: COMPLETED}}}}
"""


def name_of(run: Any) -> str:
    return run.rpartition("#")[2] if isinstance(run, str) else str(run.__name__)


def bound_of(run: Any) -> float:
    if name_of(run) in HANG:
        return 1.0 if isinstance(run, str) else BLOCKED_AFTER
    return PATIENT


def in_scenario(engine: str) -> Callable[[Any, Path], int]:
    def way(run: Any, folder: Path) -> int:
        named = Path(run).name if isinstance(run, str) else f"{run.__module__}:{run.__name__}"
        (folder / "s.yaml").write_text(SCENARIO.format(run=named))
        os.chdir(folder)
        options = ["--engine", engine, "--blocked-after", str(bound_of(run))]
        return supervised(lambda: _answered(["run", *options, "s.yaml"]))

    return way


def by_job_harness(run: Any, folder: Path) -> int:
    """Do as the fixture does."""
    without_capture = SimpleNamespace(pluginmanager=SimpleNamespace(get_plugin=lambda name: None))
    told: Any = SimpleNamespace(nodeid="a test", config=without_capture)
    with JobHarness(blocked_after=bound_of(run)) as jobs, exits_are_told(told):
        try:
            worked(jobs, run)
            problems = jobs.problems()
        except HarnessError as error:
            problems = [str(error)]
    print(*problems, sep="\n")
    return int(bool(problems))


def worked(jobs: JobHarness, run: Any) -> None:
    jobs.register("t", run)
    jobs.enqueue("t", {}, max_attempts=1)
    jobs.run_until_idle()


def by_exploring(run: Any, folder: Path) -> int:
    """Do as the plugin does with `--job-explore`."""
    with JobHarness(blocked_after=bound_of(run)) as jobs:
        exploration = TestExploration(runs=4)
        exploration.harness = jobs
        try:
            exploration.explore()
        except InChild as forked:
            try:
                worked(jobs, run)
            except BaseException as error:  # noqa: BLE001 - as the plugin
                forked.child.finish(error)
            forked.child.finish(None)
        print(exploration.unsure, *exploration.lost)
    alone = by_job_harness(run, folder)
    return int(bool(exploration.unsure or exploration.lost or exploration.finding)) or alone


def by_contract(run: Any, folder: Path) -> int:
    contract = ContractRun(run, examples=[{}], real_seconds=1.0 if name_of(run) in HANG else PATIENT)
    findings = [contract.judge(check) for check in ("declared_input_succeeds", "leaves_nothing_running")]
    print(*(finding.text for finding in findings), sep="\n")
    return int(any(finding.outcome is not CheckOutcome.PASSED for finding in findings))


WAYS: dict[str, Callable[[Any, Path], int]] = {
    "memory": in_scenario("memory"),
    "reference": in_scenario("reference"),
    "job_harness": by_job_harness,
    "explore": by_exploring,
    "contract": by_contract,
}
SOON = {
    "job_harness": {*PYTHON, *HARMLESS},
    "memory": {
        "gives_way_for_ever",
        "leaves_the_process",
        "leaves_a_child",
        "leaves_a_thread",
        "setsTimers",
        "leavesAChild",
    },
}
"""What the default run tries; `make campaign` tries all of it."""


class CellEnded(NamedTuple):
    code: int
    said: str
    left: list[str]


def cell(way: str, run: Any, folder: Path) -> CellEnded:
    """Run one cell in a child, within bounds; list the processes that it left."""
    mark = f"{folder.name}-{os.getpid()}"
    said = folder / "said"
    gone, held = os.pipe()
    child = os.fork()
    if child == 0:
        code = int(ExitCode.ENVIRONMENT)
        try:
            os.setsid()
            os.environ[MARK] = mark
            os.close(gone)
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 1)
            os.dup2(1, 2)
            with open(1, "w", closefd=False) as sys_out:
                import sys

                sys.stdout = sys.stderr = sys_out
                code = WAYS[way](run, folder)
        finally:
            os._exit(code)
    os.close(held)
    hung = not ready([gone], seconds=CELL_SECONDS)[0]
    os.close(gone)
    if hung:
        end_session(child)
    _, status = os.waitpid(child, 0)
    left = of_session(child)
    end_session(child)
    end_marked(f"{MARK}={mark}")
    assert not hung, f"it hung: {said.read_text(errors='replace')}"
    return CellEnded(os.waitstatus_to_exitcode(status), " ".join(said.read_text(errors="replace").split()), left)


def of_session(session: int) -> list[str]:
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            if fields[3] == str(session) and fields[0] not in "ZX":
                found.append(Path(f"/proc/{number}/cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def cells(guests: Any, ways: Any = WAYS) -> list[Any]:
    return [
        pytest.param(way, guest, id=f"{guest}-{way}", marks=() if guest in SOON.get(way, ()) else pytest.mark.campaign)
        for guest in guests
        for way in ways
    ]


@pytest.mark.parametrize(("way", "guest"), cells(PYTHON))
def test_a_hostile_processor_ends_soon_is_named_and_never_green(way: str, guest: str, tmp_path: Path) -> None:
    ended = cell(way, getattr(hostile_guests, guest), tmp_path)
    assert ended.left == []
    if (guest, way) in UNSEEN | RACES | IN_CHILD_ONLY:
        return
    no_verdict = () if guest in ENDS_THE_PROCESS else (ExitCode.ENVIRONMENT,)
    assert ended.code not in (0, *no_verdict), ended.said
    assert PYTHON[guest].words(way) in ended.said


@pytest.mark.parametrize(("way", "guest"), cells(HARMLESS))
def test_what_harms_nobody_is_green_everywhere(way: str, guest: str, tmp_path: Path) -> None:
    ended = cell(way, getattr(hostile_guests, guest), tmp_path)
    assert (ended.code, ended.left) == (0, []), ended.said


def typescript(guest: str, folder: Path) -> str:
    (folder / "guests.ts").write_text(TYPESCRIPT_SOURCE)
    return f"{folder / 'guests.ts'}#{guest}"


BESIDE_NODE = [way for way in WAYS if way != "explore"]
"""A forked run would share the Node child: a test of TypeScript cannot be explored, and says so."""


@needs_node
@pytest.mark.parametrize(("way", "guest"), cells(TYPESCRIPT, BESIDE_NODE))
def test_hostile_typescript_ends_soon_is_named_and_never_green(way: str, guest: str, tmp_path: Path) -> None:
    ended = cell(way, typescript(guest, tmp_path), tmp_path)
    assert ended.left == []
    assert ended.code not in (0, ExitCode.ENVIRONMENT), ended.said
    assert TYPESCRIPT[guest].words(way) in ended.said


@needs_node
@pytest.mark.campaign
@pytest.mark.parametrize("way", BESIDE_NODE)
def test_typescript_that_prints_much_is_green(way: str, tmp_path: Path) -> None:
    ended = cell(way, typescript("prints", tmp_path), tmp_path)
    assert (ended.code, ended.left) == (0, []), ended.said
