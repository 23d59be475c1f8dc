"""Mistakes with results and errors: which are refused, and which are kept."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.mistakes.mistake import Edit, Mistake
from harness.model.job import JobView, Json
from harness.model.json_value import printable
from harness.model.lifecycle import Status


class ErrorNotEscaped(MemoryQueue):
    def recorded(self, error: str) -> str:
        if printable(error) != error:
            raise ValueError("unsupported Unicode escape sequence")
        return error


class ErrorLost(MemoryQueue):
    def recorded(self, error: str) -> str:
        return ""


class OutputNotChecked(MemoryQueue):
    def output_problem(self, output: Json) -> str | None:
        return None


class OutputLost(MemoryQueue):
    def completed(self, row: JobView, output: Json) -> JobView:
        return super().completed(row, None)


class ErrorKeptOnSuccess(MemoryQueue):
    def completed(self, row: JobView, output: Json) -> JobView:
        return self.settled(row, Status.COMPLETED, output=output, error=row.error)


MISTAKES: Final = (
    Mistake(
        name="error-not-escaped",
        sentence="An error text that the database cannot hold makes fail itself raise.",
        source="pg-boss: akash-network/console#3898",
        finds=("outcome_lost",),
        queue=ErrorNotEscaped,
    ),
    Mistake(
        name="error-lost",
        sentence="A failure leaves no error behind.",
        source="delayed_job PR#276",
        finds=("error_lost",),
        queue=ErrorLost,
        statements={"fail": (Edit(""""error" = :error,""", """"error" = left(:error, 0),"""),)},
    ),
    Mistake(
        name="output-not-checked",
        sentence="An output that JSON cannot hold is taken as a success.",
        source="unstract PR#2217",
        finds=("success_without_run",),
        queue=OutputNotChecked,
    ),
    Mistake(
        name="output-lost",
        sentence="Complete does not keep the output.",
        source="pg-boss#555: the output of another attempt is kept",
        finds=("wrong_result",),
        queue=OutputLost,
        statements={"complete": (Edit(""""output" = :output::jsonb,""", """"output" = 'null'::jsonb,"""),)},
    ),
    Mistake(
        name="error-kept-on-success",
        sentence="A success keeps the error of an attempt before.",
        source="rq#2184",
        finds=("completed_with_error",),
        queue=ErrorKeptOnSuccess,
        statements={"complete": (Edit(""""error" = NULL,""", ""),)},
    ),
)
