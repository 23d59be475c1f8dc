"""Wrong queues in what goes in and comes out: options, inputs, transactions, results, errors and dead letters."""

from __future__ import annotations

from typing import Final

from job_harness.core.history import DONE, Outcome
from job_harness.core.model import PENDING, Instant, JobId, JobView, Json, Status, canonical, printable
from job_harness.core.port import JobRequest
from job_harness.engines.memory import EndRules, MemoryQueue, RequestRules
from job_harness.search.wrong_queues.wrong_queue import Edit, Mistake, Theme

# values ---------------------------------------------------------------------------------------------------------------


class ErrorNotEscaped(EndRules):
    def recorded(self, error: str) -> str:
        if printable(error) != error:
            raise ValueError("unsupported Unicode escape sequence")
        return error


class ErrorLost(EndRules):
    def recorded(self, error: str) -> str:
        return ""


class OutputNotChecked(EndRules):
    def output_problem(self, output: Json) -> str | None:
        return None


class OutputLost(EndRules):
    def completed(self, row: JobView, output: Json) -> JobView:
        return super().completed(row, None)


class ErrorKeptOnSuccess(EndRules):
    def completed(self, row: JobView, output: Json) -> JobView:
        return self.end_row(row, Status.COMPLETED, output=output, error=row.error)


VALUES: Final = Theme.of(
    "values checked before they are stored",
    Mistake(
        name="error-not-escaped",
        sentence="Fail itself raises on an error text that the database cannot store.",
        source="pg-boss: akash-network/console#3898",
        finds=("outcome_lost",),
        rules=(ErrorNotEscaped,),
    ),
    Mistake(
        name="error-lost",
        sentence="The error of a failure is not stored.",
        source="delayed_job PR#276",
        finds=("error_lost",),
        rules=(ErrorLost,),
        statements={"fail": (Edit(""""error" = :error,""", """"error" = left(:error, 0),"""),)},
    ),
    Mistake(
        name="output-not-checked",
        sentence="An output that is not valid JSON counts as a success.",
        source="unstract PR#2217",
        finds=("success_without_run",),
        rules=(OutputNotChecked,),
    ),
    Mistake(
        name="output-lost",
        sentence="Complete does not store the output.",
        source="pg-boss#555: the output of another attempt is kept",
        finds=("wrong_result",),
        rules=(OutputLost,),
        statements={"complete": (Edit(""""output" = :output::jsonb,""", """"output" = 'null'::jsonb,"""),)},
    ),
    Mistake(
        name="error-kept-on-success",
        sentence="A successful job keeps the error of an earlier attempt.",
        source="rq#2184",
        finds=("completed_with_error",),
        rules=(ErrorKeptOnSuccess,),
        statements={"complete": (Edit(""""error" = NULL,""", ""),)},
    ),
)


# transactions ---------------------------------------------------------------------------------------------------------


class EnqueuedBeforeCommit(RequestRules):
    """rails-dual-write-rollback: the job goes out on another connection."""

    def join(self, transaction: str, row: JobView) -> bool:
        self.queue.put(row)
        return True


class RollbackPublishes(MemoryQueue):
    """rails-dual-write-rollback, the other half: what was deferred goes out however the transaction ends."""

    def rollback(self, transaction: str) -> Outcome:
        self.requests.publish(self.transactions.pop(transaction, ()))
        return DONE


class BeginForgetsOthers(MemoryQueue):
    """sidekiq-poller-pop-then-push: what is neither here nor there is lost."""

    def begin(self, transaction: str) -> Outcome:
        self.transactions = dict.fromkeys(self.transactions, ())
        return super().begin(transaction)


TRANSACTIONS: Final = Theme.of(
    "jobs sent in the caller's transaction",
    Mistake(
        name="enqueued-before-commit",
        sentence="A job sent in a transaction is visible before the commit.",
        source="rails#55788, laravel#35266",
        finds=("uncommitted_job_visible",),
        rules=(EnqueuedBeforeCommit,),
    ),
    Mistake(
        name="rollback-publishes",
        sentence="Jobs are held until the transaction ends, and then sent even if it was rolled back.",
        source="rails#51426",
        finds=("rolled_back_job_visible",),
        queue=RollbackPublishes,
    ),
    Mistake(
        name="begin-forgets-others",
        sentence="A new transaction empties the buffer in which another one holds its jobs until the commit.",
        source="sidekiq PR#843",
        finds=("committed_job_lost",),
        queue=BeginForgetsOthers,
    ),
)


# requests -------------------------------------------------------------------------------------------------------------


NOTIFY_LIMIT: Final = 8_000
"""Bytes that a notification of PostgreSQL may have."""


class OptionsDropped(RequestRules):
    """pgboss-schedule-options-dropped, at enqueue: nested where they are not read."""

    def created(self, request: JobRequest, now: Instant) -> JobView:
        return super().created(JobRequest(request.id, request.tool, request.input, unique_key=request.unique_key), now)


class LargeInputRefused(RequestRules):
    """oban-notify-payload-limit."""

    def input_problem(self, input: Json) -> str | None:
        problem = super().input_problem(input)
        if problem is None and len(canonical(input)) > NOTIFY_LIMIT:
            raise ValueError("payload string too long")
        return problem


class InputNotChecked(RequestRules):
    """unstract-nan-redispatch-loop."""

    def input_problem(self, input: Json) -> str | None:
        return None


class KeyNotChecked(RequestRules):
    """unstract-nan-redispatch-loop, for a key."""

    def option_problem(self, request: JobRequest) -> str | None:
        return None


class RetryAsNewJob(EndRules):
    def end_attempt(self, row: JobView, verb: str) -> None:
        super().end_attempt(row, verb)
        if row.status is PENDING and row.attempts == 1:
            self.queue.put(row.changed(id=f"{row.id}-again", unique_key=None, token=0))


REQUESTS: Final = Theme.of(
    "requests kept as they were sent",
    Mistake(
        name="options-dropped",
        sentence="Enqueue looks for the options of a job in the wrong place, so the defaults apply.",
        source="pg-boss#529",
        finds=("option_dropped",),
        rules=(OptionsDropped,),
    ),
    Mistake(
        name="retry-as-new-job",
        sentence="A first retry is sent as a job of its own, and the job that failed is retried too.",
        source="an errback that sends the task again where the queue retries it",
        finds=("job_from_nowhere",),
        rules=(RetryAsNewJob,),
    ),
    Mistake(
        name="large-input-refused",
        sentence="The whole input goes into a notification, which the database refuses above 8000 bytes.",
        source="oban#791, odd-jobs#42",
        finds=("valid_request_refused",),
        rules=(LargeInputRefused,),
    ),
    Mistake(
        name="input-not-checked",
        sentence="An input that is not valid JSON is accepted, and later fails every time.",
        source="unstract PR#2217",
        finds=("invalid_input_accepted",),
        rules=(InputNotChecked,),
    ),
    Mistake(
        name="key-not-checked",
        sentence="A key or a name that is not valid text is accepted, although the input is checked.",
        source="unstract PR#2289",
        finds=("invalid_input_accepted",),
        rules=(KeyNotChecked,),
    ),
)


# dead letters ---------------------------------------------------------------------------------------------------------


class ForgottenByReaper(EndRules):
    """bullmq-dedup-key-leak's family: the terminal path through the reaper forgets what the normal one does."""

    def dead_letters(self, row: JobView, verb: str) -> list[JobView]:
        return super().dead_letters(row, verb) if verb == "fail" else []


class SentTwice(EndRules):
    def dead_letters(self, row: JobView, verb: str) -> list[JobView]:
        return [*super().dead_letters(row, verb), self.dead_letter(row, f"{row.id}-dead-again-{row.token}")]


class Emptied(EndRules):
    def dead_letter(self, row: JobView, job: JobId) -> JobView:
        return super().dead_letter(row._replace(input=None), job)


DEAD_LETTERS: Final = Theme.of(
    "dead letters written with the failure",
    Mistake(
        name="dead-letter-forgotten-by-reaper",
        sentence="A job leaves a dead letter if its worker fails it, but not if its last attempt is taken back.",
        source="bullmq#4311: the reaper forgets a step of the normal path",
        finds=("dead_letter_missing",),
        rules=(ForgottenByReaper,),
    ),
    Mistake(
        name="dead-letter-sent-twice",
        sentence="Worker and queue each send the dead letter.",
        source="two places that each assume that they are the only one",
        finds=("dead_letter_doubled",),
        rules=(SentTwice,),
    ),
    Mistake(
        name="dead-letter-emptied",
        sentence="A dead letter does not have the input of the failed job.",
        source="a copy of the row that leaves out its data",
        finds=("dead_letter_changed",),
        rules=(Emptied,),
    ),
)
