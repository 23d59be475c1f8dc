"""A Ray cluster that shares the runs of a campaign: each stretch of runs is a task.

A task lost with its worker or its node is done again, and a node that cannot open the target, such
as one without Node or PostgreSQL, gets no more of them; what happened is told by the node's name.
What a run comes to does not depend on where it is done, so a cluster may grow and shrink meanwhile:
two stretches a processor are asked for, which is what an autoscaler sees. Ray is an extra and is
imported when a cluster is entered.
"""

from __future__ import annotations

import os
import pickle
import re
import secrets
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

from job_harness import __version__
from job_harness.core.interruption import SIGNALS
from job_harness.errors import EnvironmentUnavailable, ExitCode
from job_harness.extras import missing_extra
from job_harness.search.finding import Tally, Trouble, Unsteady
from job_harness.search.process_pool import SMALLEST, TICK, paced
from job_harness.search.sampling import CampaignPlan, Sampler, Stretch, first_run_again
from job_harness.search.watchdog import StepWatchdog

AIM: Final = 0.5
"""Seconds of real time that a task should take: beside it, what Ray takes for one does not count."""
LARGEST: Final = 4096
AHEAD: Final = 2
"""Tasks a processor: one that runs, and one that waits for it, or for a node that is still to come."""
TRIES: Final = 4
"""A stretch that is lost this often ends the campaign."""
LOSSES: Final = 3
"""A node on which this many tasks were lost gets no more, unless it is the only one left."""
LOOK_EVERY: Final = 1.0
"""Real seconds after which the nodes are looked at again."""
DESERTED_SECONDS: Final = 120.0
"""Real seconds that a cluster without any processor may take to get one."""
STORE_BYTES: Final = 80_000_000
"""Shared memory of a cluster that is started here: Ray wants some, and tallies are small."""
REMOTE: Final = "ray://"
TOKEN: Final = "RAY_AUTH_TOKEN_PATH"
FILE: Final = re.compile(r"[\w/]:[A-Za-z_]|\.(?:py|ya?ml)\b")
"""A target that is a file, or a factory in a module."""
NODE: Final = re.compile(r"(?:IP|address):? *(?P<ip>[\w.:]+?), *(?:node )?ID: *(?P<id>[0-9a-f]{8,})", re.IGNORECASE)
"""How Ray 2.60 names a node in what it says of a lost task."""
HINT: Final = "What the runs before found is kept."


@dataclass(frozen=True, slots=True)
class RayNode:
    """A machine of a cluster, or what passes for one."""

    identity: str
    address: str
    host: str = ""

    def __str__(self) -> str:
        """Say which it is; several nodes may be on one host."""
        host = f"{self.host} " if self.host and self.host != self.address else ""
        return f"{host}({self.address}, node {self.identity[:8]})"


@dataclass(slots=True)
class _InHand:
    """A stretch that is in hand."""

    number: int
    stretch: Stretch
    given: float = 0.0
    tries: int = 0


class RayCluster:
    """A context manager: while it is entered, the cluster does runs. `where`: `ray`, or `ray://HOST:PORT`.

    `ray` is the cluster of RAY_ADDRESS or of this machine, and if there is none, one that is started here and ended.
    """

    def __init__(self, plan: CampaignPlan, where: str) -> None:
        self.plan = plan
        self.where = where
        self.stretch = SMALLEST
        self.notes: list[str] = []
        """What went wrong without ending the campaign: a sentence each, with the node's name."""
        self._nodes: list[dict[str, Any]] = []
        self._looked = self._peopled = 0.0
        self._refused: set[str] = set()
        self._losses: Counter[str] = Counter()
        self._ended = False
        self._waiting: list[_InHand] = []
        """Lost, and to be done again."""
        self._in_hand: dict[Any, _InHand] = {}
        self._folder: str | None = None
        self._ray: Any = None
        self._task: Any = None

    def __enter__(self) -> RayCluster:
        ray = _imported()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            self._connect(ray)
        finally:
            for number, handler in before.items():  # Ray takes SIGTERM; the campaign keeps what it found instead.
                signal.signal(number, handler)
        # What Ray prints of a lost node, with twenty lines of its log, is told here in one (checked with 2.60).
        ray._private.worker.print_to_stdstream = _say_nothing
        self._ray = ray
        self._task = ray.remote(num_cpus=1, max_retries=0)(_task())
        self._peopled = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(Exception):
            for task in self._in_hand:
                self._ray.cancel(task, force=True)
        self._in_hand.clear()
        self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self, ray: ModuleType) -> None:
        """Raises EnvironmentUnavailable that names the address where nothing answers."""
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        asked = self.where if self.where.startswith(REMOTE) else os.environ.get("RAY_ADDRESS", "auto")
        try:
            ray.init(address=asked, runtime_env=_environment(self.plan.target), **quiet)
        except Exception as error:
            if self.where.startswith(REMOTE) or "RAY_ADDRESS" in os.environ:
                ray.shutdown()
                raise EnvironmentUnavailable(
                    f"no Ray cluster can be used at {asked}: {_first_line(error)}",
                    hint="It must have this version of Ray and Python, and one that asks for a token wants "
                    "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH. For one of this machine: --on ray",
                ) from error
            self._start(ray, quiet)

    def _start(self, ray: ModuleType, quiet: dict[str, Any]) -> None:
        """Start a cluster of this machine alone; its folder goes with it."""
        self._folder = tempfile.mkdtemp(prefix="jh-ray-")
        before = os.environ.get(TOKEN)
        if before is None and "RAY_AUTH_TOKEN" not in os.environ:
            token = Path(self._folder) / "token"  # else Ray writes one into the user's home, and it stays there
            token.write_text(secrets.token_hex(32), encoding="ascii")
            os.environ[TOKEN] = str(token)
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _temp_dir=self._folder,
                **quiet,
            )
        except BaseException as error:
            ray.shutdown()
            shutil.rmtree(self._folder, ignore_errors=True)
            if not isinstance(error, Exception):
                raise
            raise EnvironmentUnavailable(f"Ray does not start on this machine: {_first_line(error)}") from error
        finally:
            if before is None:
                os.environ.pop(TOKEN, None)

    # work -----------------------------------------------------------------------------------------------------------

    def free(self) -> int:
        """Return how many more tasks the cluster is asked for: what it has, and a little more."""
        processors = sum(node["Resources"].get("CPU", 0.0) for node in self._usable())
        return 0 if self._ended else max(1, AHEAD * int(processors)) - len(self._in_hand) - len(self._waiting)

    def give(self, number: int, stretch: Stretch, /) -> None:
        """Begin a stretch as a task."""
        self._begin(_InHand(number, stretch))

    def taken(self) -> Iterator[tuple[int, Tally]] | None:
        """Return what is done; None where nothing was in hand."""
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            self._begin(work)
        return self._answers() if self._in_hand else None

    def again(self) -> Unsteady | None:
        """Let as many workers as there are do their first run once more; return the earliest that differs."""
        count = max(1, sum(int(node["Resources"].get("CPU", 0.0)) for node in self._usable()))
        tasks = [self._remote().remote(__version__, self._plan(), None) for _ in range(count)]
        done, left = self._ray.wait(tasks, num_returns=count, timeout=30.0)
        for task in left:
            self._ray.cancel(task, force=True)
        answers: list[Unsteady] = []
        for task in done:
            with suppress(self._ray.exceptions.RayError):
                _, answer = self._ray.get(task)
                answers += [answer] if isinstance(answer, Unsteady) else []
        return min(answers, key=lambda answer: answer.number, default=None)

    def _begin(self, work: _InHand) -> None:
        work.given = time.perf_counter()
        self._in_hand[self._remote().remote(__version__, self._plan(), work.stretch)] = work

    def _remote(self) -> Any:
        """Return the task, kept away from nodes that were refused."""
        if not self._refused:
            return self._task
        return self._task.options(label_selector={"ray.io/node-id": f"!in({','.join(sorted(self._refused))})"})

    def _plan(self) -> bytes:
        return pickle.dumps(self.plan)

    def _answers(self) -> Iterator[tuple[int, Tally]]:
        done, _ = self._ray.wait(list(self._in_hand), num_returns=1, timeout=TICK)
        told = [(work, self._answer(task, work)) for task in done for work in (self._in_hand.pop(task),)]
        if not done and not self._usable():
            told = [self._deserted()]
        for work, tally in told:
            if tally is not None:
                self._ended |= tally.ends
                yield work.number, tally

    def _answer(self, task: Any, work: _InHand) -> Tally | None:
        """Return what a task came to; None: it is done again."""
        exceptions = self._ray.exceptions
        try:
            where, answer = self._ray.get(task)
        except exceptions.OutOfMemoryError as error:
            return self._lost(work, self._node_in(error), "ran out of memory")
        except exceptions.NodeDiedError as error:
            return self._lost(work, self._node_in(error), "went away")
        except (exceptions.WorkerCrashedError, exceptions.ObjectLostError):
            return self._lost(work, None, "a worker process died")
        except exceptions.RayError as error:
            return self._lost(work, self._node_in(error), _first_line(error))
        node = RayNode(*where)
        if isinstance(answer, str):
            return self._lost(work, node, answer, refuse=True)
        tally, opened = answer
        trouble = tally.trouble
        if trouble is not None and trouble.code is ExitCode.ENVIRONMENT:
            return self._lost(work, node, trouble.message, refuse=not opened, hint=trouble.hint)
        if trouble is not None:
            tally.trouble = Trouble(f"{trouble.message}, on {node}", trouble.hint, trouble.code)
        self.stretch = paced(self.stretch, time.perf_counter() - work.given, aim=AIM * AHEAD, most=LARGEST)
        result: Tally = tally
        return result

    def _lost(
        self, work: _InHand, node: RayNode | None, why: str, *, refuse: bool = False, hint: str = HINT
    ) -> Tally | None:
        """Note what became of a stretch, and do it again; where that is no use, end the campaign with it."""
        told = f"Ray node {node}: {why}" if node is not None else f"Ray: {why}"
        work.tries += 1
        if node is not None:
            self._losses[node.identity] += 1
            others = [other for other in self._usable(anew=True) if other["NodeID"] != node.identity]
            if (refuse or self._losses[node.identity] >= LOSSES) and others:
                self._refused.add(node.identity)
                told += "; it gets no more runs"
            elif refuse:
                return Tally(first=work.stretch.first, trouble=Trouble(told, hint), ends=True)
        if work.tries >= TRIES:
            trouble = Trouble(f"{told}, {work.tries} times, at {work.stretch}", hint)
            return Tally(first=work.stretch.first, trouble=trouble, ends=True)
        if told not in self.notes:
            self.notes.append(told)
        self._waiting.append(work)
        return None

    def _deserted(self) -> tuple[_InHand, Tally | None]:
        """End a campaign for which no node has come."""
        work = next(iter(self._in_hand.values()))
        if time.perf_counter() - self._peopled < DESERTED_SECONDS:
            return work, None
        message = f"no node of the Ray cluster had a processor for {DESERTED_SECONDS:g} s"
        return work, Tally(first=work.stretch.first, trouble=Trouble(message, HINT), ends=True)

    # nodes ----------------------------------------------------------------------------------------------------------

    def _usable(self, *, anew: bool = False) -> list[dict[str, Any]]:
        """Return the nodes that are there and were not refused."""
        now = time.perf_counter()
        if anew or now - self._looked >= LOOK_EVERY:
            self._looked, self._nodes = now, self._ray.nodes()
        usable = [
            node
            for node in self._nodes
            if node["Alive"] and node["NodeID"] not in self._refused and node["Resources"].get("CPU", 0.0) >= 1
        ]
        if usable:
            self._peopled = now
        return usable

    def _node_in(self, error: BaseException) -> RayNode | None:
        """Return the node that Ray names in an error."""
        found = NODE.search(str(error))
        if found is None:
            return None
        hosts = (node["NodeManagerHostname"] for node in self._nodes if node["NodeID"] == found["id"])
        return RayNode(found["id"], found["ip"], next(hosts, ""))


def _imported() -> ModuleType:
    """Raises EnvironmentUnavailable that names the extra."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a test tool does not report its use
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of what it will change
    try:
        ray = import_module("ray")
        import_module("ray.exceptions")
    except ImportError as error:
        raise missing_extra(error) or error from None
    return ray


def _environment(target: str) -> dict[str, Any] | None:
    """Return what a node is to have: where the target is a file or a module of this folder, a copy of the folder."""
    return {"working_dir": "."} if FILE.search(target) else None


def _say_nothing(*arguments: Any, **named: Any) -> None:
    pass


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:400]


# on a node ------------------------------------------------------------------------------------------------------------


def _task() -> Callable[..., Any]:
    """Return what a node carries out. It is sent whole, so that a node without job-harness can say that it has none."""

    def play(program: str, plan: bytes, stretch: Any) -> Any:
        import socket

        import ray

        where = (ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), socket.gethostname())
        try:
            import job_harness
            from job_harness.search.ray_cluster import work
        except ImportError as error:
            return where, f"job-harness cannot be imported there: {error}"
        if job_harness.__version__ != program:
            return where, f"it has job-harness {job_harness.__version__}, and the campaign {program}"
        return where, work(plan, stretch)

    return play


def work(plan: bytes, stretch: Stretch | None) -> tuple[Tally, bool] | Unsteady | None:
    """Do a stretch in a worker of Ray's; return its tally and whether the target could be opened.

    Without any runs to do, the first run of this process is done once more.
    """
    if stretch is None:
        return first_run_again(_opened(plan)) if _opened.cache_info().currsize else None
    try:
        sampler = _opened(plan)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever keeps it from opening is told to the campaign
        target = pickle.loads(plan).target
        return Tally(first=stretch.first, trouble=Trouble.of(error, engine=target), ends=True), False
    with sampler.watchdog:
        return sampler.play(stretch), True


@lru_cache(maxsize=1)
def _opened(plan: bytes) -> Sampler:
    """Open the target once a process: Ray ends the process with the campaign, and what it started ends with it."""
    campaign: CampaignPlan = pickle.loads(plan)
    engine = campaign.open()
    engine.info.prepare()
    return campaign.sampler(engine, StepWatchdog(campaign.patience))
