"""A TypeScript processor at work for one harness: its Node child moves with the harness's virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from harness.adapters.reference.application import JobResult, ToolJob
from harness.errors import UsageError
from harness.private import cache_folder
from harness.processors.typescript.channel import BLOCKED_AFTER_SECONDS, ChildLost, Message, NodeChild
from harness.processors.typescript.errors import (
    InvalidResult,
    ProcessDied,
    ProcessorBlocked,
    not_loaded,
    thrown,
)
from harness.processors.typescript.fetch import response_of
from harness.processors.typescript.node import find_typescript_node
from harness.processors.typescript.target import TypeScriptProcessor
from harness.sim.loop import VirtualLoop

START_SECONDS = 20.0
"""Real seconds that Node may take to start and to load the processor."""
JUST_BEFORE = 0.001
"""Virtual seconds before the job timeout at which a blocked processor is given up, so that its own error is kept."""


class NodeProcessor:
    """Calls a processor in a Node child: a coroutine function like any other. One job costs no new child."""

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
    ) -> None:
        """Start the child and load the processor. `start` is the time of day at the loop's 0.

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
        self._blocked_after = blocked_after
        self._wire, self._functions = about.wire()
        self._file = about.file
        self._node = find_typescript_node()
        self._child: NodeChild | None = None
        self._runs: dict[int, _Run] = {}
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._asked: set[int] = set()
        """The calls that await a stub's answer."""
        self._closed = False
        self._begin()

    async def __call__(self, job: ToolJob) -> JobResult:
        """Run it on a job. Cancelled, it is abandoned: it lives on in its child, and what it still does is told."""
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
        return self._child.pid if self._child is not None and self._child.alive else None

    def leaks(self) -> list[str]:
        """Name what attempts that are over left running in the child: intervals, processes."""
        if self._child is None or not self._child.alive:
            return []
        processes = [f"the process {pid} still runs, started by {self.about.target}" for pid in self._child.started()]
        said = self._turn({"do": "left"})
        timers = [timer for message in said for timer in message.get("left", ())]
        return [*(f"a {timer} of {self.about.target} still runs" for timer in timers), *processes]

    def crash(self) -> None:
        """Kill the child with SIGKILL, as a worker dies: what ran in it never ends. The next job starts a new one."""
        self._drop()
        self._runs.clear()

    def close(self) -> None:
        """End the child. Harmless when repeated."""
        self._closed = True
        self.crash()
        for task in self._tasks:
            task.cancel()

    # the child ------------------------------------------------------------------------------------------------------

    def _begin(self) -> NodeChild:
        self._child = NodeChild(
            self._node,
            environment=self.about.process_environment(os.environ),
            folder=self._file.parent,
            log=lambda line: _tell(f"{self._slug or self.about.name}: {line}"),
            blocked_after=self._blocked_after,
        )
        loading = {"do": "load", "file": str(self._file), "name": self.about.name, "slug": self._slug}
        loading["cache"] = str(cache_folder("typescript"))
        said = self._turn({**loading, **self._wire, "seed": self._seed}, patience=START_SECONDS)
        for message in said:
            if "failed" in message:
                self._drop()
                raise not_loaded(self.about.target, message["failed"])
            self.serves_another = message.get("registered", self.serves_another)
        if not any("loaded" in message for message in said):
            self._drop()
            raise UsageError(
                f"the processor {self.about.target!r}: its module waits at its top level for something that never "
                "comes while it is loaded",
                hint="Give a stub for the module that waits.",
            )
        return self._child

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._asked.clear()
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _run(self, job: ToolJob) -> _Run:
        if self._closed:
            raise UsageError(f"{self.about.target}: its harness is closed")
        if self._child is None or not self._child.alive:
            contextvars.Context().run(self._begin)  # The child is the harness's, not the job's that finds none.
        self._number += 1
        run = self._runs[self._number] = _Run(job, began=self._loop.time())
        self._turn({"do": "run", "run": self._number, "job": _row(job)})
        return run

    def _turn(self, message: Mapping[str, Any], *, patience: float | None = None) -> list[Message]:
        """Say something to the child, act on what it answers, and plan when it next wants to be woken."""
        child = self._child
        if child is None:
            return []
        try:
            said = child.exchange({"now": self._now_ms(), **message}, patience=patience)
        except ChildLost as lost:
            self._hear(lost.said)
            self._lost(lost)
            if message["do"] == "load":
                raise not_loaded(self.about.target, {"name": lost.kind, "message": str(lost)}) from None
            return lost.said
        self._hear(said)
        return said

    def _hear(self, said: list[Message]) -> None:
        child = self._child
        for message in said:
            if self._child is not child:
                return  # A stub was a place at which the worker died: nothing after it happened.
            if "ended" in message:
                self._ended(message)
            elif "call" in message:
                self._called(message)
            elif "note" in message:
                self._find(self._runs.get(message.get("run") or 0), str(message["note"]))
            elif "idle" in message:
                self._plan(message.get("next"))
                if message.get("next") is None and not self._asked:
                    self._nothing_comes()
        for run in self._runs.values():
            run.wake()

    def _plan(self, next_ms: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if next_ms is not None:
            when = max((next_ms - self._start_ms) / 1000, self._loop.time())
            self._timer = self._loop.call_at(when, self._tick, next_ms, context=contextvars.Context())

    def _tick(self, due_ms: float) -> None:
        self._turn({"do": "tick", "now": max(due_ms, self._now_ms())})

    def _now_ms(self) -> float:
        return round(self._start_ms + self._loop.time() * 1000, 3)

    # what it says ---------------------------------------------------------------------------------------------------

    def _ended(self, message: Message) -> None:
        run = self._runs.pop(message["ended"], None)
        if run is None:
            self._find(None, "an attempt ended that was not running: something answered twice")
            return
        run.ending = _ending(message)
        if "input" in message:
            self._find(run, "it changed its input")
            _change(run.input, message["input"])
        if run.abandoned:
            how = "an answer" if isinstance(run.ending, JobResult) else f"{type(run.ending).__name__}: {run.ending}"
            self._find(run, f"it was abandoned, and ended later with {how}; nobody heard it")
        run.wake()

    def _nothing_comes(self) -> None:
        for run in self._runs.values():
            self._find(run, "it waits for something that never comes: no timer, no stub and no I/O is left")

    def _called(self, message: Message) -> None:
        self._asked.add(message["call"])
        name, args = str(message["name"]), list(message["args"])
        run = self._runs.get(message.get("run") or 0)
        if run is not None and run.abandoned:
            self._find(run, f"it was abandoned, and still called {name}({', '.join(map(repr, args))[:200]})")
        try:
            context = contextvars.copy_context() if run is None else run.context
            answer = context.run(self._functions[name], *args)
        except Exception as error:  # noqa: BLE001 - what a stub raises, the processor catches
            self._loop.call_soon(self._reply, message["call"], name, None, error)
            return
        if not inspect.isawaitable(answer):
            self._loop.call_soon(self._reply, message["call"], name, answer, None)
            return
        task = context.run(asyncio.ensure_future, answer, loop=self._loop)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._awaited(message["call"], name, done))

    def _awaited(self, call: int, name: str, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            self._reply(call, name, None if error else task.result(), error)

    def _reply(self, call: int, name: str, answer: Any, error: BaseException | None) -> None:
        self._asked.discard(call)
        reply: dict[str, Any] = {"do": "reply", "call": call}
        try:
            if error is not None:
                raise error
            value = response_of(answer) if name == "fetch" else answer
            self._turn({**reply, "value": value})
        except Exception as failed:  # noqa: BLE001 - also an answer that JSON cannot hold
            kind = "TypeError" if name == "fetch" else type(failed).__name__
            text = f"fetch failed: {failed}" if name == "fetch" else str(failed)
            self._turn({**reply, "error": {"name": kind, "message": text}})

    def _find(self, run: _Run | None, what: str) -> None:
        where = "" if run is None else f" {run.job}, attempt {run.attempt}"
        if what in self._found:
            return
        self._found.add(what)
        finding = f"{self.about.target}{where}: {what}"
        self.findings.append(finding)
        _tell(f"job-harness: {finding}")

    def _lost(self, lost: ChildLost) -> None:
        self._drop()
        fatal = next((message for message in lost.said if "fatal" in message), None)
        what = str(lost)
        if fatal is not None:
            error = fatal["error"]
            what = f"{fatal['fatal']}: {error.get('name')}: {error.get('message')}; it ends a Node process"
        self._find(self._runs.get((fatal or {}).get("run") or 0), f"{lost.kind}: {what}")
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            if lost.kind == "blocked":
                until = max(run.began + self._timeout_seconds - JUST_BEFORE, self._loop.time())
                self._loop.call_at(until, run.end, ProcessorBlocked(f"{what} (an endless loop?) and was killed"))
            else:
                run.end(ProcessDied(what))


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


class _Run:
    """One attempt in the child."""

    __slots__ = ("abandoned", "attempt", "began", "context", "ending", "input", "job", "moved")

    def __init__(self, job: ToolJob, *, began: float) -> None:
        self.job = job.id
        self.attempt = job.attempts
        self.input = job.input
        self.began = began
        self.context = contextvars.copy_context()
        """What a stub does for this attempt, belongs to it."""
        self.abandoned = False
        self.ending: JobResult | Exception | None = None
        self.moved: asyncio.Future[None] | None = None

    def end(self, ending: Exception) -> None:
        self.ending = ending
        self.wake()

    def wake(self) -> None:
        """Let the caller look again: each turn is a point at which he may be crashed."""
        if self.moved is not None and not self.moved.done():
            self.moved.set_result(None)


def _change(given: Any, changed: Any) -> None:
    """Do to the input here what was done to it there: whoever compares, sees it."""
    if isinstance(given, dict) and isinstance(changed, dict):
        given.clear()
        given.update(changed)
    elif isinstance(given, list) and isinstance(changed, list):
        given[:] = changed


def _ending(message: Message) -> JobResult | Exception:
    if "bad" in message:
        return InvalidResult(str(message["bad"]))
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
