"""Processors that run in the process of the test, which is written in another language.

That process is the peer of all of them: it outlives every worker, so a worker that dies takes only
its runs with it. Nothing that a severed run still does is seen; code of it that waits for real I/O
goes on when that is answered, since a promise cannot be cancelled. Must not know: how the process
is spoken to.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol

from job_harness.core.faults.messages import IS_REFUSED, IS_SILENT, IS_TURNED_AWAY, LOSES_REPLY
from job_harness.core.history import SideEffect
from job_harness.core.sim.loop import VirtualLoop
from job_harness.engines.reference.application import JobResult, ToolJob
from job_harness.errors import Hung, UsageError
from job_harness.subjects.processors.delivery import RESERVED, current, delivery_of, effect, step
from job_harness.subjects.processors.observed.account import failing
from job_harness.subjects.processors.observed.http_calls import SAFE
from job_harness.subjects.processors.peer_runs import Guard, PeerRuns, ProcessorRun, stand_at
from job_harness.subjects.processors.sql_statement import Nature
from job_harness.worlds.peers.peer import PeerLost, Report, TurnTaker

EFFECT: Final = "effect"
STEP: Final = "step"
REPLY: Final = "reply"
CALL: Final = "call"
"""What a run stands at, by the first argument of its gate: a side effect that it declares, with `data`, `identity` and
`idempotent`; a step that it names; the answer of something outside, which has more where `point` is the whole name; a
call of something outside, with the `method` of a request, whose reply says what goes wrong with it."""


class HostProcess(TurnTaker, Protocol):
    """The process of a test."""

    def sever(self, actor: str) -> None:
        """Tell it that a run is dead."""

    def hear_first(self, hear: Callable[[Sequence[Report]], None]) -> None:
        """Let what was reported in a turn be heard before something is done that the same turn asks for."""


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
        self._over: dict[str, ProcessorRun] = {}
        """Runs that have ended while their worker lives: what they started may still do something."""
        self._written: set[int] = set()
        """The gates of side effects that are written down already."""
        self._gate = 0
        """The one at which a run stands."""
        process.hear_first(self._hear)

    def processor(self, slug: str) -> HostedProcessor:
        """Return what runs a tool's jobs there."""
        return self._slugs.setdefault(slug, HostedProcessor(self, slug))

    async def perform(self, job: ToolJob, slug: str) -> JobResult:
        """Run a job there to its end."""
        if self._peer is None:
            raise UsageError(
                f"the job of {slug!r} cannot run: the test process, which has its processor, no longer responds",
                hint="The output of the test runner says why it hung or ended; then start it again.",
            )
        return await self._perform(self._begin(job, slug=slug))

    def context_of(self, actor: str) -> contextvars.Context | None:
        """Return the context of a run; None: it has ended, or its worker is dead."""
        run = self._alive(actor)
        return None if run is None else run.context

    def _alive(self, actor: str | None) -> ProcessorRun | None:
        """Return a run, ended or not; None: its worker is dead."""
        run = self._runs.get(actor or "") or self._over.get(actor or "")
        return None if run is None or (run.life is not None and run.life.over) else run

    def _ended(self, actor: str, ending: Mapping[str, Any]) -> None:
        run = self._runs.get(actor)
        super()._ended(actor, ending)
        if run is not None:
            self._over[actor] = run

    def _hear(self, said: Sequence[Report]) -> None:
        # In one turn several runs may come to an effect, and the fake of each has done its work by then: the worker
        # that dies at the first of them takes none of the others back.
        effects = [each for each in said if "gate" in each and each["with"][:1] == [EFFECT]]
        for gate in effects if len(effects) > 1 else ():
            run = self._alive(gate["actor"])
            if run is None or gate["point"] in RESERVED or (delivery := delivery_of(run.life)) is None:
                continue
            stand_at(gate, run)
            delivery.write(_declared(gate["point"], *gate["with"][1:]))
            self._written.add(gate["gate"])
        super()._hear(said)

    def _called(self, gate: Report) -> None:
        """Take what stands at a gate, unless its worker is dead; of a run that has ended it still counts."""
        run = self._alive(gate["actor"])
        if run is None:
            return
        if run.name in self._over:
            self._find(
                run, f"{gate['point']!r} came after the attempt had ended: await it before the processor returns"
            )
        self._gate = gate["gate"]
        super()._called(gate)

    def crash(self) -> None:
        """Let all runs die: nothing that they still do is seen."""
        runs = [*self._runs.values(), *self._over.values()]
        self._runs, self._over = {}, {}
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

    def _lost(self, lost: PeerLost) -> None:
        """Break the loop: there is no other process in which a run could go on."""
        jobs = ", ".join(f"{run.tool} {run.job}, attempt {run.attempt}" for run in self._runs.values()) or "no job"
        self._let_go()
        self._peer = None
        self._runs.clear()
        self.notes.blocked.append(f"{self._called_name(None)} ({jobs}): {lost.what}")
        self._loop.break_with(
            Hung(
                f"the test process did not continue with {jobs}: {lost.what}",
                hint="Look for an endless loop, or for real work that takes longer.",
            )
        )

    def _called_name(self, run: ProcessorRun | None) -> str:
        tools = [run.tool] if run is not None else sorted({each.tool for each in self._runs.values()}) or [*self._slugs]
        return ", ".join(tools)

    def _answer(self, name: str, args: list[Any]) -> Any:
        kind, *said = args
        if kind == EFFECT and self._gate in self._written and (delivery := current()) is not None:
            delivery.pass_point(name)
        elif kind == EFFECT:
            effect(_declared(name, *said))
        elif kind == CALL and (delivery := current()) is not None:
            nature = Nature.LOOKS if said[0].get("method") in SAFE else Nature.ADDS
            by_http = (IS_TURNED_AWAY,) if "method" in said[0] else ()
            fails = failing(delivery, name, nature, (LOSES_REPLY, IS_REFUSED, IS_SILENT, *by_http))
            return None if fails is None else fails.words
        return step(name) if kind == STEP else None

    def _reply_place(self, gate: Report) -> str:
        kind, *more = gate["with"]
        if kind != REPLY:
            return ""
        return str(gate["point"]) if more else super()._reply_place(gate)

    def _reply(self, gate: int, name: str, answer: Any, error: BaseException | None) -> None:
        if gate in self._asked:  # Else its worker died there.
            super()._reply(gate, name, answer, error)


def _declared(name: str, said: Mapping[str, Any] = MappingProxyType({})) -> SideEffect:
    return SideEffect(name, said.get("identity"), said.get("data"), bool(said.get("idempotent")))


class HostedProcessor:
    """Calls the processor of one tool."""

    def __init__(self, runs: HostedProcessors, slug: str) -> None:
        self._runs = runs
        self._slug = slug
        self.__qualname__ = slug

    async def __call__(self, job: ToolJob) -> JobResult:
        """Run it on a job."""
        return await self._runs.perform(job, self._slug)
