"""A command that runs other people's code does so in a child, so that no way to end a process early looks like a pass.

`os._exit(0)`, a C library's `exit`, `exec`, an `atexit` handler: whatever ends the child, its exit code counts only as
the child itself handed it over, once everything was judged and printed. Must not know what the command does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final, NoReturn

from job_harness.errors import ExitCode

PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT)
ONE_STROKE_SECONDS: Final = 0.25
"""Ctrl-C reaches the child twice, from the terminal and from its parent; within this time it is the same one."""
STOPPED: Final = 128
"""The exit code of a command that a signal stopped is so much and the number of the signal."""
_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG of Linux."""


def supervised(work: Callable[[], int]) -> int:
    """Run `work` in a child and return its exit code; in the child itself it returns too.

    A child that ends before `work` has returned is inconclusive where it ended itself, and the
    environment's where it was killed. SIGTERM and SIGINT are passed on, and a child that one of
    them ended is called so by its exit code; a parent that is killed takes its child with it (on
    Linux).
    """
    passed_on: list[int] = []
    reading, writing = os.pipe()
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    child = os.fork()
    if child == 0:
        os.close(reading)
        _die_with(parent)
        signal.signal(signal.SIGINT, _once())
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        owner = os.getpid()
        code = work()
        if os.getpid() == owner:  # What a processor forked may come here as well.
            os.write(writing, bytes([code]))
        return code
    os.close(writing)
    for number in PASSED_ON:
        signal.signal(number, lambda number, frame: _pass_on(child, number, passed_on))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _, status = os.waitpid(child, 0)
    handed_over = _handed_over(reading)
    return handed_over[0] if handed_over else _ended_early(os.waitstatus_to_exitcode(status), passed_on)


def _handed_over(reading: int) -> bytes:
    """Take what was written; something that the child left running may hold the pipe open, so nothing is waited for."""
    os.set_blocking(reading, False)
    try:
        return os.read(reading, 1)
    except BlockingIOError:
        return b""
    finally:
        os.close(reading)


def _ended_early(code: int, passed_on: list[int]) -> int:
    for number in passed_on:
        if code in (-number, 128 + number):
            name = signal.Signals(number).name
            print(f"job-harness: ended by {name} before what was found could be shown", file=sys.stderr)
            return 128 + number
    if code < 0:
        what = f"was killed by {signal.Signals(-code).name}"
        hint, answer = "It may have run out of memory, or crashed in a library.", ExitCode.ENVIRONMENT
    else:
        what = f"ended with exit code {code}"
        hint, answer = (
            "Something that it ran called os._exit, replaced the program, or could not be interrupted.",
            ExitCode.INCONCLUSIVE,
        )
    print(f"job-harness: the process {what} before everything was judged\n  {hint}", file=sys.stderr)
    return int(answer)


def _pass_on(child: int, number: int, passed_on: list[int]) -> None:
    passed_on.append(number)
    with suppress(ProcessLookupError):  # It has just ended.
        os.kill(child, number)


def _once() -> Callable[[int, FrameType | None], None]:
    last = -ONE_STROKE_SECONDS

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()  # noqa: TID251 - a keystroke is in real time
        if last - before >= ONE_STROKE_SECONDS:
            _interrupt()

    return interrupt


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


def _die_with(parent: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
