"""From what a user registers to what the worker runs: found by name, and telling when it starts and ends."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from job_harness.core.model import json_problem
from job_harness.core.sim.lifetime import LIFETIME
from job_harness.engines.reference.application import (
    JobProcessor,
    JobResult,
    NoResultError,
    ToolJob,
    is_too_long,
    result_of,
)
from job_harness.errors import UsageError, did_you_mean
from job_harness.subjects.processors.delivery import Delivery
from job_harness.subjects.processors.typescript.target import SUFFIXES, TypeScriptProcessor, names_typescript

Begin = Callable[[ToolJob], Delivery]
"""Called in the context of a processor right before it starts."""


class TaskKind(NamedTuple):
    """A class of tasks that another library's decorator makes, and the attribute that is the function below it."""

    defined: str
    library: str
    function: str


TASK_KINDS: Final = (
    TaskKind("celery.app.task.Task", "Celery", "run"),
    TaskKind("celery.local.PromiseProxy", "Celery", "run"),
    TaskKind("dramatiq.actor.Actor", "Dramatiq", "fn"),
    TaskKind("huey.api.TaskWrapper", "Huey", "func"),
    TaskKind("taskiq.decor.AsyncTaskiqDecoratedTask", "TaskIQ", "original_func"),
    TaskKind("procrastinate.tasks.Task", "procrastinate", "func"),
    TaskKind("django_tasks.base.Task", "Django", "func"),
    TaskKind("django.tasks.base.Task", "Django", "func"),
)


@dataclass(frozen=True, slots=True)
class Replacements:
    """Changed processors that take the place of those that a test registers."""

    by_tool: Mapping[str, str]
    """The name of each; `""` is for the one tool of a test that has one."""
    first_attempt: int = 1
    """With it they begin: the test's own processor takes those before, as where a job is under way at a deploy."""
    met: set[str] = field(default_factory=set)
    """The keys of those that took the place of one."""

    def put(self, slug: str, processor: JobProcessor | str, *, served: Collection[str]) -> JobProcessor | str:
        """Return what is registered for this tool. Raises UsageError where that is not clear."""
        if "" in self.by_tool and served:
            raise UsageError(
                f"the test registers {next(iter(served))!r} and {slug!r}",
                hint=f"Say which one is replaced: --against {slug}={self.by_tool['']}.",
            )
        name = slug if slug in self.by_tool else ""
        if name not in self.by_tool:
            return processor
        self.met.add(name)
        return self._deployed(processor, self.by_tool[name])

    def _deployed(self, before: JobProcessor | str, after: str) -> JobProcessor | str:
        """Return a processor that is `before` up to the first attempt of the changed one."""
        if self.first_attempt == 1:
            return after
        old, new = find_processor(before), find_processor(after)
        kinds = [inspect.iscoroutinefunction(each) for each in (old, new)]
        if any(kinds) and not all(kinds):
            raise UsageError(
                f"--from-attempt {self.first_attempt}: of {old!r} and {after} only one is a coroutine function",
                hint="Leave --from-attempt out: then all attempts are played with the changed one.",
            )

        def either(job: ToolJob) -> Any:
            return (old if job.attempts < self.first_attempt else new)(job)

        async def either_awaited(job: ToolJob) -> Any:
            return await either(job)

        return either_awaited if all(kinds) else either


NOTHING_REPLACED: Final = Replacements({})


def find_processor(named: JobProcessor | str) -> JobProcessor:
    """Return the callable: itself, from "module:name", or from "path.ts#name". Raises UsageError."""
    if not isinstance(named, str):
        _refuse_task(named)
        if not callable(named):
            raise UsageError(
                f"{named!r} is not a processor: it cannot be called",
                hint='Pass a function that takes a ToolJob and returns a JobResult, or its name as "module:name".',
            )
        if not can_take_one(named):
            raise UsageError(
                f"the processor {getattr(named, '__qualname__', named)!s} cannot be called with one argument",
                hint="It may take only a ToolJob: wrap a function that takes arguments, "
                "lambda job: JobResult(success=True, output=f(**job.input)), or pass them with functools.partial.",
            )
        return named
    if names_typescript(named):
        return TypeScriptProcessor(named)
    module_name, colon, path = named.partition(":")
    if not colon or not module_name or not path:
        raise UsageError(
            f"{named!r} names no processor",
            hint=how_to_name(named) or 'Write "package.module:function", or "lib/processor.ts#name".',
        )
    found = _imported(named, module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise UsageError(
                f"the processor {named!r}: {module_name} has no {name!r}{did_you_mean(name, dir(found))}",
                hint=f"Define it in {module_name}, or correct the name after the colon.",
            )
        found = getattr(found, name)
    return find_processor(found) if not isinstance(found, str) else _refuse_text(named)


def _imported(named: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _broken(named, module, error) from error
        raise UsageError(
            f"the processor {named!r}: there is no module {error.name!r}",
            hint="Start Python in the folder that has it, or add that folder to PYTHONPATH.",
        ) from None
    except ImportError as error:
        raise _broken(named, module, error) from error
    except SystemExit as stop:
        raise UsageError(
            f"the processor {named!r}: {module} calls sys.exit({stop.code!r}) while it is imported",
            hint='Move that call below: if __name__ == "__main__".',
        ) from stop


def _refuse_task(named: object) -> None:
    """Refuse what would be given the job as its first argument, or would enqueue instead of working."""
    defined = {f"{each.__module__}.{each.__qualname__}" for each in type(named).__mro__}
    kind = next((each for each in TASK_KINDS if each.defined in defined), None)
    if kind is None:
        return
    function, below = getattr(named, kind.function), kind.function
    if inspect.iscoroutinefunction(coroutine := getattr(function, "__wrapped__", None)):
        function, below = coroutine, f"{below}.__wrapped__"  # Dramatiq's own needs its event loop.
    name = getattr(function, "__name__", "task").removesuffix("__taskiq_original")
    begin, wait = ("async ", "await ") if inspect.iscoroutinefunction(function) else ("", "")
    call = f"{begin}def processor(job): return JobResult(success=True, output={wait}{name}.{below}(**job.input))"
    hint = f"Wrap the function below it: {call}"
    if kind.library == "Celery":
        hint = f"job_harness.register_celery(app) runs tasks as they are. {hint}"
    raise UsageError(f"{name!r} is a task of {kind.library}'s, and no processor: that takes a ToolJob", hint=hint)


def can_take_one(function: Callable[..., object]) -> bool:
    """Whether it can be called with one argument, as far as its signature says."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # It has no signature that can be read, such as a function in C.
        return True
    return True


def _broken(named: str, module: str, error: ImportError) -> UsageError:
    from job_harness.subjects.applications.engine import where_of  # Only a broken import pays for it.

    where = where_of(error, own=False)
    told = f"importing {module} failed: {type(error).__name__}: {error}{f' ({where})' if where else ''}"
    return UsageError(f"the processor {named!r}: {told}", hint="Install it, or fix the import.")


def how_to_name(named: str) -> str:
    """Say how what this text seems to mean is written; nothing where that is a guess."""
    if named.endswith(SUFFIXES):
        return f'Name what the file exports as well: "{named}#name".'
    module, dot, name = named.rpartition(".")
    if dot and all(part.isidentifier() for part in named.split(".")):
        return f'Write "{module}:{name}".'
    return ""


def _refuse_text(named: str) -> JobProcessor:
    raise UsageError(
        f"the processor {named!r} is a str, which cannot be called",
        hint="Name a function that takes a ToolJob and returns a JobResult.",
    )


def is_async(processor: JobProcessor) -> bool:
    """Whether calling it returns a coroutine."""
    call = getattr(processor, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
    return inspect.iscoroutinefunction(processor) or inspect.iscoroutinefunction(call)


def telling(processor: JobProcessor, begin: Begin) -> JobProcessor:
    """Wrap a processor so that its delivery hears `started` and `ended`, whichever way it ends."""
    if is_async(processor):

        async def run_async(job: ToolJob) -> Any:
            return await _awaited(lambda: processor(job), _begun(begin, job))

        return _named_after(processor, run_async)

    def run(job: ToolJob) -> Any:
        delivery = _begun(begin, job)
        ending = "failure"
        try:
            answer = job_result(processor(job))
            if inspect.isawaitable(answer):
                ending = ""
                return _awaited(lambda: answer, delivery)
            ending = _ending(answer)
            return answer
        finally:
            if ending:
                delivery.say("ended", ending)

    return _named_after(processor, run)


def job_result(answer: Any) -> Any:
    """Return what says the same as a JobResult as one; anything else as it is: the caller says what is wrong."""
    try:
        return result_of(answer)
    except NoResultError:
        return answer


def _begun(begin: Begin, job: ToolJob) -> Delivery:
    delivery = begin(job)
    LIFETIME.set(delivery.life)  # The context is the processor's own: a task's, or a copy made for a thread.
    delivery.say("started", None)
    return delivery


async def _awaited(make: Callable[[], Any], delivery: Delivery) -> Any:
    LIFETIME.set(delivery.life)
    ending = "failure"
    try:
        answer = job_result(await make())
        ending = _ending(answer)
        return answer
    finally:
        delivery.say("ended", ending)


def _ending(answer: Any) -> str:
    if not isinstance(answer, JobResult) or answer.success is not True:
        return "failure"
    return "bad output" if json_problem(answer.output) or is_too_long(answer.output) else "success"


def _named_after(processor: JobProcessor, told: Any) -> JobProcessor:
    told.__qualname__ = str(getattr(processor, "__qualname__", processor))
    told.told = processor
    named: JobProcessor = told
    return named
