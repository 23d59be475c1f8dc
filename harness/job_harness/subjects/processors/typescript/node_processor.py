"""TypeScript processors at work for one harness: each in a Node peer that moves with the harness's virtual time.

A processor is called like any other coroutine function; each run of it is an actor of its peer. A
stub that it calls is a gate, which is passed when the stub has answered. Hides: how a peer starts,
loads its file, and dies with its worker. Must not know: workers, jobs' lifecycle.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from job_harness.core.history import SideEffect
from job_harness.core.sim.loop import VirtualLoop
from job_harness.core.sim.watchdog import BUSY_SECONDS
from job_harness.engines.reference.application import JobProcessor, JobResult, ToolJob
from job_harness.errors import UsageError, did_you_mean
from job_harness.subjects.processors.delivery import delivery_of, effect, step
from job_harness.subjects.processors.hosted import HostedProcessors, HostProcess
from job_harness.subjects.processors.observed import hear
from job_harness.subjects.processors.peer_runs import (
    BLOCKED_AFTER_SECONDS,
    Guard,
    PeerRuns,
    ProcessorRun,
    own_lines,
    tell,
)
from job_harness.subjects.processors.typescript.target import COVERAGE, INSPECT, OPTIONS, TypeScriptProcessor
from job_harness.worlds.packages import find_typescript_node
from job_harness.worlds.peers.peer import Peer, PeerLost, Report, Shapes
from job_harness.worlds.private import cache_folder

RUNNER = Path(__file__).parent / "runner" / "main.mjs"
START_SECONDS = 20.0
"""Real seconds that Node may take to start and to load the processor."""
INSPECTED_SECONDS = 24 * 3600.0
"""The same, and for each of its turns, where a debugger may hold it."""
LEAST_PATIENCE_SECONDS = 0.5
"""A peer that waits for real work says so four times a second."""
EXPLORED_BLOCKED_SECONDS = 10.0
"""The same in an explored run: a machine that is busy with runs is slow, and no verdict may hang on that."""
MOMENT = "moment"
"""The gate at which a run stands once it has done something outside, or has got a reply, whose name it has then."""
RESPONSE_KEYS = ("status", "headers", "body", "json", "error")
_EFFECTS: Shapes = {
    "note": {"what": (str,)},
    "registered": {"what": (str,)},
    "failed": {"exports": (list, type(None))},
    "fatal": {"kind": (str,), "error": (dict,)},
    "observed": {"kind": (str,)},
}
"""What the runner says of the effects that it reports."""
_NEXT_SEED = 7919
"""Between the seeds of a process and of the one that takes its place."""
_OPTIONS = ("--disable-warning=ExperimentalWarning", "--max-old-space-size=1024")


class NodeLaunch:
    """How a Node process is started for a processor, and what it is asked to load."""

    def __init__(
        self,
        about: TypeScriptProcessor,
        *,
        slug: str | None,
        seed: int,
        blocked_after: float,
        busy_seconds: float,
        observed: bool,
    ) -> None:
        self.blocked_after = blocked_after
        wire, functions = about.wire()
        self.functions = functions | BUILT_IN
        """What the process may call here, by name."""
        self.covered = False
        """Whether it is to write which code ran."""
        self._about = about
        self._slug = slug
        self._seed = seed
        self._loaded = 0
        """How many processes have loaded it."""
        self._busy_seconds = busy_seconds
        self._asked = {"observed": observed, "cache": str(cache_folder("typescript")), **wire}
        self._node = find_typescript_node()
        self._inspected = False
        self.first_ms = 0.0
        """What time it was for the first process, in milliseconds since 1970."""

    def patience(self, seconds: float) -> float:
        """Return for how many real seconds it may do what takes these, where no debugger holds it."""
        return INSPECTED_SECONDS if self._inspected else seconds

    def start(self) -> Peer:
        """Start a process that has loaded nothing."""
        environment = self._about.process_environment(os.environ)
        self.covered = COVERAGE in environment
        self._inspected = INSPECT in environment.get(OPTIONS, "")
        return Peer(
            [self._node.path, *_OPTIONS, str(RUNNER)],
            name=self._about.target,
            environment=environment,
            folder=self._about.file.parent,
            log=lambda line: tell(f"{self._slug or self._about.name}: {line}"),
            patience=self.patience(self.blocked_after),
            standstill=self.patience(self._busy_seconds),
            effects=_EFFECTS,
        )

    def loading(self, *, gated: bool) -> dict[str, Any]:
        """Return what the next process is asked to load."""
        # A process that takes the place of a dead one draws otherwise: else a key by chance would be the same again.
        seed, self._loaded = self._seed + self._loaded * _NEXT_SEED, self._loaded + 1
        asked = {"file": str(self._about.file), "name": self._about.name, "slug": self._slug, "seed": seed}
        return {**asked, "gates": gated, **self._asked}


class NodeProcessor(PeerRuns):
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

        It may be silent for `blocked_after` real seconds, and real work of its own, such as a child
        process that it waits for, may hold time for `busy_seconds`. `observed` lets it tell what it
        does outside.

        Raises ProcessorNotLoaded, UsageError, EnvironmentUnavailable.
        """
        super().__init__(
            loop=loop, start=start, timeout_seconds=timeout_seconds, busy_seconds=busy_seconds, guard=guard
        )
        self.about = about
        self.__qualname__ = about.target
        self.serves_another: str | None = None
        """Says so where the only tool that was registered is not the one that was asked for."""
        self._fetching: dict[int, ProcessorRun] = {}
        """Who stands at the gate of a `fetch`, by its number."""
        self.launch = NodeLaunch(
            about, slug=slug, seed=seed, blocked_after=blocked_after, busy_seconds=busy_seconds, observed=observed
        )
        self._before = 0
        """How many jobs the peers before this one have run."""
        self._closed = False
        self._load(self.launch.start())

    async def __call__(self, job: ToolJob) -> JobResult:
        """Run it on a job."""
        if self._closed:
            raise UsageError(f"{self.about.target}: its harness is closed")
        if self._process is None or not self._process.alive:
            contextvars.Context().run(
                lambda: self._load(self.launch.start())
            )  # The peer is the harness's, not the job's that finds none.
        return await self._perform(self._begin(job))

    def _called_name(self, run: ProcessorRun | None) -> str:
        return self.about.target

    def _answer(self, name: str, args: list[Any]) -> Any:
        return None if name == MOMENT else self.launch.functions[name](*args)

    def _reply_place(self, gate: Report) -> str:
        if gate["point"] == MOMENT and gate["with"]:
            return str(gate["with"][0])
        return super()._reply_place(gate)

    def _arrived(self, gate: Report, run: ProcessorRun) -> None:
        if gate["point"] == "fetch":
            url, request = gate["with"]
            self._fetching[gate["gate"]] = run
            self._saw(run, {"kind": "http", "number": f"gate {gate['gate']}", "url": url, **request})

    def _value(self, name: str, answer: Any, gate: int) -> Any:
        if name != "fetch":
            return answer
        response = response_of(answer)
        if (run := self._fetching.pop(gate, None)) is not None:
            self._saw(run, {"kind": "answered", "number": f"gate {gate}", "status": response["status"]})
        return response

    def _reported(self, report: Report) -> None:
        run = self._runs.get(report["actor"] or "")
        if report["effect"] == "observed" and run is not None:
            self._saw(run, report["data"])

    def _saw(self, run: ProcessorRun, what: Mapping[str, Any]) -> None:
        """Write down what a run did outside, where its delivery keeps an account."""
        delivery = delivery_of(run.life)
        if delivery is not None and delivery.observed is not None:
            hear(delivery.observed, what)

    @property
    def _process(self) -> Peer | None:
        assert self._peer is None or isinstance(self._peer, Peer)
        return self._peer

    @property
    def pid(self) -> int | None:
        """The number of the Node process, while there is one."""
        return self._process.pid if self._process is not None and self._process.alive else None

    def leaks(self) -> list[str]:
        """Name what attempts that are over left running in the peer: intervals, processes."""
        peer = self._process
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

        Explored, one that has done nothing but load its module is left: the next one would be no
        other, and starting it costs as much as the rest of the run.
        """
        if self.guard is None or not self._unused:
            self._end()

    @property
    def _unused(self) -> bool:
        return self._peer is not None and self._number == self._before and self._timer is None and not self._asked

    def _end(self) -> None:
        peer = self._process
        if self.launch.covered and peer is not None and peer.alive:  # To be killed leaves it no time for it.
            with suppress(PeerLost):
                peer.go("cover", now=self._now_ms())
        self._let_go()
        self._runs.clear()

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

        A forked child lets go of its parent's peer and does not touch it. Raises nothing before the
        loading.
        """
        self._let_go()
        peer = self.launch.start()
        return lambda: self._load(peer, self.launch.first_ms)

    def _load(self, peer: Peer, at_ms: float | None = None) -> None:
        self._peer = peer
        self.launch.first_ms = self.launch.first_ms or self._now_ms()
        self._before = self._number
        loading = self.launch.loading(gated=self.guard is not None)
        try:
            patience = self.launch.patience(START_SECONDS)
            said = self._turn(lambda now: peer.go("load", loading, now=at_ms or now, patience=patience))
        except PeerLost as lost:
            raise not_loaded(self.about.target, {"name": lost.kind, "message": lost.what}) from None
        effects = {report["effect"]: report["data"] for report in said if "effect" in report}
        if "failed" in effects:
            self._let_go()
            raise not_loaded(self.about.target, effects["failed"])
        if "registered" in effects:
            self.serves_another = effects["registered"]["what"]
        if "loaded" not in effects:
            self._let_go()
            raise UsageError(
                f"the processor {self.about.target!r}: its module waits at its top level for something that never "
                "comes while it is loaded",
                hint="Give a stub for the module that waits.",
            )

    def _let_go(self) -> None:
        super()._let_go()
        peer, self._peer = self._process, None
        if peer is not None:
            peer.kill()


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
        self._observed = observed
        self._loop = loop
        self._start = start
        self._timeout_seconds = timeout_seconds
        self._seed = seed
        self._blocked_after = max(LEAST_PATIENCE_SECONDS, min(blocked_after, busy_seconds))
        self._busy_seconds = busy_seconds
        self._attached: list[tuple[TypeScriptProcessor, str | None, NodeProcessor]] = []
        self._hosted: list[HostedProcessors] = []
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

    def host(self, process: HostProcess) -> HostedProcessors:
        """Return what runs jobs in the process of the test itself, which is not Python's."""
        hosted = HostedProcessors(
            process,
            loop=self._loop,
            start=self._start,
            timeout_seconds=self._timeout_seconds,
            busy_seconds=self._busy_seconds,
            guard=self._guard,
        )
        self._hosted.append(hosted)
        return hosted

    def explore(self, guard: Guard) -> None:
        """Put gates before timers and replies from here on, in peers of this process: those there are start anew.

        Raises ProcessorNotLoaded, UsageError, EnvironmentUnavailable.
        """
        self._guard = guard
        self._blocked_after = max(self._blocked_after, EXPLORED_BLOCKED_SECONDS)
        for hosted in self._hosted:
            hosted.guard = guard
        for _, _, attached in self._attached:
            attached.guard = guard
            attached.launch.blocked_after = self._blocked_after
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
        return [finding for runs in self._all for finding in runs.notes.findings.values()]

    @property
    def _all(self) -> list[PeerRuns]:
        return [*(attached for _, _, attached in self._attached), *self._hosted]

    @property
    def blocked(self) -> list[str]:
        """Which attempts hung and were ended by a limit in real time: what followed is not the processor's doing."""
        return [each for runs in self._all for each in runs.notes.blocked]

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
        """Kill all peers with SIGKILL, as the worker's process dies; of the test's own process, its runs die."""
        for _, _, attached in self._attached:
            attached.crash()
        for hosted in self._hosted:
            hosted.crash()

    def close(self) -> None:
        """End all peers. Harmless when repeated."""
        for _, _, attached in self._attached:
            attached.close()
        self._attached.clear()


# what a processor can come to besides an answer -----------------------------------------------------------------------


class ProcessorNotLoaded(UsageError):
    """The file cannot be loaded: a syntax error, an import or an export that is not there."""


def not_loaded(target: str, error: Mapping[str, Any]) -> ProcessorNotLoaded:
    """Say why a file could not be loaded."""
    name, message = str(error.get("name")), str(error.get("message"))
    hint = str(error.get("hint") or "")
    exports = error.get("exports")
    if exports is not None:
        wanted = target.rpartition("#")[2]
        message += did_you_mean(wanted, list(map(str, exports)))
        hint = f"It exports {', '.join(sorted(map(str, exports))) or 'nothing'}."
    elif not hint:
        hint = _place(str(error.get("stack") or ""))
    return ProcessorNotLoaded(f"the processor {target!r}: {name}: {message}", hint=hint)


def _place(stack: str) -> str:
    """Return the first line of a stack that lies in the user's own files."""
    own = [line for line in own_lines(stack) if "file://" in line or "(/" in line]
    return own[0] if own else ""


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

    Raises UsageError for anything else, and where the answer is an exception or has an `error`,
    that.
    """
    if isinstance(answer, Exception):
        raise answer
    if isinstance(answer, int) and not isinstance(answer, bool):
        answer = {"status": answer}
    elif isinstance(answer, str):
        answer = {"body": answer}
    if not isinstance(answer, Mapping):
        raise UsageError(f"fetch= returned {answer!r}", hint="Return a status, a text, or a dict.")
    unknown = [key for key in answer if key not in RESPONSE_KEYS]
    if unknown:
        hint = did_you_mean(str(unknown[0]), RESPONSE_KEYS)
        raise UsageError(f"fetch= returned the key {unknown[0]!r}{hint}; there are {', '.join(RESPONSE_KEYS)}")
    if "error" in answer:
        raise ConnectionError(str(answer["error"]))
    headers = {str(name): str(value) for name, value in dict(answer.get("headers") or {}).items()}
    body = answer.get("body", "")
    if "json" in answer:
        body = json.dumps(answer["json"])
        headers.setdefault("content-type", "application/json")
    return {"status": answer.get("status", 200), "headers": headers, "body": body}
