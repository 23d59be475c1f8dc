"""Real processors in a scenario: each worker has a loop on virtual time that moves when the scenario's time does.

A worker that died is known by the attempt that it left: its loop is never moved again, its Node
child is killed, and its successor begins anew. What processors draw (`random`, `secrets`, `uuid4`)
is the same in each run.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from datetime import timedelta
from math import ceil
from pathlib import Path

from job_harness.core.model import SECOND, Duration, Instant, Json
from job_harness.core.port import Claim
from job_harness.core.run.context import Ended
from job_harness.core.scenario.job_plan import ProcessorPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim import CrashedMidway
from job_harness.core.sim.lifetime import Lifetime
from job_harness.core.sim.loop import VirtualLoop
from job_harness.core.sim.watchdog import BUSY_SECONDS
from job_harness.engines.reference.application import (
    START,
    Execution,
    JobProcessor,
    ToolJob,
    ending_of,
    job_of,
    start_execution,
)
from job_harness.errors import UsageError, at_place
from job_harness.subjects.processors.chance import same_chance, seed_shared_generators
from job_harness.subjects.processors.clocks import open_guests
from job_harness.subjects.processors.delivery import Delivery, Record
from job_harness.subjects.processors.leak_detector import LeakDetector, Surroundings
from job_harness.subjects.processors.processor import find_processor
from job_harness.subjects.processors.thread_handoff import ThreadHandoff
from job_harness.subjects.processors.typescript.node_processor import NodeProcessors
from job_harness.subjects.processors.typescript.target import JavaScript, TypeScriptProcessor, names_typescript


class ScenarioProcessors:
    """The processors of one scenario, at work for its workers."""

    def __init__(self, scenario: Scenario, *, blocked_after: float = BUSY_SECONDS) -> None:
        """Find and load them all; `blocked_after` is for how many real seconds one may keep control.

        Raises UsageError, EnvironmentUnavailable, and what an import raises.
        """
        self._blocked_after = blocked_after
        self._surroundings = Surroundings()
        self._timeout_seconds = scenario.settings.job_timeout / SECOND
        self._processors = {tool: _placed(plan) for tool, plan in scenario.processors.items()}
        self._hosts: dict[str, _Host] = {}
        self._severed: list[_Host] = []
        self._chance = contextlib.ExitStack()
        self._chance.callback(seed_shared_generators().put_back)
        self._chance.enter_context(same_chance())
        first = self._hosts[scenario.workers[0]] = self._host(0)
        try:
            for tool, processor in self._processors.items():
                first.load(tool, processor)
        except BaseException:
            self.close()
            raise

    def begin(
        self,
        claim: Claim,
        *,
        input: Json,
        max_attempts: int,
        now: Instant,
        declare: Record,
        dies_at: Callable[[str], bool],
    ) -> _Attempt:
        """Start the processor of the claim's tool, on the loop of the claim's worker."""
        host = self._hosts.get(claim.worker)
        if host is not None and host.severed:
            host.crash()
            self._severed.append(host)
            host = None
        if host is None:
            host = self._hosts[claim.worker] = self._host(now)
        host.catch_up(now)
        job = job_of(
            claim.job,
            claim.tool,
            input=input,
            attempts=claim.attempt,
            max_attempts=max_attempts,
            started_at=START + timedelta(microseconds=now),
        )
        return host.begin(self._processors[claim.tool], job, declare, dies_at)

    def _host(self, began: Instant) -> _Host:
        return _Host(began, timeout_seconds=self._timeout_seconds, blocked_after=self._blocked_after)

    def close(self) -> list[str]:
        """End whatever still runs, and name what was left behind or cannot be ended. Harmless when repeated."""
        left = [each for host in self._hosts.values() for each in host.close()]
        for host in self._severed:
            host.close()  # Its worker died: nothing could end what it had running.
        self._hosts.clear()
        self._severed.clear()
        left += self._surroundings.restore()
        self._chance.close()
        return list(dict.fromkeys(left))


class _Host:
    """The process of one worker, from its start to its crash."""

    def __init__(self, began: Instant, *, timeout_seconds: float, blocked_after: float) -> None:
        self._began = began
        self.loop = VirtualLoop(busy_seconds=blocked_after, one_guest=True)
        self.handoff = ThreadHandoff(self.loop, blocked_after=blocked_after)
        start = START + timedelta(microseconds=began)
        self._node = NodeProcessors(
            self.loop, start=start, timeout_seconds=timeout_seconds, seed=0, busy_seconds=blocked_after
        )
        self._guests = self.loop.guests = open_guests(self.loop, start=start)
        self._leaks = LeakDetector(self.loop, inside=lambda: True)
        self._attempt: _Attempt | None = None

    @property
    def severed(self) -> bool:
        """Whether its worker died in an attempt, or left one that neither ended nor was given up: it died then too."""
        return self._attempt is not None and (self._attempt.died or not self._attempt.over)

    def catch_up(self, now: Instant) -> None:
        """Let pass what passed since it last worked: what was abandoned here goes on meanwhile."""
        self.move(max(0, now - self._began - round(self.loop.time() * SECOND)))

    def load(self, tool: str, processor: JobProcessor) -> JobProcessor:
        return self._node.attach(processor, slug=tool, strictly=True)

    def begin(self, processor: JobProcessor, job: ToolJob, declare: Record, dies_at: Callable[[str], bool]) -> _Attempt:
        self._attempt = _Attempt(self, self.load(job.tool_slug, processor), job, declare, dies_at)
        return self._attempt

    @property
    def in_turn(self) -> bool:
        """Whether the calling code is the processor's, at the moment at which the kernel lets it act."""
        return self.handoff.holds() or self.loop.is_in_this_thread()

    def move(self, passed: Duration) -> None:
        with self._leaks.watching():
            self.loop.advance(passed / SECOND)

    def crash(self) -> None:
        self._node.crash()

    def close(self) -> list[str]:
        left = [*self.handoff.blocked, *self._node.blocked]
        behind = self._leaks.left_behind()  # Asked first: what waits in virtual time is ended with the rest below.
        if self.loop.broken is None:
            left += self._node.leaks()
        self._node.close()
        left += self.handoff.close()
        self._guests.close()
        with contextlib.suppress(Exception), self._leaks.watching():
            left += self.loop.lives.end_tasks()
        self.loop.close()
        left += [f"{each}: a processor left it behind" for each in behind]
        self._leaks.end_children()
        return left


class _Attempt:
    """One processor at work on one job."""

    def __init__(
        self, host: _Host, processor: JobProcessor, job: ToolJob, declare: Record, dies_at: Callable[[str], bool]
    ) -> None:
        self._host = host
        self._dies_at = dies_at
        self.died = False
        """Whether its worker crashed in the middle of it."""
        self._processor = processor
        self._job = job
        self._execution: Execution | None = None
        self._abandoned = False
        self._life = Lifetime(f"attempt {job.attempts} of {job.id}")
        self._life.machine = host._guests
        self._delivery = Delivery(job.id, life=self._life, record=declare, at_point=self._pass)
        host.loop.call_soon(self._start, context=self._life.context())

    def _start(self) -> None:
        self._execution = start_execution(
            self._processor, self._job, on_end=self._delivery.end, run_blocking=self._host.handoff
        )

    def _pass(self, name: str) -> None:
        """Come to an effect or a named step; what dies there acts no more from its next await on."""
        if not self._abandoned and self._host.in_turn and self._dies_at(name):
            self.died = True
            self._host.loop.lives.sever(self._life)

    @property
    def ended(self) -> Ended | None:
        """How it ended; None while it is at work."""
        return None if self._execution is None else ending_of(self._execution)

    @property
    def over(self) -> bool:
        """Whether its worker is through with it."""
        return self._abandoned or self.ended is not None

    def move(self, passed: Duration) -> Duration | None:
        """Let this much time pass for it; return how long until it next does something, None for never."""
        self._host.move(passed)
        if self.died:
            raise CrashedMidway
        timer = self._host.loop.next_timer()
        return None if timer is None else max(1, ceil((timer - self._host.loop.time()) * SECOND))

    def abandon(self) -> None:
        """Cancel it; what does not let itself be cancelled lives on in its host."""
        self._abandoned = True
        if self._execution is not None:
            self._execution.cancel()
            self._host.move(0)


def _placed(plan: ProcessorPlan) -> JobProcessor:
    with at_place(plan.place):
        return found(plan)


def found(plan: ProcessorPlan) -> JobProcessor:
    """Return what a scenario's processor is, looked for beside the scenario file.

    Raises UsageError if there is none, and what an import raises.
    """
    if names_typescript(plan.run):
        return TypeScriptProcessor(
            plan.run,
            globals={name: JavaScript(source) for name, source in plan.globals.items()},
            stubs=dict(plan.stubs),
            fetch=dict(plan.fetch) or None,
            root=plan.folder or None,
        )
    if plan.globals or plan.stubs or plan.fetch:
        raise UsageError(
            f"the processor {plan.run!r} is Python, and globals, stubs and fetch are for TypeScript",
            hint="Leave them out; replace what it calls in the Python module itself.",
        )
    with _importing_from(plan.folder, *plan.further):
        processor = find_processor(plan.run)
    if isinstance(processor, TypeScriptProcessor) and processor.root is None and plan.folder:
        return processor.at(plan.folder)
    return processor


@contextlib.contextmanager
def _importing_from(*folders: str) -> Generator[None]:
    """Let modules in these folders, those beside the scenario file, be imported inside the block."""
    paths = [str(Path(folder).absolute()) for folder in folders if folder]
    sys.path[:0] = paths
    try:
        yield
    finally:
        for path in paths:
            with contextlib.suppress(ValueError):
                sys.path.remove(path)
