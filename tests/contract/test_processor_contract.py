"""The contract finds each planted fault by itself, and no hostile Python harms the test run."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import datetime
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job_harness.core.history.event import SideEffect
from job_harness.errors import UsageError
from job_harness.subjects.processors import JobResult, NonRetryableError, ToolJob, effect
from job_harness.subjects.processors.contract import (
    CHECKS,
    CheckOutcome,
    ContractRun,
    ProcessorContract,
    check_processor,
    restored_files,
)
from job_harness.subjects.processors.contract.forked_runner import ForkedRunner
from job_harness.subjects.processors.contract.inputs import examples_of

EXAMPLE = {"text": "hello", "order": 7}
DONE = JobResult(success=True)
SECONDS = f"1000.{os.getpid():07d}"
"""By which a process that was started here is told from those of other test runs."""


class World:
    """What is outside: it remembers what was done, and takes keys."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def charge_once(self, key: str) -> None:
        if key not in self.seen:
            self.seen.add(key)
            effect("charged", order=key)


world = World()


def validated(job: ToolJob) -> tuple[str, int]:
    text, order = job.input["text"], job.input["order"]
    if not isinstance(text, str) or not isinstance(order, int):
        raise TypeError("text is a text and order a number")
    return text, order


def careful(work: Callable[[ToolJob, str, int], Any]) -> Callable[[ToolJob], Any]:
    """Make a processor that keeps the contract but for what `work` does."""

    async def processor(job: ToolJob) -> Any:
        try:
            text, order = validated(job)
            return await work(job, text, order)
        except Exception as error:  # noqa: BLE001 - what users write
            return JobResult(success=False, error=f"{type(error).__name__}: {error}")

    return processor


@careful
async def well(job: ToolJob, text: str, order: int) -> JobResult:
    await asyncio.sleep(5)
    world.charge_once(job.id)
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(1))
        group.create_task(asyncio.to_thread(len, text))
    return JobResult(success=True, output={"length": len(text), "order": order})


def well_plainly(job: ToolJob) -> JobResult:
    try:
        text, _ = validated(job)
        time.sleep(5)  # noqa: TID251 - what users write
        world.charge_once(job.id)
        return JobResult(success=True, output=len(text))
    except Exception as error:  # noqa: BLE001 - what users write
        return JobResult(success=False, error=f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("processor", [well, well_plainly])
def test_a_processor_that_keeps_the_contract_passes(processor: Any) -> None:
    report = check_processor(processor, examples=[EXAMPLE])
    assert report.verdict == "pass", str(report)
    assert report.notes == ()
    cancelling = report.finding("stops_when_cancelled")
    plain = processor is well_plainly
    assert cancelling.outcome is (CheckOutcome.NOT_APPLICABLE if plain else CheckOutcome.PASSED)
    assert ("a plain function cannot be cancelled" in cancelling.text) is plain
    assert world.seen == set(), "what a try does stays in its child"


# the ten planted faults ---------------------------------------------------------------------------------------------


@careful
async def lost_on_crash(job: ToolJob, text: str, order: int) -> JobResult:
    if job.id not in world.seen:
        world.seen.add(job.id)
        await asyncio.sleep(1)
        effect("charged", order=order)
    return DONE


@careful
async def not_idempotent(job: ToolJob, text: str, order: int) -> JobResult:
    await asyncio.sleep(1)
    effect("charged", order=order)
    return DONE


@careful
async def blocks(job: ToolJob, text: str, order: int) -> JobResult:
    time.sleep(3)  # noqa: ASYNC251, TID251 - the fault
    return DONE


async def swallows_cancel(job: ToolJob) -> JobResult:
    try:
        validated(job)
    except Exception as error:  # noqa: BLE001 - what users write
        return JobResult(success=False, error=repr(error))
    for _ in range(50):
        with contextlib.suppress(BaseException):
            await asyncio.sleep(1)
    return DONE


tasks: list[Any] = []


async def ends_at_once() -> None: ...


@careful
async def forgets_a_task(job: ToolJob, text: str, order: int) -> JobResult:
    tasks.append(asyncio.create_task(ends_at_once()))
    return DONE


@careful
async def leaks_a_task(job: ToolJob, text: str, order: int) -> JobResult:
    tasks.append(asyncio.create_task(asyncio.sleep(10**6), name="cleaner"))
    return DONE


@careful
async def answers_no_json(job: ToolJob, text: str, order: int) -> JobResult:
    return JobResult(success=order != 7, output={"at": datetime.date.max}, error="odd")


async def empty_error(job: ToolJob) -> JobResult:
    try:
        text, _ = validated(job)
        return JobResult(success=True, output=len(text))
    except Exception:  # noqa: BLE001 - the fault
        return JobResult(success=False, error="")


@careful
async def mutates_input(job: ToolJob, text: str, order: int) -> JobResult:
    job.input["text"] = job.input.pop("text").upper()
    return DONE


@careful
async def over_time(job: ToolJob, text: str, order: int) -> JobResult:
    await asyncio.sleep(601)
    return DONE


async def raises(job: ToolJob) -> JobResult:
    text, order = validated(job)
    return JobResult(success=True, output=math.sqrt(order - 8) + len(text))


async def sometimes(job: ToolJob) -> JobResult:
    try:
        validated(job)
    except Exception as error:  # noqa: BLE001 - what users write
        return JobResult(success=False, error=repr(error))
    if job.input["order"] == 8:
        raise LookupError("no such order")
    return DONE


PLANTED: dict[str, tuple[Any, str, str]] = {
    "lost on crash": (lost_on_crash, "survives_crash", 'it returned success and charged {"order":7} never happened'),
    "not idempotent": (not_idempotent, "same_input_twice", 'charged {"order":7} happened 2 times'),
    "blocks": (blocks, "never_blocks", "time.sleep(3) in a coroutine at "),
    "swallows cancel": (swallows_cancel, "stops_when_cancelled", "it did not stop; it still runs: swallows_cancel at "),
    "forgets a task": (forgets_a_task, "leaves_nothing_running", "outlived its processor: ends_at_once at "),
    "leaks a task": (leaks_a_task, "leaves_nothing_running", "the task 'cleaner' still runs: sleep at "),
    "no JSON": (answers_no_json, "fits_jsonb", "its output: date at $.at is not a JSON value"),
    "empty error": (empty_error, "failure_says_why", "hostile input: null: success: false, error ''"),
    "mutated input": (mutates_input, "input_untouched", "input.text is 'HELLO', wanted 'hello'"),
    "over time": (over_time, "ends_in_time", "not done after 600 s of virtual time, the job timeout; it still runs: "),
    "raises": (sometimes, "nothing_escapes", "it raised LookupError: no such order"),
}


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=pytest.mark.long if fault == "swallows cancel" else ()) for fault in PLANTED]
)
def test_each_planted_fault_is_found_by_its_own_check_and_by_no_other(fault: str) -> None:
    processor, check, words = PLANTED[fault]
    report = check_processor(processor, examples=[EXAMPLE, {"text": "x", "order": 8}])
    assert report.failed == [check], str(report)
    assert words in report.finding(check).text, str(report)
    assert report.verdict == "fail"


def test_every_check_is_told_by_one_sentence_and_one_repair() -> None:
    assert len({check.id for check in CHECKS}) == len({check.sentence for check in CHECKS}) == len(CHECKS)
    assert {check for _, check, _ in PLANTED.values()} < {check.id for check in CHECKS}
    assert all(check.repair.endswith(".") for check in CHECKS)


def test_an_error_that_the_processors_own_catch_turns_into_a_failure_is_never_green() -> None:
    async def needs_what_is_not_there(job: ToolJob) -> JobResult:
        try:
            return JobResult(success=True, output=do_work(job.input))  # type: ignore[name-defined]  # noqa: F821
        except Exception as error:  # noqa: BLE001 - what users write
            return JobResult(success=False, error=str(error))

    report = check_processor(needs_what_is_not_there, examples=[EXAMPLE])
    assert (report.verdict, report.failed) == ("inconclusive", [])
    assert "name 'do_work' is not defined" in report.finding("declared_input_succeeds").text
    assert report.finding("survives_crash").outcome is CheckOutcome.INCONCLUSIVE


def test_a_zombie_that_acts_after_its_twin_is_found_though_one_after_the_other_is_safe() -> None:
    @careful
    async def looks_too_early(job: ToolJob, text: str, order: int) -> JobResult:
        done = job.id in world.seen
        await asyncio.sleep(1)
        if not done:
            world.seen.add(job.id)
            effect("charged", order=order)
        return DONE

    report = check_processor(looks_too_early, examples=[EXAMPLE])
    assert report.failed == ["survives_zombie"], str(report)
    assert "stalled at moment 2, after charged, (" in report.finding("survives_zombie").text


def test_a_check_is_waived_with_a_reason_that_the_report_lists() -> None:
    report = check_processor(not_idempotent, examples=[EXAMPLE], repeatable_effects=["charged"])
    assert report.verdict == "pass"
    own = {"never_blocks": "it has a worker of its own"}
    report = check_processor(blocks, examples=[EXAMPLE], waive=own, pure=True)
    assert report.verdict == "pass"
    assert "waived never_blocks" in str(report)
    assert "it has a worker of its own" in str(report)
    with pytest.raises(UsageError, match=r"no check 'never_block' \(did you mean 'never_blocks'\?\)"):
        check_processor(blocks, examples=[EXAMPLE], waive={"never_block": "why"})
    with pytest.raises(UsageError, match="gives no reason"):
        check_processor(blocks, examples=[EXAMPLE], waive={"never_blocks": " "})
    with pytest.raises(UsageError, match="cannot be waived"):
        check_processor(blocks, examples=[EXAMPLE], waive={"declared_input_succeeds": "why"})


# never green by ignorance -------------------------------------------------------------------------------------------


async def upper(job: ToolJob) -> dict[str, Any]:
    return {"success": True, "output": str(job.input).upper()}


@careful
async def writes(job: ToolJob, text: str, order: int) -> JobResult:
    Path(f"report-{order}.txt").write_text(text, encoding="utf-8")  # noqa: ASYNC240 - what users write
    return DONE


def test_what_had_nothing_to_judge_is_inconclusive_until_its_author_says_that_it_does_nothing() -> None:
    report = check_processor(upper, examples=[EXAMPLE])
    assert (report.verdict, report.failed) == ("inconclusive", [])
    assert "only answers were compared. If it has none, say pure = True" in report.finding("same_input_twice").text
    assert "killed at 0 moments" in report.finding("survives_crash").text
    assert "it never failed" in report.finding("failure_says_why").text
    never_fails = {"failure_says_why": "it takes any input"}
    assert check_processor(upper, examples=[EXAMPLE], pure=True, waive=never_fails).verdict == "pass"


def test_what_says_that_it_does_nothing_is_held_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = check_processor(writes, examples=[EXAMPLE], pure=True)
    assert report.failed == ["same_input_twice"], str(report)
    assert "pure = True, and it did write report-*.txt" in report.finding("same_input_twice").text
    assert os.listdir(tmp_path) == [], "files are put back after each try"


# files are put back -------------------------------------------------------------------------------------------------


def moves_on() -> None:
    os.rename("inbox", "done")
    Path("done/a").write_text("new")
    os.remove("done/sub/b")
    Path("inbox").mkdir()
    Path("inbox/other").write_text("other")
    os.rename("done", "third")
    shutil.rmtree("third")


def makes_anew() -> None:
    shutil.rmtree("inbox")
    Path("inbox").mkdir()
    Path("inbox/sub").write_text("a file by now")
    Path("inbox/n").write_text("n")
    os.remove("f")
    Path("f").mkdir()
    Path("f/x").write_text("x")


def removes_by_descriptor() -> None:
    here = os.open(".", os.O_RDONLY)
    os.rename("inbox", "moved", src_dir_fd=here, dst_dir_fd=here)
    os.mkdir("new", dir_fd=here)
    os.remove("f", dir_fd=here)
    os.close(here)


def leads_elsewhere() -> None:
    Path("link/a").write_text("by link")
    os.remove("link")
    os.symlink("empty", "link")
    Path("link/q").write_text("q")
    os.link("f", "hard")
    Path("hard").write_text("by its other name")


def cannot_be_moved() -> None:
    for source, target in (("empty", "inbox"), ("absent", "empty")):
        with contextlib.suppress(OSError):
            os.rename(source, target)


def cleans_up_after_itself() -> None:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        (Path(folder) / "x" / "y").mkdir(parents=True)
        (Path(folder) / "x" / "q").write_text("q")
        sqlite3.connect(f"{folder}/x/base").close()
    Path("mine").write_text("1")
    os.remove("mine")
    os.close(os.open("lock", os.O_CREAT))
    os.remove("lock")
    Path("absent").unlink(missing_ok=True)


def dies_in_the_middle() -> None:
    shutil.rmtree("inbox/sub")
    os.kill(os.getpid(), signal.SIGKILL)


def closes_and_removes() -> None:
    os.chmod("inbox", 0o700)
    os.chmod("inbox/a", 0o600)
    os.replace("inbox/a", "read-only")
    shutil.rmtree("inbox")


def opens_databases_by_their_uri() -> None:
    for uri in ("file:some%20base?mode=rwc", "file:none?mode=memory", "file::memory:?cache=shared"):
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            database.execute("CREATE TABLE mail (id)")


FILES: dict[str, tuple[Callable[[], object], str]] = {
    "a tree": (lambda: shutil.rmtree("inbox"), "it did remove inbox\n"),
    "an empty folder": (lambda: Path("empty").rmdir(), "it did remove empty\n"),
    "folders upwards": (lambda: os.removedirs("deep/er"), "it did remove deep/er, remove deep\n"),
    "a folder moved into another": (lambda: shutil.move("inbox", "empty"), "write empty/inbox\n"),
    "a folder onto another": (lambda: os.replace("inbox", "empty"), "write empty\n"),
    "a file onto another": (lambda: os.rename("inbox/a", "f"), "write f\n"),
    "a folder that moves on": (moves_on, "remove third\n"),
    "a folder made anew": (makes_anew, "remove inbox, write inbox/sub, write inbox/n, remove f\n"),
    "from a descriptor": (removes_by_descriptor, "write moved, remove f\n"),
    "links": (leads_elsewhere, "remove link"),
    "rights": (closes_and_removes, "remove inbox\n"),
    "what fails": (cannot_be_moved, ""),
    "what is its own": (cleans_up_after_itself, ""),
    "databases by their URI": (opens_databases_by_their_uri, ""),
    "a death": (dies_in_the_middle, "killed by SIGKILL"),
}


def looks(folder: Path) -> dict[str, tuple[int, str]]:
    """Say what is in a folder; a link is not followed."""
    found = {}
    for path in folder.rglob("*"):
        text = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, text)
    return found


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("inbox/sub", "empty", "deep/er", "temporary"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("inbox/a", "inbox/sub/b", "f", "read-only"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("inbox")
    (tmp_path / "inbox" / "l").symlink_to("a")
    for name, mode in (("inbox", 0o750), ("inbox/a", 0o640), ("read-only", 0o444)):
        (tmp_path / name).chmod(mode)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))  # Nothing stays there either.
    return tmp_path


@pytest.mark.parametrize(("change", "told"), FILES.values(), ids=FILES)
def test_what_a_try_removes_or_moves_is_seen_and_put_back(files: Path, change: Callable[[], object], told: str) -> None:
    def processor(job: ToolJob) -> JobResult:
        change()
        return DONE

    before = looks(files)
    contract = ContractRun(processor, examples=[1], pure=True)
    text = str(contract.judge("declared_input_succeeds").text) + contract.judge("same_input_twice").text + "\n"
    assert looks(files) == before
    assert told in text
    assert told or "it did remove" not in text


@pytest.mark.parametrize("isolated", [True, False])
def test_a_large_file_is_moved_back_and_its_removal_is_told(
    files: Path, isolated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restored_files, "MOST_BYTES", 4)

    def processor(job: ToolJob) -> JobResult:
        os.rename("inbox/sub/b", "moved")
        os.remove("inbox/a")
        return DONE

    with pytest.warns(UserWarning, match=r"not put back .*: \S+/inbox/a \(it is larger than 4 bytes\)"):
        ContractRun(processor, examples=[1], isolated=isolated).judge("declared_input_succeeds")
    assert {"inbox/sub/b", "moved", "inbox/a"} & set(looks(files)) == {"inbox/sub/b"}


@careful
async def leaks_and_waits(job: ToolJob, text: str, order: int) -> JobResult:
    tasks.append(asyncio.create_task(asyncio.sleep(10**6), name="cleaner"))
    await asyncio.sleep(1)
    return DONE


@pytest.mark.parametrize(
    ("processor", "waived", "others"),
    [
        (not_idempotent, "same_input_twice", ["survives_crash", "survives_zombie"]),
        (leaks_and_waits, "leaves_nothing_running", ["stops_when_cancelled"]),
        (raises, "nothing_escapes", ["hostile_inputs_fail_cleanly"]),
    ],
)
def test_waiving_one_check_never_makes_another_pass(processor: Any, waived: str, others: list[str]) -> None:
    examples = [EXAMPLE, {"text": "x", "order": 8}]
    contract = ContractRun(processor, examples=examples, waive={waived: "because"})
    assert contract.judge(waived).outcome is CheckOutcome.WAIVED
    for other in others:
        finding = contract.judge(other)
        assert finding.outcome is CheckOutcome.INCONCLUSIVE, f"{other}: {finding}"
        assert waived in finding.text or "repair that first" in finding.text


def test_every_try_begins_as_the_first_did() -> None:
    told: list[str] = []

    async def once(job: ToolJob) -> JobResult:
        if told == ["reset"]:
            told.append("began")
            await asyncio.sleep(1)
            effect("charged")
        return JobResult(success=told == ["reset", "began"])

    contract = ContractRun(once, examples=[EXAMPLE], reset=lambda: told.__setitem__(slice(None), ["reset"]))
    assert contract.judge("declared_input_succeeds").outcome is CheckOutcome.PASSED
    assert "charged never happened" in contract.judge("survives_crash").text
    assert told == ["reset"], "what a try does to it stays in its child"


def test_what_its_receiver_ignores_is_declared_by_one_line() -> None:
    import httpx

    @careful
    async def charges(job: ToolJob, text: str, order: int) -> JobResult:
        async with httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(201))) as client:
            await client.post("https://api.pay.test/charges", json={"order": order})
        return DONE

    assert "same_input_twice" in check_processor(charges, examples=[EXAMPLE]).failed
    declared = check_processor(charges, examples=[EXAMPLE], idempotent=["POST https://api.pay.test/*"])
    assert declared.verdict == "pass", str(declared)


# inputs -------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_input_is_a_model_a_schema_or_a_strategy() -> None:
    from hypothesis import strategies
    from pydantic import BaseModel, Field

    class Options(BaseModel):
        format: str = Field(pattern="json|text", examples=["json"])

    class Input(BaseModel):
        text: str = Field(min_length=2)
        order: int = Field(gt=6)
        options: Options | None

    model = check_processor(well, input=Input)
    assert model.verdict == "pass", str(model)
    assert examples_of(Input.model_json_schema(), [])[0] == examples_of(Input, [])[0]
    strategy = strategies.fixed_dictionaries({"text": strategies.text(max_size=5), "order": strategies.integers()})
    assert len(examples_of(strategy, [])) > 3
    assert examples_of(strategies.sampled_from(["a\0", "b"]), []) == ["b"]
    with pytest.raises(UsageError, match="the strategy of the input draws no JSON: date at"):
        check_processor(well, input=strategies.dates())
    with pytest.raises(UsageError, match="no input to try"):
        check_processor(well)
    with pytest.raises(UsageError, match=r"neither a pydantic model"):
        check_processor(well, input=5)
    with pytest.raises(UsageError, match=r"'\(\(' at \$\.text.*\n.*Give examples"):
        check_processor(well, input={"type": "object", "properties": {"text": {"type": "string", "pattern": "(("}}})
    with pytest.raises(UsageError, match="example 1 is not JSON"):
        check_processor(well, examples=[{1, 2}])


def test_a_schema_gives_its_simplest_value_first_and_then_drawn_ones() -> None:
    from jsonschema import validate
    from pydantic import BaseModel, Field

    class Line(BaseModel):
        code: str = Field(pattern="^[A-Z]{2}[0-9]+$")
        count: int = Field(gt=0, le=9)

    class Order(BaseModel):
        lines: list[Line] = Field(min_length=1)
        note: str | None = Field(None, max_length=5)
        share: float = Field(0.5, ge=0, le=1)

    found = examples_of(Order, [])
    assert found == examples_of(Order, []), "the same in each run"
    assert len(found) > 3
    for value in found:
        validate(value, Order.model_json_schema())
    plain = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    assert examples_of(plain, [])[0] == {"n": 3}
    assert len({value["n"] for value in examples_of(plain, [])}) > 3


# hostile Python -----------------------------------------------------------------------------------------------------


async def exits(job: ToolJob) -> JobResult:
    os._exit(3)


async def kills_itself(job: ToolJob) -> JobResult:
    os.kill(os.getpid(), signal.SIGKILL)
    return DONE


async def crashes_hard(job: ToolJob) -> JobResult:
    ctypes.string_at(0)
    return DONE


async def leaves_system(job: ToolJob) -> JobResult:
    sys.exit("enough")


async def loops(job: ToolJob) -> JobResult:
    while True:
        pass


def loops_plainly(job: ToolJob) -> JobResult:
    while True:
        pass


async def spins(job: ToolJob) -> JobResult:
    while True:  # noqa: ASYNC110 - the mistake under test
        await asyncio.sleep(0)


async def waits_for_nothing(job: ToolJob) -> JobResult:
    await asyncio.Event().wait()
    return DONE


async def forks(job: ToolJob) -> JobResult:
    os.fork()
    return DONE


async def starts_a_process(job: ToolJob) -> JobResult:
    subprocess.Popen(["sleep", SECONDS], start_new_session=True)  # noqa: ASYNC220 - the mistake under test
    return DONE


async def prints_megabytes(job: ToolJob) -> JobResult:
    print("x" * 10_000_000)
    sys.stderr.write("y" * 10_000_000)
    return DONE


async def returns_gigabytes(job: ToolJob) -> JobResult:
    return JobResult(success=True, output=["x" * 2**20] * 3000 + ["x" * 2**33])


async def returns_much(job: ToolJob) -> JobResult:
    return JobResult(success=True, output="x" * 2**25)


async def replaces_time(job: ToolJob) -> JobResult:
    time.sleep = lambda seconds: None  # noqa: TID251 - the mistake under test
    return DONE


async def starts_threads(job: ToolJob) -> JobResult:
    for number in range(20):
        threading.Thread(target=threading.Event().wait, name=f"straggler-{number}").start()
    return DONE


async def is_cyclic(job: ToolJob) -> JobResult:
    value: list[Any] = []
    value.append(value)
    return JobResult(success=True, output=value)


class Mute(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


async def cannot_be_read(job: ToolJob) -> JobResult:
    return JobResult(success=True, output={"a": Mute("x")}, error=5)  # type: ignore[arg-type]


HOSTILE: dict[str, tuple[Any, str | None, str]] = {
    "os._exit": (exits, "process_survives", "ended its process with code 3"),
    "SIGKILL": (kills_itself, "process_survives", "killed by SIGKILL"),
    "segmentation fault": (crashes_hard, "process_survives", "killed by SIGSEGV"),
    "sys.exit": (leaves_system, "nothing_escapes", "it raised SystemExit: enough"),
    "an endless loop": (loops, "never_blocks", "no answer within 0.2 s of real time: it was killed at "),
    "an endless loop on a thread": (
        loops_plainly,
        "ends_in_time",
        "its thread gives no sign of life: loops_plainly at ",
    ),
    "spinning": (spins, "ends_in_time", "it spins without rest: "),
    "waiting for nothing": (waits_for_nothing, "ends_in_time", "it still runs: waits_for_nothing at "),
    "a child process": (starts_a_process, "leaves_nothing_running", f"(sleep {SECONDS}) still runs"),
    "gigabytes": (returns_gigabytes, "nothing_escapes", "it raised MemoryError"),
    "too much": (returns_much, "fits_jsonb", "33554434 bytes of JSON, and the limit is 16777216"),
    "replaced time": (replaces_time, "leaves_nothing_running", "time.sleep is still replaced"),
    "threads": (starts_threads, "leaves_nothing_running", "the thread 'straggler-0' still runs"),
    "a cycle": (is_cyclic, "fits_jsonb", "a value that contains itself"),
    "an error that is no text": (cannot_be_read, "fits_jsonb", "its error is a int, not text"),
    "printing": (prints_megabytes, None, ""),
    "fork": (forks, None, ""),
}
LONGEST = ("too much", "spinning", "threads")

PATIENCE = {"spinning": 15.0, "an endless loop": 0.2, "an endless loop on a thread": 1.0}
"""Real seconds for those that never answer; a busy machine takes a while to see that a thread loops."""


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=pytest.mark.long if what in LONGEST else ()) for what in HOSTILE]
)
def test_hostile_python_is_a_named_finding_and_harms_nobody(what: str, capfd: pytest.CaptureFixture[str]) -> None:
    processor, check, words = HOSTILE[what]
    began = time.monotonic()  # noqa: TID251 - that it never hangs is about real time
    report = check_processor(processor, examples=[1], real_seconds=PATIENCE.get(what, 3.0))
    assert time.monotonic() - began < 30  # noqa: TID251 - that it never hangs is about real time
    if check is not None:
        assert check in report.failed, str(report)
        assert words in report.finding(check).text, str(report)
    assert capfd.readouterr() == ("", "")
    assert [thread.name for thread in threading.enumerate() if "straggler" in thread.name] == []
    assert not sleeping_children()


def sleeping_children() -> list[str]:
    """Find what `starts_a_process` has started."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", encoding="utf-8") as told:
                found.append(told.read())
        except OSError:
            continue
    return [each for each in found if each == f"sleep\x00{SECONDS}\x00"]


def test_what_is_final_is_an_answer_to_an_invalid_input_and_says_why() -> None:
    def strict(job: ToolJob) -> JobResult:
        if not isinstance(job.input, dict) or not isinstance(job.input.get("order"), int):
            raise NonRetryableError("no order")
        return JobResult(success=True)

    report = check_processor(strict, examples=[{"order": 1}], pure=True)
    assert report.verdict == "pass", str(report)
    assert "failures looked at" in report.finding("failure_says_why").text


def test_what_a_contract_would_ignore_is_refused() -> None:
    def charge(job: ToolJob) -> JobResult:
        effect("charged")
        return JobResult(success=True)

    class Misspelt(ProcessorContract):
        processor = charge
        examples = (1,)
        job_timout = "1s"

    class Own(ProcessorContract):
        processor = charge
        examples = (1,)
        _table = "payments"

        @pytest.fixture
        def resets(self) -> None: ...

    with pytest.raises(UsageError, match=r"no setting 'job_timout' \(did you mean 'job_timeout'"):
        Misspelt.contract()
    Own.contract()
    with pytest.raises(UsageError, match="examples is one dict"):
        ContractRun(charge, examples={"order": 1})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="waive is a list") as refused:
        ContractRun(charge, examples=[1], waive=["same_input_twice"])  # type: ignore[arg-type]
    assert refused.value.hint == 'Write waive = {"same_input_twice": "why"}.'
    told = ContractRun(charge, examples=[1], idempotent=["POST *"], repeatable_effects=["chargd"])
    finding = told.judge("same_input_twice")
    assert "idempotent names 'POST *', which it never did; nothing was seen" in finding.text
    assert "repeatable_effects names 'chargd', which it never did (did you mean 'charged'?)" in finding.text
    impure = ContractRun(charge, examples=[1], pure=True, repeatable_effects=["charged"]).judge("same_input_twice")
    assert impure.text == "the contract says pure = True, and it did charged"
    passes = ContractRun(charge, examples=[1], repeatable_effects=["charged"]).judge("same_input_twice")
    assert (passes.outcome, passes.text) == (CheckOutcome.PASSED, "seen of each delivery: charged")


def test_what_an_earlier_input_left_behind_is_no_fault_of_a_later_one() -> None:
    locked: list[int] = []

    async def infected(job: ToolJob) -> JobResult:
        if locked:
            await asyncio.get_running_loop().create_future()
        if job.input is None:
            locked.append(1)
        return JobResult(success=True)

    finding = ContractRun(infected, examples=[{"user": 1}], pure=True).judge("hostile_inputs_fail_cleanly")
    assert finding.outcome is CheckOutcome.PASSED, finding.text


class Lazy:
    """As an object of Django's that loads what it stands for once its class is asked for."""

    @property
    def __class__(self) -> Any:
        raise LookupError("No installed app with label 'admin'.")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


@pytest.mark.long
def test_an_object_of_another_library_that_cannot_say_its_class_ends_no_try() -> None:
    lazy = [Lazy()]  # alive while the contract looks for open databases
    finding = ContractRun(waits, examples=[{"user": 1}], pure=True).judge("process_survives")
    assert finding.outcome is CheckOutcome.PASSED, finding.text
    del lazy


def test_each_try_finds_a_database_that_a_fixture_has_open_as_it_is_now(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "it.db", isolation_level=None, check_same_thread=False)
    base.execute("create table paid (job)")

    def pay(job: ToolJob) -> JobResult:
        if not base.execute("select 1 from paid").fetchone():
            effect("charged")
            base.execute("insert into paid values (?)", [job.id])
        return JobResult(success=True)

    finding = ContractRun(pay, examples=[{"user": 1}]).judge("same_input_twice")
    assert finding.outcome is CheckOutcome.PASSED, finding.text
    assert base.execute("select count(*) from paid").fetchone() == (0,)
    base.close()


def reads(job: ToolJob) -> None:
    """Open a database and read from it."""
    sqlite3.connect(":memory:").execute("SELECT 1")


def waits(job: ToolJob) -> None:
    """Let 3 s of virtual time pass."""
    time.sleep(3)  # noqa: TID251 - of virtual time


@pytest.mark.parametrize(("begins", "alone"), [(lambda job: None, 0), (reads, 9), (waits, 9)])
def test_an_input_is_tried_alone_only_after_one_that_did_more_than_raise_at_once(
    begins: Any, alone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []
    run = ForkedRunner.run
    monkeypatch.setattr(ForkedRunner, "run", lambda self, plan: tried.append(plan.input) or run(self, plan))

    def strict(job: ToolJob) -> JobResult:
        begins(job)
        return JobResult(success=bool(job.input["user"] + 0 or True))

    finding = ContractRun(strict, examples=[{"user": 1}]).judge("hostile_inputs_fail_cleanly")
    assert finding.outcome is CheckOutcome.FAILED, finding.text
    assert len(tried) == alone


def test_a_call_without_a_timeout_is_named_by_its_own_line() -> None:
    import httpx

    async def silent(job: ToolJob) -> JobResult:
        async with httpx.AsyncClient(timeout=None) as client:
            await client.post(f"http://127.0.0.1:{server.getsockname()[1]}/charge")
        return JobResult(success=True)

    with socket.create_server(("127.0.0.1", 0)) as server:
        text = ContractRun(silent, examples=[1], real_seconds=1.0).judge("ends_in_time").text
    assert "it still runs: silent at" in text
    assert "the call has no timeout that is shorter than the job's" in text


def test_what_never_came_to_an_end_has_not_ended_in_time() -> None:
    found = ContractRun(loops, examples=[1], real_seconds=0.2).judge("ends_in_time")
    assert found.outcome is CheckOutcome.INCONCLUSIVE, found.text
    assert "input 1: no answer within 0.2 s of real time" in found.text


def test_a_plain_function_is_killed_at_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def write(job: ToolJob) -> JobResult:
        if Path("report").exists():
            return JobResult(success=True)
        with open("report", "w") as report:
            report.write(f"order {job.input}")
        return JobResult(success=True)

    def write_aside(job: ToolJob) -> JobResult:
        Path("part").write_text("order")
        os.replace("part", "report")
        return JobResult(success=True)

    torn = ContractRun(write, examples=[7]).judge("survives_crash")
    assert "(write at " in torn.text
    assert "it returned success and left report empty" in torn.text
    whole = ContractRun(write_aside, examples=[7]).judge("survives_crash")
    assert whole.outcome is CheckOutcome.PASSED, whole.text
    assert "killed at 3 moments" in whole.text


def test_what_os_open_makes_is_made_by_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def write(job: ToolJob) -> JobResult:
        try:
            os.close(os.open("absent", os.O_WRONLY | os.O_TRUNC))
        except FileNotFoundError:
            secret = os.open("secret", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.write(secret, b"order")
            os.close(secret)
            return JobResult(success=os.stat("secret").st_mode & 0o777 == 0o600, error="others may read it")
        return JobResult(success=False, error="it was made")

    found = ContractRun(write, examples=[7]).judge("survives_crash")
    assert found.outcome is CheckOutcome.PASSED, found.text


def test_a_repetition_that_its_receiver_ignores_does_no_harm() -> None:
    async def charge(job: ToolJob) -> JobResult:
        effect(SideEffect("charged", f"order {job.input}", idempotent=True))
        await asyncio.sleep(1)
        return JobResult(success=True)

    contract = ContractRun(charge, examples=[1])
    for check in ("same_input_twice", "survives_crash", "survives_zombie"):
        assert contract.judge(check).outcome is CheckOutcome.PASSED, check
