"""The processors at work in one harness: each delivery with its lifetime, its events, and the death asked for in it."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import inspect
import sys
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from job_harness.core.faults.messages import CALL_EVENTS, LOSES_REPLY, MOST_REFUSED
from job_harness.core.history import RUN_EVENTS
from job_harness.core.model import SECOND, JobId
from job_harness.core.run.live import JobPoint
from job_harness.core.sim import Option
from job_harness.core.sim.lifetime import LIFETIME, WITHIN_LIBRARY, Lifetime, Severed
from job_harness.core.sim.loop import Callback, VirtualLoop, describe_task
from job_harness.core.sim.possessions import stack_of
from job_harness.core.sim.user_code import UserPlace, calling_line, place_in, user_place
from job_harness.core.sim.watchdog import BUSY_SECONDS, ControlTaken
from job_harness.engines.reference.application import JobProcessor, ToolJob
from job_harness.subjects.processors.delivery import Delivery, current, delivery_of
from job_harness.subjects.processors.demands import WHILE_RUNNING, Demands
from job_harness.subjects.processors.leak_detector import describe_outliving, is_own, watch_outliving
from job_harness.subjects.processors.module_state import ModuleState, modules_of_project
from job_harness.subjects.processors.observed import watch
from job_harness.subjects.processors.observed.account import Observations
from job_harness.subjects.processors.processor import NOTHING_REPLACED, is_async, telling
from job_harness.subjects.processors.tests_thread import TestsThread
from job_harness.subjects.processors.thread_handoff import ThreadHandoff
from job_harness.subjects.processors.workplace import Workplace

TEST = "test"
"""The actor of `perform_job`."""


HANGS = "hangs"
"""The end of a run whose thread gave no sign of life: virtual time goes on without it."""
MOST_RAISED = 100
"""Errors that are kept for the report."""


class RaisedError(NamedTuple):
    """What an attempt raised: its own words, notes included, and through which lines it came. It holds no frame."""

    job: JobId
    attempt: int
    words: str
    frames: Sequence[traceback.FrameSummary]


class Running:
    """Begins deliveries, and knows what they left running."""

    def __init__(self, loop: VirtualLoop, handoff: ThreadHandoff, application: Workplace, demands: Demands) -> None:
        self._loop = loop
        self._handoff = handoff
        self._application = application
        self._demands = demands
        self._ended: list[Lifetime] = []
        self.tools: set[str] = set()
        """Those of which a processor was called."""
        self._begun = set[Delivery]()
        """Deliveries that have not ended, those of dead workers among them."""
        if application.session.explored:
            self.watch_waits()
        self.surroundings = TestsThread()
        """What processors find of the test that drives them."""
        self.replacements = NOTHING_REPLACED
        """Which processors of the test are replaced."""
        self.raised: deque[RaisedError] = deque(maxlen=MOST_RAISED)
        """What processors raised last."""
        self._outlived: dict[asyncio.Task[Any], str] = {}
        """Tasks that were at work when their delivery had ended, and where."""
        self._hung: set[JobId] = set()
        """Whose thread gave no sign of life, which is told by itself."""
        self.folders: Mapping[str, str] = {}
        """Paths that are others in each session, with the names that gates have for them."""
        self.compared: Sequence[Any] | None = None
        """Processors of whose modules is looked what they hold before and after; None: of none."""
        self.remembered: dict[str, None] = {}
        """What of that deliveries have changed."""
        self._performed = self._started = 0
        self.closed = False
        self._inconclusive: dict[str, None] = {}
        self.calls_fail = True
        """Whether a search lets calls of something outside fail."""

    def watch_waits(self) -> None:
        """Put a gate before whatever a processor waits for outside itself, and beside what it is seen to do there."""
        self._loop.guard = self._guard
        if self._loop.guests is not None:
            self._loop.guests.by_turns = True
        watch()

    def _module_state(self) -> ModuleState | None:
        return None if self.compared is None else ModuleState(modules_of_project(self.compared))

    def begin(self, job: ToolJob) -> Delivery:
        """Begin the delivery that the worker was just given. Called in the processor's own context."""
        claim = self._application.claim_of(job.id, job.attempts)
        self.tools.add(job.tool_slug)
        worker = LIFETIME.get()
        life = Lifetime(f"{job.tool_slug} {job.id}", parent=worker)
        life.machine = self._loop.guests
        life.stands_until = round(self._loop.time() * SECOND) + self._application.settings.job_timeout - SECOND
        self.surroundings.show()
        before = self._module_state()

        def record(name: str, data: Any) -> None:
            if claim is not None:
                line = delivery.stood if name == "ended" else None
                if name not in RUN_EVENTS:
                    line = delivery.line or calling_line(sys._getframe(1))
                self._write(claim.worker, claim.job, claim.attempt, claim.token, name, data, line)
            if name == "ended":
                self._begun.discard(delivery)
                if before is not None and (after := self._module_state()) is not None:
                    self.remembered.update(dict.fromkeys(after.changed(before)))
                self._explain(job.id)
                self._keep_error(job)
                self._end(job.id, life)

        delivery = Delivery(job.id, life=life, record=record, at_point=lambda name: self._pass(name, job.id, life))
        if self._loop.is_in_this_thread():
            delivery.task = asyncio.current_task(self._loop)
        delivery.pick, delivery.fail = self._demands.pick, partial(self._fail, delivery, defaultdict(list))
        self._begun.add(delivery)
        if self._loop.guard is not None:
            delivery.observed = observed = Observations(
                life, rest=lambda: self._rest(delivery, observed), folders=self.folders
            )
        if claim is not None:  # What follows is judged as if it had ended; that it hangs fails the test.
            about = (claim.worker, claim.job, claim.attempt, claim.token)
            self._handoff.if_it_hangs(lambda: self._give_up(*about))
        if self._demands.waits(WHILE_RUNNING, job.id):
            self._loop.watch_lifetimes()
            life.count(lambda number: self._pass(WHILE_RUNNING, job.id, life))
        return delivery

    async def perform_once(self, processor: JobProcessor, job: ToolJob) -> Any:
        """Run a processor on a job that no queue knows of; raises what it raises."""
        told = telling(processor, self._begin_alone)
        if is_async(processor):
            return await told(job)  # type: ignore[misc]  # it is a coroutine function
        context = contextvars.copy_context()

        def call() -> tuple[Any, BaseException | None]:
            try:
                return context.run(told, job), None
            except (Severed, ControlTaken):
                raise
            except BaseException as error:  # noqa: BLE001 - it is raised again on the test's side
                return None, error

        answer, error = await self._handoff(call, name="perform_job")
        if error is not None:
            raise error
        return await answer if inspect.isawaitable(answer) else answer

    def _begin_alone(self, job: ToolJob) -> Delivery:
        self._performed += 1
        name = f"performed-{self._performed}"
        life = Lifetime(f"{job.tool_slug} ({name})")
        life.machine = self._loop.guests

        def record(what: str, data: Any) -> None:
            self._write(TEST, name, 1, 0, what, data)
            if what == "ended":
                self._end(name, life)

        return Delivery(name, life=life, record=record)

    async def start(self, function: Callable[[], Any], worker: Lifetime, *, polls_late_by: float) -> None:
        """Run what a process does when it starts, in the lifetime of its worker. Raises what it raises.

        What it declares, and what goes on in threads that it starts, belongs to `start-N` in the
        Nth life, as to a job.
        """
        self._started += 1
        name = f"start-{self._started}"
        life = Lifetime(f"the start of {worker.name}", parent=worker)
        life.machine, life.polls_late_by = self._loop.guests, polls_late_by
        self.surroundings.show()

        def record(what: str, data: Any) -> None:
            self._write(worker.name, name, 1, 0, what, data)

        delivery = Delivery(name, life=life, record=record, at_point=lambda place: self._pass(place, name, life))
        delivery.lasts = True
        delivery.pick = self._demands.pick
        if self._loop.guard is not None:
            delivery.observed = observed = Observations(
                life, rest=lambda: self._rest(delivery, observed), folders=self.folders
            )
        context = contextvars.copy_context()
        context.run(LIFETIME.set, life)
        if inspect.iscoroutinefunction(function):
            await context.run(self._loop.create_task, function())
            return

        def call() -> BaseException | None:
            try:
                context.run(function)
            except (Severed, ControlTaken):
                raise
            except BaseException as error:  # noqa: BLE001 - it is raised again on the worker's side
                return error
            return None

        if (error := await self._handoff(call, name="on_start")) is not None:
            raise error

    @property
    def at_work(self) -> bool:
        """Whether a delivery of a living worker has not ended, as that of a job which another delivery has done."""
        return any(not each.life.still for each in self._begun)

    def leaked_tasks(self, *, besides: Container[object] = ()) -> list[str]:
        """Name the tasks that outlived the processor that had started them, and where each waits."""
        leaks = [
            f"the task {task.get_name()!r} of {life.name} still runs: {describe_task(task)}"
            for life in self._ended
            if not life.over
            for task in life.tasks
            if task not in besides and is_own(task)
        ]
        leaks += [told for task, told in self._outlived.items() if task.done() and task not in besides]
        abandoned = [job for job in dict.fromkeys(self._application.abandoned) if job not in self._hung]
        return leaks + [f"the processor of {job} was told to stop and still runs" for job in abandoned]

    def _give_up(self, worker: str, job: JobId, attempt: int, token: int) -> None:
        self._hung.add(job)
        self._write(worker, job, attempt, token, "ended", HANGS)

    def _end(self, job: JobId, life: Lifetime) -> None:
        if life.tasks:
            self._ended.append(life)
        if not life.over:
            watch_outliving(self._loop, life, lambda task: self._note_outliving(task, life))
        if self._demands.waits(WHILE_RUNNING, job):
            self._pass(WHILE_RUNNING, job, life)

    def _note_outliving(self, task: asyncio.Task[Any], life: Lifetime) -> None:
        self._outlived[task] = describe_outliving(task, life.name)

    def _keep_error(self, job: ToolJob) -> None:
        error = sys.exception()
        if isinstance(error, Exception):
            self.raised.append(_kept(job, error))

    def _explain(self, job: JobId) -> None:
        """Note where what ends this attempt is what a dead worker has left behind."""
        possessions, error = self._loop.possessions, sys.exception()
        if possessions.lost and error is not None and (why := possessions.explain(error)) is not None:
            self._inconclusive[f"inconclusive: an attempt of {job} failed: {why}"] = None

    def undecided(self) -> list[str]:
        """Say which attempts failed, or still hang, for what a dead worker had, where a new process would not."""
        found = dict(self._inconclusive)
        found.update({f"inconclusive: {why}": None for why in self._loop.possessions.still_locked()})
        if self._application.abandoned:
            for task in sorted(asyncio.all_tasks(self._loop), key=lambda each: each.get_name()):
                if (why := self._loop.possessions.explain(task)) is not None:
                    found[f"inconclusive: an attempt that was told to stop still runs: {why}"] = None
        return list(found)

    def pass_point(self, name: str) -> None:
        """Where a search asks for gates, come to one in a processor, if it is one that is asking: it may die there."""
        if self._loop.guard is not None and (delivery := current()) is not None:
            delivery.pass_point(name)
            self._stand_still(delivery)

    def stand(self, place: str, life: Lifetime | None, callback: Callback) -> Callback:
        """Put a gate of this name before what a processor in another process waits for."""
        delivery = delivery_of(life)
        process = self._application.session.worker
        if life is None or delivery is None or process is None or not life.within(process.life):
            return callback
        line = delivery.stood = delivery.line
        return process.guard(JobPoint(place, delivery.job, run=delivery.life, line=lambda: line), callback)

    def _guard(self, life: Lifetime, callback: Callback) -> Callback:
        """Put a gate, named by the nearest line of the user's, before what a processor waits for outside itself."""
        delivery = delivery_of(life)
        process = self._application.session.worker
        if delivery is None or delivery.lasts or process is None or not life.within(process.life):
            return callback
        where = user_place(sys._getframe(2))
        if where is None:
            return callback
        if where.called:
            return process.guard(_point_at(where, delivery), callback)
        # A connection is watched once, by the loop: who waits for its bytes is known as they come.
        return lambda *given: process.guard(_point_at(_waiting(delivery) or where, delivery), callback)(*given)

    def _pass(self, place: str, job: JobId, life: Lifetime) -> None:
        """Come to a gate in the middle of a processor, unless its worker is dead.

        A thread that the processor has started comes to one in a search, where threads take turns.
        """
        process = self._application.session.worker
        if process is None or not life.within(process.life):
            return
        told = delivery_of(life)
        line = None if told is None else told.line
        if self._handoff.holds() or self._loop.is_in_this_thread():
            process.pass_by(JobPoint(place, job, run=life, line=lambda: line or calling_line(sys._getframe())))
        elif place != WHILE_RUNNING and (self._loop.guard is not None or self._demands.waits(place, job)):
            line = line or calling_line(sys._getframe())
            self._wait_for(lambda: process.pass_by(JobPoint(place, job, run=life, line=lambda: line)))

    def _fail(
        self, delivery: Delivery, lasting: dict[str, list[Option]], place: str, options: Sequence[Option]
    ) -> Option | None:
        """Ask which of these happens to a call of something outside, and write it down; `lasting` has what goes on."""
        process, session = self._application.session.worker, self._application.session
        asked = self.calls_fail and self._loop.guard is not None and bool(session.kernel.interferences)
        if not asked or process is None or not delivery.life.within(process.life):
            return None
        happens: Option | None = None

        def ask() -> None:
            nonlocal happens
            before = lasting[place]
            label = f"{process.name} {place} {delivery.job}"
            happens = before[-1] if 0 < len(before) < MOST_REFUSED else self._demands.fail(label, options)
            if happens is not None:
                if happens != LOSES_REPLY:
                    before.append(happens)
                about = {"at": place, "job": delivery.job}
                session.recorder.fault(process.name, CALL_EVENTS[happens], about, line)

        line = delivery.line or calling_line(sys._getframe(1))
        if self._handoff.holds() or self._loop.is_in_this_thread():
            ask()
        else:
            self._wait_for(ask)
        return happens

    def _wait_for(self, act: Callable[[], None]) -> None:
        """Let the loop act for the calling thread, which works meanwhile as far as time is concerned."""
        acted = _thread.allocate_lock()
        acted.acquire()

        def act_now() -> None:
            try:
                act()
            finally:
                acted.release()

        with contextlib.suppress(RuntimeError):  # The loop is closed.
            self._loop.call_soon_threadsafe(act_now, context=contextvars.Context())
            acted.acquire(timeout=BUSY_SECONDS)

    def _rest(self, delivery: Delivery, observed: Observations) -> None:
        """Come to a gate after what a plain function was seen to do; a coroutine has its awaits.

        A commit of SQLite's is no await: before what a coroutine declares next, it comes to a gate after it.
        """
        within_library = WITHIN_LIBRARY.get()
        waits = not self._handoff.holds()
        if not observed.effects or (
            waits and (within_library or not (observed.unwaited and self._loop.is_in_this_thread()))
        ):
            return
        observed.unwaited = False
        if waits:
            delivery.pass_point(f"after {observed.place}")
            return
        if within_library and self._loop.guests is not None and self._loop.guests.is_process:
            return  # Other threads of the process may wait for this library's lock, in real time.
        delivery.pass_point(f"after {observed.place}")
        if not within_library:
            self._stand_still(delivery)

    def _stand_still(self, delivery: Delivery) -> None:
        """Give control to the loop where a thread was paused just now; it comes back once this goes on."""
        if delivery.life.still and self._loop.guests is not None and not self._loop.is_in_this_thread():
            self._loop.guests.sleep(0)

    def _write(self, *about: Any) -> None:
        if self.closed:
            return
        effect: Callable[..., None] = self._application.session.recorder.effect
        if self._handoff.holds() or self._loop.is_in_this_thread():
            effect(*about)
        else:
            self._loop.call_soon_threadsafe(effect, *about, context=contextvars.Context())


def _point_at(where: UserPlace, delivery: Delivery) -> JobPoint:
    line = where.line if where.called else None
    delivery.stood = line or delivery.stood
    return JobPoint(where.name, delivery.job, run=delivery.life, line=lambda: line)


def _waiting(delivery: Delivery) -> UserPlace | None:
    """Return where the processor of a delivery waits, by its task: what runs in a greenlet is not on the stack."""
    return None if delivery.task is None or delivery.task.done() else place_in(stack_of(delivery.task))


def _kept(job: ToolJob, error: Exception) -> RaisedError:
    words = "".join(traceback.format_exception_only(error)).removeprefix(f"{type(error).__module__}.").rstrip()
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    return RaisedError(job.id, job.attempts, words, frames)
