"""Processors that run in the process of the test, which is written in another language.

That process is the peer of all of them: it outlives every worker, so a worker that dies takes only its runs with it.
Nothing that a severed run still does is seen; code of it that waits for real I/O goes on when that is answered, since
a promise cannot be cancelled. Must not know: how the process is spoken to.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from harness.adapters.reference.application import JobResult, ToolJob
from harness.errors import UsageError
from harness.foreign.peer import Report
from harness.history.event import SideEffect
from harness.processors.delivery import effect, step
from harness.processors.peer_runs import Guard, PeerRuns, ProcessorRun, TurnTaker
from harness.sim.lifetime import Severed
from harness.sim.loop import VirtualLoop

REPLY = "reply of "
"""What the gate before the answer of something outside begins with; every other gate of a run is a step."""


class HostProcess(TurnTaker, Protocol):
    """The process of a test."""

    def sever(self, actor: str) -> None:
        """Tell it that a run is dead."""
        ...

    def hear_first(self, hear: Callable[[Sequence[Report]], None]) -> None:
        """Let what was reported in a turn be heard before something is done that the same turn asks for."""
        ...


class HostedProcessors(PeerRuns):
    """Runs jobs in the process of a test."""

    def __init__(
        self,
        process: HostProcess,
        *,
        loop: VirtualLoop,
        start: datetime,
        timeout_seconds: float,
        busy_seconds: float,
        guard: Guard | None,
    ) -> None:
        super().__init__(
            loop=loop, start=start, timeout_seconds=timeout_seconds, busy_seconds=busy_seconds, guard=guard
        )
        self._process = process
        self._peer = process
        self._slugs: dict[str, HostedProcessor] = {}
        process.hear_first(self._hear)

    def processor(self, slug: str) -> HostedProcessor:
        """Return what runs a tool's jobs there."""
        return self._slugs.setdefault(slug, HostedProcessor(self, slug))

    async def perform(self, job: ToolJob, slug: str) -> JobResult:
        """Run a job there to its end."""
        if self._peer is None:
            raise UsageError(f"{slug}: the process of the test is no longer heard")
        return await self._perform(self._begin(job, slug=slug))

    def context_of(self, actor: str) -> contextvars.Context | None:
        """Return the context of a run; None: it has ended, or its worker is dead."""
        run = self._runs.get(actor)
        return None if run is None else run.context

    def crash(self) -> None:
        """Let all runs die: nothing that they still do is seen."""
        runs, self._runs = list(self._runs.values()), {}
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._at_gate = False
        self._asked.clear()
        for run in runs:
            self._process.sever(run.name)
        self._worker = contextvars.Context()
        if timer is not None:  # It may be the test's own: whose it was, the process says when it is woken.
            when = max(timer.when(), self._loop.time())
            tick = partial(self._tick, self._start_ms + when * 1000)
            self._timer = self._loop.call_at(when, tick, context=self._worker)

    def _called_name(self, run: ProcessorRun | None) -> str:
        tools = [run.tool] if run is not None else sorted({each.tool for each in self._runs.values()}) or [*self._slugs]
        return ", ".join(tools)

    def _answer(self, name: str, args: list[Any]) -> Any:
        return None if name.startswith(REPLY) else step(name)

    def _reply_place(self, name: str) -> str:
        return name

    def _reported(self, report: Report) -> None:
        """Write down a side effect that a run declares; it is a point at which its worker may die."""
        run = self._runs.get(report["actor"] or "")
        if report["effect"] != "did" or run is None:
            return
        did = report["data"]
        done = SideEffect(did["kind"], did.get("identity"), did.get("data"), bool(did.get("idempotent")))
        try:
            run.context.run(effect, done)
        except Severed:
            return


class HostedProcessor:
    """Calls the processor of one tool."""

    def __init__(self, runs: HostedProcessors, slug: str) -> None:
        self._runs = runs
        self._slug = slug
        self.__qualname__ = slug

    async def __call__(self, job: ToolJob) -> JobResult:
        """Run it on a job."""
        return await self._runs.perform(job, self._slug)
