"""Where the sessions of all actors meet: one statement is released at a time, and who waits for whom is known.

A released statement is waited for in real time until PostgreSQL has answered it, or says that it
waits for a lock that another actor's session holds. Virtual time stands still meanwhile. A session
may be psycopg's or come through a proxy: all that is asked of it is a `GatedSession`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, Protocol

import psycopg

from job_harness.core.port import Sent
from job_harness.core.sim.outside import Pick
from job_harness.errors import LimitReached
from job_harness.worlds.patience import PATIENCE, Deadline, ready
from job_harness.worlds.postgres.absence import absent, means_absence, silence_of
from job_harness.worlds.postgres.gating.connection import GatedConnection
from job_harness.worlds.postgres.gating.pool import SessionPool

# what is asked of a session -------------------------------------------------------------------------------------------


class GatedSession(Protocol):
    """One session of one actor: psycopg's own, or one that another driver speaks through us."""

    flight: InFlightStatement | None
    """The statement that is under way."""
    severed: bool
    """Whether the actor died: it can do nothing any more."""

    @property
    def actor(self) -> str:
        """Whose it is."""

    @property
    def pid(self) -> int:
        """PostgreSQL's process behind it."""

    @property
    def socket(self) -> int:
        """The descriptor on which PostgreSQL answers."""

    @property
    def closed(self) -> bool:
        """Whether it ended."""

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, and no statement under way."""

    def transaction_time(self) -> int:
        """Return what the coordinator's clock showed when the transaction began."""

    def forget_time(self) -> None:
        """Take note that the transaction ended."""

    def give_back(self) -> None:
        """Keep it for the next run, cleaned; one that is in the middle of something is ended."""

    def drop(self) -> None:
        """End it, whatever it is doing; its locks are free afterwards."""


# a statement in flight ------------------------------------------------------------------------------------------------


READ: Final = 1
WRITE: Final = 2


class InFlightStatement:
    """Drives a generator of psycopg as far as the socket lets it, and keeps the result."""

    __slots__ = (
        "_descriptor",
        "_steps",
        "_wants",
        "actor",
        "blockers",
        "done",
        "error",
        "looked",
        "pid",
        "point",
        "value",
    )

    def __init__(self, steps: Generator[Any, Any, Any], *, actor: str, point: str, pid: int, descriptor: int) -> None:
        """Send what `steps` sends first."""
        self.actor = actor
        self.point = point
        self.pid = pid
        self.blockers: tuple[str, ...] = ()
        """Whom it waits for, where it waits for a lock."""
        self.looked = False
        """Whether its session, since it waits, has looked for a circle of waiting sessions and found none."""
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._steps = steps
        self._descriptor = descriptor
        self._wants = 0
        self._go(None)

    def pump(self, seconds: float = 0.0) -> bool:
        """Take what has come, waiting for at most `seconds`. False: nothing came."""
        if self.done:
            return True
        able = _readiness(self._descriptor, self._wants, seconds)
        if not able:
            return False
        self._go(able)
        return True

    def _go(self, ready: int | None) -> None:
        try:
            self._wants = int(self._steps.send(ready))
        except StopIteration as end:
            self.done = True
            self.value = end.value
        except psycopg.Error as error:
            self.done = True
            self.error = error
        except OSError as error:
            self.done = True
            self.error = psycopg.OperationalError(f"the connection broke: {error}")

    def abandon(self, error: BaseException) -> None:
        """End it without an answer: its session is gone."""
        self.done = True
        self.error = error

    def result(self) -> Any:
        """Return what the statement answered, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.value


def _readiness(descriptor: int, wants: int, seconds: float) -> int:
    reading, writing = [descriptor] if wants & READ else [], [descriptor] if wants & WRITE else []
    readable, writable = ready(reading, writing, seconds=seconds)
    return (READ if readable else 0) | (WRITE if writable else 0)


# the coordinator -----------------------------------------------------------------------------------------------------


FIRST: Final = 0.004
"""Seconds of real time before PostgreSQL is first asked what keeps a statement: one that waits says so by itself."""
QUICK: Final = 0.0003
"""Seconds of real time before it is asked again."""
GRACE: Final = 0.001
"""Seconds that a session gets, beyond its deadlock timeout, to have looked for a circle, where it does not tell."""
TOLD_WITHIN: Final = 1.0
"""Seconds after which a silent session is assumed to have looked: a user's code set `client_min_messages`."""
LONGEST_WAIT: Final = 0.05
"""Where deadlocks are looked for more rarely than this (seconds), no look is awaited; the victim is recorded."""


class SessionCoordinator:
    """Gives each actor its session, for one run. `come_to_rest` makes it an `Outside` of the kernel."""

    def __init__(
        self, pool: SessionPool, *, clock: Callable[[], int] = lambda: 0, patience_seconds: float = PATIENCE
    ) -> None:
        """Draw sessions from `pool`; a statement may take `patience_seconds` of real time unless it waits for a lock.

        `clock` tells virtual time, for `transaction_time`.
        """
        self.pool = pool
        self.clock = clock
        self.made_at = 0
        """What the clock showed at the first statement of the transaction that ended last."""
        self.patience_seconds = patience_seconds
        self.revision = 0
        """Rises whenever a transaction may have ended: what stands in the tables may have changed."""
        self._connections: dict[str, GatedConnection] = {}
        self._actors: dict[int, str] = {}
        """Who is behind a session, by PostgreSQL's process."""
        self._sessions: dict[int, GatedSession] = {}
        """The sessions of actors that live, by PostgreSQL's process."""
        self._ghosts: dict[int, GatedSession] = {}
        """Sessions that outlive the actors that had them."""
        self._parked: list[InFlightStatement] = []
        self._last = ""
        """Whose statement was answered last: who let go of a lock."""
        self._stuck: LimitReached | None = None
        self._sent: list[Sent] = []

    # for actors -----------------------------------------------------------------------------------------------------

    def connection(self, actor: str, *, autocommit: bool = True) -> GatedConnection:
        """Return the session of an actor, a new one where it has none or lost it.

        With `autocommit` each statement is a transaction of its own until the actor opens one.
        """
        connection = self._connections.get(actor)
        if connection is None or connection.closed:
            connection = GatedConnection(self.pool.take(), self, actor, autocommit=autocommit)
            self._connections[actor] = connection
            self.admit(connection)
        return connection

    def admit(self, session: GatedSession) -> None:
        """Take in a session that was opened elsewhere; an actor may have several."""
        self._sessions[session.pid] = session
        self._actors[session.pid] = session.actor

    def sent(self) -> list[Sent]:
        """Return what was sent since this was last asked."""
        sent, self._sent = self._sent, []
        return sent

    def release(
        self, session: GatedSession, steps: Generator[Any, Any, Any], point: str, *, sql: str
    ) -> InFlightStatement:
        """Send a statement and wait, in real time, until it is answered or waits for a lock of another actor.

        Raises LimitReached where neither comes.
        """
        if self._stuck is not None:
            raise self._stuck
        self._sent.append(Sent(session.actor, point, sql))
        flight = InFlightStatement(steps, actor=session.actor, point=point, pid=session.pid, descriptor=session.socket)
        session.flight = flight
        self._await([flight])
        if flight.done:
            self._landed(flight, session)
        else:
            self._parked.append(flight)
        return flight

    # for the kernel -------------------------------------------------------------------------------------------------

    def come_to_rest(self) -> list[Pick]:
        """Wait until every statement is answered or waits for a lock; tell which waiters PostgreSQL let go first."""
        waited = [flight for flight in self._parked if not flight.done]
        if not waited:
            return []
        chains = {flight.actor: self._chain(flight) for flight in waited}
        self._await(waited)
        answered = [flight for flight in waited if flight.done]
        picks = self._picks(waited, answered, chains)
        for flight in answered:
            self._landed(flight, self._sessions.get(flight.pid))
        self._parked = [flight for flight in self._parked if not flight.done]
        return picks

    def _chain(self, flight: InFlightStatement) -> frozenset[str]:
        """Return everybody whom a statement waits for, directly or behind others."""
        known = {parked.actor: parked.blockers for parked in self._parked}
        chain: set[str] = set()
        todo = list(flight.blockers)
        while todo:
            actor = todo.pop()
            if actor not in chain:
                chain.add(actor)
                todo.extend(known.get(actor, ()))
        return frozenset(chain)

    def _picks(
        self, waited: list[InFlightStatement], answered: list[InFlightStatement], chains: dict[str, frozenset[str]]
    ) -> list[Pick]:
        victims = [flight for flight in answered if isinstance(flight.error, psycopg.errors.DeadlockDetected)]
        picks = [Pick("deadlock", (self._last, victim.actor), victim.actor) for victim in victims]
        freed = [flight.actor for flight in answered if flight not in victims]
        letting_go = {self._last, *(victim.actor for victim in victims)}
        contested = [flight.actor for flight in waited if flight not in victims and chains[flight.actor] & letting_go]
        if freed and len(freed) < len(contested):
            picks.append(Pick(f"lock of {self._last}", tuple(contested), " and ".join(freed)))
        return picks

    def _await(self, flights: list[InFlightStatement]) -> None:
        """Wait until each is answered, or waits for a lock that one of us holds and has looked for a circle.

        The session that closes a circle later alone still looks: a deadlock has one victim, always
        the same.
        """
        # PostgreSQL is not asked at once about a statement that was just sent: most are answered
        # before FIRST is over, and a session that waits says so by itself then (log_lock_waits).
        # To ask costs a statement of our own each time.
        # A wait counts only once its session has looked for a circle. PostgreSQL looks when
        # deadlock_timeout has passed, each session for itself, and the last to look closes the
        # circle and is the victim. If the next actor were let go before that, two looks would
        # race, and the victim would depend on the load of the machine. With all earlier looks
        # done, the one that closes the circle later looks alone.
        deadline = Deadline(self.patience_seconds)
        looking: dict[int, tuple[tuple[str, ...], Deadline]] = {}
        if len(flights) == 1 and not flights[0].blockers:
            flights[0].pump(FIRST)
        while under_way := [flight for flight in flights if not flight.done]:
            waits = self.pool.monitor.waiting([flight.pid for flight in under_way])
            running = [flight for flight in under_way if not self._parks(flight, waits, looking)]
            if not running:
                return
            for flight in running:
                flight.pump(QUICK)
            if deadline.passed:
                raise self._out_of_patience(running[0])

    def _parks(
        self,
        flight: InFlightStatement,
        waits: Mapping[int, tuple[int, ...]],
        looking: dict[int, tuple[tuple[str, ...], Deadline]],
    ) -> bool:
        """Say whether a statement waits, and will go on waiting as long as no other actor acts."""
        flight.pump()  # what its session said before it began this wait
        blockers = self._ours(waits.get(flight.pid, ()))
        if flight.done or not blockers:
            return False
        if not flight.looked and flight.blockers != blockers:
            since = looking.get(flight.pid)
            if since is None or since[0] != blockers:
                since = looking[flight.pid] = (blockers, Deadline(self._look_seconds))
            if not since[1].passed:
                return False
        flight.blockers = blockers
        return True

    @property
    def _look_seconds(self) -> float:
        """How long at most to wait for the look."""
        if self.pool.tells:
            return TOLD_WITHIN
        look = self.pool.deadlock_seconds + GRACE
        return look if look < LONGEST_WAIT else 0.0

    def _ours(self, pids: tuple[int, ...]) -> tuple[str, ...]:
        """Name the blockers, if all of them are actors' sessions: for others it is only a matter of real time."""
        if not all(pid in self._actors for pid in pids):
            return ()
        return tuple(sorted({self._actors[pid] for pid in pids}))

    def _landed(self, flight: InFlightStatement, session: GatedSession | None) -> None:
        self._last = flight.actor
        if session is not None and isinstance(flight.error, psycopg.Error):
            self.heed(flight.error, f"during {flight.point!r} of {flight.actor}")
        if session is not None and session.idle:
            self.revision += 1
            self.made_at = session.transaction_time()
            session.forget_time()
        if isinstance(flight.error, psycopg.errors.DeadlockDetected):
            flight.error.args = (f"deadlock detected: {self._circle(flight)}",)
        flight.blockers = ()

    def heed(self, error: psycopg.Error, when: str) -> None:
        """Raise EnvironmentUnavailable where an error says that the server is gone, and it is: one session may end."""
        if means_absence(str(error), code=error.sqlstate or "") and silence_of(self.pool.url) is not None:
            raise absent(error, when=when) from error

    def _circle(self, victim: InFlightStatement) -> str:
        """Say in words who waited for whom: PostgreSQL's own words name processes and transactions, new each time."""
        others = [flight for flight in self._parked if victim.actor in self._chain(flight)]
        circle = ", ".join(f"{flight.actor} at {flight.point!r}" for flight in (victim, *others))
        return f"{circle} waited for each other" if others else f"{circle} waited in a circle"

    def _out_of_patience(self, flight: InFlightStatement) -> LimitReached:
        doing = self.pool.monitor.doing(flight.pid)
        self._stuck = LimitReached(
            f"{flight.actor}'s statement {flight.point!r} was not answered within {self.patience_seconds:g} real "
            f"seconds and waits for no lock of another actor; its session is {doing}",
            hint="Take the sleep or the endless loop out of the statement, or give the room more patience.",
        )
        return self._stuck

    # crashes --------------------------------------------------------------------------------------------------------

    def sever(self, actor: str) -> Callable[[], None]:
        """Take a dead actor's sessions from it; return what drops them, and with them what it had open.

        Until then its locks stay, and a statement under way goes on.
        """
        self._connections.pop(actor, None)
        dead = {pid: session for pid, session in self._sessions.items() if session.actor == actor}
        ghost = f"{actor}'s abandoned session"
        for pid, session in dead.items():
            session.severed = True
            self._ghosts[pid] = self._sessions.pop(pid)
            self._actors[pid] = ghost
            for flight in self._parked:
                if flight.pid == pid:
                    flight.actor = ghost
        return lambda: self._drop(dead, ghost)

    def _drop(self, dead: Mapping[int, GatedSession], name: str) -> None:
        for pid in [pid for pid in dead if pid in self._ghosts]:
            session = self._ghosts.pop(pid)
            gone = psycopg.OperationalError("the session was dropped")
            for flight in [flight for flight in self._parked if flight.pid == pid]:
                flight.abandon(gone)
                self._parked.remove(flight)
            self._actors.pop(pid, None)
            session.drop()
            self._last = name
            self.revision += 1

    # the end --------------------------------------------------------------------------------------------------------

    def leftovers(self) -> list[str]:
        """Say, one sentence each, what actors left open: waiting statements, transactions, advisory locks."""
        waiting = [f for f in self._parked if not f.done]
        found = [f"{f.actor} still waits at {f.point!r} for a lock of {' and '.join(f.blockers)}" for f in waiting]
        busy = {flight.pid for flight in waiting}
        live = {pid: session for pid, session in self._sessions.items() if not session.closed and pid not in busy}
        found.extend(
            f"{session.actor} left a transaction open; it was rolled back"
            for session in live.values()
            if session.in_transaction
        )
        for pid, count in self.pool.monitor.advisory_locks(live).items():
            found.append(f"{live[pid].actor} left {count} advisory lock{'s' * (count > 1)}; released")
        return found

    def close(self) -> None:
        """Give all sessions back; what was open is rolled back, what was under way is ended."""
        self._parked.clear()
        for session in self._ghosts.values():
            session.drop()
        self._ghosts.clear()
        for session in self._sessions.values():
            session.severed = True
            session.give_back()
        self._sessions.clear()
        self._connections.clear()
        self._actors.clear()
