"""`AsyncJobHarness`: the same harness for tests that are coroutines; every method is awaited.

Each method is one line, and takes its signature and its text from `JobHarness`. What moves time
works on a thread, so that the test's own loop stays free; handles are read as ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, overload

from job_harness.core.history import History
from job_harness.errors import UsageError, missing_attribute
from job_harness.subjects.processors.job_harness import JobHarness

P = ParamSpec("P")
T = TypeVar("T")


class _Awaited(Generic[P, T]):
    """A method of `JobHarness` that is awaited."""

    def __init__(self, method: Callable[Concatenate[JobHarness, P], T], *, on_thread: bool) -> None:
        self._method = method
        self._on_thread = on_thread
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, of: None, kind: type) -> _Awaited[P, T]: ...

    @overload
    def __get__(self, of: AsyncJobHarness, kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, of: AsyncJobHarness | None, kind: type) -> Any:
        if of is None:
            return self
        harness, turn, called = of._harness, of._turn, of._called

        async def awaited(call: object, *arguments: P.args, **options: P.kwargs) -> T:
            called.pop(call)
            try:
                if not self._on_thread:
                    return self._method(harness, *arguments, **options)
                harness.bench.refuse_inside()
                async with turn:
                    return await _on_a_thread_of_its_own(self._method, harness, *arguments, **options)
            except UsageError as error:  # It may lack what a call before it was to do.
                if told := never_awaited(of):
                    raise UsageError(str(error), hint=told) from None
                raise

        awaited.__qualname__ = self._method.__qualname__  # Python names it where it was never awaited.

        @functools.wraps(self._method)
        def calling(*arguments: P.args, **options: P.kwargs) -> Coroutine[Any, Any, T]:
            caller, call = sys._getframe(1), object()
            called[call] = f"{Path(caller.f_code.co_filename).name}:{caller.f_lineno}: {self._method.__name__}()"
            return awaited(call, *arguments, **options)

        return calling


async def _on_a_thread_of_its_own(method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run it on a thread that ends with it: the loop's pool keeps its threads, which the forks of later tests lack."""
    call = functools.partial(contextvars.copy_context().run, method, *arguments, **options)
    thread = ThreadPoolExecutor(1)
    work = asyncio.get_running_loop().run_in_executor(thread, call)
    try:
        return await work
    finally:
        thread.shutdown(wait=not work.cancelled())


def _at_once(method: Callable[Concatenate[JobHarness, P], T]) -> _Awaited[P, T]:
    return _Awaited(method, on_thread=False)


def _on_thread(method: Callable[Concatenate[JobHarness, P], T]) -> _Awaited[P, T]:
    return _Awaited(method, on_thread=True)


class AsyncJobHarness:
    """Lets a `JobHarness` work on a thread, while the test's own loop stays free. Handles are read as ever."""

    def __init__(self, harness: JobHarness) -> None:
        self._harness = harness
        self._turn = asyncio.Lock()
        self._called: dict[object, str] = {}
        """The calls of which nothing was awaited so far, by their place."""

    if not TYPE_CHECKING:  # A checker would take every name for one that there is.

        def __getattr__(self, name: str) -> NoReturn:
            raise missing_attribute(self, name)

    register = _at_once(JobHarness.register)
    on_start = _at_once(JobHarness.on_start)
    register_celery = _at_once(JobHarness.register_celery)
    always = _at_once(JobHarness.always)
    enqueue = _at_once(JobHarness.enqueue)
    cancel = _at_once(JobHarness.cancel)
    retry = _at_once(JobHarness.retry)
    deliver_twice = _at_once(JobHarness.deliver_twice)
    all_enqueued = _at_once(JobHarness.all_enqueued)
    assert_enqueued = _at_once(JobHarness.assert_enqueued)
    refute_enqueued = _at_once(JobHarness.refute_enqueued)
    assert_path = _at_once(JobHarness.assert_path)
    effects = _at_once(JobHarness.effects)
    status = _at_once(JobHarness.status)
    perform_job = _on_thread(JobHarness.perform_job)
    work_one = _on_thread(JobHarness.work_one)
    drain = _on_thread(JobHarness.drain)
    run_until_idle = _on_thread(JobHarness.run_until_idle)
    advance = _on_thread(JobHarness.advance)
    jump = _on_thread(JobHarness.jump)
    wait_for = _on_thread(JobHarness.wait_for)
    crash_worker = _on_thread(JobHarness.crash_worker)

    @property
    def now(self) -> datetime:
        """The current virtual time, in UTC."""
        return self._harness.now

    @property
    def history(self) -> History:
        """Everything that was observed."""
        return self._harness.history


def never_awaited(harness: AsyncJobHarness) -> str:
    """Name the calls of it that were never awaited, and so did nothing; empty where there are none."""
    if not harness._called:
        return ""
    places = [f"  {place}" for place in harness._called.values()]
    told = "calls of async_job_harness were never awaited, so they did nothing:"
    return "\n".join([told, *places, "  Write await before each, in a test that is a coroutine."])
