"""A TypeScript processor under the contract: the guide's own file, and faults that only JavaScript has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.contract.node_at_hand import GUIDE, needs_node, processor

from job_harness.errors import UsageError
from job_harness.subjects.processors import JavaScript, TypeScriptProcessor, effect
from job_harness.subjects.processors.contract import CheckOutcome, ContractRun, check_processor

pytestmark = [needs_node, pytest.mark.slow]
HELLO = [{"text": "Hello"}]


@pytest.mark.long
def test_the_guides_processor_keeps_the_contract() -> None:
    done: set[str] = set()

    def do_work(given: Any) -> Any:
        if str(given) not in done:
            done.add(str(given))
            effect("worked")
        return {"ok": True}

    report = check_processor(
        TypeScriptProcessor(f"{GUIDE}/processor.ts#processMyTool", globals={"doWork": do_work}),
        examples=HELLO,
        waive={"failure_says_why": "what it hands on takes any input"},
    )
    assert report.verdict == "pass", str(report)
    left_out = [check.id for check, finding in report.findings if finding.outcome is CheckOutcome.NOT_APPLICABLE]
    assert left_out == ["stops_when_cancelled"]
    assert "a promise cannot be cancelled" in str(report)
    assert "killed at 3 moments" in report.finding("survives_crash").text


def test_without_its_global_the_verdict_is_inconclusive_and_says_why() -> None:
    report = check_processor(f"{GUIDE}/processor.ts#processMyTool", examples=HELLO)
    assert (report.verdict, report.failed) == ("inconclusive", [])
    assert "doWork is not defined" in report.finding("declared_input_succeeds").text


def test_the_guides_registration_keeps_the_contract() -> None:
    target = TypeScriptProcessor(
        f"{GUIDE}/register.ts#registerMyToolProcessor",
        globals={"doWork": JavaScript("async (input: { text: string }) => input.text.toUpperCase()")},
    )
    report = check_processor(target, examples=HELLO, pure=True)
    assert report.verdict == "pass", str(report)


FAULTS: dict[str, tuple[str, str, str]] = {
    "exit": ("if (job.input === null) process.exit(3); return { success: true };", "process_survives", "code 3"),
    "mutation": (
        "if (job.input?.text) job.input.text = 'changed'; return { success: true };",
        "input_untouched",
        "input.text is 'changed', wanted 'Hello'",
    ),
    "no result": ("return { done: true };", "answers_job_result", "success"),
    "timer": (
        "setInterval(() => {}, 1000); return { success: true };",
        "leaves_nothing_running",
        "a setInterval of 1000 ms",
    ),
    "lost": (
        "if (!(await seen())) { await mark(); await charge(); } return { success: true };",
        "survives_crash",
        "charged never happened",
    ),
}


SLOW = ("timer", "no result", "lost")


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=pytest.mark.long if fault in SLOW else ()) for fault in FAULTS]
)
def test_a_fault_in_typescript_is_found_by_its_own_check(fault: str, tmp_path: Path) -> None:
    body, check, words = FAULTS[fault]
    marks: list[int] = []
    target = TypeScriptProcessor(
        processor(tmp_path, body),
        globals={"seen": lambda: bool(marks), "mark": lambda: marks.append(1), "charge": lambda: effect("charged")},
    )
    report = check_processor(target, examples=HELLO, real_seconds=8)
    assert check in report.failed, str(report)
    assert words in report.finding(check).text, str(report)


def test_repairs_are_told_in_the_language_of_the_processor() -> None:
    repairs = [check.repair for check in ContractRun("lib/processor.ts#run", examples=HELLO).checks]
    python = [text for text in repairs if re.search(r"JobResult\(|asyncio|str\(|repr\(|deepcopy|\*\*", text)]
    assert python == []
    assert "JobResult(success=False" in " ".join(check.repair for check in ContractRun(print, examples=HELLO).checks)


def test_what_cannot_be_loaded_is_an_error_and_no_finding(tmp_path: Path) -> None:
    target = processor(tmp_path, "return { success: true };").partition("#")[0]
    with pytest.raises(UsageError, match='there is no export "missing"'):
        check_processor(f"{target}#missing", examples=HELLO)
