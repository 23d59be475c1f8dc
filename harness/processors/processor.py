"""From what a user registers to what the worker runs: found by name, and telling when it starts and ends."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from harness.adapters.reference.application import JobProcessor, JobResult, ToolJob
from harness.errors import UsageError, did_you_mean
from harness.processors.typescript.target import TypeScriptProcessor, names_typescript

Tell = Callable[[ToolJob, str, str | None], None]
"""Hears of a job that its processor `started`, or `ended` in `success` or `failure`."""


def find_processor(named: JobProcessor | str) -> JobProcessor:
    """Answer the callable, imported where it is given as "module:name" or "path.ts#name". Raises UsageError."""
    if not isinstance(named, str):
        if not callable(named):
            raise UsageError(
                f"{named!r} is no processor: it cannot be called",
                hint='Pass a function that takes a ToolJob and answers a JobResult, or its name as "module:name".',
            )
        return named
    if names_typescript(named):
        return TypeScriptProcessor(named)
    module_name, colon, path = named.partition(":")
    if not colon or not module_name or not path:
        raise UsageError(
            f"{named!r} names no processor", hint='Write "package.module:function" or "lib/processor.ts#name".'
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise UsageError(
            f"the processor {named!r}: there is no module {error.name!r}", hint="Is its folder on sys.path?"
        ) from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise UsageError(f"the processor {named!r}: {module_name} has no {name!r}{did_you_mean(name, dir(found))}")
        found = getattr(found, name)
    return find_processor(found) if not isinstance(found, str) else _refuse_text(named)


def _refuse_text(named: str) -> JobProcessor:
    raise UsageError(f"the processor {named!r} is text, which cannot be called")


def is_async(processor: JobProcessor) -> bool:
    """Whether calling it answers a coroutine."""
    call = getattr(processor, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
    return inspect.iscoroutinefunction(processor) or inspect.iscoroutinefunction(call)


def telling(processor: JobProcessor, tell: Tell) -> JobProcessor:
    """Wrap a processor so that `tell` hears `started` and `ended`, whichever way it ends."""
    if is_async(processor):

        async def run_async(job: ToolJob) -> Any:
            tell(job, "started", None)
            return await _awaited(processor(job), job, tell)

        run_async.__qualname__ = _name(processor)
        return run_async

    def run(job: ToolJob) -> Any:
        tell(job, "started", None)
        ending = "failure"
        try:
            answer = processor(job)
            if inspect.isawaitable(answer):
                ending = ""
                return _awaited(answer, job, tell)
            ending = _ending(answer)
            return answer
        finally:
            if ending:
                tell(job, "ended", ending)

    run.__qualname__ = _name(processor)
    return run


async def _awaited(made: Any, job: ToolJob, tell: Tell) -> Any:
    ending = "failure"
    try:
        answer = await made
        ending = _ending(answer)
        return answer
    finally:
        tell(job, "ended", ending)


def _ending(answer: Any) -> str:
    return "success" if isinstance(answer, JobResult) and answer.success is True else "failure"


def _name(processor: JobProcessor) -> str:
    return str(getattr(processor, "__qualname__", processor))
