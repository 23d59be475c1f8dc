"""Which line on a stack is the user's own: whatever a gate, an effect or a fault is named by.

Must not know: processors, jobs.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

from job_harness.core.own_code import FOLDERS, CodeLine
from job_harness.core.sim.loop import VirtualLoop

_STANDARD: Final = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


def is_others(name: str) -> bool:
    """Whether a file is the harness's, the standard library's or an installed library's: no line of the user's."""
    return name.startswith((*FOLDERS, *_STANDARD, "<")) or "site-packages" in name


class UserPlace(NamedTuple):
    """The nearest function of the user's own, and its line; a gate is named by the first alone."""

    name: str
    """As `file.py:function`: a gate keeps its name when a library changes, or the file above it."""
    line: CodeLine
    called: bool = True
    """Whether the function stands there itself; else it drives the loop, which came to something of its own."""


def user_place(frame: FrameType | None) -> UserPlace | None:
    """Return where the user's own code stands; None where only libraries and the harness are on the stack."""
    called = True
    while frame is not None:
        called = called and frame.f_code is not VirtualLoop.run_forever.__code__
        if not is_others(frame.f_code.co_filename):
            return _place_at(frame, called=called, caller=_caller_of(frame) if called else None)
        frame = frame.f_back
    return None


def line_calling(frame: FrameType | None, *, folder: str) -> CodeLine | None:
    """Return the user's line that called into a folder of ours; None where none of theirs did."""
    while frame is not None and frame.f_code.co_filename.startswith(folder):
        frame = frame.f_back
    return None if frame is None or is_others(frame.f_code.co_filename) else _place_at(frame, called=True).line


def place_in(frames: Iterable[FrameType]) -> UserPlace | None:
    """Return where the user's own code stands in what a task waits in, outermost frame first."""
    own = [frame for frame in frames if not is_others(frame.f_code.co_filename)]
    return _place_at(own[-1], called=True, caller=_first(own[-2::-1])) if own else None


MOST_CALLERS: Final = 30
"""Frames above the user's in which one that called it is looked for: this is asked at every gate."""


def _caller_of(frame: FrameType) -> FrameType | None:
    """Return the frame of the user's in which the call began that led here, in the same turn of the loop."""
    own: list[FrameType] = []
    above = frame.f_back
    for _ in range(MOST_CALLERS):
        if above is None or above.f_code is VirtualLoop.run_forever.__code__:
            break
        if not is_others(above.f_code.co_filename):
            own.append(above)
        above = above.f_back
    return _first(own)


def _first(callers: Sequence[FrameType]) -> FrameType | None:
    """Return the outermost caller that is no test's: the processor, where helpers lie between; else the nearest."""
    outer = (each for each in reversed(callers) if not _is_of_tests(each.f_code.co_filename))
    return next(outer, None) or next(iter(callers), None)


def _place_at(frame: FrameType, *, called: bool, caller: FrameType | None = None) -> UserPlace:
    code = frame.f_code
    by = None if caller is None else CodeLine(caller.f_code.co_filename, caller.f_lineno)
    return UserPlace(
        f"{Path(code.co_filename).name}:{code.co_name}", CodeLine(code.co_filename, frame.f_lineno, by), called
    )


def calling_line(frame: FrameType | None) -> CodeLine | None:
    """Return the user's line that lets something be done: not that of the fake which does it, if another one calls it.

    A fake lies in a file of the tests, or is the function that says what it did.
    """
    own: list[FrameType] = []
    while frame is not None and frame.f_code is not VirtualLoop.run_forever.__code__:
        if not is_others(frame.f_code.co_filename):
            own.append(frame)
        frame = frame.f_back
    others = [each for each in own if not _is_of_tests(each.f_code.co_filename)]
    found = next(iter([*others, *own[1:], *own]), None)
    if found is None:
        return None
    above = _first(others[others.index(found) + 1 :]) if found in others else None
    by = None if above is None else CodeLine(above.f_code.co_filename, above.f_lineno)
    return CodeLine(found.f_code.co_filename, found.f_lineno, by)


def _is_of_tests(file: str) -> bool:
    name = Path(file).name
    return name.startswith(("test_", "conftest")) or name.endswith("_test.py")
