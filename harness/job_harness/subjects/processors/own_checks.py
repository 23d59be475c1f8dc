"""Checks of a test's own, which `always` asks after every event."""

from __future__ import annotations

import asyncio
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from job_harness.core.run.session import LiveSession
from job_harness.core.sim.loop import VirtualLoop
from job_harness.core.sim.user_code import is_others
from job_harness.errors import HarnessError, Hung, UsageError
from job_harness.subjects.processors.observed.account import unobserved
from job_harness.subjects.processors.processor import can_take_one

_RUNS_LATER: Final = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


class OwnChecks:
    """Judges one harness, which each check is given."""

    def __init__(self, harness: object, *, session: LiveSession, loop: VirtualLoop) -> None:
        self._harness = harness
        self._session = session
        self._loop = loop
        self._checks: list[Callable[[Any], object]] = []
        self._at_rest: list[Callable[[Any], object]] = []
        self.at_work = False
        self.asked_for: set[str] = set()
        """The names of the side effects that checks have looked for."""
        self.raised: Hung | None = None
        """What ends the run, since a check has judged nothing."""

    def __bool__(self) -> bool:
        return bool(self._checks or self._at_rest)

    def add_at_rest(self, check: Callable[[Any], object]) -> None:
        """Ask this once nothing is left to do, in an explored test."""
        self._at_rest.append(check)

    def add(self, check: Callable[[Any], object]) -> None:
        """Ask this after every event, and now if there are jobs. Raises UsageError if it takes not one argument."""
        if any(kind(check) for kind in _RUNS_LATER):
            raise _never_run(check)
        if not (callable(check) and can_take_one(check)):
            raise UsageError(
                "always() takes a function of one argument, the harness",
                hint="An invariant such as at_most_once belongs to the fixture job_invariants.",
            )
        if not self._checks:
            self._session.recorder.after_each(self.judge)
        self._checks.append(check)
        if self._session.job_index.views:
            self.judge()

    def judge(self, *, at_rest: bool = False) -> None:
        """Ask each, and report those that do not hold; at rest also those that are asked there alone."""
        if self.at_work:
            return
        self.at_work = True
        # Checks are plain functions: a library that refuses those on a running loop, as Django does, is shown none.
        loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            for check in [*self._checks, *(self._at_rest if at_rest else ())]:
                try:
                    broken = self._broken(check)
                except Exception as error:
                    self._checks.clear()
                    self._at_rest.clear()
                    self.raised = _check_raised(check, error)
                    if not self._loop.is_running():
                        raise
                    self._loop.break_with(self.raised)
                    return  # To raise here would be an error of the store, which its worker tries again.
                if broken:
                    self.report(_name_check(check), broken)
        finally:
            asyncio._set_running_loop(loop)
            self.at_work = False

    def report(self, name: str, message: str) -> None:
        """Report an anomaly: a check of the test's own, perhaps one that other code has made, does not hold."""
        self._session.judge.report("invariant_violated", "always", f"{name}: {message}")

    def _broken(self, check: Callable[[Any], object]) -> str:
        """Return why a check of the test's own does not hold; empty where it does."""
        try:
            with unobserved():  # An event comes in the midst of a processor's work, and this is none of it.
                answer = check(self._harness)
        except BaseException as error:
            if isinstance(error, AssertionError) or _fails_a_test(error):
                return str(error).partition("\n")[0] or "an assertion without words"
            raise
        if inspect.iscoroutine(answer) or inspect.isgenerator(answer) or inspect.isasyncgen(answer):
            if not inspect.isasyncgen(answer):
                answer.close()
            raise _never_run(check)
        return "it returned False" if answer is False else ""


def _name_check(check: Callable[..., object]) -> str:
    """Name a check of the test's own; one without a name by its place."""
    if inspect.isfunction(check) and check.__name__ == "<lambda>":
        return f"the lambda at {Path(check.__code__.co_filename).name}:{check.__code__.co_firstlineno}"
    return getattr(check, "__name__", "a check")


def _fails_a_test(error: BaseException) -> bool:
    """Whether this is `pytest.fail()`, or a `pytest.raises` in which nothing was raised: neither is an Exception."""
    pytest = sys.modules.get("pytest")
    return pytest is not None and isinstance(error, pytest.fail.Exception)


def _check_raised(check: Callable[..., object], error: Exception) -> Hung:
    """Return what ends a run in which a check of the test's own has judged nothing."""
    if isinstance(error, HarnessError):
        return Hung(error.message, hint=error.hint)
    frames = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(frames) if not is_others(frame.filename)), frames[-1])
    return Hung(
        f"always(): {_name_check(check)} raised {type(error).__name__}: {error}, at {place.filename}:{place.lineno}",
        hint="It is called after every event: let it expect what is not there yet, and assert what must hold.",
    )


def _never_run(check: Callable[..., object]) -> UsageError:
    return UsageError(
        f"always(): {_name_check(check)} is a coroutine function or a generator function, whose body a call does "
        "not run, so it could never fail",
        hint="Write it with def and without yield: it looks at handles and effects, and has nothing to wait for.",
    )
