"""What would have stopped a failure is told alike wherever it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from job_harness.doors.cli import main

SCENARIO = """format: 1
title: Maintenance frees a job that still runs
settings: {stuck_timeout: 5m}
workers: [w1, w2]
jobs:
  a: {takes: 9m}
"""
TOLD = "Fixed by: stuck_timeout 13m ("


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stuck.yaml").write_text(SCENARIO, encoding="utf-8")
    return tmp_path


def test_screen_json_junit_and_annotation_name_the_same_repair(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "stuck.yaml", "--json", "r.json", "--junit", "r.xml", "--annotations"]) == 1

    shown = capsys.readouterr().out
    (case,) = json.loads((folder / "r.json").read_text())["cases"]
    assert f"\n{TOLD}" in shown
    assert f"%0A{TOLD}" in shown.splitlines()[-1]
    assert TOLD in (folder / "r.xml").read_text()
    assert [trial["name"] for trial in case["run"]["stopped_by"]] == ["stuck_timeout 13m"]
    assert all(trial["shows"] for trial in case["run"]["not_stopped_by"])


def test_a_search_tells_of_each_finding_what_its_screen_tells(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = ["explore", "memory", "--set", "stuck_timeout=5m", "--looking-for", "concurrent_execution"]

    assert main([*search, "--runs", "50", "--json", "found.json"]) == 1

    shown = capsys.readouterr().out
    (finding,) = json.loads((folder / "found.json").read_text())["findings"]
    run = finding["run"]
    assert [trial["name"] for trial in run["stopped_by"]] == ["stuck_timeout 13m"]
    assert TOLD in shown
    assert " ".join(shown.split("Replay: ")[1].split("Written")[0].replace("\\", "").split()) == finding["replay"]
    assert all(row["text"] in shown for row in run["rows"])


def test_a_pass_asks_nothing(folder: Path) -> None:
    assert main(["run", "stuck.yaml", "--set", "stuck_timeout=30m", "--json", "r.json"]) == 0

    (case,) = json.loads((folder / "r.json").read_text())["cases"]
    assert case["run"]["stopped_by"] == case["run"]["not_stopped_by"] == []
