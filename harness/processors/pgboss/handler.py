"""The handlers of a pg-boss process: one processor after the other, and the first failure is what a handler throws."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from harness.adapters.pgboss.work import HandlerCall, Turn
from harness.adapters.reference.application import (
    JobProcessor,
    JobResult,
    NonRetryableError,
    Registry,
    ToolJob,
    sample_job,
)
from harness.errors import HarnessError
from harness.model.job import JobId, Json
from harness.model.json_value import json_problem
from harness.port import Claim
from harness.processors.pgboss.driven import DrivenProcess
from harness.processors.processor import is_async
from harness.sim.lifetime import Lifetime
from harness.sim.loop import VirtualLoop


class Failure(NamedTuple):
    """What the handler throws."""

    name: str
    message: str
    final: bool = False
    """Whether the processor asked for no further attempt; pg-boss does not hear it."""


class Success(NamedTuple):
    """What the handler answers."""

    output: Json


BEFORE_STARTING: Final = "after claim"
"""Where a crash plan puts "before starting"."""
BEFORE_ANSWER: Final = {Success: "before complete", Failure: "before fail"}


class Handlers:
    """Runs the processors that a process calls for, in the lifetime of that process."""

    def __init__(
        self,
        driven: DrivenProcess,
        loop: VirtualLoop,
        *,
        run_blocking: Callable[..., Awaitable[Any]],
        registry: Registry,
        moment: Callable[[], datetime],
        crash: Callable[[str], None],
    ) -> None:
        self.life = Lifetime("no worker yet")
        """The present process's; whoever severs it sets another."""
        self.dies: Callable[[str, JobId], bool] | None = None
        """Asked before a processor starts and before pg-boss hears its answer, whether the process is to die there."""
        self._driven = driven
        self._loop = loop
        self._run_blocking = run_blocking
        self._registry = registry
        self._moment = moment
        self._crash = crash
        self._running: dict[int, tuple[Claim, ...]] = {}
        """The claims of the calls that are not answered yet."""

    def call(self, call: HandlerCall, claims: tuple[Claim, ...]) -> None:
        """Begin to handle a batch."""
        self._running[call.number] = claims
        made = self._handle(call, claims, self.life)
        self.life.context().run(self._loop.create_task, made, name=f"handler of {call.queue}")

    def forget(self) -> None:
        """Know of no call any more: their process is dead."""
        self._running.clear()

    @property
    def waited_for(self) -> bool:
        """Whether a handler is at work that pg-boss still waits for."""
        return any(self._driven.holds(claim) for claims in self._running.values() for claim in claims)

    @property
    def given_up(self) -> tuple[JobId, ...]:
        """The jobs that pg-boss has taken back while their handler still ran."""
        return tuple(c.job for claims in self._running.values() for c in claims if not self._driven.holds(c))

    async def _handle(self, call: HandlerCall, claims: tuple[Claim, ...], life: Lifetime) -> None:
        ending: Success | Failure = Success(None)
        for claim in claims:
            if self._dies_at(BEFORE_STARTING, claim):
                return
            processor = self._registry.get_processor(claim.tool)
            ending = _read(*await self._run(processor, self._tool_job(claim), life))
            if isinstance(ending, Failure):
                break
        if life.over or any(self._dies_at(BEFORE_ANSWER[type(ending)], claim) for claim in claims):
            return
        try:
            self._answer(call, claims, ending)
        except HarnessError as error:
            self._driven.broken = error

    async def _run(self, processor: JobProcessor, job: ToolJob, life: Lifetime) -> tuple[Any, BaseException | None]:
        name = f"processor {job.tool_slug} {job.id}"
        answer: Any
        if is_async(processor):
            answer, error = await self._awaited(lambda: processor(job), life, name)
            return answer, error
        context = life.context()
        answer, error = await self._run_blocking(lambda: context.run(_call, processor, job), name=name)
        if error is None and inspect.isawaitable(answer):
            awaited = answer
            return await self._awaited(lambda: awaited, life, name)
        return answer, error

    async def _awaited(self, make: Callable[[], Any], life: Lifetime, name: str) -> tuple[Any, BaseException | None]:
        """Await it in a task of its own, whose context is the processor's."""
        task = life.context().run(self._loop.create_task, _caught(make), name=name)
        caught: tuple[Any, BaseException | None] = await task
        return caught

    def _answer(self, call: HandlerCall, claims: tuple[Claim, ...], ending: Success | Failure) -> None:
        held = [claim for claim in claims if self._driven.holds(claim)]
        self._running.pop(call.number, None)
        self._driven.draw()
        if isinstance(ending, Failure):
            said: dict[str, Any] = {"error": {"name": ending.name, "message": ending.message}}
            settle = partial(self._driven.recorder.settled, "fail")
            rest: tuple[Any, ...] = (ending.message, ending.final)
        else:
            said = {"value": ending.output}
            settle = partial(self._driven.recorder.settled, "complete")
            rest = (ending.output if len(claims) == 1 else None,)  # pg-boss keeps no answer of a larger batch.

        def told(_: Turn) -> None:
            for claim in held:
                settle(claim, *rest)

        self._driven.reply(call, told=told, **said)

    def _tool_job(self, claim: Claim) -> ToolJob:
        return sample_job(
            claim.tool,
            self._driven.rows.inputs[claim.job],
            id=claim.job,
            attempt=claim.attempt,
            max_attempts=self._driven.board.views[claim.job].max_attempts,
            moment=self._moment(),
        )

    def _dies_at(self, place: str, claim: Claim) -> bool:
        if self.dies is None or not self.dies(place, claim.job):
            return False
        self._crash(place)
        return True


async def _caught(make: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return await make(), None
    except BaseException as error:  # noqa: BLE001 - SystemExit too is the job's failure, not the test's
        return None, error


def _call(processor: JobProcessor, job: ToolJob) -> tuple[Any, BaseException | None]:
    try:
        return processor(job), None
    except Exception as error:  # noqa: BLE001 - pg-boss is told
        return None, error


def _read(answer: Any, error: BaseException | None) -> Success | Failure:
    if error is not None:
        return Failure(type(error).__name__, str(error) or repr(error), isinstance(error, NonRetryableError))
    if not isinstance(answer, JobResult):
        return Failure("TypeError", f"the processor answered {answer!r:.200}, which is no JobResult")
    if not answer.success:
        return Failure("Error", answer.error or "the processor gave no error", not answer.retryable)
    if problem := json_problem(answer.output):
        return Failure("TypeError", f"JSON cannot hold the output: {problem}")
    return Success(answer.output)
