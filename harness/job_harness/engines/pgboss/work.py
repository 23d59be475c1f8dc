"""pg-boss's own `work()` loop: one process of it after the other on a database of ours, on a clock of ours.

A `WorkTurn` says everything that happened until the process came to rest: which handlers it called,
and when its timers are due. The caller decides what a job does. Hides how the process is started,
killed and told the time, and the options in which pg-boss is told the harness's settings. Must not
know: processors, loops, who drives it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from job_harness.core.history import Outcome
from job_harness.core.model import MILLISECOND, SECOND, Duration, Instant, JobId, Settings
from job_harness.core.port import Contract
from job_harness.engines.pgboss.contract import policy_suffix, split_policy
from job_harness.engines.pgboss.node.release import Release, contract_of
from job_harness.engines.pgboss.package import SCHEMA
from job_harness.engines.pgboss.translation import PgBossKeys
from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.worlds.packages import NODE_ENVIRONMENT, find_node, newest_npm, npm_package
from job_harness.worlds.peers.peer import Peer, Report
from job_harness.worlds.peers.runtime import outcome_of
from job_harness.worlds.postgres.absence import absent, means_absence
from job_harness.worlds.postgres.virtual_clock import VirtualClockError
from job_harness.worlds.wire.database import exact_milliseconds_of, instant_at

if TYPE_CHECKING:
    from job_harness.engines.pgboss.node.release import NodeJobTables
    from job_harness.worlds.wire.database import ForeignDatabase

PACKAGE: Final = "pg-boss"
PROOF: Final = "job-harness-proof"
SCRIPT: Final = Path(__file__).with_name("work_loop.mjs")
SUPERVISION: Final = "supervision"
LIMIT: Final = "limit"
"""A timer that is no round: the end of the wait for a handler, for one."""
NEVER: Final = 10**18
MOST_TURNS: Final = 1000
"""Turns that are repeated in a forked child: what the fixtures of a test did before its first line."""
_BEHAVIOUR: Final[Mapping[str, Any]] = {
    "supervise": True,
    "schedule": False,
    "registerInstance": False,
    "monitorVacuum": False,
    "reindex": False,
}
"""Its own supervision is at work; what only watches the machine is not."""
_STAMPS: Final = b"""
SELECT attname AS column FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND atttypid = 'timestamptz'::regtype
"""


class WorkProcess:
    """pg-boss as an application starts it. Time stands still but for `tick`; the database's clock goes with it."""

    def __init__(self, version: str = "latest", *, dsn: str | None = None) -> None:
        """Choose a release (`latest`, `12`, `10.4.2`), and a server instead of one started here.

        After a slash stands the policy of its queues: `10.4.2/stately`. Raises UsageError for a
        release before 10, and for an unknown version or policy.
        """
        wanted, policy = split_policy(version)
        self.keys = PgBossKeys(policy)
        """How unique keys are said under the policy of its queues; serial keys are not."""
        self.version = newest_npm(PACKAGE, wanted)
        self._release = Release(f"{self.version}{policy_suffix(policy)}")
        self.name = f"pg-boss {self._release.name}"
        self.contract: Contract = contract_of(self._release.major, policy)
        self._dsn = dsn
        self._peer: Peer | None = None
        self._database: ForeignDatabase | None = None
        self._tables: NodeJobTables | None = None
        self._seed = 0
        self._turns: list[tuple[str, Instant, dict[str, Any]]] = []
        """What was asked of it since `begin`, so that it can be carried into a forked child."""
        self._for_children: WorkProcess | None = None
        self._borrowed = False
        """Whether this is a forked child, and the process is its parent's to end."""
        self.strictly: Duration = 0
        """How long after its time a job can be fetched, 0 or a microsecond: releases differ, so it is measured."""

    @property
    def database(self) -> ForeignDatabase:
        """The database; only between `begin` and `close`."""
        assert self._database is not None
        return self._database

    @property
    def tables(self) -> NodeJobTables:
        """The tables of this release; only between `begin` and `close`."""
        assert self._tables is not None
        return self._tables

    @property
    def pid(self) -> int | None:
        """The number of the present process, once there is one."""
        return None if self._peer is None else self._peer.pid

    @property
    def provenance(self) -> str:
        """Where the PostgreSQL came from and why, once there is one."""
        return "" if self._database is None else str(self._database.cluster.provenance)

    def begin(self, *, seed: int = 0) -> WorkTurn:
        """Start over at the instant 0, on empty tables, with no worker running.

        Raises EnvironmentUnavailable without Node, npm or PostgreSQL, or where the release does not
        install; VirtualClockError where PostgreSQL keeps to the machine's time.
        """
        self._seed = seed
        if self._database is None:
            return self._begin_first()
        self._turns.clear()
        self.tables.empty()
        self._forget_rounds()
        if self._peer is None or not self._peer.alive:
            return self._start(0)
        return self._checked(self._ask("reset", 0, seed=seed))

    def kill(self) -> None:
        """End the process with SIGKILL, as a power cut would. A borrowed one is left; `restart` makes it forget."""
        if self._peer is not None and not self._borrowed:
            self._peer.kill()

    def restart(self, now: Instant) -> WorkTurn:
        """Start another process on the same database, once the one before is dead."""
        self._note("restart", now)
        if self._borrowed:
            return self._checked(self._ask("reset", now, seed=self._seed))
        self.kill()
        return self._start(now)

    def ask(self, question: str, now: Instant, **arguments: Any) -> WorkTurn:
        """Ask the process something at an instant. Raises EnvironmentUnavailable where it is gone."""
        self._note("ask", now, question=question, **arguments)
        return self._ask(question, now, **arguments)

    def _ask(self, question: str, now: Instant, **arguments: Any) -> WorkTurn:
        peer = self._at(now)
        return turn_of(peer.go(question, arguments, now=exact_milliseconds_of(now)))

    def draw(self, now: Instant, *, fraction: float) -> None:
        """Let PostgreSQL's next random number be this one."""
        self._note("draw", now, fraction=fraction)
        self.database.set_chance(fraction)

    def send(self, now: Instant, *, ago: Instant = 0, **arguments: Any) -> WorkTurn:
        """Send a job; for the database, `ago` microseconds ago."""
        self._note("send", now, ago=ago, **arguments)
        peer = self._at(now - ago)
        return turn_of(peer.go("send", arguments, now=exact_milliseconds_of(now)))

    def reply(self, call: int, now: Instant, *, value: Any = None, error: Mapping[str, str] | None = None) -> WorkTurn:
        """Let a handler that was called end, with a value or with an error: `name` and `message`."""
        self._note("reply", now, call=call, value=value, error=error)
        peer = self._at(now)
        if error is not None:  # pg-boss stores the stack, and places in our own files differ.
            error = {**error, "stack": f"{error['name']}: {error['message']}"}
        return turn_of(peer.go_on(call, value=value, error=error, now=exact_milliseconds_of(now)))

    def tick(self, now: Instant, *, skip: Mapping[str, Instant]) -> WorkTurn:
        """Let the first timer fire that is due by now; rounds are left out before their instants in `skip`."""
        self._note("tick", now, skip=dict(skip))
        peer = self._at(now)
        left_out = {name: exact_milliseconds_of(until) for name, until in skip.items()}
        return turn_of(peer.time(exact_milliseconds_of(now), skip=left_out))

    def _at(self, now: Instant) -> Peer:
        """Set the database's clock, and return the process."""
        if self._peer is None:
            raise EnvironmentUnavailable(f"the worker of {self.name} is not running", hint="Call begin() first.")
        self.database.set_now(now)
        return self._peer

    def _note(self, turn: str, now: Instant, **arguments: Any) -> None:
        if len(self._turns) <= MOST_TURNS:
            self._turns.append((turn, now, arguments))

    # forked children ------------------------------------------------------------------------------------------------

    @property
    def unforkable(self) -> str:
        """Why forked children cannot go on from here; empty where they can."""
        if len(self._turns) > MOST_TURNS:
            return f"more than {MOST_TURNS} turns of {self.name} would have to be repeated in each run"
        return ""

    def prepare_children(self) -> None:
        """Have a second process ready, on a database of its own on the same server, which forked children use in turn.

        Where one is ready that still runs, nothing happens. Raises EnvironmentUnavailable.
        """
        ready = self._for_children
        if ready is not None and ready._peer is not None and ready._peer.alive:
            return
        if ready is not None:
            ready.close()
        ready = self._for_children = WorkProcess(self._release.name, dsn=self.database.cluster.url())
        ready.begin(seed=self._seed)
        ready.database.disconnect()

    def forget_children(self) -> None:
        """End the process of the children: one of them left it in the middle of something."""
        if self._for_children is not None:
            self._for_children.kill()

    def in_child(self) -> WorkProcess:
        """Return, in a forked child, the process that was made ready, as this one stands: every turn is repeated on it.

        This one, and its database, are the parent's. Raises EnvironmentUnavailable.
        """
        ready = self._for_children
        if ready is None or ready._peer is None:
            raise EnvironmentUnavailable(f"{self.name} has no process ready for a forked child")
        ready._borrowed = True
        ready._peer.borrow()
        ready.database.connect()
        ready.begin(seed=self._seed)
        for turn, now, arguments in self._turns:
            _REPEATED[turn](ready, now=now, **arguments)
        return ready

    def close(self) -> None:
        """Stop what was started. Never raises."""
        if self._for_children is not None:
            self._for_children.close()
            self._for_children = None
        if self._peer is not None:
            self._peer.kill()
            self._peer = None
        if self._database is not None:
            self._database.close()
            self._database = None

    def _begin_first(self) -> WorkTurn:
        from job_harness.engines.pgboss.node.release import NodeJobTables
        from job_harness.worlds.wire.database import ForeignDatabase

        packages = npm_package(PACKAGE, self.version)
        node = find_node(self._release.oldest_node, wanted_by=self.name)
        self._command = [node.path, str(SCRIPT), str(packages)]
        self._database = ForeignDatabase(self._dsn)
        try:
            self._start(0)
            self._database.check()
            self._tables = NodeJobTables(self._database)
            self.strictly = self._measured()
        except BaseException:
            self.close()
            raise
        return self.begin(seed=self._seed)

    def _measured(self) -> Duration:
        """Look whether a job can be fetched at the very instant for which it was sent."""
        self.ask("create", 0, queue=PROOF, options={})
        self.send(0, queue=PROOF, data={"job": PROOF, "input": None}, options={})
        for late in (0, 1):
            if self.ask("fetch", late, queue=PROOF).outcome.value:
                return late
        raise VirtualClockError(
            f"{self.name} does not follow the virtual clock: a job was not fetched when it was due",
            hint="This release reads a clock that is not the harness's: name another release.",
        )

    def _start(self, now: Instant) -> WorkTurn:
        self._peer = Peer(self._command, name=self.name, environment={**os.environ, **NODE_ENVIRONMENT})
        asked = {"url": self.database.url, "schema": SCHEMA, "seed": self._seed, "options": _BEHAVIOUR}
        return self._checked(self._ask("open", now, **asked))

    def _checked(self, turn: WorkTurn) -> WorkTurn:
        if not turn.outcome.done:
            raise EnvironmentUnavailable(f"{self.name} did not start: {turn.outcome.reason}")
        return turn

    def _forget_rounds(self) -> None:
        """Let no round of before seem to lie in the future."""
        found = self.database.run(_STAMPS, [f"{SCHEMA}.version"])
        if found:
            cleared = ", ".join(f"{row['column']} = NULL" for row in found)
            self.database.run(f"UPDATE {SCHEMA}.version SET {cleared}".encode())


_REPEATED: Final[Mapping[str, Callable[..., object]]] = {
    "ask": WorkProcess.ask,
    "draw": WorkProcess.draw,
    "reply": WorkProcess.reply,
    "restart": WorkProcess.restart,
    "send": WorkProcess.send,
    "tick": WorkProcess.tick,
}


# turns ----------------------------------------------------------------------------------------------------------------


class Timer(NamedTuple):
    """A timer that is set in the process; a round has a period, and may be left out while it would find nothing."""

    when: Instant
    period: Instant | None
    round: str
    """`supervision`, `limit`, or the poll of a queue: see `poll_of`."""


class HandlerCall(NamedTuple):
    """pg-boss called its handler with a batch, and waits for its answer."""

    number: int
    queue: str
    jobs: tuple[JobId, ...]


class WorkTurn(NamedTuple):
    """Everything that happened until the process came to rest."""

    outcome: Outcome
    calls: tuple[HandlerCall, ...]
    trouble: tuple[str, ...]
    """What it emitted as errors and warnings."""
    stirred: bool
    """Whether a statement was answered that may have changed a job."""
    timers: tuple[Timer, ...]


def turn_of(said: Sequence[Report]) -> WorkTurn:
    """Read what the process reported in a turn, `idle` last.

    Raises EnvironmentUnavailable where it reports a PostgreSQL that is not there.
    """
    idle = said[-1]
    effects = [report for report in said if "effect" in report]
    trouble = tuple(effect["data"]["message"] for effect in effects if effect["effect"] == "trouble")
    for words in trouble:
        if means_absence(words):
            raise absent(words, when="while pg-boss worked on it")
    return WorkTurn(
        outcome=outcome_of(idle),
        calls=tuple(HandlerCall(gate["gate"], gate["point"], tuple(gate["with"])) for gate in said if "gate" in gate),
        trouble=trouble,
        stirred=any(effect["effect"] == "stirred" for effect in effects),
        timers=tuple(
            Timer(instant_at(when), None if period is None else round(period * MILLISECOND), name)
            for when, period, name in idle["timers"]
        ),
    )


def poll_of(queue: str) -> str:
    """Name the round in which the worker of a queue looks for jobs."""
    return f"poll {queue}"


def next_due(timers: Iterable[Timer], skip: Mapping[str, Instant]) -> Instant | None:
    """Tell when the first timer is due that is not left out: a round is, on its grid, before the instant in `skip`."""
    return min((_due(timer, skip.get(timer.round, 0)) for timer in timers if _counts(timer, skip)), default=None)


def _counts(timer: Timer, skip: Mapping[str, Instant]) -> bool:
    return timer.period is None or skip.get(timer.round, 0) < NEVER


def _due(timer: Timer, skip: Instant) -> Instant:
    if timer.period is None or timer.when >= skip:
        return timer.when
    return timer.when + -(-(skip - timer.when) // timer.period) * timer.period


# options --------------------------------------------------------------------------------------------------------------


def work_options(settings: Settings) -> dict[str, Any]:
    """Return the options of `work`, and the period of its polls in milliseconds.

    Raises UsageError for limits that a worker of pg-boss does not keep.
    """
    if settings.concurrency or settings.tool_concurrency:
        raise UsageError(
            "pg-boss's work() cannot limit how many jobs run at once over all workers",
            hint="Leave concurrency and tool_concurrency out; batch_size=1 lets a worker run one job at a time.",
        )
    seconds = settings.poll_interval / SECOND
    return {
        "options": {"batchSize": settings.batch_size, "pollingIntervalSeconds": seconds},
        "period": settings.poll_interval / MILLISECOND,
    }
