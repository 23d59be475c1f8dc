"""What pytest shows of a test: tracebacks without the harness's own frames, and what happened to the test's jobs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

from harness.errors import EnvironmentUnavailable, HarnessError

if TYPE_CHECKING:
    from harness.history.event import History

HERE = Path(__file__).parent
OWN = tuple(f"{folder}{os.sep}" for folder in (HERE, HERE.with_name("reference_impl")))
"""Where our frames are: the harness, and the reference queue that it runs."""
ASSERTIONS = str(HERE / "processors" / "assertions.py")
CARRIERS = tuple(f"{Path(str(module.__file__)).parent}{os.sep}" for module in (asyncio, concurrent.futures))
"""What carries our calls to a processor: between our frames and the processor's its own are left out as well."""
MOST_ROWS = 200
FEW_ROWS = 10
"""Below a test that failed by itself; `--job-explain` shows all."""
WIDTH = 100
EXPLAINED = "job-harness: what happened"
"""The section of a report that `--job-explain` adds."""


def leave_out_own_frames(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Cut our own frames from a traceback, so that the test's line and the processor's stand alone.

    An error that is neither the test's nor the processor's, nor one that the harness means to raise, keeps all of them.
    """
    frames = excinfo.traceback
    if not frames or isinstance(excinfo.value, pytest.skip.Exception):
        return
    meant = excinfo.type.__module__.startswith(("harness.", "reference_impl."))
    if not meant and _raised_in(excinfo.tb).startswith(OWN) and _raised_in(excinfo.tb) != ASSERTIONS:
        return
    error: BaseException | None = excinfo.value
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        _splice(error.__traceback__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    excinfo.traceback = type(frames)(excinfo.tb)


@contextmanager
def errors_without_traceback() -> Iterator[None]:
    """Fail a test in the words of the harness's own error alone: what raised it is no line of the user's.

    What the environment lacks passes: the caller decides whether that fails or skips.
    """
    try:
        yield
    except EnvironmentUnavailable:
        raise
    except HarnessError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def explanation(history: History, *, most: int = MOST_ROWS) -> str:
    """Write what happened, one column for each actor, in at most `most` rows. Nothing, where no job was touched."""
    from harness.report.screen import timeline

    if all(getattr(event, "job", None) is None for event in history.events):
        return ""
    return "\n".join(line.text for line in timeline(history, most=most, width=WIDTH))


def failed_section(item: pytest.Item, *, most: int = FEW_ROWS) -> str:
    """Return what happened to the jobs of a test that failed by itself, in `most` rows, and the token of its run."""
    from harness.exploring import token_of  # only a test of ours that failed pays for it

    harness = getattr(item, "funcargs", {}).get("job_harness")
    if not isinstance(item, pytest.Function) or harness is None or not len(harness.history):
        return ""
    told = explanation(harness.history, most=most)
    if not told or harness.unforkable:
        return told
    return f"{told}\nReplay: pytest {shlex.quote(item.nodeid)} --job-replay {token_of(item, harness.tape)}"


def _raised_in(trace: TracebackType) -> str:
    """Return the file of the last frame."""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return _file(trace)


def _splice(trace: TracebackType | None) -> None:
    """Take out the harness's frames, and those of what carries them; the first frame stays, whosever it is."""
    inside = False
    while trace is not None and (following := trace.tb_next) is not None:
        file = _file(following)
        inside = file.startswith(OWN) or (inside and file.startswith(CARRIERS))
        if inside:
            trace.tb_next = following.tb_next
        else:
            trace = following


def _file(trace: TracebackType) -> str:
    return trace.tb_frame.f_code.co_filename
