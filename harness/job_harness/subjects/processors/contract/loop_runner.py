"""Carries out plans in this process: a processor on virtual time, crashed, stalled and cancelled at chosen moments."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import datetime as datetime_module
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from job_harness.core.history import SideEffect
from job_harness.core.model import json_problem, printable
from job_harness.core.sim.guest_threads import LoopHooks
from job_harness.core.sim.lifetime import LIFETIME, Lifetime, Severed
from job_harness.core.sim.loop import BUSY_CPU_SECONDS, Deadlock, VirtualLoop, describe_task
from job_harness.core.sim.user_code import is_others
from job_harness.engines.reference.application import (
    START,
    JobProcessor,
    JobResult,
    NonRetryableError,
    NoResultError,
    ToolJob,
    result_of,
    sample_job,
)
from job_harness.errors import LimitReached
from job_harness.subjects.processors.assertions import differences, write_value
from job_harness.subjects.processors.clocks import VIRTUAL, open_guests
from job_harness.subjects.processors.contract.trial import DeliveryEnding, TrialPlan, TrialRecord
from job_harness.subjects.processors.delivery import Delivery
from job_harness.subjects.processors.leak_detector import LeakDetector, describe_outliving, is_own, watch_outliving
from job_harness.subjects.processors.module_state import ModuleMemory, ModuleState, modules_of
from job_harness.subjects.processors.observed import watch
from job_harness.subjects.processors.observed.account import Observations
from job_harness.subjects.processors.peer_runs import InvalidResult, NoJobResult, ProcessDied, ProcessorBlocked
from job_harness.subjects.processors.processor import is_async
from job_harness.subjects.processors.thread_handoff import ThreadHandoff
from job_harness.subjects.processors.typescript.node_processor import NodeProcessors
from job_harness.worlds.peers.peer import children_of

SPINS_AFTER = 100_000
"""Callbacks without any rest."""
NODE_BLOCKED_SECONDS = 2.0
"""Real seconds for which a TypeScript processor may be silent: a contract runs it very often."""
REDELIVERED_AFTER = 61.0
"""Virtual seconds until the next delivery, as a lease has to end first: what is made of the time differs by then. A
stall takes none: the lease may be nearly over when it begins, and no timeout of the stalled delivery is to run out."""
LOCKED_SECONDS = 0.5
"""Real seconds after which a statement of a twin is looked at; the second time it counts as waiting for a lock."""
LONGEST_TEXT = 300
BLOCKING = "blocking: "


class LoopRunner(LoopHooks):
    """One world; several plans carried out in it share its fakes."""

    def __init__(
        self,
        processor: JobProcessor,
        *,
        slug: str,
        timeout_seconds: float,
        grace_seconds: float,
        output_limit: int,
        blocked_after: float,
        busy_seconds: float,
        clocks: str = VIRTUAL,
    ) -> None:
        """Run `processor` in this process. `blocked_after` real seconds a plain processor counts as hanging.

        A coroutine may keep control for `busy_seconds`.
        """
        self._loop = VirtualLoop(
            callback_limit=SPINS_AFTER, real_patience=blocked_after, busy_seconds=busy_seconds, hooks=self
        )
        self._loop.watch_lifetimes()
        self._loop.selector.watches_cpu = True
        self._at_work: _Run | None = None
        self._node = NodeProcessors(
            self._loop,
            start=START,
            timeout_seconds=timeout_seconds,
            seed=0,
            blocked_after=NODE_BLOCKED_SECONDS,
            busy_seconds=2 * blocked_after,
            observed=True,
        )
        self._processor = self._node.attach(processor, slug=slug)
        self._pausable = self._processor is processor
        self._slug = slug
        self._timeout = timeout_seconds
        self._grace = grace_seconds
        self._limit = output_limit
        self._handoff = ThreadHandoff(self._loop, blocked_after=blocked_after)
        self._guests = self._loop.guests = open_guests(self._loop, start=START, clocks=clocks)
        self._leaks = LeakDetector(self._loop)
        self._outlived: dict[asyncio.Task[Any], str] = {}
        self.received: dict[str, set[str]] = {}
        """By kind, the identities of what was declared in this try."""
        watch()

    def run(self, plan: TrialPlan) -> TrialRecord:
        """Carry out one plan."""
        before = set(children_of())
        self._outlived.clear()
        with self._leaks.watching():
            names = _standing()
            outlived: list[str] = []
            endings, lives = self._deliver_all(plan, outlived)
            self._rest()
            stubs = self._node.waiting_stubs
            leaks = [leak for life in lives for leak in _leaks(life, stubs)]
            leaks += [told for task, told in self._outlived.items() if task.done() and task not in stubs]
            leaks += [*self._leaks.left_behind(), *self._node.leaks()]
            leaks += [f"{name} is still replaced" for name, value in _standing().items() if value is not names[name]]
        new = [child for child in children_of() if child not in before and child not in self._node.pids]
        if new and not any("child process" in leak for leak in leaks):
            leaks += [f"the child process {child} still runs" for child in new]
        notes = list(self._leaks.notes)
        return TrialRecord(
            endings=tuple(endings),
            leaks=tuple(leaks),
            outlived=tuple(outlived),
            blocked=tuple(note.removeprefix(BLOCKING) for note in notes if note.startswith(BLOCKING)),
            notes=tuple(note for note in notes if not note.startswith(BLOCKING)) + tuple(self._node.findings),
        )

    def note_outliving(self, task: asyncio.Task[Any]) -> None:
        """Remember a task that was at work when its delivery had ended."""
        self._outlived[task] = describe_outliving(task, "this delivery")

    def note_block(self, what: str) -> None:
        """Note a wait in a coroutine, which lets no other task act."""
        self._leaks.note(f"blocking: {what} in a coroutine")

    def note_doubt(self, text: str) -> None:
        """Note that time moved although something may have been outstanding."""
        self._leaks.notes.setdefault(f"real time: {text}")

    def note_cpu(self, seconds: float) -> None:
        """Note that a coroutine kept the loop from working; how long is not said, for that differs each time."""
        task = None if self._at_work is None or not is_async(self._processor) else self._at_work._task
        if task is not None:
            where = "before it ended" if task.done() else f"before it came to {describe_task(task)}"
            self._leaks.notes[
                f"{BLOCKING}over {BUSY_CPU_SECONDS:g} s of CPU in a coroutine without an await, {where}"
            ] = None

    def close(self) -> None:
        """End what can be ended."""
        self._node.close()
        self._handoff.close()
        self._guests.close()
        self._loop.lives.end_tasks()
        self._loop.close()
        self._leaks.end_children()

    def _deliver_all(self, plan: TrialPlan, outlived: list[str]) -> tuple[list[DeliveryEnding], list[Lifetime]]:
        """Deliver it as planned; write down in `outlived` what of a delivery that died or stalls is in memory."""
        struck = plan.crash_at is not None or plan.pause_at is not None
        modules = modules_of([self._processor]) if struck else {}
        before, memory = ModuleState(modules), ModuleMemory(modules if plan.forgets else {})
        self.received.clear()
        first = _Run(self, plan.input, attempt=1, plan=plan)
        first.go()
        runs = [first]
        if plan.pause_at is not None and first.disturbed:
            outlived += ModuleState(modules).changed(before)
            twin = _Run(self, plan.input, attempt=2, plan=None, beside=first.life)
            runs.append(twin)
            lent = self._loop.possessions.lend(first.life)
            with _giving_way(first, twin):
                twin.go()
            self._loop.possessions.take_back(first.life, lent)
            first.resume()
        elif plan.crash_at is not None and first.disturbed:
            memory.set_back()
            outlived += ModuleState(modules).changed(before)
            self._rest(REDELIVERED_AFTER)
            again = _Run(self, plan.input, attempt=2, plan=None)
            runs.append(again)
            again.go()
        for number in range(2, plan.deliveries + 1):
            self._rest(REDELIVERED_AFTER)
            runs.append(_Run(self, plan.input, attempt=number, plan=None))
            runs[-1].go()
        return [run.ending() for run in runs], [run.life for run in runs if not run.life.severed]

    def _rest(self, seconds: float = 0) -> None:
        try:
            self._loop.advance(seconds)
        except LimitReached:
            return


@contextlib.contextmanager
def _giving_way(first: _Run, twin: _Run) -> Iterator[None]:
    """Abort the open transaction of the first where its twin waits in the database, as if for a lock.

    The harness itself keeps the first from ending it. A database makes the twin wait too, until the
    first goes on or its session is missed; here the first goes on after its twin, so the session
    has to end.
    """
    done = threading.Event()

    def look() -> None:
        waits: list[Any] = []
        while not done.wait(LOCKED_SECONDS):
            before, waits = waits, twin.observed.unanswered
            if any(each is other for each in waits for other in before):
                first.released = True
                first.observed.abort()
                return

    watcher = threading.Thread(target=look, name="job-harness: locks", daemon=True)
    if first.observed.open:
        watcher.start()
    try:
        yield
    finally:
        done.set()
        if watcher.is_alive():
            watcher.join()


class _Allowance:
    """For how long a delivery may go on; its timer lets time pass until then."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._until = loop.time()
        self._timer: asyncio.Handle | None = None

    def begin(self, seconds: float) -> None:
        """Allow this much from now on."""
        self.end()
        self._until = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._until, lambda: None, context=contextvars.Context())

    def is_over(self) -> bool:
        """Whether it has had its time."""
        return self._loop.time() >= self._until

    def end(self) -> None:
        """Let time pass no further for it."""
        if self._timer is not None:
            self._timer.cancel()


class _Run:
    """One delivery."""

    def __init__(
        self, runner: LoopRunner, input: Any, *, attempt: int, plan: TrialPlan | None, beside: Lifetime | None = None
    ) -> None:
        self._runner = runner
        self._plan = plan
        self._beside = beside
        self._waited: str | None = None
        self._given = input
        self._job = sample_job(runner._slug, copy.deepcopy(input), id="job-1", attempt=attempt)
        self._effects: list[tuple[str, Any]] = []
        self._began = self._loop.time()
        self._allowance = _Allowance(self._loop)
        self._cut_short: tuple[str, str] | None = None
        """How the loop ended it, and why, where it did not end by itself."""
        self._place = ""
        self._escaped: BaseException | None = None
        self._cancelled_at: float | None = None
        self._ended_at: float | None = None
        self.disturbed = False
        self.held = False
        """Whether it stopped with a transaction open, on whose locks others may wait."""
        self.released = False
        """Whether its open transaction was aborted, as its twin waited for it."""
        self.life = Lifetime(f"delivery {attempt}")
        self.life.machine = runner._guests
        self.life.count(self._moment)
        self.observed = Observations(self.life, rest=self._come_to_a_moment)
        self.life.dying = self.observed.die
        delivery = Delivery("job-1", life=self.life, record=self._record)
        delivery.observed = self.observed
        context = contextvars.copy_context()
        context.run(LIFETIME.set, self.life)
        self._task = context.run(self._loop.create_task, self._work(), name="the processor")
        self._task.add_done_callback(self._note_end, context=contextvars.Context())
        self._task.add_done_callback(lambda _: delivery.end(), context=contextvars.Context())

    def go(self) -> None:
        """Run until it ends, is disturbed, or its time is over."""
        self._runner._at_work = self
        self._allowance.begin(self._runner._timeout)
        try:
            self._loop.run_until(lambda: self._task.done() or self._rests() or self._allowance.is_over())
        except Deadlock:
            self._cut_short = "never", f"it waits for something that never comes: {describe_task(self._task)}"
        except LimitReached as reached:
            spins = "callbacks" in reached.message
            own = self._waiting_place() or ("what it left behind" if self._task.done() else describe_task(self._task))
            self._cut_short = ("spins", f"it spins without rest: {own}") if spins else ("never", reached.message)
        finally:
            self._allowance.end()
            self._waited = self._in_vain()
            if self.life.severed:
                self.observed.die()
            self.held = self.held or self.observed.open

    @property
    def _loop(self) -> VirtualLoop:
        return self._runner._loop

    def resume(self) -> None:
        """Go on after a stall."""
        self._plan = None
        if self.life.paused:
            self._loop.lives.resume(self.life)
        self.go()

    def ending(self) -> DeliveryEnding:
        """Say how it ended."""
        about: dict[str, Any] = {
            "effects": tuple(self._effects),
            "observed": tuple(self.observed.effects),
            "reached_out": self.observed.reached_out or bool(self._effects) or bool(self.observed.effects),
            "left": self.observed.left,
            "held": self.held,
            "released": self.released,
            "seconds": (self._loop.time() if self._ended_at is None else self._ended_at) - self._began,
            "moments": self.life.moments,
            "mutated": self._mutated(),
            "place": self._place,
        }
        if self._cancelled_at is not None and self._ended_at is not None:
            about["stopped_after"] = self._ended_at - self._cancelled_at
        if self.life.severed:
            return DeliveryEnding("severed", told="its process was killed", **about)
        about["in_vain"] = self._waited
        if self._cut_short is not None:
            how, why = self._cut_short
            return DeliveryEnding(how, told=why, **about)
        hanging = self._runner._handoff.hanging()
        if not self._task.done() and hanging:
            return DeliveryEnding("never", told=f"its thread gives no sign of life: {', '.join(hanging)}", **about)
        if not self._task.done():
            return DeliveryEnding("over time", told=self._still_runs(), **about)
        if self._task.cancelled():
            return DeliveryEnding("cancelled", told="it was cancelled", **about)
        error = self._escaped or self._task.exception()
        if isinstance(error, ProcessDied | ProcessorBlocked):
            return DeliveryEnding("died" if isinstance(error, ProcessDied) else "blocked", told=str(error), **about)
        if isinstance(error, NoJobResult):
            return DeliveryEnding("no result", told=str(error), **about)
        if isinstance(error, InvalidResult):
            return DeliveryEnding("answered", success=True, misfit=str(error), **about)
        if error is not None:
            text = f"{type(error).__name__}: {printable(error)}"[:LONGEST_TEXT]
            return DeliveryEnding("raised", error=text, final=isinstance(error, NonRetryableError), **about)
        return self._answered(self._task.result(), about)

    def _in_vain(self) -> str | None:
        """Say for what of a delivery that died, or stalls beside it, it waits now or waited."""
        explain = self._loop.possessions.explain
        if not self._task.done():
            return explain(self._task, beside=self._beside)
        error = None if self._task.cancelled() else self._escaped or self._task.exception()
        return None if error is None else explain(error, beside=self._beside)

    def _answered(self, answer: Any, about: dict[str, Any]) -> DeliveryEnding:
        try:
            answer = result_of(answer)
        except NoResultError as none:
            return DeliveryEnding("no result", told=str(none), **about)
        success: object = answer.success
        if success is not True and success is not False:
            return DeliveryEnding("no result", told=f"its success is {_kind(success)}", **about)
        error: object = answer.error
        text = error if isinstance(error, str) or error is None else _output(error)
        return DeliveryEnding(
            "answered",
            success=answer.success,
            error=None if text is None else printable(text)[:LONGEST_TEXT] if text else "",
            misfit=_misfit(answer, limit=self._runner._limit),
            output=_output(answer.output),
            **about,
        )

    async def _work(self) -> Any:
        try:
            return await self._call()
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio would end the loop itself for these.
            self._escaped = error
            return None
        finally:
            watch_outliving(self._loop, self.life, self._runner.note_outliving)

    async def _call(self) -> Any:
        processor, job = self._runner._processor, self._job
        if is_async(processor):
            answer = await processor(job)  # type: ignore[misc]  # it is a coroutine function
        else:
            answer = await self._on_thread(processor, job)
            answer = await answer if asyncio.iscoroutine(answer) or asyncio.isfuture(answer) else answer
        self.observed.before()  # A worker may die between its last deed and its answer.
        return answer

    async def _on_thread(self, processor: JobProcessor, job: ToolJob) -> Any:
        context = contextvars.copy_context()

        def call() -> tuple[Any, BaseException | None]:
            try:
                return context.run(processor, job), None
            except BaseException as error:  # noqa: BLE001 - whatever it raises is what is looked for
                return None, error

        answer, error = await self._runner._handoff(call, name="the processor")
        if error is not None:
            raise error
        return answer

    def _record(self, name: str, data: Any) -> None:
        if isinstance(data, SideEffect):
            if data.idempotent and data.identity in self._runner.received.get(name, ()):
                return  # Its receiver ignores it.
            if data.identity is not None:
                self._runner.received.setdefault(name, set()).add(data.identity)
            data = data.data
        self._effects.append((name, data))

    def _moment(self, number: int) -> None:
        plan = self._plan
        if plan is None or self.disturbed:
            return
        if number == plan.crash_at:
            self._disturb()
            self._loop.lives.sever(self.life)
            self._runner._node.crash()
        elif number == plan.pause_at:
            self._disturb()
            if self._runner._pausable:
                self._loop.lives.pause(self.life)
        elif number == plan.cancel_at:
            self._loop.call_soon(self._cancel, context=contextvars.Context())

    def _come_to_a_moment(self) -> None:
        """Let plain code be disturbed here: on its thread it stands still, on the loop's it can only be ended."""
        if self._runner._handoff.holds():
            self._runner._guests.sleep(0)  # Control goes to the loop, and comes back unless its worker dies.
        elif self._loop.is_in_this_thread():
            self.life.moment()
            if self.life.over:
                raise Severed(f"{self.life.name} is dead")

    def _disturb(self) -> None:
        self.disturbed = True
        self._place = _user_place(sys._getframe(1)) or self._waiting_place() or "at its end"

    def _waiting_place(self) -> str:
        """Name the innermost line of the user's at which it waits, on its thread or in its task; "" where none is."""
        frames = sys._current_frames()
        on_thread = (_user_place(frames.get(thread)) for thread in self.life.threads)
        return next(filter(None, on_thread), "") or _waiting_place(self._task)

    def _still_runs(self) -> str:
        innermost, own = describe_task(self._task), self._waiting_place()
        return f"it still runs: {innermost}" if own in ("", innermost) else f"it still runs: {own}, in {innermost}"

    def _cancel(self) -> None:
        if not self._task.done():
            self._disturb()
            self._cancelled_at = self._loop.time()
            self._allowance.begin(self._runner._grace)
            self._task.cancel()

    def _rests(self) -> bool:
        return self.disturbed and self._plan is not None and self._cancelled_at is None

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        self._ended_at = self._loop.time()

    def _mutated(self) -> str | None:
        if self._given == self._job.input:
            return None
        found = differences(self._given, self._job.input, "input") or differences(self._job.input, self._given, "input")
        return "; ".join(found[:3]) or None


def _user_place(frame: FrameType | None) -> str:
    """Name the line of the user's that is being run, below the loop or on its own thread; "" where none is."""
    while frame is not None and frame.f_code is not VirtualLoop.run_forever.__code__:
        if not is_others(frame.f_code.co_filename):
            return f"{frame.f_code.co_name} at {frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _waiting_place(task: asyncio.Task[Any]) -> str:
    """Name the innermost line of the user's at which a task waits; "" where it waits in a library from the start."""
    awaited: Any = task.get_coro()
    place = ""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None and not is_others(frame.f_code.co_filename):
            place = f"{frame.f_code.co_name} at {frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return place


def _leaks(life: Lifetime, stubs: Mapping[Any, str]) -> list[str]:
    return [
        f"it ended and did not wait for the test's stub {stubs[task]}(): {describe_task(task)}"
        if task in stubs
        else f"the task {task.get_name()!r} still runs: {describe_task(task)}"
        for task in life.tasks
        if task.get_name() != "the processor" and (task in stubs or is_own(task))
    ]


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _misfit(answer: JobResult, *, limit: int) -> str | None:
    try:
        problem = json_problem(answer.output)
        if problem is None and answer.success:
            problem = _too_long(answer.output, limit)
        if problem is not None:
            return f"its output: {problem}"
        error: object = answer.error
        if error is not None and not isinstance(error, str):
            return f"its error is {_kind(error)}, not text"
        problem = json_problem(error)
        return None if problem is None else f"its error: {problem}"
    except (MemoryError, RecursionError) as error:
        return f"its output: too much to be read ({type(error).__name__})"
    except Exception as error:  # noqa: BLE001 - the output is the user's object and may raise anything when read
        return f"its output cannot be read: {type(error).__name__}: {printable(error)}"[:LONGEST_TEXT]


def _too_long(output: Any, limit: int) -> str | None:
    import json

    size = len(json.dumps(output).encode())
    return None if size <= limit else f"{size} bytes of JSON, and the limit is {limit}"


def _output(output: Any) -> str:
    try:
        return write_value(output) if len(str(output)) < 10 * LONGEST_TEXT else f"a long {type(output).__name__}"
    except BaseException as error:  # noqa: BLE001 - a hostile __str__
        return f"a {type(output).__name__} whose text raises {type(error).__name__}"


def _standing() -> dict[str, Any]:
    return {
        "time.time": time.time,  # noqa: TID251 - looked at, not read
        "time.sleep": time.sleep,  # noqa: TID251 - looked at, not called
        "time.monotonic": time.monotonic,  # noqa: TID251 - looked at, not read
        "datetime.datetime": datetime_module.datetime,
        "asyncio.sleep": asyncio.sleep,
        "random.random": random.random,  # noqa: TID251 - looked at, not drawn from
    }
