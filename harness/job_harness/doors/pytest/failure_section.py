"""What pytest shows of a test: tracebacks without the harness's own frames, and what happened to the test's jobs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import inspect
import os
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import FrameSummary
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

from job_harness.core.own_code import FOLDERS, PACKAGE
from job_harness.doors.pytest.left_open import UNJUDGED, mark_of, never_in_session, summary_of, uncalled_in_session
from job_harness.errors import EnvironmentUnavailable, HarnessError

if TYPE_CHECKING:
    from job_harness.core.history import History
    from job_harness.core.run.verdict import Run
    from job_harness.core.sim import Tape
    from job_harness.subjects.processors import JobHarness
    from job_harness.subjects.processors.running import RaisedError

ASSERTIONS = f"{PACKAGE}subjects/processors/assertions.py"
CARRIERS = tuple(f"{Path(str(module.__file__)).parent}{os.sep}" for module in (asyncio, concurrent.futures))
"""What carries our calls to a processor: between our frames and the processor's its own are left out as well."""
MOST_ROWS = 200
FEW_ROWS = 10
"""Below a test that failed by itself; `--job-explain` shows all."""
MOST_TRACED = 3
"""Jobs whose last error is shown with its place."""
MOST_FRAMES = 6
LONGEST_NAME = 80
_DRAWN = pytest.StashKey[bool]()
PICTURE = "job-harness: picture"
"""The section of a report that names the file which `--job-html` wrote."""
WIDTH = 100
EXPLAINED = "job-harness: what happened"
"""The section of a report that `--job-explain` adds."""
NOTES = "job-harness: not under control"
"""The section that names clocks, chance, threads and network which a processor used past the harness."""
EXPLORED = "job-harness: explored"
"""The section that says what a campaign came to and cost, first of all its runs and seconds."""
ANNOTATION = "job-harness: annotation"
"""The section whose line GitHub shows beside the code; a log has it at the beginning of a line."""
NOT_JUDGED = "job-harness: not judged"
"""The section that names, each below a line of its own, the jobs and invariants of which a pass says nothing."""
GATELESS = "no gate inside "
"""Begins a line of `EXPLORED` which says where nothing was there to be disturbed."""
UNREACHED = "the setting "
"""Begins one about a setting of the test that no run reached."""
NEVER_MET = "no two jobs ran at the same time"
"""Begins one about jobs that ran only one after another."""


def leave_out_own_frames(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Cut our own frames from a traceback, so that the test's line and the processor's stand alone.

    An error that is neither the test's nor the processor's, nor one that the harness means to
    raise, keeps all of them.
    """
    frames = excinfo.traceback
    if not frames or isinstance(excinfo.value, pytest.skip.Exception):
        return
    meant = excinfo.type.__module__.startswith(("job_harness.", "job_harness_reference."))
    if not meant and _raised_in(excinfo.tb).startswith(FOLDERS) and _raised_in(excinfo.tb) != ASSERTIONS:
        return
    error: BaseException | None = excinfo.value
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        _splice(error.__traceback__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    excinfo.traceback = type(frames)(excinfo.tb)


def failed_by_us(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Return whether the harness failed the test in words of its own, which need no traceback."""
    error = excinfo.value
    if not isinstance(error, pytest.fail.Exception) or error.pytrace:
        return False
    return any(
        str(frame.path).startswith(FOLDERS) for frame in excinfo.traceback[-2:]
    )  # `pytest.fail` has a frame itself.


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
    from job_harness.report.screen import timeline

    if all(getattr(event, "job", None) is None for event in history.events):
        return ""
    return "\n".join(line.text for line in timeline(history, most=most, width=WIDTH))


def failed_section(item: pytest.Item, *, most: int = FEW_ROWS) -> str:
    """Return what happened to the jobs of a test that failed by itself, in `most` rows, and its token."""
    harness = getattr(item, "funcargs", {}).get("job_harness")
    if not isinstance(item, pytest.Function) or harness is None or not len(harness.history):
        return ""
    told = explanation(harness.history, most=most)
    if told:
        more = raised_section(harness.review.raised()), returned_section(harness), *harness.review.waiting()
        told = "\n".join(filter(None, [told, *more]))
    if not told or harness.play.unforkable:
        return told
    return f"{told}\nReplay: pytest {shlex.quote(item.nodeid)} --job-replay {token_of(item, harness.tape)}"


MOST_RETURNED = 20
"""Attempts that failed without raising."""


def raised_section(raised: Sequence[RaisedError]) -> str:
    """Return what processors raised: of each job the last error with its place, those before it in a line each."""
    last = {error.job: error for error in raised}
    traced = list(last.values())[:MOST_TRACED]
    lines: list[str] = []
    for error in raised:
        words = error.words if error in traced else error.words.partition("\n")[0]
        lines.append(f"{error.job}, attempt {error.attempt} raised {words}")
        if error in traced:
            lines += [
                f"    {each.filename}:{each.lineno}, in {each.name}: {each.line}" for each in _nearest(error.frames)
            ]
    return "\n".join(lines)


def _nearest(frames: Sequence[FrameSummary]) -> list[FrameSummary]:
    """Return where an error came through, the last frames of it; those of a library do not push the user's own out."""
    from job_harness.core.sim.user_code import is_others

    left = [frame for frame in frames if not frame.filename.startswith((*FOLDERS, *CARRIERS))]
    users = [number for number, frame in enumerate(left) if not is_others(frame.filename)]
    last = [*range(len(left) - 1, -1, -1)]
    kept = dict.fromkeys([*last[:1], *reversed(users[-(MOST_FRAMES - 1) :]), *last])
    return [left[number] for number in sorted([*kept][:MOST_FRAMES])]


def returned_section(harness: JobHarness) -> str:
    """Return the errors of attempts that failed without raising, a line each: timeouts, and what was returned."""
    from job_harness.core.history import Observed
    from job_harness.core.model import Status
    from job_harness.subjects.processors.judgement import in_words_of_tests

    raised = {(error.job, error.attempt) for error in harness.review.raised()}
    lines = [
        f"{event.job}, attempt {event.before.attempts} failed: {in_words_of_tests(event.after.error)}"
        for event in harness.history
        if type(event) is Observed
        and event.before is not None
        and event.after is not None
        and event.before.status is Status.PROCESSING
        and event.after.status in (Status.PENDING, Status.FAILED)
        and event.after.error
        and (event.job, event.before.attempts) not in raised
    ]
    more = len(lines) - MOST_RETURNED
    return "\n".join([*lines[-MOST_RETURNED:], *([f"and {more} before that"] if more > 0 else [])])


def token_of(item: pytest.Function, tape: Tape) -> str:
    """Return the token that plays this tape in this test; its seed jitters the retry delays."""
    from job_harness.core.scenario.replay_token import ReplayToken, encode

    return encode(ReplayToken(target_of(item), item.config.getoption("--job-seed") or 0, tape))


def target_of(item: pytest.Function) -> str:
    """Return the digests of what a token is of: the test by its name, and by its source."""
    try:
        source = inspect.getsource(item.function)
    except (OSError, TypeError):
        source = ""
    from job_harness.core.scenario.replay_token import target_of_test

    return target_of_test(item.name, source)


def draw(run: Run, item: pytest.Item, *, replay: str, lead: str = "", minimal: bool = False) -> str:
    """Write the picture of a test's run where `--job-html` says, once for each test, and name the file in its report.

    Returns the file; empty where none is written.

    Raises EnvironmentUnavailable where the folder cannot be written.
    """
    if not (option := item.config.getoption("--job-html")) or item.stash.get(_DRAWN, False):
        return ""
    from job_harness.report.json_report import run_data
    from job_harness.report.picture import Drawing, picture_of

    item.stash[_DRAWN] = True
    folder, name = Path(option), item.nodeid
    file = folder / f"{file_name(item)}.html"
    page = picture_of(
        Drawing(run_data(run, lead=lead), name, str(run.verdict), replay=replay, lead=lead, minimal=minimal)
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise EnvironmentUnavailable(
            f"--job-html {folder}: cannot be written: {error.strerror}", hint="Name a folder that you may write to."
        ) from error
    item.add_report_section("call", PICTURE, str(file))
    return str(file)


def file_name(item: pytest.Item) -> str:
    """Name a test for a file: readable, and told from every other test."""
    mark = hashlib.sha256(item.nodeid.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    readable = re.sub(r"[^\w.-]+", "-", item.nodeid.rpartition("/")[2]).strip("-.")[:LONGEST_NAME]
    return f"{readable}-{mark}"


def session_lines(reports: Collection[Any], *, fails: str = "") -> Iterator[str]:
    """Say of all tests of a session what was not under control, what was explored, and what that did not judge.

    `fails` is what fails a session in which a side effect that is asked about never happened.
    """
    yield from (text.rstrip() for text in _sections_by_test(reports, ANNOTATION, when="call").values())
    yield from _noted_lines(_sections_by_test(reports, NOTES, when="teardown"))
    yield from _explored_lines(_sections_by_test(reports, EXPLORED, when="call"))
    unjudged: dict[str, list[str]] = {}
    for test, text in _sections_by_test(reports, NOT_JUDGED, when="teardown").items():
        for line in text.splitlines():
            if not line.startswith(" "):
                unjudged.setdefault(UNJUDGED + line, []).append(test)
    yield from _placed_lines(unjudged)
    left = left_by_test(reports)
    never = never_in_session(left)
    by = f"{fails} fails this session: " if fails else ""
    yield from _placed_lines({f"{by}{UNJUDGED}{line}": tests for line, tests in never.items()})
    uncalled = uncalled_in_session(left)
    yield from _placed_lines({UNJUDGED + line: places for line, places in uncalled.items()})
    yield from summary_of([told for _, told in left], beside=len(never), notes=len(uncalled))


def left_by_test(reports: Iterable[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return what each test left open, as its report says."""
    return [(each.nodeid, each.job_left) for each in reports if hasattr(each, "job_left")]


def _sections_by_test(reports: Collection[Any], title: str, *, when: str) -> dict[str, str]:
    """Return by test what its sections of this title say."""
    told: dict[str, list[str]] = {}
    for report in reports:
        for name, text in getattr(report, "sections", ()):
            if title in name and report.when == when:
                told.setdefault(report.nodeid, []).append(text)
    return {test: "\n".join(texts) for test, texts in told.items()}


def _noted_lines(told: Mapping[str, str]) -> Iterator[str]:
    kinds = Counter(line.partition(":")[0] for text in told.values() for line in text.splitlines())
    if told:
        what = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        marks = ", ".join(mark_of(kind) for kind in sorted(kinds))
        yield f"job-harness: not under control in {_tests(told)}: {what} (-rP shows where)"
        yield f"  accepted by {marks}"


def _explored_lines(told: Mapping[str, str]) -> Iterator[str]:
    runs, spent, unjudged = 0, 0.0, dict[str, list[str]]()
    for test, text in told.items():
        words = text.split()  # 200 disturbed runs in 5.1 s
        runs, spent = runs + int(words[0]), spent + float(words[4])
        for line in text.splitlines():
            if line.startswith((UNJUDGED, GATELESS, UNREACHED, NEVER_MET)):
                unjudged.setdefault(line, []).append(test)
    if told:
        rate = f" ({runs / spent:.0f} runs/s)" if spent else ""
        yield f"job-harness: explored {_tests(told)}: {runs} disturbed run{'s' * (runs != 1)} in {spent:.1f} s{rate}"
    yield from _placed_lines(unjudged)


def _placed_lines(told: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Write each line once, with the first of the tests that it is about."""
    for line, places in told.items():
        more = f" and {len(places) - 1} more (-rP shows which)" if len(places) > 1 else ""
        yield f"job-harness: {line} ({places[0]}{more})"
        yield f"  accepted by {mark_of(line)}"


def _tests(told: Mapping[str, str]) -> str:
    return "1 test" if len(told) == 1 else f"{len(told)} tests"


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
        inside = file.startswith(FOLDERS) or (inside and file.startswith(CARRIERS))
        if inside:
            trace.tb_next = following.tb_next
        else:
            trace = following


def _file(trace: TracebackType) -> str:
    return trace.tb_frame.f_code.co_filename
