"""What cannot be written is told, with an exit code that is no verdict."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from job_harness.doors.cli import PIPE_CLOSED, main
from job_harness.errors import ExitCode

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")
COMMAND = [sys.executable, "-m", "job_harness.doors.cli"]


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("asked", [["schema"], ["run", "--help"]])
def test_a_full_disk_is_the_environments(tmp_path: Path, asked: list[str]) -> None:
    with FULL.open("w") as full:
        ended = subprocess.run(
            [*COMMAND, *asked],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
        )
    assert ended.returncode == ExitCode.ENVIRONMENT
    assert ended.stderr.endswith("job-harness: standard output: cannot be written: No space left on device\n")
    assert "Traceback" not in ended.stderr


def test_a_reader_who_goes_away_gets_no_pass() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [*COMMAND, "schema"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=120
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (PIPE_CLOSED, "")


@pytest.mark.parametrize("error", [IndexError("7"), ImportError("gone"), OSError(5000, "odd")])
def test_a_mistake_of_the_harness_itself_is_no_finding_and_is_to_be_reported(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(arguments: object) -> int:
        raise error

    monkeypatch.setattr("job_harness.doors.cli.check_command.execute", broken)
    assert main(["check"]) == 3
    said = capsys.readouterr().err
    assert f"the command failed, and judged nothing more: {type(error).__name__}: " in said
    assert "Traceback (most recent call last)" in said
    assert "This is a bug in job-harness, at test_output_lost.py:" in said


def test_what_a_file_or_folder_does_not_allow_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(arguments: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "deny/x.yaml")

    monkeypatch.setattr("job_harness.doors.cli.check_command.execute", refused)
    assert main(["check"]) == 2
    assert capsys.readouterr().err == "job-harness: 'deny/x.yaml': Permission denied\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_changes_no_verdict(closed: str, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("format: 1\njobs: {a: {}}\n")
    ended = subprocess.run(
        ["sh", "-c", f'"$0" -m job_harness.doors.cli run one.yaml --quiet {closed}', sys.executable],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (ExitCode.PASS, "")
