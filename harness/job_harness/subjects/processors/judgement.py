"""What a test's jobs came to when the test is over, in words: anomalies, failures that were never looked at, leaks.

Also names the clocks and sources of chance that the code of a processor reads, found by looking at
its functions and at those of the same project that they call. Runs nothing.
"""

from __future__ import annotations

import dis
import re
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from enum import Enum
from functools import lru_cache
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from job_harness.core.history import History
from job_harness.core.invariants import ANOMALIES, Invariant
from job_harness.core.model import JobId, JobView, Status
from job_harness.core.own_code import PACKAGE
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.loop import RAISE_BOUND, describe_task
from job_harness.engines.reference.application import GUIDE
from job_harness.errors import did_you_mean
from job_harness.subjects.processors.demands import PLACES, Death
from job_harness.subjects.processors.workplace import Workplace

LONGEST_ERROR = 300
INCONCLUSIVE = "inconclusive: "
"""How the reason of a skip begins where something of ours had nothing to judge."""
_NOTHING = "job_harness_judged_nothing"


def judged_nothing(why: str, *, partly: bool = False) -> BaseException:
    """Return what skips a test that could judge nothing of what it was to judge, or only a part: no pass in a CI."""
    import pytest  # Only a test raises it.

    skipped: BaseException = pytest.skip.Exception(f"{INCONCLUSIVE}{why}")
    skipped.__dict__[_NOTHING] = Unjudged.PARTLY if partly else Unjudged.WHOLLY
    return skipped


class Unjudged(Enum):
    """How much of what a test was to judge it could not."""

    PARTLY = "partly"
    WHOLLY = "wholly"


def left_unjudged(raised: BaseException) -> Unjudged | None:
    """Return what `judged_nothing` said of a test; None where this was not made by it."""
    told: Unjudged | None = raised.__dict__.get(_NOTHING)
    return told


def anomaly_screen(at: Workplace, history: History, *, title: str) -> str | None:
    """Return the first screen where the history breaches an invariant of ours."""
    run = run_of(at, history, title=title)
    if not run.anomalies:
        return None
    from job_harness.report.screen import first_screen, screen_text  # Only a failure pays for what draws it.

    return screen_text(first_screen(run, title=title, default=GUIDE)).rstrip()


def run_of(at: Workplace, history: History, *, title: str, failures: Sequence[str] = ()) -> Run:
    """Return what happened at a workplace as a run, for a report; `failures` is what else is wrong with it."""
    return Run(
        scenario=Scenario(title=title, settings=at.settings),
        engine=at.engine,
        history=history,
        tape=tuple(at.session.choices.tape),
        anomalies=tuple(anomaly for anomaly in at.session.judge.anomalies if anomaly.name in ANOMALIES),
        failures=tuple(failures),
        now=at.session.kernel.now,
        lines=at.session.recorder.lines,
    )


def own_anomalies(at: Workplace, history: History, invariants: Sequence[Invariant]) -> str | None:
    """Name what breached the invariants of the test's own, each kind once, and the lines of the first."""
    sentences = {kind.name: invariant.sentence for invariant in invariants for kind in invariant.anomalies}
    own = [anomaly for anomaly in at.session.judge.anomalies if anomaly.name not in ANOMALIES]
    lines: list[str] = []
    for name in dict.fromkeys(anomaly.name for anomaly in own):
        breaches = [anomaly for anomaly in own if anomaly.name == name]
        times = "" if len(breaches) == 1 else f" ({len(breaches)} times; the first is shown)"
        sentence = f": {sentences[name]}" if name in sentences else ""
        lines += [f"{name}{times}{sentence}" if sentence else f"{name}{times}:", f"  {breaches[0].message}"]
    if own:
        from job_harness.report.blame import frames_of  # Only a failure pays for what draws it.
        from job_harness.report.screen import frame_lines

        run = replace(run_of(at, history, title=""), anomalies=(own[0],))
        lines += [line.text for line in frame_lines(frames_of(run))]
    return "\n".join(lines) or None


def unseen_failures(views: Mapping[JobId, JobView], looked_at: Collection[JobId]) -> str | None:
    """Name the FAILED jobs that the test did not look at."""
    failed = [view for view in views.values() if view.status is Status.FAILED and view.id not in looked_at]
    if not failed:
        return None
    count = "a job" if len(failed) == 1 else f"{len(failed)} jobs"
    lines = [f"  {view.id} ({view.tool}), attempts {view.attempts}: {_shorten_error(view.error)}" for view in failed]
    return "\n".join(
        [
            f"{count} ended FAILED and the test never looked:",
            *lines,
            "  Read its status or error where the failure is meant to happen.",
        ]
    )


def never_ended(views: Collection[JobView]) -> str:
    """Name jobs that have not ended and that the test did not look at, below a line that is the same for every test."""
    if not views:
        return ""
    lines = [
        f"  {view.id} ({view.tool}) is {view.status}, attempts {view.attempts} of {view.max_attempts}"
        + (f": {_shorten_error(view.error)}" if view.error else "")
        for view in views
    ]
    told = "a job had not ended and the test never looked at it; call run_until_idle(), or read its status"
    return "\n".join([told, *lines])


def hung(blocked: Collection[str]) -> str | None:
    """Name the plain functions that gave no sign of life, each place once."""
    if not blocked:
        return None
    return "\n".join(
        [
            "a plain function gave no sign of life, and virtual time went on without it:",
            *(f"  {told}" for told in dict.fromkeys(blocked)),
            f"  An endless loop, or a wait without a timeout? {RAISE_BOUND}",
        ]
    )


def left_running(leaks: Collection[str]) -> str | None:
    """Name what the processors left running."""
    if not leaks:
        return None
    return "\n".join(
        [
            "processors of this test left something running:",
            *(f"  {leak}" for leak in leaks),
            "  Await, cancel or join it before the processor answers.",
        ]
    )


def stubs_waiting(stubs: Mapping[Any, str]) -> str | None:
    """Name the stubs of the test that never answered: what called them may have ended without them."""
    if not stubs:
        return None
    lines = [f"  {name}(): {describe_task(task)}" for task, name in stubs.items()]
    return "\n".join(
        [
            "stubs of this test were still waiting when it ended; the processors left nothing of their own there:",
            *lines,
            "  Let the stub return, or let the test bring about what it waits for.",
        ]
    )


def not_happened(deaths: Collection[Death], twice: Collection[JobId]) -> str | None:
    """Name the faults that the test asked for and that never came."""
    lines = [
        f"  crash_worker(at={death.asked!r}{_of(death.job)}){did_you_mean(death.asked, PLACES)}" for death in deaths
    ]
    lines += [f"  deliver_twice({job})" for job in sorted(twice)]
    if not lines:
        return None
    return "\n".join(
        [
            "the test asked for what then never happened:",
            *lines,
            "  Let the jobs get there, with drain() or run_until_idle(), or correct the place.",
            *([f"  Known places: {', '.join(PLACES)}, or the name of an effect or step."] if deaths else []),
        ]
    )


def _of(job: JobId | None) -> str:
    return "" if job is None else f", job={job}"


def in_words_of_tests(error: str) -> str:
    """Name a setting of the reference worker in its error as a test sets it."""
    return re.sub(r"\(JOB_TIMEOUT_MS=\d+\)", "(job_settings: job_timeout)", error)


def _shorten_error(error: str | None) -> str:
    text = in_words_of_tests(error or "no error")
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}..."


DEEPEST = 5
_CLOCKS = frozenset({"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "localtime", "gmtime"})
_MISSING = object()
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class UncontrolledRead(NamedTuple):
    """One place where something undetermined is read."""

    kind: str
    """`time` or `randomness`."""
    name: str
    place: str


def readings(processor: Any) -> list[UncontrolledRead]:
    """List what a processor reads, each name and place once."""
    call = processor
    if not isinstance(processor, FunctionType | MethodType):
        call = getattr(type(processor), "__call__", None)  # noqa: B004 - the function behind an object that is called
    function = getattr(call, "__func__", call)
    if not isinstance(function, FunctionType) or function.__code__.co_filename.startswith(PACKAGE):
        return []
    found: dict[UncontrolledRead, None] = {}
    _follow(function, found, set(), DEEPEST)
    return list(found)


def _follow(function: FunctionType, found: dict[UncontrolledRead, None], seen: set[CodeType], levels: int) -> None:
    if function.__code__ in seen or levels == 0:
        return
    seen.add(function.__code__)
    for code in _codes(function.__code__):
        for value, line in _loaded(code, function):
            kind = _kind_of(value)
            if kind is not None:
                found[UncontrolledRead(kind, _name_of(value), f"{code.co_filename}:{line}")] = None
            inner = getattr(value, "__func__", value)
            if isinstance(inner, FunctionType) and not inner.__code__.co_filename.startswith(_STANDARD):
                _follow(inner, found, seen, levels - 1)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@lru_cache(maxsize=512)
def _instructions(code: CodeType) -> tuple[tuple[str, Any, int], ...]:
    line, told = code.co_firstlineno, []
    for each in dis.get_instructions(code):
        line = (each.positions and each.positions.lineno) or line
        told.append((each.opname, each.argval, line))
    return tuple(told)


def _loaded(code: CodeType, function: FunctionType) -> Iterator[tuple[Any, int]]:
    """Return each global, and each attribute of one, that the code loads."""
    local = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    names: dict[str, Any] = {}
    value: Any = _MISSING
    for opname, argument, line in _instructions(code):
        if opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = function.__globals__.get(argument, _MISSING)
        elif opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM") and value is not _MISSING:
            value = _attribute(value, argument)
        elif opname == "IMPORT_NAME":
            value = sys.modules.get(argument, _MISSING)
        elif opname == "LOAD_DEREF" and argument in local:
            try:
                value = local[argument].cell_contents
            except ValueError:
                value = _MISSING
        elif opname in ("STORE_FAST", "STORE_DEREF"):
            names[argument] = value
            value = _MISSING
        elif opname.startswith("LOAD_FAST"):
            value = names.get(argument, _MISSING) if isinstance(argument, str) else _MISSING
        elif opname not in ("PUSH_NULL", "PRECALL", "CACHE"):
            value = _MISSING
        if value is not _MISSING:
            yield value, line


def _attribute(value: Any, name: str) -> Any:
    if not isinstance(value, ModuleType) and value is not datetime and value is not date:
        return _MISSING  # Anything else may run code when it is read.
    return getattr(value, name, _MISSING)


def _kind_of(value: Any) -> str | None:
    owner = getattr(value, "__self__", None) if callable(value) else None
    name = getattr(value, "__name__", "")
    if owner is datetime and name in ("now", "utcnow", "today"):
        return "time"
    if owner is date and name == "today":
        return "time"
    module = getattr(value, "__module__", None)
    if module == "time" and owner is not None and name in _CLOCKS:
        return "time"
    if owner is not None and owner is getattr(sys.modules.get("random"), "_inst", _MISSING):
        return "randomness"
    if module == "uuid" and name in ("uuid1", "uuid4"):
        return "randomness"
    if module == "secrets" or (getattr(owner, "__name__", "") in ("posix", "nt") and name == "urandom"):
        return "randomness"
    return None


def _name_of(value: Any) -> str:
    owner = getattr(value, "__self__", None)
    if getattr(value, "__module__", None) == "time":
        return f"time.{value.__name__}"
    if isinstance(owner, type):
        return f"{owner.__name__}.{value.__name__}"
    module = getattr(owner, "__name__", None) or getattr(value, "__module__", None) or "random"
    return f"{'os' if module == 'posix' else module}.{value.__name__}"
