"""TypeScript processors at work for one harness: each in a Node peer that moves with the harness's virtual time.

A processor is called like any other coroutine function; each run of it is an actor of its peer. A stub that it calls is
a gate, which is passed when the stub has answered. A promise cannot be cancelled: a run that is given up lives on, and
what it still does is reported. Hides: turns, timers, deaths of the peer, errors of JavaScript as they read in Python.
Must not know: workers, jobs' lifecycle.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from harness.adapters.reference.application import JobProcessor, JobResult, NonRetryableError, ToolJob
from harness.errors import Hung, UsageError, did_you_mean
from harness.foreign.packages import find_typescript_node
from harness.foreign.peer import Peer, PeerLost, Report
from harness.history.event import SideEffect
from harness.private import cache_folder
from harness.processors.delivery import delivery_of, effect, step
from harness.processors.typescript.target import COVERAGE, INSPECT, OPTIONS, TypeScriptProcessor
from harness.sim.lifetime import LIFETIME, Lifetime
from harness.sim.loop import Callback, VirtualLoop
from harness.sim.watchdog import BUSY_SECONDS, real_seconds

Guard: TypeAlias = Callable[[str, "Lifetime | None", Callback], Callback]
"""Takes a place, the delivery that comes to it, and what goes on from there; returns that behind a gate."""
RUNNER = Path(__file__).parent / "runner" / "main.mjs"
START_SECONDS = 20.0
"""Real seconds that Node may take to start and to load the processor."""
INSPECTED_SECONDS = 24 * 3600.0
"""The same, and for each of its turns, where a debugger may hold it."""
BLOCKED_AFTER_SECONDS = 10.0
"""Real seconds without an answer after which a processor counts as blocked."""
LEAST_PATIENCE_SECONDS = 0.5
"""A peer that waits for real work says so four times a second."""
TICKS = 100_000
"""Timers of one attempt, one after the other; a loop of `setTimeout(0)`, a millisecond each, takes some seconds."""
EXPLORED_BLOCKED_SECONDS = 10.0
"""The same in an explored run: a machine that is busy with runs is slow, and no verdict may hang on that."""
JUST_BEFORE = 0.001
"""Virtual seconds before the job timeout at which a blocked processor is given up, so that its own error is kept."""
MOMENT = "moment"
"""The gate at which a run stands once it has done something outside."""
RESPONSE_KEYS = ("status", "headers", "body", "json", "error")
_OPTIONS = ("--disable-warning=ExperimentalWarning", "--max-old-space-size=1024")


class NodeProcessor:
    """Calls a processor in a Node peer: a coroutine function like any other. One job costs no new process."""

    def __init__(
        self,
        about: TypeScriptProcessor,
        *,
        loop: VirtualLoop,
        start: datetime,
        timeout_seconds: float,
        slug: str | None = None,
        seed: int = 0,
        blocked_after: float = BLOCKED_AFTER_SECONDS,
        busy_seconds: float = BUSY_SECONDS,
        guard: Guard | None = None,
        observed: bool = False,
    ) -> None:
        """Start the peer and load the processor. `start` is the time of day at the loop's 0.

        It may be silent for `blocked_after` real seconds, and real work of its own, such as a child process that it
        waits for, may hold time for `busy_seconds`.

        Raises ProcessorNotLoaded, UsageError, EnvironmentUnavailable.
        """
        self.about = about
        self.__qualname__ = about.target
        self.findings: list[str] = []
        """What was noticed besides the results, each once: notes, deaths, what abandoned attempts still did."""
        self._found: set[str] = set()
        self.serves_another: str | None = None
        """Says so where the only tool that was registered is not the one that was asked for."""
        self._loop = loop
        self._start_ms = start.timestamp() * 1000
        self._timeout_seconds = timeout_seconds
        self._slug = slug
        self._seed = seed
        self.blocked_after = blocked_after
        self._busy_seconds = busy_seconds
        self._observed = observed
        self._ticks = 0
        self._ticks_since = 0.0
        self.blocked: list[str] = []
        """How attempts hung, each of which was ended by a limit in real time."""
        self._wire, self._functions = about.wire()
        self._functions |= BUILT_IN
        self._file = about.file
        self._node = find_typescript_node()
        self._peer: Peer | None = None
        self._runs: dict[str, _ProcessorRun] = {}
        self._number = 0
        self._before = 0
        """How many jobs the peers before this one have run."""
        self._timer: asyncio.TimerHandle | None = None
        self.waiting_stubs: dict[asyncio.Future[Any], str] = {}
        """The stubs of the test that have not answered yet, by name."""
        self._asked: set[int] = set()
        """The calls that await a stub's answer."""
        self._closed = False
        self._covered = False
        self._inspected = False
        self.guard = guard
        """Puts a gate before each of its timers and before the reply of each stub; None while nothing is explored."""
        self._at_gate = False
        """Whether its next timer stands at a gate."""
        self._worker = contextvars.Context()
        """The context of the worker whose process the peer is part of: what it plans stands still with that worker."""
        self._loaded_ms = self._now_ms()
        self._load(self._start())

    async def __call__(self, job: ToolJob) -> JobResult:
        """Run it on a job. Cancelled, it is abandoned: it lives on in its peer, and what it still does is told."""
        run = self._run(job)
        try:
            while run.ending is None:
                run.moved = self._loop.create_future()
                await run.moved
        except BaseException:
            if run.ending is None:
                run.abandoned = True
            raise
        if isinstance(run.ending, Exception):
            raise run.ending
        return run.ending

    @property
    def pid(self) -> int | None:
        """The number of the Node process, while there is one."""
        return self._peer.pid if self._peer is not None and self._peer.alive else None

    def leaks(self) -> list[str]:
        """Name what attempts that are over left running in the peer: intervals, processes."""
        peer = self._peer
        if peer is None or not peer.alive:
            return []
        processes = [f"the process {pid} still runs, started by {self.about.target}" for pid in peer.started()]
        said: list[Report] = []
        with suppress(PeerLost):
            said = self._turn(lambda now: peer.go("left", now=now))
        timers = [timer for report in said for timer in report.get("value") or ()]
        return [*(f"a {timer} of {self.about.target} still runs" for timer in timers), *processes]

    def crash(self) -> None:
        """Kill the peer with SIGKILL, as a worker dies: what ran in it never ends. The next job starts a new one.

        Explored, one that has done nothing but load its module is left: the next one would be no other, and starting it
        costs as much as the rest of the run.
        """
        if self.guard is None or not self._unused:
            self._end()

    @property
    def _unused(self) -> bool:
        return self._peer is not None and self._number == self._before and self._timer is None and not self._asked

    def _end(self) -> None:
        self._write_coverage()
        self._drop()
        self._runs.clear()

    def _write_coverage(self) -> None:
        """Let the peer write which code ran, where that is wanted: to be killed leaves it no time for it."""
        peer = self._peer
        if self._covered and peer is not None and peer.alive:
            with suppress(PeerLost):
                peer.go("cover", now=self._now_ms())

    def close(self) -> None:
        """End the peer. Harmless when repeated."""
        self._closed = True
        self._end()
        for task in self.waiting_stubs:
            task.cancel()

    # the peer ------------------------------------------------------------------------------------------------------

    @property
    def worked(self) -> bool:
        """Whether it has run on a job: then its module may remember something that a fresh peer would not."""
        return self._number > 0

    def restart(self) -> Callable[[], None]:
        """Give the peer up and start another, in this process; what is returned loads the processor as at first.

        A forked child lets go of its parent's peer and does not touch it. Raises nothing before the loading.
        """
        self._drop()
        peer = self._start()
        return lambda: self._load(peer, self._loaded_ms)

    def _start(self) -> Peer:
        environment = self.about.process_environment(os.environ)
        self._covered = COVERAGE in environment
        self._inspected = INSPECT in environment.get(OPTIONS, "")
        return Peer(
            [self._node.path, *_OPTIONS, str(RUNNER)],
            name=self.about.target,
            environment=environment,
            folder=self._file.parent,
            log=lambda line: _tell(f"{self._slug or self.about.name}: {line}"),
            patience=INSPECTED_SECONDS if self._inspected else self.blocked_after,
            standstill=INSPECTED_SECONDS if self._inspected else self._busy_seconds,
        )

    def _load(self, peer: Peer, at_ms: float | None = None) -> None:
        self._peer = peer
        self._before = self._number
        loading = {"file": str(self._file), "name": self.about.name, "slug": self._slug, "seed": self._seed}
        loading["observed"] = self._observed
        loading |= {"cache": str(cache_folder("typescript")), "gates": self.guard is not None, **self._wire}
        try:
            patience = INSPECTED_SECONDS if self._inspected else START_SECONDS
            said = self._turn(lambda now: peer.go("load", loading, now=at_ms or now, patience=patience))
        except PeerLost as lost:
            raise not_loaded(self.about.target, {"name": lost.kind, "message": lost.what}) from None
        effects = {report["effect"]: report["data"] for report in said if "effect" in report}
        if "failed" in effects:
            self._drop()
            raise not_loaded(self.about.target, effects["failed"])
        if "registered" in effects:
            self.serves_another = effects["registered"]["what"]
        if "loaded" not in effects:
            self._drop()
            raise UsageError(
                f"the processor {self.about.target!r}: its module waits at its top level for something that never "
                "comes while it is loaded",
                hint="Give a stub for the module that waits.",
            )

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at_gate = False
        self._asked.clear()
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.kill()

    def _run(self, job: ToolJob) -> _ProcessorRun:
        if self._closed:
            raise UsageError(f"{self.about.target}: its harness is closed")
        if self._peer is None or not self._peer.alive:
            contextvars.Context().run(
                lambda: self._load(self._start())
            )  # The peer is the harness's, not the job's that finds none.
        self._number += 1
        self._worker = _worker_context(LIFETIME.get())
        name = str(self._number)
        run = self._runs[name] = _ProcessorRun(job, began=self._loop.time())
        self._act(lambda peer, now: peer.go("run", {"job": _row(job)}, actor=name, now=now))
        return run

    def _act(self, turn: Callable[[Peer, float], list[Report]]) -> None:
        """Let the peer, while there is one, take a turn; one that is lost in it is what its runs come to."""
        peer = self._peer
        if peer is not None:
            with suppress(PeerLost):
                self._turn(lambda now: turn(peer, now))

    def _turn(self, turn: Callable[[float], list[Report]]) -> list[Report]:
        """Take a turn at the present time, act on what is reported, and plan when the peer next wants to be woken."""
        try:
            said = turn(self._now_ms())
        except PeerLost as lost:
            self._hear(lost.said)
            self._lost(lost)
            raise
        self._hear(said)
        return said

    def _hear(self, said: list[Report]) -> None:
        peer = self._peer
        for report in said:
            if self._peer is not peer:
                return  # A stub was a place at which the worker died: nothing after it happened.
            if "gate" in report:
                self._called(report)
            elif "idle" in report:
                self._plan(report)
                if report["next"] is None and not self._asked:
                    self._nothing_comes()
            elif report["effect"] == "ended":
                self._ended(report["actor"], report["data"])
            elif report["effect"] == "observed":
                self._saw(self._runs.get(report["actor"] or ""), report["data"])
            elif report["effect"] == "note":
                self._find(self._runs.get(report["actor"] or ""), report["data"]["what"])
        for run in self._runs.values():
            run.wake()

    def _plan(self, idle: Report) -> None:
        """Set the loop's timer to when the peer next wants to be woken, behind a gate where that is explored."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        next_ms = idle["next"]
        if next_ms is None or self._at_gate:
            return  # What stands at a gate plans anew once it has passed.
        run = self._runs.get(idle.get("actor") or "")
        tick: Callback = partial(self._tick, next_ms)
        if self.guard is not None and run is not None:
            tick = self._gated(idle["point"], run, next_ms)
        when = max((next_ms - self._start_ms) / 1000, self._loop.time())
        self._timer = self._loop.call_at(when, tick, context=self._worker)

    def _gated(self, place: str, run: _ProcessorRun, due_ms: float) -> Callback:
        peer = self._peer

        def passed() -> None:
            if self._peer is peer:
                self._at_gate = False
                self._tick(due_ms)

        def due() -> None:
            assert self.guard is not None
            self._at_gate = True
            self.guard(place, run.life, passed)()

        return due

    def _tick(self, due_ms: float) -> None:
        self._ticks += 1
        if self._ticks > TICKS or (self._ticks > TICKS // 100 and self._ticking_for() > self._busy_seconds):
            self._goes_round()
            return
        one = {} if self.guard is None else {"one": True}
        self._act(lambda peer, now: peer.time(max(due_ms, now), **one))

    def _ticking_for(self) -> float:
        return real_seconds() - self._ticks_since

    def _count_anew(self) -> None:
        self._ticks, self._ticks_since = 0, real_seconds()

    def _goes_round(self) -> None:
        """End what only sets timers: the run is broken, for its outcome is unknown."""
        jobs = ", ".join(run.job for run in self._runs.values()) or "no job any more"
        self._loop.break_with(
            Hung(
                f"the processor {self.about.target} ({jobs}) set {self._ticks} timers, one after the other, and "
                "came to no end",
                hint="A loop of setTimeout(0) takes a millisecond each time round: await what it waits for instead.",
            )
        )
        self._drop()
        self._runs.clear()

    def _now_ms(self) -> float:
        return round(self._start_ms + self._loop.time() * 1000, 3)

    # what it says ---------------------------------------------------------------------------------------------------

    def _ended(self, actor: str, ending: Mapping[str, Any]) -> None:
        self._count_anew()
        run = self._runs.pop(actor, None)
        if run is None:
            self._find(None, "an attempt ended that was not running: something answered twice")
            return
        run.ending = _ending(ending)
        if "input" in ending:
            self._find(run, "it changed its input")
            _change(run.input, ending["input"])
        if run.abandoned:
            how = "an answer" if isinstance(run.ending, JobResult) else f"{type(run.ending).__name__}: {run.ending}"
            self._find(run, f"it was abandoned, and ended later with {how}, unheard")
        run.wake()

    def _nothing_comes(self) -> None:
        for run in self._runs.values():
            self._find(run, "it waits for something that never comes: no timer, no stub and no I/O is left")

    def _called(self, gate: Report) -> None:
        """Call the stub at whose gate a run stands."""
        self._asked.add(gate["gate"])
        name, args = gate["point"], list(gate["with"])
        run = self._runs.get(gate["actor"] or "")
        if name == MOMENT:
            self._loop.call_soon(self._replying(gate, run), None, None, context=self._worker)
            return
        if name == "fetch":
            self._saw(run, {"kind": "http", "number": f"gate {gate['gate']}", "url": args[0], **args[1]})
        if run is not None and run.abandoned:
            self._find(run, f"it was abandoned, and still called {name}({', '.join(map(repr, args))[:200]})")
        try:
            context = contextvars.copy_context() if run is None else run.context
            answer = context.run(self._functions[name], *args)
        except Exception as error:  # noqa: BLE001 - what a stub raises, the processor catches
            self._loop.call_soon(self._replying(gate, run), None, error, context=self._worker)
            return
        if not inspect.isawaitable(answer):
            self._loop.call_soon(self._replying(gate, run), answer, None, context=self._worker)
            return
        task = context.run(asyncio.ensure_future, answer, loop=self._loop)
        self.waiting_stubs[task] = name
        reply = self._replying(gate, run)
        task.add_done_callback(lambda done: self._awaited(done, reply))

    def _awaited(self, task: asyncio.Future[Any], reply: Callback) -> None:
        self.waiting_stubs.pop(task, None)
        if not task.cancelled():
            error = task.exception()
            reply(None if error else task.result(), error)

    def _replying(self, gate: Report, run: _ProcessorRun | None) -> Callback:
        """Return what brings a stub's answer to the peer that asked, and to no later one; explored, behind a gate."""
        peer = self._peer

        def reply(answer: Any, error: BaseException | None) -> None:
            if self._peer is peer:
                self._reply(gate["gate"], gate["point"], answer, error, run)

        if self.guard is None or run is None:
            return reply
        return self.guard(f"reply of {gate['point']}()", run.life, reply)

    def _saw(self, run: _ProcessorRun | None, what: Mapping[str, Any]) -> None:
        """Write down what a run did outside, where its delivery keeps an account."""
        delivery = None if run is None else delivery_of(run.life)
        if delivery is not None and delivery.observed is not None:
            delivery.observed.hear(what)

    def _reply(self, gate: int, name: str, answer: Any, error: BaseException | None, run: _ProcessorRun | None) -> None:
        self._asked.discard(gate)
        try:
            if error is not None:
                raise error
            value = response_of(answer) if name == "fetch" else answer
            if name == "fetch":
                self._saw(run, {"kind": "answered", "number": f"gate {gate}", "status": value["status"]})
            self._act(lambda peer, now: peer.go_on(gate, value=value, now=now))
        except Exception as failed:  # noqa: BLE001 - also an answer that JSON cannot hold
            kind = "TypeError" if name == "fetch" else type(failed).__name__
            text = f"fetch failed: {failed}" if name == "fetch" else str(failed)
            raised = {"name": kind, "message": text}
            self._act(lambda peer, now: peer.go_on(gate, error=raised, now=now))

    def _find(self, run: _ProcessorRun | None, what: str) -> None:
        where = "" if run is None else f" {run.job}, attempt {run.attempt}"
        if what in self._found:
            return
        self._found.add(what)
        finding = f"{self.about.target}{where}: {what}"
        self.findings.append(finding)
        _tell(f"job-harness: {finding}")

    def _lost(self, lost: PeerLost) -> None:
        self._drop()
        what, actor = lost.what, None
        for report in lost.said:
            if report.get("effect") == "fatal":
                error, actor = report["data"]["error"], report["actor"]
                what = f"{report['data']['kind']}: {error.get('name')}: {error.get('message')}; it ends a Node process"
                break
        self._find(self._runs.get(actor or ""), f"{lost.kind}: {what}")
        if lost.kind == "blocked":
            jobs = ", ".join(run.job for run in self._runs.values())
            self.blocked.append(f"the processor {self.about.target} ({jobs}): {what}, and was killed")
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            if lost.kind == "blocked":
                until = max(run.began + self._timeout_seconds - JUST_BEFORE, self._loop.time())
                self._loop.call_at(until, run.end, ProcessorBlocked(f"{what} (an endless loop?) and was killed"))
            else:
                run.end(ProcessDied(what))


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


class _ProcessorRun:
    """One attempt in the peer."""

    __slots__ = ("abandoned", "attempt", "began", "context", "ending", "input", "job", "life", "moved")

    def __init__(self, job: ToolJob, *, began: float) -> None:
        self.job = job.id
        self.attempt = job.attempts
        self.input = job.input
        self.began = began
        self.context = contextvars.copy_context()
        """What a stub does for this attempt, belongs to it."""
        self.life = LIFETIME.get()
        self.abandoned = False
        self.ending: JobResult | Exception | None = None
        self.moved: asyncio.Future[None] | None = None

    def end(self, ending: Exception) -> None:
        self.ending = ending
        self.wake()

    def wake(self) -> None:
        """Let the caller look again: each turn is a point at which it may be crashed."""
        if self.moved is not None and not self.moved.done():
            self.moved.set_result(None)


def _worker_context(life: Lifetime | None) -> contextvars.Context:
    """Return a context that belongs to the worker around a delivery."""
    if life is None:
        return contextvars.Context()
    while life.parent is not None:
        life = life.parent
    return life.context()


def _change(given: Any, changed: Any) -> None:
    """Do to the input here what was done to it there, so that a comparison sees it."""
    if isinstance(given, dict) and isinstance(changed, dict):
        given.clear()
        given.update(changed)
    elif isinstance(given, list) and isinstance(changed, list):
        given[:] = changed


def _ending(message: Mapping[str, Any]) -> JobResult | Exception:
    if "bad" in message:
        return (NoJobResult if message.get("none") else InvalidResult)(str(message["bad"]))
    if "threw" in message:
        return thrown(message["threw"])
    result = message["result"]
    return JobResult(
        success=result["success"], output=result["output"], error=result["error"], retryable=result["retryable"]
    )


def _row(job: ToolJob) -> dict[str, Any]:
    """Say a job as the row that a TypeScript processor receives."""

    def moment(at: datetime | None) -> float | None:
        return None if at is None else at.timestamp() * 1000

    return {
        "id": job.id,
        "toolSlug": job.tool_slug,
        "status": str(job.status),
        "priority": job.priority,
        "input": job.input,
        "output": job.output,
        "error": job.error,
        "userId": job.user_id,
        "sessionId": job.session_id,
        "pgBossJobId": job.pgboss_job_id,
        "attempts": job.attempts,
        "maxAttempts": job.max_attempts,
        "startedAt": moment(job.started_at),
        "completedAt": moment(job.completed_at),
        "expiresAt": moment(job.expires_at),
        "createdAt": moment(job.created_at),
        "updatedAt": moment(job.updated_at),
    }


# all processors of one harness ----------------------------------------------------------------------------------------


class NodeProcessors:
    """Turns what names a TypeScript processor into what runs it; leaves every other processor as it is."""

    def __init__(
        self,
        loop: VirtualLoop,
        *,
        start: datetime,
        timeout_seconds: float,
        seed: int,
        blocked_after: float = BLOCKED_AFTER_SECONDS,
        busy_seconds: float = BUSY_SECONDS,
        observed: bool = False,
    ) -> None:
        """Let each processor be silent for the lesser of the two real times, and wait in real life for the second.

        `observed` lets their peers tell what they do outside.
        """
        self._loop = loop
        self._start = start
        self._timeout_seconds = timeout_seconds
        self._seed = seed
        self._blocked_after = max(LEAST_PATIENCE_SECONDS, min(blocked_after, busy_seconds))
        self._busy_seconds = busy_seconds
        self._observed = observed
        self._attached: list[tuple[TypeScriptProcessor, str | None, NodeProcessor]] = []
        self._guard: Guard | None = None

    def attach(self, processor: JobProcessor, *, slug: str | None = None, strictly: bool = False) -> JobProcessor:
        """Return what the worker calls. A registration `strictly` has to be that of `slug`.

        Raises ProcessorNotLoaded, UsageError, EnvironmentUnavailable.
        """
        if not isinstance(processor, TypeScriptProcessor):
            return processor
        for about, used_for, attached in self._attached:
            if used_for == slug and about == processor:
                return attached
        attached = NodeProcessor(
            processor,
            loop=self._loop,
            start=self._start,
            timeout_seconds=self._timeout_seconds,
            slug=slug,
            seed=self._seed,
            blocked_after=self._blocked_after,
            busy_seconds=self._busy_seconds,
            guard=self._guard,
            observed=self._observed,
        )
        if strictly and attached.serves_another is not None:
            attached.close()
            raise ProcessorNotLoaded(
                f"the processor {processor.target!r}: {attached.serves_another}",
                hint="Register it for the tool that it serves.",
            )
        self._attached.append((processor, slug, attached))
        return attached

    def explore(self, guard: Guard) -> None:
        """Put gates before timers and replies from here on, in peers of this process: those there are start anew.

        Raises ProcessorNotLoaded, UsageError, EnvironmentUnavailable.
        """
        self._guard = guard
        self._blocked_after = max(self._blocked_after, EXPLORED_BLOCKED_SECONDS)
        for _, _, attached in self._attached:
            attached.guard = guard
            attached.blocked_after = self._blocked_after
        loading = [attached.restart() for _, _, attached in self._attached]  # All of them start beside each other.
        for load in loading:
            load()

    @property
    def worked(self) -> list[str]:
        """The processors that have run on a job."""
        return [about.target for about, _, attached in self._attached if attached.worked]

    @property
    def findings(self) -> list[str]:
        """What was noticed in the peers, in the order of their processors."""
        return [finding for _, _, attached in self._attached for finding in attached.findings]

    @property
    def blocked(self) -> list[str]:
        """Which attempts hung and were ended by a limit in real time: what followed is not the processor's doing."""
        return [each for _, _, attached in self._attached for each in attached.blocked]

    @property
    def waiting_stubs(self) -> dict[asyncio.Future[Any], str]:
        """The stubs of the test that have not answered yet, by name."""
        return {task: name for _, _, attached in self._attached for task, name in attached.waiting_stubs.items()}

    def leaks(self) -> list[str]:
        """Name what attempts that are over left running in the peers."""
        return [leak for _, _, attached in self._attached for leak in attached.leaks()]

    @property
    def pids(self) -> list[int]:
        """The numbers of the Node processes that are alive."""
        return [attached.pid for _, _, attached in self._attached if attached.pid is not None]

    def crash(self) -> None:
        """Kill all peers with SIGKILL, as the worker's process dies."""
        for _, _, attached in self._attached:
            attached.crash()

    def close(self) -> None:
        """End all peers. Harmless when repeated."""
        for _, _, attached in self._attached:
            attached.close()
        self._attached.clear()


# what a processor can come to besides an answer -----------------------------------------------------------------------


class ProcessorNotLoaded(UsageError):
    """The file cannot be loaded: a syntax error, an import or an export that is not there."""


class InvalidResult(Exception):
    """What it returned is not a JobResult, or not JSON."""


class NoJobResult(InvalidResult):
    """What it returned is not a JobResult: there is no `success` that is true or false."""


class ProcessorBlocked(Exception):
    """It gave no sign of life for ten real seconds and was killed; the attempt lasted until the job timeout."""


class ProcessDied(Exception):
    """Its Node process ended: an exit, a kill, an unhandled rejection."""


class JavaScriptError(Exception):
    """What the processor threw. The class has the name that the error has in JavaScript."""

    stack = ""


def thrown(error: Mapping[str, Any]) -> Exception:
    """Return a JavaScript error as one that reads the same when a worker records it."""
    name = str(error.get("name") or "Error")
    message = str(error.get("message") or "")
    if error.get("final"):
        return NonRetryableError(message)
    if not re.fullmatch(r"[A-Za-z_$][\w$]{0,99}", name):
        name, message = "Error", f"{name}: {message}"
    raised: JavaScriptError = type(name, (JavaScriptError,), {})(message)
    raised.stack = str(error.get("stack") or "")
    for line in _own_lines(raised.stack):
        raised.add_note(f"    {line}")
    return raised


def not_loaded(target: str, error: Mapping[str, Any]) -> ProcessorNotLoaded:
    """Say why a file could not be loaded."""
    name, message = str(error.get("name")), str(error.get("message"))
    hint = str(error.get("hint") or "")
    exports = error.get("exports")
    if exports is not None:
        wanted = target.rpartition("#")[2]
        message += did_you_mean(wanted, exports)
        hint = f"It exports {', '.join(sorted(exports)) or 'nothing'}."
    elif not hint:
        hint = _place(str(error.get("stack") or ""))
    return ProcessorNotLoaded(f"the processor {target!r}: {name}: {message}", hint=hint)


def _place(stack: str) -> str:
    """Return the first line of a stack that lies in the user's own files."""
    own = [line for line in _own_lines(stack) if "file://" in line or "(/" in line]
    return own[0] if own else ""


def _own_lines(stack: str) -> list[str]:
    """Return the lines of a stack that say where, without those of Node and of the runner."""
    lines = [line.strip() for line in stack.splitlines()]
    places = [line for line in lines if line.startswith("at ") or "file://" in line]
    return [line for line in places if not any(theirs in line for theirs in _NOT_OWN)]


_NOT_OWN = ("node:internal", "/typescript/runner/", "/harness/foreign/")
"""Found in the lines of a stack that lie in Node and in the runner."""


# what TypeScript finds in the module "job-harness" ------------------------------------------------------------------


def _declared(kind: str, data: Any = None, about: Mapping[str, Any] | None = None) -> None:
    """Declare `effect("charged", { order: 7 }, { identity: "order-7", idempotent: true })`. Raises UsageError."""
    about = about or {}
    unknown = [key for key in about if key not in _ABOUT]
    if unknown:
        hint = did_you_mean(str(unknown[0]), _ABOUT)
        raise UsageError(f"effect({kind!r}): unknown key {unknown[0]!r}{hint}; there are {', '.join(_ABOUT)}")
    effect(SideEffect(kind, data={} if data is None else data, **about))


_ABOUT = ("identity", "idempotent", "reply")
BUILT_IN: dict[str, Callable[..., Any]] = {"job-harness.effect": _declared, "job-harness.step": step}
"""What the runner calls by these names: no function of a user's is called so."""


# what a test answers in place of the network --------------------------------------------------------------------------


def response_of(answer: Any) -> dict[str, Any]:
    """Return status, headers and body. An int is a status, text a body; a dict has `status, headers, body, json`.

    Raises UsageError for anything else, and where the answer is an exception or has an `error`, that.
    """
    if isinstance(answer, Exception):
        raise answer
    if isinstance(answer, int) and not isinstance(answer, bool):
        answer = {"status": answer}
    elif isinstance(answer, str):
        answer = {"body": answer}
    if not isinstance(answer, Mapping):
        raise UsageError(f"fetch was answered with {answer!r}", hint="Answer a status, a text, or a dict.")
    unknown = [key for key in answer if key not in RESPONSE_KEYS]
    if unknown:
        hint = did_you_mean(str(unknown[0]), RESPONSE_KEYS)
        raise UsageError(f"fetch was answered with the key {unknown[0]!r}{hint}; there are {', '.join(RESPONSE_KEYS)}")
    if "error" in answer:
        raise ConnectionError(str(answer["error"]))
    headers = {str(name): str(value) for name, value in dict(answer.get("headers") or {}).items()}
    body = answer.get("body", "")
    if "json" in answer:
        body = json.dumps(answer["json"])
        headers.setdefault("content-type", "application/json")
    return {"status": answer.get("status", 200), "headers": headers, "body": body}
