"""One processor at work on one job, on the event loop or on a thread. Knows no store and no timeout."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Protocol

from job_harness_reference.models import JobProcessor, ToolJob
from job_harness_reference.worker.verdict import Answer, Raised, Returned


class RunBlocking(Protocol):
    """Runs a plain function where it does not block the event loop. The function never raises."""

    def __call__(self, function: Callable[[], Answer], *, name: str) -> asyncio.Future[Answer]:
        """Start the function; the future may be cancelled, which does not stop it."""


def run_on_thread(function: Callable[[], Answer], *, name: str) -> asyncio.Future[Answer]:
    """Run the function on a daemon thread of its own, which does not keep the process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer] = loop.create_future()

    def set_answer(answer: Answer) -> None:
        if not future.done():
            future.set_result(answer)

    def run() -> None:
        answer = function()
        if not loop.is_closed():
            _call_if_open(loop, set_answer, answer)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _call_if_open(loop: asyncio.AbstractEventLoop, callback: Callable[[Answer], None], answer: Answer) -> None:
    try:
        loop.call_soon_threadsafe(callback, answer)
    except RuntimeError:  # The loop was closed in between; no one waits for the answer.
        return


class Execution:
    """A running processor. Nothing that it raises reaches the loop; its answer waits to be read."""

    def __init__(
        self,
        processor: JobProcessor,
        job: ToolJob,
        *,
        on_end: Callable[[], None],
        run_blocking: RunBlocking = run_on_thread,
    ) -> None:
        """Start the processor. `on_end` is called on the loop once an answer is there."""
        self.job = job
        self.answer: Answer | None = None
        self._processor = processor
        self._run_blocking = run_blocking
        self._on_end = on_end
        self._thread_busy = False
        self._task = asyncio.create_task(self._run(), name=f"processor {job.tool_slug} {job.id}")

    @property
    def alive(self) -> bool:
        """Whether any of the processor's code may still run."""
        return self._thread_busy or not self._task.done()

    async def stop(self, *, grace_seconds: float) -> bool:
        """Cancel the processor and wait for it to end. False: it did not, and is abandoned.

        A thread cannot be stopped: it is abandoned at once.
        """
        self._task.cancel()
        await asyncio.wait((self._task,), timeout=grace_seconds)
        return not self.alive

    def cancel(self) -> None:
        """Cancel the processor without waiting."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            self.answer = await self._answer()
        except asyncio.CancelledError as error:
            self.answer = Raised(error)
        finally:
            self._on_end()

    async def _answer(self) -> Answer:
        if _is_coroutine_function(self._processor):
            return await _awaited(self._processor, self.job)
        answer = await self._on_thread()
        if isinstance(answer, Returned) and inspect.isawaitable(answer.value):
            return await _awaited(_constant(answer.value), self.job)
        return answer

    async def _on_thread(self) -> Answer:
        context = contextvars.copy_context()

        def call() -> Answer:
            try:
                return Returned(context.run(self._processor, self.job))
            except BaseException as error:  # noqa: BLE001 - SystemExit too is the job's failure, not the worker's
                return Raised(error)
            finally:
                self._thread_busy = False

        self._thread_busy = True
        try:
            future = self._run_blocking(call, name=f"processor {self.job.tool_slug} {self.job.id}")
        except Exception as error:  # noqa: BLE001 - no thread left: this job fails, its neighbours run on
            self._thread_busy = False
            return Raised(error)
        return await future


async def _awaited(call: Callable[[ToolJob], object], job: ToolJob) -> Answer:
    """Await the processor. Its exceptions become its answer, a cancellation included."""
    try:
        made = call(job)
        return Returned(await made if inspect.isawaitable(made) else made)
    except BaseException as error:  # noqa: BLE001 - SystemExit too is the job's failure, not the worker's
        return Raised(error)


def _constant(value: object) -> Callable[[ToolJob], object]:
    return lambda _job: value


def _is_coroutine_function(processor: JobProcessor) -> bool:
    call = getattr(processor, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
    return inspect.iscoroutinefunction(processor) or inspect.iscoroutinefunction(call)
