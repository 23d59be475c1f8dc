"""`-` is standard output wherever a file is written, and then nothing else is there."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from harness.cli import main
from harness.scenario.reader import read_scenario_text

SCENARIO = "format: 1\ntitle: One\njobs:\n  a: {}\nexpect:\n  a: {status: COMPLETED}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "one.yaml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "beside"),
    [
        (("run", "one.yaml", "--json", "-"), "1 pass"),
        (("explore", "memory", "--runs", "2", "--json", "-"), "memory"),
        (("conform", "memory", "--level", "scheduled", "--json", "-"), "memory"),
        (("check", ".", "--json", "-"), "inconclusive"),
        (("check", ".", "--write-baseline", "-"), "accepted"),
    ],
)
def test_json_is_all_there_is(arguments: tuple[str, ...], beside: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(list(arguments))
    told = capsys.readouterr()
    json.loads(told.out)
    assert beside in told.err
    assert not Path("-").exists()


def test_the_other_forms_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "one.yaml", "--junit", "-"]) == 0
    assert ElementTree.fromstring(capsys.readouterr().out).tag == "testsuites"
    assert main(["run", "one.yaml", "--no-controls", "--history", "-"]) == 0
    assert all(json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert main(["explore", "memory+attempts-not-counted", "--runs", "40", "--save", "-"]) == 1
    told = capsys.readouterr()
    assert read_scenario_text(told.out).jobs
    assert "Written:" not in told.err
    assert not Path(".job-harness").exists()


def test_two_documents_do_not_share_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "one.yaml", "--json", "-", "--junit", "-"]) == 2
    assert "--junit and --json cannot both be standard output" in capsys.readouterr().err
