"""A signal ends a command between two of its runs, whatever it is doing, and its exit code says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from job_harness.core.faults import FaultPlan
from job_harness.core.interruption import (
    Interrupted,
    Interruptions,
    Terminated,
    between_runs,
    exit_code_of,
    raised_at_once,
    stopping_point,
)
from job_harness.core.sim.choices import Choices, Deviation, Replay
from job_harness.core.sim.kernel import Kernel
from job_harness.doors.cli import main
from job_harness.search.explored import played
from job_harness.search.explored.played import PlayedTest, Standby, _heard, _send

SEARCH = ["explore", "memory", "--set", "stuck_timeout=5m", "--runs", "10", "--seed", "2", "--keep-going"]
TERMINATED, INTERRUPTED = 143, 130


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [(signal.SIGTERM, Terminated, TERMINATED), (signal.SIGINT, Interrupted, INTERRUPTED)],
)
def test_a_signal_is_raised_where_nothing_is_under_way_and_once(
    number: int, error: type[BaseException], code: int
) -> None:
    with Interruptions() as signals:
        signal.raise_signal(number)
        signal.raise_signal(number)  # `timeout` signals a process and its group: the same request
        with pytest.raises(error) as raised:
            stopping_point()
        stopping_point()
        assert between_runs(raised.value)
        assert signals.exit_code == exit_code_of(raised.value) == code


def test_a_second_signal_is_raised_where_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job_harness.core.interruption.ONE_STROKE_SECONDS", 0.0)
    with Interruptions():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted) as raised:
            signal.raise_signal(signal.SIGINT)
        assert not between_runs(raised.value)


def test_where_nothing_is_used_again_a_signal_is_raised_at_once() -> None:
    with Interruptions(), pytest.raises(Terminated), raised_at_once():
        signal.raise_signal(signal.SIGTERM)


def test_a_run_that_goes_on_too_long_is_cut_and_then_the_process_ends() -> None:
    script = """
import signal, sys
from job_harness.core.interruption import Interruptions, Terminated
with Interruptions(grace_seconds=0.3, last_seconds=0.05):
    signal.raise_signal(signal.SIGTERM)
    try:
        while True:
            signal.pause()
    except Terminated as cut:
        print("cut", cut.between_runs, flush=True)
    while True:
        signal.pause()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (TERMINATED, "cut False\n", "")


class Moments:
    """Counts the steps of all runs, and sends a signal in the middle of one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 0
        self.counted = 0
        step = Kernel.step

        def counted(kernel: Kernel) -> Any:
            self.counted += 1
            if self.counted == self.at:
                signal.raise_signal(signal.SIGTERM)
            return step(kernel)

        monkeypatch.setattr(Kernel, "step", counted)


@pytest.mark.long
def test_a_search_that_is_terminated_at_any_moment_says_so_and_shows_what_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = Moments(monkeypatch)
    assert main(SEARCH) == 1
    total, found = moments.counted, capsys.readouterr().out.count("FAIL  ")
    assert found > 1

    shown = []
    for sixth in range(6):
        moments.at, moments.counted = 1 + total * sixth // 6, 0
        with Interruptions() as signals:
            assert main(SEARCH) == TERMINATED
            assert signals.raised
        said = capsys.readouterr()
        assert "Not deterministic" not in said.out
        assert "interrupted" in said.out
        shown.append(said.out.count("FAIL  "))
    assert shown[0] == 0
    assert shown[-1] == found


@pytest.mark.parametrize(
    "command",
    [
        ["exhaust", "memory"],
        ["conform", "memory", "--level", "core"],
        ["run", "scenarios", "--no-controls"],
    ],
)
def test_every_command_that_is_terminated_prints_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    moments = Moments(monkeypatch)
    moments.at = 5
    os.symlink(Path(__file__).parents[2] / "scenarios" / "lifecycle", "scenarios")
    with Interruptions() as signals:
        assert main([*command, "--json", "report.json"]) == TERMINATED
        assert signals.raised
    assert capsys.readouterr().out
    assert Path("report.json").stat().st_size > 2


def test_an_interrupted_exploration_of_a_test_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.pause()
    monkeypatch.setattr(played, "ready", pressed)
    with pytest.raises(KeyboardInterrupt):
        _heard(child, reading)
    os.close(writing)
    with pytest.raises(ChildProcessError):
        os.waitpid(child, 0)


def test_what_a_run_tells_as_it_ends_is_heard_whenever_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _send(writing, PlayedTest(failure="told"))
        finally:
            os._exit(0)
    os.close(writing)
    looks = [([], []), ([reading], [])]

    def looked(*given: object, **more: object) -> tuple[list[int], list[int]]:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        return looks.pop(0)

    monkeypatch.setattr(played, "ready", looked)
    assert _heard(child, reading).failure == "told"


def test_a_run_that_hangs_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(choices: Choices, faults: FaultPlan) -> PlayedTest:
        if choices.pick("end", ("at once", "never")) == "never":
            signal.pause()
        return PlayedTest(failure="ended")

    monkeypatch.setattr(played, "RUN_SECONDS", 0.1)
    standby = Standby(play, opened=())
    standby.begin()
    try:
        tapes = ((Deviation("end", 1, "never"),), ())
        seen = [standby.play(Replay(tape), FaultPlan()) for tape in tapes]
    finally:
        standby.close()
    assert [(run.lost, run.failure) for run in seen] == [("it did not end within 0.1 s", ""), ("", "ended")]
