"""Mistakes with what a producer asks for: options that are dropped, inputs that are refused or taken wrongly."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.mistakes.mistake import Mistake
from harness.model.duration import Instant
from harness.model.job import JobView, Json
from harness.model.json_value import canonical
from harness.port import JobRequest

NOTIFY_LIMIT: Final = 8_000
"""Bytes that a notification of PostgreSQL may have."""


class OptionsDropped(MemoryQueue):
    """pgboss-schedule-options-dropped, at enqueue: nested where nobody reads them."""

    def created(self, request: JobRequest, now: Instant) -> JobView:
        return super().created(JobRequest(request.id, request.tool, request.input, unique_key=request.unique_key), now)


class LargeInputRefused(MemoryQueue):
    """oban-notify-payload-limit."""

    def input_problem(self, input: Json) -> str | None:
        problem = super().input_problem(input)
        if problem is None and len(canonical(input)) > NOTIFY_LIMIT:
            raise ValueError("payload string too long")
        return problem


class InputNotChecked(MemoryQueue):
    """unstract-nan-redispatch-loop."""

    def input_problem(self, input: Json) -> str | None:
        return None


class KeyNotChecked(MemoryQueue):
    """unstract-nan-redispatch-loop, for a key."""

    def option_problem(self, request: JobRequest) -> str | None:
        return None


MISTAKES: Final = (
    Mistake(
        name="options-dropped",
        sentence="Enqueue reads the options of a job where they do not stand, and the defaults apply.",
        source="pg-boss#529",
        finds=("option_dropped",),
        queue=OptionsDropped,
    ),
    Mistake(
        name="large-input-refused",
        sentence="The whole input goes into a notification, which the database refuses over 8000 bytes.",
        source="oban#791, odd-jobs#42",
        finds=("valid_request_refused",),
        queue=LargeInputRefused,
    ),
    Mistake(
        name="input-not-checked",
        sentence="An input that JSON cannot hold is accepted, and fails later, for ever.",
        source="unstract PR#2217",
        finds=("invalid_input_accepted",),
        queue=InputNotChecked,
    ),
    Mistake(
        name="key-not-checked",
        sentence="A key or a name that text cannot hold is accepted, though the input is checked.",
        source="unstract PR#2289",
        finds=("invalid_input_accepted",),
        queue=KeyNotChecked,
    ),
)
