"""`-` is standard output wherever a file is written, and then nothing else is there."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from job_harness.core.scenario.reader import read_scenario_text
from job_harness.doors.cli import main

SCENARIO = "format: 1\ntitle: One\njobs:\n  a: {}\nexpect:\n  a: {status: COMPLETED}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "one.yaml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(arguments: str, capsys: pytest.CaptureFixture[str], *, beside: str) -> str:
    """Run a command; answer its document, with all else on standard error."""
    main(arguments.split())
    captured = capsys.readouterr()
    assert beside in captured.err
    assert not Path("-").exists()
    return captured.out


def test_a_document_is_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    json.loads(told("run one.yaml --json -", capsys, beside="1 pass"))
    assert ElementTree.fromstring(told("run one.yaml --junit -", capsys, beside="1 pass")).tag == "testsuites"
    json.loads(told("run one.yaml --json /dev/stdout", capsys, beside="1 pass"))
    history = told("run one.yaml --no-controls --history -", capsys, beside="1 pass")
    assert all(json.loads(line) for line in history.splitlines())
    json.loads(told("check . --json -", capsys, beside="inconclusive"))
    json.loads(told("check . --write-baseline -", capsys, beside="accepted"))


@pytest.mark.campaign
def test_searches_and_suites_too(capsys: pytest.CaptureFixture[str]) -> None:
    json.loads(told("conform memory --level scheduled --json -", capsys, beside="memory"))
    json.loads(told("explore memory --runs 2 --json -", capsys, beside="memory"))
    saved = told("explore memory+attempts-not-counted --runs 40 --save -", capsys, beside="Found in")
    assert read_scenario_text(saved).jobs
    assert not Path(".job-harness").exists()


def test_two_documents_do_not_share_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "one.yaml", "--json", "-", "--junit", "-"]) == 2
    assert "--junit and --json cannot both be standard output" in capsys.readouterr().err
