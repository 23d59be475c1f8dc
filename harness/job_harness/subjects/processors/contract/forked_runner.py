"""Carries out each plan in a child process forked for it: whatever a processor does there ends with the child.

The child has its own session, standard streams, memory limit and limit of real time; the fakes of
the test are as they were before the first plan, and files that it wrote are put back. Where
processes cannot be forked, plans are carried out in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import inspect
import json
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from job_harness.core.sim import machine_calls
from job_harness.errors import HarnessError, ProgramMissing, UsageError
from job_harness.subjects.processors.contract.loop_runner import LoopRunner
from job_harness.subjects.processors.contract.restored_files import FileJournal, open_databases, put_back
from job_harness.subjects.processors.contract.trial import Abilities, TrialPlan, TrialRecord
from job_harness.subjects.processors.observed.databases import follow_open_databases
from job_harness.worlds.patience import Deadline, WorkLimit
from job_harness.worlds.peers.peer import end_descendants, end_marked, end_session

MEMORY_BYTES = 2**30
"""What a child may allocate beyond what it was forked with (Linux)."""
_POLL_SECONDS = 0.002
_DIES_WITH_PARENT = 1
MARK = "JOB_HARNESS_TRY"
"""The environment variable by which what a dead child has started is found."""
CAN_FORK = hasattr(os, "fork") and sys.platform != "win32"


class ForkedRunner:
    """Forks for each plan; many plans at once share one child unless it does not live to tell."""

    def __init__(
        self,
        make: Callable[[], LoopRunner],
        *,
        abilities: Abilities,
        real_seconds: float,
        memory_bytes: int | None = MEMORY_BYTES,
        isolated: bool = True,
        reset: Callable[[], object] | None = None,
    ) -> None:
        """Let `make` open a world in the child. `real_seconds` is what one plan may take there.

        `reset` is called before each plan, in this process; then each has a child of its own.
        """
        self._reset = reset
        self.abilities = abilities
        self._make = make
        self._real_seconds = real_seconds
        self._memory_bytes = memory_bytes
        self._isolated = isolated and CAN_FORK
        self._followed: list[str] | None = None
        """The databases that were open at the last try."""

    def run(self, plan: TrialPlan) -> TrialRecord:
        """Carry out one plan. Raises UsageError where the processor cannot be loaded."""
        return self._run([plan])[0]

    def run_each(self, plans: list[TrialPlan]) -> list[TrialRecord]:
        """Carry out many plans in one child; where it does not live to tell, each in a child of its own."""
        if self._reset is not None:
            return [self.run(plan) for plan in plans]
        worlds = self._run(plans)
        if len(worlds) == len(plans) and not any(world.broken for world in worlds):
            return worlds
        return [self.run(plan) for plan in plans]

    def _run(self, plans: list[TrialPlan]) -> list[TrialRecord]:
        self._set_back()
        databases = open_databases()  # Each try finds them as they are now; each test of a contract has its own.
        if databases != self._followed:
            follow_open_databases()
        if self._followed is None:
            machine_calls.replace()  # Once: each child would do it anew, for an eighth of what a try costs.
        self._followed = databases
        if not self._isolated:
            return self._run_here(plans, databases)
        with tempfile.TemporaryDirectory(prefix="job-harness-") as folder:
            pid = fork()
            if pid == 0:
                self._in_child(plans, Path(folder), databases)
            try:
                return self._hear(pid, Path(folder), seconds=self._real_seconds * (1 + len(plans) / 10))
            finally:
                put_back(Path(folder))

    def _run_here(self, plans: list[TrialPlan], databases: list[str]) -> list[TrialRecord]:
        with tempfile.TemporaryDirectory(prefix="job-harness-") as folder:
            journal = FileJournal(Path(folder))
            journal.begin()
            journal.keep_databases(databases)
            try:
                return self._run_all(plans)
            finally:
                journal.end()
                put_back(Path(folder))

    def _run_all(self, plans: list[TrialPlan]) -> list[TrialRecord]:
        runner = self._make()
        try:
            return [runner.run(plan) for plan in plans]
        finally:
            runner.close()

    def _set_back(self) -> None:
        """Call the user's `reset`, in this process: what it sets back may belong to it, such as a PostgreSQL."""
        if self._reset is not None:
            answer = self._reset()
            if inspect.iscoroutine(answer):
                asyncio.run(answer)

    # in the child ---------------------------------------------------------------------------------------------------

    def _in_child(self, plans: list[TrialPlan], folder: Path, databases: list[str]) -> NoReturn:
        me = os.getpid()
        try:
            self._prepare(folder)
            journal = FileJournal(folder)
            journal.begin()
            journal.keep_databases(databases)
            worlds = [world.as_json() for world in self._run_all(plans)]
            end_descendants()
            if os.getpid() == me:  # Otherwise the processor forked, and this is its other half.
                sys.stdout.flush()
                (folder / "part").write_text(json.dumps(worlds), encoding="utf-8")
                (folder / "part").rename(folder / "worlds")
        except HarnessError as error:
            with contextlib.suppress(BaseException):
                missing = isinstance(error, ProgramMissing)
                (folder / "refused").write_text(json.dumps([error.message, error.hint, missing]), encoding="utf-8")
        except BaseException:  # noqa: BLE001 - nothing may get out of here into the test run that was forked
            with contextlib.suppress(BaseException):
                (folder / "broken").write_text(traceback.format_exc(), encoding="utf-8")
        finally:
            os._exit(0)

    def _prepare(self, folder: Path) -> None:
        gc.disable()  # The child is short, and a collection would copy the pages that it shares.
        os.setsid()
        os.environ[MARK] = folder.name
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        printed = os.open(folder / "printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - lives on
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - lives on
        where = open(folder / "where", "w", encoding="utf-8")  # noqa: SIM115 - it is written to when nothing else is
        faulthandler.enable(file=where)
        faulthandler.dump_traceback_later(self._real_seconds * 0.9, file=where)
        self._limit_memory()

    def _limit_memory(self) -> None:
        if self._memory_bytes is None:
            return
        with contextlib.suppress(ImportError, OSError, ValueError):
            import resource

            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + self._memory_bytes
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

    # in the parent --------------------------------------------------------------------------------------------------

    def _hear(self, pid: int, folder: Path, *, seconds: float) -> list[TrialRecord]:
        try:
            status = _wait(pid, seconds)
        except BaseException:
            end_session(pid)
            raise
        told = folder / "worlds"
        if status == 0 and told.exists():
            _end_group(pid)  # The child has ended by itself what it knew of.
            worlds = json.loads(told.read_text(encoding="utf-8"))
            return [TrialRecord.of_json({**each, "printed": _size(folder / "printed")}) for each in worlds]
        end_session(pid)
        end_marked(f"{MARK}={folder.name}")
        if status is None:
            os.waitpid(pid, 0)
            where = _innermost((folder / "where").read_text(encoding="utf-8"))
            hung = f"no answer within {self._real_seconds:g} s of real time: it was killed at {where}"
            return [TrialRecord(hung=hung, printed=_size(folder / "printed"))]
        if (folder / "refused").exists():
            message, hint, missing = json.loads((folder / "refused").read_text(encoding="utf-8"))
            raise (ProgramMissing if missing else UsageError)(message, hint=hint)
        died = _word_status(status)
        if (folder / "broken").exists():
            lines = (folder / "broken").read_text(encoding="utf-8").strip().splitlines()
            died = f"the process could not tell what happened: {lines[-1]}"
        return [TrialRecord(died=died, printed=_size(folder / "printed"))]


def fork() -> int:
    """Fork this process, whatever threads it has: the child needs none of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later: threads beside a fork
        return os.fork()


def _wait(pid: int, seconds: float) -> int | None:
    """Return how a child ended, or None where it hung: it spent these seconds first."""
    limit, pause = WorkLimit(pid, seconds), Deadline(0)
    while not limit.passed:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        pause.pause(_POLL_SECONDS)
    return None


def _word_status(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"the processor's process was killed by {signal.Signals(number).name}"
    return f"the processor ended its process with code {os.waitstatus_to_exitcode(status)} (os._exit?)"


def _innermost(stack: str) -> str:
    """Return the line of the user's code in what faulthandler wrote."""
    main = stack.rpartition("Thread 0x")[2]  # Every thread is written, the main one last.
    lines = [line.strip() for line in main.splitlines() if line.strip().startswith("File ")]
    ours = next((number for number, line in enumerate(lines) if "forked_runner.py" in line), len(lines))
    lines = lines[:ours]  # What comes after has called the try: the checks, pytest.
    own = [
        line for line in lines if "/job_harness/" not in line and "/asyncio/" not in line and "threading.py" not in line
    ]
    chosen = (own or lines or ["an unknown place"])[0]
    return chosen.replace('File "', "").replace('", line ', ":").replace(" in ", ", in ")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
