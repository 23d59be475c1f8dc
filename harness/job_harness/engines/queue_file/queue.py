"""A queue in a table as a `QueueUnderTest`: one step for each verb, or a gate at each statement of an actor's session.

The first can be set back to a snapshot of its tables, which is what a complete search needs. Knows
no YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from job_harness.core.history import Outcome
from job_harness.core.model import Instant, JobId, JobView, Settings
from job_harness.core.port import Capabilities, EngineClocks, Sent
from job_harness.engines.foreign_queue import OneTableQueue
from job_harness.engines.queue_file.database import QueueDatabase, places_of
from job_harness.engines.queue_file.rows import RowReader
from job_harness.engines.queue_file.snapshot import FileQueueState, TableSnapshots
from job_harness.engines.queue_file.verbs import WRITING, Planned, TableVerbs, VerbResult, parameters, raised, stops
from job_harness.worlds.postgres.gating import SessionCoordinator, SessionPool
from job_harness.worlds.postgres.gating.connection import GatedConnection, GatedRawCursor
from job_harness.worlds.postgres.virtual_clock import standing_since
from job_harness.worlds.wire.database import timestamp_of

ASKED = frozenset(
    ("enqueue", "claim", "heartbeat", "complete", "fail", "release", "cancel", "retry", "expire", "purge", "reconcile",
     "rescue")
)  # fmt: skip
"""The verbs of the port; reconcile and rescue find one table, and nothing to do in it."""


NOT_SENT: Final = (VerbResult("INSERT", 0, None),)
"""What an enqueue comes to that a constraint refuses."""


def refusal(verb: str, error: psycopg.Error) -> str | None:
    """Return what a RAISE said, of any code; None for a constraint that keeps a job out. Raises any other error."""
    if verb == "enqueue" and isinstance(error, psycopg.errors.IntegrityError):
        return None
    if (reason := raised(error)) is not None:
        return reason
    raise shorten_error(error) from None


def shorten_error(error: psycopg.Error) -> psycopg.Error:
    """Return what PostgreSQL refused in one line, with the place of the statement and nothing of this session alone."""
    if error.diag.message_primary and not isinstance(error, psycopg.errors.DeadlockDetected):
        places = "".join(f" (at {note})" for note in places_of(error))
        error.args = (f"{error.diag.message_primary}{places}",)
    return error


# one step for each verb -----------------------------------------------------------------------------------------------


class FileQueue:
    """Every verb is one transaction and one step. What a verb came to on the same rows is not asked again.

    It has no base that has verbs of its own: each one has to reach `__getattr__`.
    """

    def __init__(
        self,
        database: QueueDatabase,
        *,
        settings: Settings,
        clocks: EngineClocks,
        jitter: Callable[[], float],
        capabilities: Capabilities,
        snapshots: TableSnapshots,
    ) -> None:
        self.capabilities: Capabilities = capabilities
        self._database = database
        self._clocks = clocks
        self._snapshots = snapshots
        self._reader = RowReader(
            database.file, database.columns, max_attempts=settings.max_attempts, clock=clocks.store
        )
        self._verbs = TableVerbs(
            database.file,
            settings=settings,
            clocks=clocks,
            jitter=jitter,
            reader=self._reader,
            look=self.jobs,
            tells_twice=database.tells_twice,
        )
        self._seen: Mapping[JobId, JobView] | None = None
        self._news = True
        self._sent: list[Sent] = []
        self._set_back: FileQueueState | None = None
        """The state in which it is, where the tables do not say so yet."""

    def __getattr__(self, verb: str) -> Callable[..., Outcome]:
        """Return a verb."""
        if verb not in ASKED:
            raise AttributeError(verb)
        return partial(self._ask, verb)

    def _ask(self, verb: str, *arguments: Any) -> Outcome:
        planned = self._verbs.plan(verb, arguments)
        if isinstance(planned, Outcome):
            return planned
        return self._recalled(verb, planned) if self._snapshots.recalls else self._act(verb, planned)

    def _recalled(self, verb: str, planned: Planned) -> Outcome:
        """Return what a verb comes to on the rows as they are, asked once, and go to the state after it."""
        before = self.snapshot()
        asked = (id(before), verb, self.now, repr(planned.values), planned.chance)
        known = self._snapshots.came_to.get(asked)
        if known is not None:
            outcome, state = known
            self.restore(state)
            return outcome
        outcome = self._act(verb, planned)
        self._snapshots.begin()
        self._snapshots.came_to[asked] = outcome, self.snapshot()
        return outcome

    def _act(self, verb: str, planned: Planned) -> Outcome:
        """Carry out a verb on the tables as they are."""
        self.in_place()
        self._database.set_now(self._clocks.store())
        if planned.chance is not None:
            self._database.foreign.set_chance(planned.chance)
        self._reader.claimer, self._reader.verb = planned.values.get("worker") if verb == "claim" else None, verb
        try:
            results: Sequence[VerbResult] = self._database.carry_out(verb, planned.values, sent=self._sent.append)
        except psycopg.Error as error:
            if (reason := refusal(verb, error)) is not None:
                return Outcome.refused(reason)
            results = NOT_SENT
        self._seen, self._news = None, True
        return planned.after(results)

    def jobs(self) -> Mapping[JobId, JobView]:
        """Return all jobs, read again where a verb has acted."""
        if self._seen is None:
            self._seen = self._reader.views(self._database.look(self._verbs.standing()))
            self._reader.claimer = None
        return self._seen

    def statements(self) -> list[Sent]:
        """Return what verbs sent since this was last asked."""
        sent, self._sent = self._sent, []
        return sent

    def changed(self) -> list[JobId] | None:
        """Return nothing where no verb acted, else None: changes are not tracked."""
        news, self._news = self._news, False
        return None if news else []

    def close(self) -> None:
        """Give nothing back: the database belongs to the engine."""

    # snapshots ------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> Instant:
        """What the store's clock shows."""
        return self._clocks.store()

    def snapshot(self) -> FileQueueState:
        """Return the state as a value; from here on, what a verb comes to is remembered by state."""
        self._snapshots.recalls = True
        if self._set_back is None:
            views = self.jobs()
            self._set_back = self._snapshots.taken(views, self._reader.remembered)
        return self._set_back

    def restore(self, state: FileQueueState) -> None:
        """Go back to a state; the tables follow when a verb asks them."""
        self._set_back = state
        self._seen, self._news = state.views, True
        self._reader.remembered = state.content.remembered.copy()
        self._reader.shown = state.views

    def in_place(self) -> None:
        """Let the tables be what the state says."""
        if self._set_back is not None:
            self._snapshots.put(self._set_back.content)
            self._set_back = None


# a gate at each statement ---------------------------------------------------------------------------------------------


class ActorTable:
    """The queue as one actor reaches it."""

    def __init__(self, queue: GatedTableQueue, actor: str) -> None:
        self._queue = queue
        self._actor = actor

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        """Return a verb, each statement of which is a gate."""
        if verb not in ASKED:
            raise AttributeError(verb)
        return partial(self._queue.ask, self._actor, verb)


class GatedTableQueue(OneTableQueue):
    """Sees all jobs from the harness's own session; `on_behalf` gives the queue of one actor."""

    def __init__(
        self,
        database: QueueDatabase,
        pool: SessionPool,
        *,
        patience_seconds: float,
        settings: Settings,
        clocks: EngineClocks,
        jitter: Callable[[], float],
        capabilities: Capabilities,
    ) -> None:
        self.capabilities: Capabilities = capabilities
        self._database = database
        self._clocks = clocks
        self._coordinator = SessionCoordinator(pool, clock=clocks.store, patience_seconds=patience_seconds)
        self._reader = RowReader(
            database.file, database.columns, max_attempts=settings.max_attempts, clock=self.made_at
        )
        self._verbs = TableVerbs(
            database.file,
            settings=settings,
            clocks=clocks,
            jitter=jitter,
            reader=self._reader,
            look=self.jobs,
            tells_twice=database.tells_twice,
        )
        self._seen: Mapping[JobId, JobView] = {}
        self._revision: tuple[int, int] | None = None
        self._news = False

    def on_behalf(self, actor: str) -> ActorTable:
        """Return the queue as this actor's session reaches it."""
        return ActorTable(self, actor)

    def sever(self, actor: str) -> Callable[[], None]:
        """Take a dead actor's session from it; return what drops it."""
        self._reader.remembered.end_process(actor)
        return self._coordinator.sever(actor)

    def made_at(self) -> Instant:
        """Return the store's clock at the first statement of the transaction that ended last."""
        return self._coordinator.made_at

    def leftovers(self) -> list[str]:
        """Say what actors left open."""
        return self._coordinator.leftovers()

    def statements(self) -> list[Sent]:
        """Return what actors' sessions were sent since this was last asked."""
        return self._coordinator.sent()

    def jobs(self) -> Mapping[JobId, JobView]:
        """Return all jobs, read again where a transaction may have ended."""
        revision = (self._coordinator.revision, len(self._reader.remembered.ended))
        if self._revision != revision:
            self._revision = revision
            self._seen, self._news = self._reader.views(self._database.look(self._verbs.standing())), True
        return self._seen

    def changed(self) -> list[JobId] | None:
        """Return nothing where no transaction ended, else None: changes are not tracked."""
        news, self._news = self._news, False
        return None if news else []

    def close(self) -> None:
        """Give all sessions back."""
        self._coordinator.close()

    async def ask(self, actor: str, verb: str, *arguments: Any) -> Outcome:
        """Carry out a verb in the actor's session."""
        planned = self._verbs.plan(verb, arguments, caller=actor)
        if isinstance(planned, Outcome):
            return planned
        claimer = planned.values.get("worker") if verb == "claim" else None
        connection = self._coordinator.connection(actor)
        connection.row_factory, connection.cursor_factory = dict_row, GatedRawCursor
        try:
            results = await self._statements(connection, verb, planned, claimer)
        except psycopg.Error as error:
            if not connection.severed and not connection.closed and not connection.idle:
                connection.end_now(commit=False)
            if (reason := refusal(verb, error)) is not None:
                return Outcome.refused(reason)
            results = NOT_SENT
        self._reader.claimer, self._reader.verb = claimer, verb
        return planned.after(results)

    async def _statements(
        self, connection: GatedConnection, verb: str, planned: Planned, claimer: str | None
    ) -> Sequence[VerbResult]:
        statements = self._database.file.verbs[verb]
        results: list[VerbResult] = []
        for number, statement in enumerate(statements):
            await connection.gate(statement.point)
            self._at_the_gate(connection, planned.chance, begins=number == 0)
            try:
                cursor = await connection.execute(
                    statement.sql, parameters(statement, planned.values, results), prepare=True
                )
                results.append(await _read(cursor))
            except psycopg.Error as error:
                error.add_note(statement.place_of(error.diag.column_name))
                raise
            if stops(verb, results[-1], last=number == len(statements) - 1):
                break
        self._reader.claimer, self._reader.verb = claimer, verb
        if not changed_a_row(results) and not connection.wrote:
            connection.end_now(commit=True)
            return results
        await connection.gate(f"commit {statements[len(results) - 1].point}")
        await connection.commit()
        self._reader.claimer, self._reader.verb = claimer, verb
        return results

    def _at_the_gate(self, connection: GatedConnection, chance: float | None, *, begins: bool) -> None:
        """Set the clock now that the statement has its turn; the first one's turn is when the transaction begins."""
        self._database.set_now(self._clocks.store())
        if chance is not None:
            self._database.foreign.set_chance(chance)
        if begins:
            standing = standing_since(timestamp_of(connection.transaction_time()))
            connection.begin_now(f"BEGIN; {standing}".encode())


def changed_a_row(results: Sequence[VerbResult]) -> bool:
    """Say whether statements say so of themselves. They may have written where none does: in a WITH, by a trigger."""
    return any(result.tag in WRITING and result.changed > 0 for result in results)


async def _read(cursor: Any) -> VerbResult:
    tag = (cursor.statusmessage or "").partition(" ")[0]
    return VerbResult(tag, cursor.rowcount, await cursor.fetchall() if cursor.description else None)
