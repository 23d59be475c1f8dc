"""TypeScript that does its worst: a named finding, a neighbour that completes, nothing left running, never a hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.contract.node_at_hand import needs_node, processor, written

from job_harness.subjects.processors import JobHarness, JobResult
from job_harness.subjects.processors.typescript.node_processor import ProcessorNotLoaded
from job_harness.worlds.patience import Deadline

pytestmark = [needs_node, pytest.mark.long]

ANSWERS = {
    "nothing": ("return undefined", "answered undefined, which is not a JobResult"),
    "text": ("return 'ok'", "answered a string, which is not a JobResult"),
    "no success": ("return { output: 1 }", "an object without success"),
    "success as text": ("return { success: 'true' }", "whose success is not a boolean"),
    "BigInt": ("return { success: true, output: { id: 10n } }", "output.id is the BigInt 10n"),
    "NaN": ("return { success: true, output: [1, NaN] }", "output[1] is NaN"),
    "function": ("return { success: true, output: { f() {} } }", "output.f is a function"),
    "symbol": ("return { success: true, output: Symbol('x') }", "output is a symbol"),
    "undefined in a list": ("return { success: true, output: [undefined] }", "output[0] is undefined"),
    "Map": ("return { success: true, output: new Map([[1, 2]]) }", "output is a Map, which JSON loses"),
    "an Error": ("return { success: true, output: { e: new Error('x') } }", "output.e is an Error"),
    "cyclic": ("const a: any = {}; a.self = a; return { success: true, output: a }", "output.self contains itself"),
    "deep": ("let a: any = 1; for (let n = 0; n < 5000; n++) a = [a]; return { success: true, output: a }", "nested"),
    "a getter that throws": (
        "return { success: true, output: { get x(): any { throw new Error('no') } } }",
        "output.x cannot be read: no",
    ),
    "huge": ("return { success: true, output: 'x'.repeat(60_000_000) }", "answered 60 MB; at most 32 MiB"),
    "lone surrogate": (r"return { success: true, output: '\ud800' }", "surrogate"),
    "thrown": ("throw new TypeError('x is not a function')", "TypeError: x is not a function"),
    "thrown text": ("throw 'just text'", "just text"),
    "thrown null": ("throw null", "null"),
    "thrown cyclic": ("const a: any = {}; a.a = a; throw a", "[circular]"),
    "thrown NUL": (r"throw new Error('a\u0000b')", "Error: a"),
    "empty error": ("return { success: false }", "without saying why"),
    "an exit": ("process.exit(3)", "exit code 3"),
    "a kill": ("process.kill(process.pid, 'SIGKILL'); await new Promise(() => {})", "SIGKILL"),
    "an unhandled rejection": (
        "Promise.reject(new Error('unseen')); await new Promise((go) => setTimeout(go, 10)); return { success: true }",
        "unhandled rejection: Error: unseen; it ends a Node process",
    ),
    "a throw in a timer": (
        "await new Promise(() => setTimeout(() => { throw new Error('late') }, 10))",
        "uncaught exception: Error: late; it ends a Node process",
    ),
}


class Answered(NamedTuple):
    """What became of a job whose processor did its worst, and of its neighbour."""

    bad: str
    error: str
    good: str
    problems: list[str]


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answered]:
    """Let one processor do its worst in every way, one job after the other; where its Node ends, another starts."""
    ways = "".join(f"case {json.dumps(case)}: {{ {body} }}\n" for case, (body, _) in ANSWERS.items())
    became: dict[str, Answered] = {}
    with JobHarness() as jobs:
        folder = tmp_path_factory.mktemp("worst")
        jobs.register("worst", processor(folder, f"switch (job.input) {{\n{ways}}}"))
        jobs.register("tool", lambda job: JobResult(success=True, output=job.input))
        for case in ANSWERS:
            bad = jobs.enqueue("worst", case, max_attempts=1)
            good = jobs.enqueue("tool", {"text": "ok"})
            jobs.run_until_idle()
            became[case] = Answered(bad.status, str(bad.error), good.status, [str(each) for each in jobs.problems()])
    return became


@pytest.mark.parametrize("case", ANSWERS)
def test_what_it_answers_is_a_recorded_failure_that_names_it(case: str, answered: dict[str, Answered]) -> None:
    bad, error, good, problems = answered[case]
    assert (bad, good, problems) == ("FAILED", "COMPLETED", [])
    assert ANSWERS[case][1] in error


BLOCKERS = {
    "an endless loop": "for (;;) {}",
    "endless microtasks": "const again = (): any => Promise.resolve().then(again); await again()",
    "endless immediates": "await new Promise(() => { const again = () => setImmediate(again); again() })",
    "a flood": "for (;;) console.log('x'.repeat(1000))",
    "a synchronous wait": "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1e6)",
    "a stopped process": "process.kill(process.pid, 'SIGSTOP'); await 1",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BLOCKERS)
def test_one_that_gives_no_sign_of_life_is_killed_and_costs_its_timeout(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with impatient() as jobs:
        jobs.register("blocks", processor(tmp_path, BLOCKERS[case]))
        begin = jobs.now
        job = jobs.enqueue("blocks", None, max_attempts=1)
        jobs.drain()
        assert job.status == "FAILED"
        assert "did not answer for 0.3 s of real time (an endless loop?) and was killed" in str(job.error)
        assert 599 <= (jobs.now - begin).total_seconds() <= 601
    assert "blocked: " in capsys.readouterr().err


def test_one_that_an_inspector_may_hold_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_OPTIONS", "--inspect=127.0.0.1:0")
    held = "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_000); return { success: true };"
    with impatient() as jobs:
        jobs.register("stands", processor(tmp_path, held))
        job = jobs.enqueue("stands", None, max_attempts=1)
        jobs.drain()
        assert job.status == "COMPLETED", job.error


def impatient() -> JobHarness:
    jobs = JobHarness()
    jobs.bench.node._blocked_after = 0.3
    return jobs


def test_a_flood_of_prints_is_cut_off_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = "for (let n = 0; n < 5000; n++) process.stdout.write('y'.repeat(999) + '\\n'); return { success: true }"
    with JobHarness() as jobs:
        assert jobs.perform_job(processor(tmp_path, body), None).success
    err = capsys.readouterr().err
    assert "more than 1 MiB was printed; the rest is dropped" in err
    assert len(err) < 1_200_000


def test_what_writes_into_the_channel_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = """
    const fs = await import("node:fs");
    for (let fd = 3; fd < 400; fd++) { try { fs.writeSync(fd, "hello\\n") } catch {} }
    return { success: true };
    """
    with JobHarness() as jobs:
        jobs.register("worst", processor(tmp_path, body))
        job = jobs.enqueue("worst", None, max_attempts=1)
        jobs.drain()
        assert "something wrote 'hello' into the harness's channel" in str(job.error)


FILES = {
    "a syntax error": ("export const run = async (job: any) => {\n  const x: = 1;\n};", "processor.ts:2: "),
    "a syntax error of JavaScript": ("export const run = async () => { return return };", "processor.ts:1: "),
    "a missing import": ('import { send } from "@repo/mail";\nexport const run = () => send();', "@repo/mail"),
    "a missing relative import": ('import { send } from "./mail";\nexport const run = () => send();', "./mail"),
    "a missing export": ("export const ran = 1;", "(did you mean 'ran'?)"),
    "no function": ("export const run = 1;", "is not a function, but of type number"),
    "an import without that export": ('import { zip } from "node:fs"; export const run = zip;', "zip"),
    "a throw at the top": ("throw new RangeError('top'); export const run = 1;", "RangeError: top"),
    "an exit at the top": ("process.exit(4); export const run = 1;", "exit code 4"),
    "a wait at the top": ("await new Promise(() => {}); export const run = 1;", "waits at its top level"),
    "JSX": ('import x from "./view.tsx"; export const run = () => x;', "JSX"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_loaded_says_why_at_once(case: str, tmp_path: Path) -> None:
    source, expected = FILES[case]
    written(tmp_path, "export default <p/>;", name="view.tsx")
    with JobHarness() as jobs, pytest.raises(Exception, match=r"processor\.ts#run") as caught:
        jobs.register("tool", written(tmp_path, source) + "#run")
    assert expected in str(caught.value)


def test_a_missing_import_says_which_stub_to_give(tmp_path: Path) -> None:
    source = 'import mail, { send as post, type Mail } from "@repo/mail";\nexport const run = () => post(mail);'
    with JobHarness() as jobs, pytest.raises(ProcessorNotLoaded) as caught:
        jobs.register("tool", written(tmp_path, source) + "#run")
    assert 'stubs={"@repo/mail": {"send": ..., "default": ...}}' in str(caught.value)


def test_nothing_is_left_when_the_harness_closes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = """
    const { spawn } = await import("node:child_process");
    const children = [false, true].map((detached) => spawn("sleep", ["1000"], { stdio: "ignore", detached }));
    children.forEach((child) => child.unref());
    return { success: true, output: [process.pid, ...children.map((child) => child.pid)] };
    """
    with JobHarness() as jobs:
        jobs.register("tool", processor(tmp_path, body))
        job = jobs.enqueue("tool", None)
        jobs.drain()
        pids: Any = job.output
        assert all(runs(pid) for pid in pids), (job.error, pids)
    assert gone(pids)


@pytest.mark.slow
@pytest.mark.parametrize("watched", ["by the system", "by a thread of its own"])
def test_a_child_at_work_dies_with_its_parent(tmp_path: Path, watched: str) -> None:
    target = processor(tmp_path, "console.log('pid', process.pid); for (;;) {}")
    script = f"""
import sys
from job_harness.worlds.peers import peer
from job_harness.subjects.processors import JobHarness
if {watched!r} != "by the system":
    peer._signals_an_end = lambda: False
jobs = JobHarness()
jobs.bench.node._blocked_after = 60
jobs.perform_job({target!r}, None)
"""
    parent = subprocess.Popen(
        [sys.executable, "-u", "-c", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert parent.stderr is not None
    try:
        # The line comes with the turn's end, which never is: look for the child itself.
        child = child_of(parent.pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stderr.close()
    assert gone([child])


def child_of(parent: int) -> int:
    deadline = Deadline(20)
    while not deadline.passed:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and int(fields[11]) > 30:  # It has worked for 0.3 s: it is in its loop.
                return int(folder.name)
    raise AssertionError("there is no child")


def runs(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    deadline = Deadline(10)
    while not deadline.passed:
        if not any(runs(pid) for pid in pids):
            return True
    return False
