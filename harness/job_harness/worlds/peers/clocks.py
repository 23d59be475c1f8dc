"""Who owns the clock of each actor and each store, how it is told the time, and how that is proved.

`CLOCKS` is the table of docs/contracts/clocks.md. `prove` is what another project's engine has to pass before it is
searched: a due job becomes due, and a lease really expires, both not before. Must not know: any particular queue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from job_harness.core.history import Outcome
from job_harness.core.model import HOUR, Duration, Settings
from job_harness.core.port import EngineClocks, JobRequest
from job_harness.core.sim import Clocks
from job_harness.errors import UsageError
from job_harness.worlds.postgres.virtual_clock import VirtualClockError

VERSION: Final = 1
"""Of the contract."""


@dataclass(frozen=True, slots=True)
class ClockOwner:
    """One kind of clock. What is named is `module:attribute`, or a path from the root of the project."""

    whose: str
    owner: str
    """Who alone moves it."""
    told: str
    """How its reader hears what time it is."""
    proof: tuple[str, ...]
    """What fails where it does not follow: something that runs at each start, a test, a scenario with its control."""
    engines: tuple[str, ...] = ()
    """The shipped engines whose store it is."""


_TESTS: Final = "tests/contract"
CLOCKS: Final = (
    ClockOwner(
        "stock workers, cron, producers, operators",
        "job_harness.core.sim.clock:Clocks",
        "an actor reads `Clocks.of(its name)`: true time, and what faults have set it wrong by",
        ("tests/unit/test_clock_drift.py", "scenarios/clocks/worker_clocks_are_off.yaml"),
    ),
    ClockOwner(
        "a store in memory",
        "job_harness.core.sim.clock:Clocks",
        "a verb reads `Clocks.store`",
        ("scenarios/clocks/store_clock_is_ahead.yaml",),
        engines=("memory", "reference"),
    ),
    ClockOwner(
        "the reference store on PostgreSQL",
        "job_harness.core.sim.clock:Clocks",
        "every statement takes `:now`",
        ("scenarios/clocks/store_clock_is_behind.yaml",),
        engines=("postgres",),
    ),
    ClockOwner(
        "PostgreSQL under another project's SQL",
        "job_harness.worlds.wire.database:ForeignDatabase",
        "`now()` and its kin are functions over a sequence, which is set before each request",
        ("job_harness.worlds.postgres.virtual_clock:check", f"{_TESTS}/test_postgres_clock.py"),
        engines=(
            *("pgboss", "pgboss-node", "procrastinate", "pgqueuer", "graphile-worker"),
            *("bullmq", "django-tasks-db", "chancy"),
        ),
    ),
    ClockOwner(
        "Redis under another project's scripts",
        "job_harness.worlds.redis.store:RedisStore",
        "libfaketime reads the server's time from a file, which is written before each request; keys end by it",
        ("job_harness.worlds.redis.server:RedisServer", f"{_TESTS}/test_redis.py"),
        engines=("bullmq-redis", "celery-redis", "dramatiq-redis"),
    ),
    ClockOwner(
        "another project's queue in Node",
        "harness/job_harness/worlds/peers/clock.mjs",
        "`now` of each message of the peer protocol; timers never fire",
        ("job_harness.worlds.peers.clocks:prove", f"{_TESTS}/test_contract_peer_protocol.py"),
    ),
    ClockOwner(
        "another project's queue in Python",
        "job_harness.worlds.wire.database:ForeignDatabase",
        "it keeps no clock, and says so in `hello`; where its library asks for the time, a request carries it",
        (f"{_TESTS}/test_foreign_engines.py",),
    ),
    ClockOwner(
        "pg-boss's own `work()`",
        "harness/job_harness/worlds/peers/clock.mjs",
        "one `time` of the peer protocol for each timer; the database's clock is set before it",
        ("job_harness.engines.pgboss.work:WorkProcess.begin", f"{_TESTS}/test_pgboss_work.py"),
    ),
    ClockOwner(
        "PostgreSQL under a user's own processes",
        "job_harness.subjects.systems.database:SystemDatabase",
        "`now()` and its kin as above; CURRENT_TIMESTAMP and its kin are written as `now()` in what passes the proxy",
        ("job_harness.worlds.postgres.virtual_clock:check", f"{_TESTS}/test_systems.py"),
    ),
    ClockOwner(
        "a user's own process in Node",
        "harness/job_harness/worlds/peers/clock.mjs",
        "`now` of each turn; a timer fires when a turn names it",
        (f"{_TESTS}/test_systems.py",),
    ),
    ClockOwner(
        "a user's own process in Python",
        "harness/job_harness/subjects/systems/python/sitecustomize.py",
        "`now` of each turn; a timer fires when a turn names it",
        (f"{_TESTS}/test_systems.py",),
    ),
    ClockOwner(
        "a TypeScript processor",
        "harness/job_harness/worlds/peers/clock.mjs",
        "`now` of each message is the time of the loop that it belongs to",
        (f"{_TESTS}/test_typescript_processors.py",),
    ),
    ClockOwner(
        "a Python processor, the reference worker",
        "job_harness.core.sim.loop:VirtualLoop",
        "asyncio's own timers; in a processor `time.time()`, `datetime.now()`, sleeps and waits of threads too",
        ("tests/unit/test_loop_virtual_time.py", "tests/unit/test_guest_threads.py"),
    ),
    ClockOwner(
        "the time of day in a user's test",
        "job_harness.subjects.processors.job_clock:JobClock",
        "freezegun follows the loop, where a test asks for it (`job_clock.freeze()`)",
        ("tests/plugin/test_plugin_fixtures.py",),
    ),
    ClockOwner(
        "patience with processes and servers",
        "job_harness.worlds.patience:Deadline",
        "the machine's monotonic clock; no actor and no store ever reads it",
        (f"{_TESTS}/test_contract_clocks.py",),
    ),
)


# the proof -----------------------------------------------------------------------------------------------------------

JOB: Final = "proof"
WORKER: Final = "w1"
MOMENT: Final = 1
"""Comparisons may be strict: what is due at t may be due a microsecond later."""


def prove(
    open_queue: Callable[[Settings, EngineClocks, Callable[[], float]], Any],
    *,
    name: str,
    settings: Settings | None = None,
    moment: Duration = MOMENT,
) -> Duration:
    """Send a job for later, claim it when it is due, and let its lease run out, on a queue opened for it.

    Returns how long after its time a job becomes due: 0, or the `moment` of a strict comparison.

    Raises VirtualClockError that names what did not follow.
    """
    clock = Clocks()
    settings = settings or Settings()
    queue = open_queue(settings, clock, lambda: 0.0)

    def expect(what: str, holds: bool, answered: Outcome) -> None:
        if not holds:
            raise VirtualClockError(
                f"{name} does not follow the virtual clock: {what}; it answered {answered}",
                hint="This release reads a clock that is not the harness's: name another release.",
            )

    sent = queue.enqueue(JobRequest(JOB, start_after=HOUR))
    if not sent.done:
        raise UsageError(f"{name} cannot be proven to follow the virtual clock: it accepted no job: {sent}")
    early = queue.claim(WORKER, 1)
    expect("a job was claimed an hour before it was due", early.done and not early.value, early)
    clock.now = HOUR
    due = queue.claim(WORKER, 1)
    if due.done and not due.value:
        clock.now += moment
        due = queue.claim(WORKER, 1)
    strictly = clock.now - HOUR
    expect("a job was not claimed when it was due", due.done and len(due.value) == 1, due)
    clock.now += settings.lease - moment
    held = queue.expire()
    expect("a lease expired before its time", held.done and not held.value, held)
    clock.now += 2 * moment
    expired = queue.expire()
    expect("a lease did not expire", expired.done and expired.value == [JOB], expired)
    return strictly
