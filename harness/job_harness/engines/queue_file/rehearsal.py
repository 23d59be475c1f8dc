"""Every verb once, before anything is judged: what would not work at all is told with the line where it is written.

One job is sent, taken and settled as far as the SQL lets it, and what it leaves is deleted. What a
verb does wrongly is no business of this module, as long as it does something: a wrong queue is to
be searched, not refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

import psycopg

from job_harness.core.history import Outcome
from job_harness.core.invariants.clocks import TOLERANCE
from job_harness.core.invariants.property import Rules
from job_harness.core.model import LONGEST, SECOND, Duration, Instant, JobId, JobView, Status, format_duration
from job_harness.core.port import Claim, JobRequest
from job_harness.core.sim import Clocks
from job_harness.engines.queue_file.columns import RowAt, misread_columns, misread_wait
from job_harness.engines.queue_file.database import QueueDatabase, places_of
from job_harness.engines.queue_file.rows import Remembered, RowReader
from job_harness.engines.queue_file.statement import QueueFileError
from job_harness.engines.queue_file.verbs import Planned, TableVerbs, VerbResult, raised

JOB: Final = "rehearsal"
WORKER: Final = "w1"
MANY: Final = 40
"""As many attempts as a search lets a job have."""
MAY_REFUSE: Final = ("retry", "purge")
"""What is asked of a job in whatever state it is: a function that raises there says that this is not its time."""


def rehearse(database: QueueDatabase) -> None:
    """Try every verb of the file once.

    Raises QueueFileError where one raises, does not end, commits by itself or changes a table that
    is none of the queue's, and where `jobs` shows something that is no job.
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
        self._clocks = Clocks()
        self._reader = RowReader(database.file, database.columns, max_attempts=settings.max_attempts, clock=lambda: 0)
        self._verbs = TableVerbs(
            database.file,
            settings=settings,
            clocks=self._clocks,
            jitter=lambda: 0.0,
            reader=self._reader,
            look=self._look,
            tells_twice=True,
        )

    def _look(self) -> Mapping[JobId, JobView]:
        return self._reader.views(self._database.look(self._verbs.standing()))

    def go(self) -> None:
        """Send, take, settle; then the same for each other way in which a claim can end."""
        for end in ("complete", "fail", "release", "cancel", "expire"):
            if end in self._file.verbs:
                self._begin()
                self._sent(1 if end == "complete" else self._file.settings.max_attempts)
                claim = self._taken()
                self._ended(end, claim)
                if end == "fail" and claim is not None and self._file.fencing:
                    self._refuse_one_token([claim.token, *self._tokens_of_retries()])
        for verb in ("retry", "purge"):
            if verb in self._file.verbs:
                self._ask(verb, *((JOB,) if verb == "retry" else ()))
        if self._database.tells_twice:
            self._send_again()
        self._refuse_misread(list(self._life()))
        self._refuse_other_order()
        own = self._file.fixed & {"retry_delay", "retry_delay_max", "retry_backoff"}
        if own and "start_after" in self._database.columns and "backoff_out_of_range" not in self._file.without:
            self._refuse_other_waits()

    def _begin(self) -> None:
        """Empty the tables, and forget what was there."""
        self._at(0)
        self._database.empty()
        self._reader.remembered, self._reader.shown = Remembered(), {}

    def _at(self, now: Instant) -> None:
        self._clocks.advance(now)
        self._database.set_now(now)

    # what the columns of `jobs` show --------------------------------------------------------------------------------

    def _row_at(self, moment: str) -> RowAt | None:
        rows = self._database.look(self._verbs.standing())
        return RowAt(moment, self._clocks.now, rows[0]) if len(rows) == 1 else None

    def _life(self) -> Iterator[RowAt]:
        """Let a job be claimed, beat, fail, be claimed again and complete, a second between each; end where it does."""
        self._begin()
        self._sent(max(2, self._file.settings.max_attempts))
        yield from filter(None, [self._row_at("sent")])
        claim = self._taken()
        yield from filter(None, [self._row_at("claimed")])
        if claim is None:
            return
        if "heartbeat" in self._file.verbs:
            self._at(self._clocks.now + SECOND)
            if self._ask("heartbeat", claim).done:
                yield from filter(None, [self._row_at("kept alive")])
        self._at(self._clocks.now + SECOND)
        self._ask("fail", claim, "rehearsed", False)
        view = self._look().get(JOB)
        if view is not None and view.status is Status.PENDING:
            yield from filter(None, [self._row_at("failed")])
            self._at(max(view.start_after, self._clocks.now) + SECOND)
            claim = next(iter(self._ask("claim", WORKER, 1).value or []), None)
            if claim is None:
                return
            yield from filter(None, [self._row_at("claimed again")])
        else:
            self._begin()
            self._sent(1)
            claim = self._taken()
        self._at(self._clocks.now + SECOND)
        if claim is not None and self._ask("complete", claim, {"done": True}).done:
            yield from filter(None, [self._row_at("completed")])

    def _refuse_misread(self, life: Sequence[RowAt]) -> None:
        if life:
            for told, hint in misread_columns(life, designs=self._file.designs, without=self._file.without):
                raise self._file.jobs.source.error(told, hint=hint)

    def _refuse_other_order(self) -> None:
        """Refuse a file in whose queue the smaller number goes first: a search asks for the greater one."""
        shown = "priority" in self._database.columns and self._file.asks("priority", "enqueue")
        if not shown or "priority_inversion" in self._file.without:
            return
        self._begin()
        for job, priority in (("first", 5), ("second", 0)):
            self._ask("enqueue", JobRequest(job, input={"job": job}, unique_key=job, priority=priority))
            self._at(self._clocks.now + SECOND)
        claims = self._ask("claim", WORKER, 1).value
        if claims and claims[0].job == "second":
            raise self._file.verbs["claim"][-1].source.error(
                "it took a job of priority 0 although an older one of priority 5 was waiting",
                hint="The greater number goes first. Where the smaller one does in your queue, send "
                "`- :priority::int` and show `- priority AS priority`. If it is meant: "
                "`without: {priority_inversion: why}`.",
            )

    def _refuse_other_waits(self) -> None:
        """Refuse settings that say otherwise how long a failed job waits: each failure would be an anomaly."""
        self._begin()
        self._sent(MANY)
        rules = Rules(self._file.settings, excuses={}, longest=self._file.longest)
        for _ in range(MANY):
            claims = self._ask("claim", WORKER, 1).value
            before = self._row_at("claimed")
            if not claims or before is None:
                return
            try:
                self._ask("fail", claims[0], "rehearsed", False)
            except QueueFileError:  # A power that no type holds is a finding, and the first failure went well.
                return
            view, after = self._look().get(JOB), self._row_at("failed")
            if view is None or after is None or view.status is not Status.PENDING:
                return
            bounds = rules.waits(JOB, attempts=view.attempts)
            if bounds[1] >= LONGEST:
                return
            wrong = misread_wait(before, after, attempts=view.attempts, bounds=bounds, settings=self._file.settings)
            if wrong is not None:
                told, hint = wrong
                name = "retry_delay" if view.attempts == 1 else "retry_delay_max"
                key = next((f"settings.{n}" for n in (name, "retry_delay") if n in self._file.given), "settings")
                raise QueueFileError(
                    f"{self._file.place(key)}: {told}",
                    hint=f"{hint} If it is meant: `without: {{backoff_out_of_range: why}}`.",
                )
            self._at(max(view.start_after, self._clocks.now) + SECOND)

    def _send_again(self) -> None:
        """See whether ON CONFLICT keeps out a job that is sent again, or only another of the same unique key."""
        self._database.empty()
        for key in ("k", None):
            planned = self._verbs.plan("enqueue", (JobRequest(JOB, input={"job": JOB}, unique_key=key),))
            if isinstance(planned, Planned):
                with suppress(psycopg.Error):
                    self._database.carry_out("enqueue", planned.values)
        rows = self._database.look(self._verbs.standing())
        self._database.tells_twice = len(rows) < 2

    def _sent(self, most: int) -> None:
        outcome = self._ask("enqueue", JobRequest(JOB, input={"job": JOB}, unique_key="k", max_attempts=most))
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
        if shown[JOB].attempts:
            raise self._file.jobs.source.error(
                f"attempts is {shown[JOB].attempts} of a job that was just sent, with {most} as :max_attempts",
                hint="Count deliveries: 0 before the first. From attempts that are left, subtract what was sent.",
            )
        if shown[JOB].status is not Status.PENDING:
            raise source.error(f"a job that was just sent is {shown[JOB].status}", hint="It has to be PENDING.")

    def _taken(self) -> Claim | None:
        before = self._look().get(JOB)
        for now in (0, 1, SECOND):  # Right is `due < now()` too, and a time that is rounded to the next second.
            self._at(now)
            claims = self._ask("claim", WORKER, 1).value or []
            view = self._look().get(JOB)
            if claims and view == before:
                raise self._file.verbs["claim"][-1].source.error(
                    "it returns the job, and leaves it as it was: `jobs` shows no claim",
                    hint="Let it change the row, and `jobs` show that. If its lock is the claim, in a transaction that "
                    "stays open until the job has ended, a queue file cannot describe your queue: write an adapter "
                    "(`job-harness docs write_an_adapter`).",
                )
            if claims and view is not None and view.lease_until is not None:
                self._refuse_other_lease(view.lease_until - now)
            if claims or view is None or view.status is not Status.PENDING:
                return claims[0] if claims else None
        assert view is not None
        raise self._file.verbs["claim"][0].source.error(
            "it takes nothing, neither when a job is sent nor a second later",
            hint=f"Look at its conditions, and at :limit. `jobs` shows {view.status}, attempts {view.attempts}"
            + (
                f", start_after {format_duration(view.start_after)} after it was sent."
                if view.start_after >= 0
                else "."
            ),
        )

    def _refuse_other_lease(self, lasts: Duration) -> None:
        """Refuse a file whose first claim lasts for longer or shorter than it says: each claim would be an anomaly."""
        least = self._file.settings.lease
        most = self._file.longest.get("lease", least)
        if "foreign_clock" in self._file.without or least - TOLERANCE <= lasts <= most + TOLERANCE:
            return
        key = "settings.lease" if "lease" in self._file.given else "settings"
        told = f"the first claim of a job lasts {format_duration(lasts)}, and `lease` is {format_duration(least)}"
        raise QueueFileError(
            f"{self._file.place(key)}: {told}",
            hint="Under `settings`, write the lease of your SQL; where that adds chance, from the shortest to the "
            "longest: `lease: 9500ms..10500ms`.",
        )

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

    def _tokens_of_retries(self) -> Iterator[int]:
        """Let another worker claim the job again, then the first one; end where no claim gets it."""
        for number, worker in enumerate(("w2", WORKER), 1):
            view = self._look().get(JOB)
            if view is None or view.status is not Status.PENDING:
                return
            self._at(max(view.start_after, number * self._file.settings.retry_delay_max))
            claims = self._ask("claim", worker, 1).value
            if not claims:
                return
            yield claims[0].token
            self._ask("fail", claims[0], "rehearsed", False)

    def _refuse_one_token(self, tokens: Sequence[int]) -> None:
        """A file that shows who holds a job, or nothing, where one claim differs from the next, misleads a search."""
        if "token_reused" in self._file.without:
            return
        named = "token" in self._database.columns
        if named and tokens[1:] and tokens[0] == tokens[-1] != tokens[1]:
            told = "its token names the worker: two claims of a job by w1 have the same one"
            hint = "Leave token out if attempts rises with each claim; else write `fencing: false`."
        elif not named and len({*tokens}) < len(tokens):
            told = "it has no token, and attempts is the same for two claims of a job: nothing tells them apart"
            hint = "Show what each claim sets anew as token, such as its time; else write `fencing: false`."
        else:
            return
        raise self._file.jobs.source.error(told, hint=f"{hint} If it is meant: `without: {{token_reused: why}}`.")

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
                (s for s in statements if s.place_of(error.diag.column_name) in places_of(error)), statements[0]
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
