"""The search for a scenario that says a test's finding: it is bounded, and what it has started ends with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from job_harness.core.scenario.job_plan import JobPlan, ProcessorPlan
from job_harness.core.sim.choices import Deviation
from job_harness.search.as_scenario import SoughtScenario, TestScript, _NotSayable, _processor, write_found

HANGS = """
import pathlib, subprocess
pathlib.Path(__file__).with_suffix(".pid").write_text(str(subprocess.Popen(["sleep", "300"]).pid))
while True:
    pass
"""


def test_a_module_that_hangs_ends_the_search_and_what_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    started = tmp_path / "hangs.pid"
    real = subprocess.Popen.communicate

    def until_it_hangs(process: subprocess.Popen[bytes], given: bytes | None, timeout: float) -> tuple[bytes, bytes]:
        """Time out once the module hangs, however long it took to come there."""
        while True:
            try:
                return real(process, given, timeout=0.05)
            except subprocess.TimeoutExpired:
                given = None
                if started.exists() and started.read_text():
                    raise

    monkeypatch.setattr(subprocess.Popen, "communicate", until_it_hangs)
    script = TestScript(
        processors={"pay": ProcessorPlan("hangs:pay", folder=str(tmp_path))}, jobs=(JobPlan("a", tool="pay"),)
    )
    crash = (Deviation("worker-1 charged a", 1, "crash"),)
    written = write_found(SoughtScenario(script, script, "job_stuck", crash, "x", "y", tmp_path / "found" / "x.yaml"))
    assert written.problem == "none was found within 60 s"
    assert not alive(int(started.read_text())), "what the module started is still running"


def alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended may still wait to be reaped."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


REACHES_OUT = """
import os, psycopg, socket, sqlite3, subprocess
from contextlib import suppress
from job_harness.subjects.processors.shut_off import ReachedOutside, shut_off
tried = shut_off()
sqlite3.connect(":memory:"), open(os.devnull, "w"), open(os.__file__)
for act in (
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: subprocess.run(["true"]),
    lambda: sqlite3.connect("kept.db"),
    lambda: open("kept.txt", "a"),
    lambda: psycopg.connect("host=127.0.0.1 port=9"),
):
    with suppress(ReachedOutside):
        act()
print(*tried, sep=", ")
"""


def test_code_that_is_shut_off_reaches_nothing_and_what_it_tried_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", REACHES_OUT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    told = "connects to 127.0.0.1:9, starts true, opens the database kept.db, writes kept.txt, connects to PostgreSQL"
    assert done.stdout.strip() == told
    assert not list(tmp_path.iterdir())


class Shop:
    def pay(self, job: object) -> None: ...


def test_a_processor_that_is_a_method_of_an_object_is_called_one() -> None:
    with pytest.raises(_NotSayable, match=r"the processor of 'pay' is a method of an object, `Shop\.pay`"):
        _processor("pay", Shop().pay)
