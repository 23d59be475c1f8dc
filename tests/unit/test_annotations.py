"""What GitHub and GitLab read of results: commands, a report of code quality, a summary on the page of a job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from job_harness.doors.cli import main
from job_harness.report.ci import CiResult, code_quality, github_annotations, summary

FOUND = CiResult(
    "memory",
    "a worker dies",
    "failure",
    "job_stuck: it | hangs",
    "FAIL\n<job>",
    "job_stuck",
    file="a.yaml",
    line=7,
    fix="wait",
)
PASSED = CiResult("memory", "all is well")
OPEN = CiResult("memory", "not here", "skipped", "no database", file="b.yaml")
PACKAGE = '{"dependencies": {"bullmq": "5.1.0"}}'
WORKER = """import { Worker } from "bullmq";
new Worker("mail", async () => {}, { lockDuration: 30000, lockRenewTime: 60000, connection: { host: "x" } });
"""


def test_one_result_is_told_alike_to_both() -> None:
    assert github_annotations([FOUND, PASSED, OPEN]).splitlines() == [
        "::error file=a.yaml,line=7,title=memory%3A a worker dies::job_stuck: it | hangs%0Await",
        "::warning file=b.yaml,line=1,title=memory%3A not here::no database",
    ]
    first, second = code_quality([FOUND, PASSED, OPEN])
    assert first["location"] == {"path": "a.yaml", "lines": {"begin": 7}}
    assert (first["check_name"], first["severity"], second["severity"]) == ("job_stuck", "major", "minor")
    assert first["fingerprint"] != second["fingerprint"]
    text = summary([FOUND, PASSED, OPEN])
    assert "| `a.yaml:7` | job_stuck: it \\| hangs | wait |" in text
    assert "<details><summary>a worker dies</summary>\n\n```text\nFAIL\n<job>\n```\n\n</details>" in text
    drawn = FOUND._replace(picture="out/a.html")
    assert "\n[Picture of what happened](out/a.html): `out/a.html`\n" in summary([drawn, drawn])
    assert "](https://ci.example/runs/7#artifacts): `out" in summary(
        [drawn], artifacts="https://ci.example/runs/7#artifacts"
    )
    assert summary([PASSED]) == "**job-harness**: 1 passed\n"


def test_check_annotates_for_the_ci_that_it_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package.json").write_text(PACKAGE)
    (tmp_path / "worker.ts").write_text(WORKER)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page.md"))
    monkeypatch.delenv("GITLAB_CI", raising=False)
    main(["check", ".", "--annotations"])
    assert "::error file=worker.ts,line=2,title=lock_renewed_too_late::" in capsys.readouterr().out
    assert "| `worker.ts:2` |" in (tmp_path / "page.md").read_text()
    monkeypatch.setenv("GITLAB_CI", "true")
    main(["check", ".", "--annotations"])
    assert "::error" not in capsys.readouterr().out
    [told] = [
        each
        for each in json.loads((tmp_path / "gl-code-quality-report.json").read_text())
        if each["check_name"] == "lock_renewed_too_late"
    ]
    assert told["location"]["path"] == "worker.ts"
