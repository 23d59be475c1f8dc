"""Every verb once, before anything is judged: what would not work at all is told with the line where it is written.

One job is sent, taken and settled as far as the SQL lets it, and what it leaves is deleted. What a verb does wrongly is
no business of this module, as long as it does something: a wrong queue is to be searched, not refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import psycopg

from job_harness.core.history.outcome import Outcome
from job_harness.core.model.job import JobId, JobView
from job_harness.core.model.lifecycle import Status
from job_harness.core.port import Claim, JobRequest
from job_harness.core.sim.clock import Clocks
from job_harness.engines.queue_file.database import QueueDatabase, places_of
from job_harness.engines.queue_file.rows import Remembered, RowReader
from job_harness.engines.queue_file.verbs import Planned, TableVerbs, VerbResult, raised

JOB: Final = "rehearsal"
WORKER: Final = "w1"
MAY_REFUSE: Final = ("retry", "purge")
"""What is asked of a job in whatever state it is: a function that raises there says that this is not its time."""


def rehearse(database: QueueDatabase) -> None:
    """Try every verb of the file once.

    Raises QueueFileError where one raises, does not end, commits by itself or changes a table that is none of the
    queue's, and where `jobs` shows something that is no job.
    """
    rehearsal = _Rehearsal(database)
    try:
        rehearsal.go()
    finally:
        database.session.execute(b"SELECT pg_advisory_unlock_all()")
        database.empty()


class _Rehearsal:
    """One job on its way through the verbs."""

    def __init__(self, database: QueueDatabase) -> None:
        self._database = database
        self._file = database.file
        settings = database.file.settings
        self._reader = RowReader(database.file, database.columns, max_attempts=settings.max_attempts, clock=lambda: 0)
        self._verbs = TableVerbs(
            database.file,
            settings=settings,
            clocks=Clocks(),
            jitter=lambda: 0.0,
            reader=self._reader,
            look=self._look,
        )

    def _look(self) -> Mapping[JobId, JobView]:
        return self._reader.views(self._database.look(self._verbs.standing()))

    def go(self) -> None:
        """Send, take, settle; then the same for each other way in which a claim can end."""
        self._database.set_now(0)
        for end in ("complete", "fail", "release", "cancel", "expire"):
            if end in self._file.verbs:
                self._database.empty()
                self._reader.remembered, self._reader.shown = Remembered(), {}
                self._sent()
                self._ended(end, self._taken())
        for verb in ("retry", "purge"):
            if verb in self._file.verbs:
                self._ask(verb, *((JOB,) if verb == "retry" else ()))

    def _sent(self) -> None:
        outcome = self._ask("enqueue", JobRequest(JOB, input={"job": JOB}, unique_key="k"))
        source = self._file.verbs["enqueue"][0].source
        shown = self._look()
        if not outcome.done:
            raise source.error(
                f"it inserts nothing into empty tables: {outcome.reason}", hint="Look at its conditions."
            )
        if JOB not in shown:
            seen = f"it shows {', '.join(shown)}" if shown else "it shows nothing"
            raise self._file.jobs.source.error(
                f"enqueue was given {JOB!r} as :job, and {seen}",
                hint="The column id must be the value of :job. Where the table makes its own ids, keep :job in "
                "the row, "
                "show that as id, and the table's own as key.",
            )
        if shown[JOB].status is not Status.PENDING:
            raise source.error(f"a job that was just sent is {shown[JOB].status}", hint="It has to be PENDING.")

    def _taken(self) -> Claim | None:
        outcome = self._ask("claim", WORKER, 1)
        claims = outcome.value or []
        view = self._look().get(JOB)
        if not claims and view is not None and view.status is Status.PENDING:
            raise self._file.verbs["claim"][0].source.error(
                "it takes nothing, although one job is due", hint="Look at its conditions, and at :limit."
            )
        return claims[0] if claims else None

    def _ended(self, verb: str, claim: Claim | None) -> None:
        if claim is None and verb not in ("cancel", "expire"):
            return
        if "heartbeat" in self._file.verbs and claim is not None:
            self._ask("heartbeat", claim)
        arguments: dict[str, tuple[object, ...]] = {
            "complete": (claim, {"done": True}),
            "fail": (claim, "rehearsed", False),
            "release": (claim,),
            "cancel": (JOB,),
            "expire": (),
        }
        self._ask(verb, *arguments[verb])
        self._look()

    def _ask(self, verb: str, *arguments: object) -> Outcome:
        planned = self._verbs.plan(verb, arguments)
        if isinstance(planned, Outcome):
            return planned
        try:
            return planned.after(self._carried_out(verb, planned))
        except psycopg.Error as error:
            return Outcome.refused(str(error))

    def _carried_out(self, verb: str, planned: Planned) -> list[VerbResult]:
        statements = self._file.verbs[verb]
        self._reader.verb = verb
        try:
            return self._database.carry_out(verb, planned.values, watch=lambda: self._watch(verb))
        except psycopg.errors.QueryCanceled:
            raise statements[0].source.error(
                f"{self._database.overdue}, with no other session at work",
                hint="Take the sleep, the endless loop or the lock that is never released out of it.",
            ) from None
        except psycopg.errors.InvalidTransactionTermination as error:
            raise statements[0].source.error(
                f"it ends its transaction by itself: {error.diag.message_primary}",
                hint="A verb is one transaction: take COMMIT and ROLLBACK out of the procedure that it calls.",
            ) from None
        except psycopg.Error as error:
            if verb in MAY_REFUSE and raised(error) is not None:
                raise
            statement = next(
                (s for s in statements if s.source.place(s.offsets[0][1]) in places_of(error)), statements[0]
            )
            self._database.refuse(error, statement.source, statement.at, f"the verb {verb} fails on a first job")

    def _watch(self, verb: str) -> None:
        """Look at what it changed, before that is committed."""
        if not self._file.tables:
            return
        changed = {name.removeprefix("public.") for name in self._database.changed_tables()}
        if other := sorted(changed - {name.removeprefix("public.") for name in self._file.tables}):
            raise self._file.verbs[verb][0].source.error(
                f"it changes the table {other[0]}, which is not listed under `tables`",
                hint=f"Add {other[0]} to `tables` where that is meant; it is emptied between runs then.",
            )
