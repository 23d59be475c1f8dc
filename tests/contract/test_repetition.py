"""The contract sees what a crash or a redelivery does twice, of processors that declare nothing; it invents nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.processors import TypeScriptProcessor
from harness.processors.contract import CheckOutcome, ContractFinding, ContractRun
from tests.contract.node_at_hand import needs_node
from tests.contract.node_at_hand import processor as typescript_processor
from tests.contract.repetition_cases import (
    EXAMPLE,
    TYPESCRIPT,
    Case,
    Expected,
    processor,
    python_cases,
    start_mailer,
)

PYTHON = [pytest.param(client, case, id=f"{client}-{name}") for client, name, case in python_cases()]
TYPESCRIPT_CASES = [pytest.param(case, id=name) for name, case in TYPESCRIPT.items()]
CHECKS = ("same_input_twice", "survives_crash", "survives_zombie")


@pytest.fixture(scope="module", autouse=True)
def mailer() -> Iterator[None]:
    server = start_mailer()
    yield
    server.shutdown()
    server.server_close()


def judged(subject: Any) -> dict[str, ContractFinding]:
    contract = ContractRun(subject, examples=[EXAMPLE])
    assert contract.judge("declared_input_succeeds").outcome is CheckOutcome.PASSED, str(contract.report())
    return {check: contract.judge(check) for check in CHECKS}


def hold_to(case: Case, findings: dict[str, ContractFinding]) -> None:
    outcomes = {finding.outcome for finding in findings.values()}
    told = "\n".join(f"{check}: {finding.outcome}\n{finding.text}" for check, finding in findings.items())
    match case.expected:
        case Expected.FOUND:
            assert CheckOutcome.FAILED in outcomes, told
        case Expected.UNDECIDED:
            assert CheckOutcome.FAILED not in outcomes, told
            assert CheckOutcome.INCONCLUSIVE in outcomes, told
        case Expected.SILENT:
            assert CheckOutcome.FAILED not in outcomes, told
            assert findings["same_input_twice"].outcome is CheckOutcome.PASSED, told
            assert findings["survives_crash"].outcome is CheckOutcome.PASSED, told
    assert case.words in told


@pytest.mark.parametrize(("client", "case"), PYTHON)
def test_a_repetition_is_judged_in_python(
    client: str, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(client)
    monkeypatch.chdir(tmp_path)
    hold_to(case, judged(processor(case.body, client)))


@needs_node
@pytest.mark.slow
@pytest.mark.parametrize("case", TYPESCRIPT_CASES)
def test_a_repetition_is_judged_in_typescript(case: Case, tmp_path: Path) -> None:
    marks: list[int] = []
    target = TypeScriptProcessor(
        typescript_processor(tmp_path, case.body),
        globals={"recorded": lambda: bool(marks), "record": lambda: marks.append(1)},
        fetch=lambda url, request: 404 if request["method"] == "GET" else 201,
    )
    hold_to(case, judged(target))
