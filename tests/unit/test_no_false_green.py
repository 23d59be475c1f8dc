"""However a process ends before its verdict, the command does not say that all is well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from job_harness.doors import cli
from job_harness.doors.cli import COMMANDS, READ_ONLY, main
from job_harness.errors import ExitCode

LONG = pytest.mark.campaign
"""The same mechanism as the others, once more."""
ROOT = Path(__file__).resolve().parents[2]
SUPERVISED = """
import atexit, ctypes, os, signal, sys, threading, time
from job_harness.doors.cli.supervised import supervised

def in_a_thread():
    ender = threading.Thread(target=os._exit, args=(0,))
    ender.start()
    ender.join()

def at_the_end():
    atexit.register(os._exit, 0)
    return 1

def forks():
    if os.fork() == 0:
        return 0
    os.wait()
    os._exit(0)

def holds_the_pipe():
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        time.sleep(1)
        os._exit(0)
    return 4

def is_stopped_too_early(name):
    number = getattr(signal, name)
    signal.signal(number, signal.SIG_DFL)  # As it is until the command has set its own handler.
    os.kill(os.getppid(), number)
    time.sleep(60)

def waits():
    print("waiting", flush=True)
    time.sleep(60)

code = supervised(lambda: {work})
print("over", code, flush=True)
sys.exit(code)
"""


def script(work: str) -> list[str]:
    return [sys.executable, "-c", SUPERVISED.format(work=work)]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_comes_before_the_command_has_begun_is_no_fault_of_the_machine(name: str, code: int) -> None:
    work = f"is_stopped_too_early('{name}')"
    ended = subprocess.run(script(work), capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (
        code,
        f"job-harness: ended by {name} before what was found could be shown\n",
    )


@pytest.mark.parametrize(
    ("work", "code", "words"),
    [
        ("os._exit(0)", ExitCode.INCONCLUSIVE, "ended with exit code 0"),
        pytest.param("in_a_thread()", ExitCode.INCONCLUSIVE, "ended with exit code 0", marks=LONG),
        pytest.param("ctypes.CDLL(None).exit(0)", ExitCode.INCONCLUSIVE, "ended with exit code 0", marks=LONG),
        ("os.execv('/bin/sh', ['sh', '-c', 'exit 0'])", ExitCode.INCONCLUSIVE, "ended with exit code 0"),
        pytest.param("forks()", ExitCode.INCONCLUSIVE, "ended with exit code 0", marks=LONG),
        pytest.param("1 / 0", ExitCode.INCONCLUSIVE, "ZeroDivisionError", marks=LONG),
        ("os.kill(os.getpid(), signal.SIGKILL)", ExitCode.ENVIRONMENT, "killed by SIGKILL"),
        ("at_the_end()", ExitCode.FAIL, ""),
        ("holds_the_pipe()", ExitCode.ENVIRONMENT, ""),
    ],
)
def test_the_exit_code_is_what_was_handed_over_and_nothing_else(work: str, code: ExitCode, words: str) -> None:
    ended = subprocess.run(script(work), cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == code, ended
    assert words in ended.stderr
    assert ("before everything was judged" in ended.stderr) is bool(words)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_work(number: signal.Signals) -> None:
    child = subprocess.Popen(
        script("waits()"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    os.killpg(child.pid, number)  # A terminal signals both, and the parent passes it on.
    _, err = child.communicate(timeout=120)
    assert child.returncode == 128 + number
    assert err.count("\nKeyboardInterrupt\n") == (1 if number is signal.SIGINT else 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_runs_code_is_supervised(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("job_harness.doors.cli.supervised.supervised", lambda work: asked.append(True) or 0)
    monkeypatch.setattr(cli, "_terminable", lambda arguments: 0)
    monkeypatch.setattr(sys, "argv", ["job-harness", command])
    assert main() == 0
    assert bool(asked) is (command not in READ_ONLY)
    rows = [row for row in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines() if f"`{command}`" in row]
    assert any(row.startswith("|") and ("| nothing" in row) is (command in READ_ONLY) for row in rows)


LEAVES = "import sys\nsys.exit()\n"
MAKES = "import sys\n\ndef make():\n    sys.exit()\n"
SCENARIO = """\
format: 1
title: One job
{what}
jobs:
  a: {{tool: t}}
expect:
  a: {{status: COMPLETED}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "leaves.py").write_text(LEAVES)
    (tmp_path / "makes.py").write_text(MAKES)
    (tmp_path / "application.yaml").write_text(SCENARIO.format(what="application: leaves.py:make"))
    (tmp_path / "processor.yaml").write_text(SCENARIO.format(what='processors: {t: "leaves:processor"}'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "application.yaml"),
        ("run", "processor.yaml"),
        ("explore", "leaves.py:make"),
        ("explore", "sys:exit"),
        ("conform", "leaves:make"),
        ("conform", "makes.py:make"),
    ],
)
def test_what_calls_sys_exit_while_it_is_loaded_is_named(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(arguments)) == ExitCode.USAGE
    told = capsys.readouterr()
    assert "SystemExit" in told.out + told.err or "sys.exit" in told.out + told.err


def test_a_command_that_is_left_by_sys_exit_is_inconclusive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("job_harness.doors.cli.project_commands.execute_schema", lambda _: sys.exit(0))
    assert main(["schema"]) == ExitCode.INCONCLUSIVE
    assert "called sys.exit(0)" in capsys.readouterr().err


def test_a_processor_whose_error_ends_the_process_is_no_pass(tmp_path: Path) -> None:
    (tmp_path / "hostile.py").write_text(
        "import os\n\nclass Error(Exception):\n    def __str__(self):\n        os._exit(0)\n\n"
        "def processor(job):\n    raise Error\n"
    )
    (tmp_path / "one.yaml").write_text(SCENARIO.format(what='processors: {t: "hostile:processor"}'))
    ended = subprocess.run(
        [sys.executable, "-m", "job_harness.doors.cli", "run", "one.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == ExitCode.INCONCLUSIVE
    assert "before everything was judged" in ended.stderr
