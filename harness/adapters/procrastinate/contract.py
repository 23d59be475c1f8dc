"""Where procrastinate differs from this project's decisions, each with the place where it says so."""

from __future__ import annotations

from typing import Final

from harness.model.settings import Settings
from harness.port import Contract


def effective(settings: Settings) -> Settings:
    """A constant wait: its exponential wait is a power of the base, and has another shape than a doubling delay."""
    return settings.changed(retry_backoff=False)


_NO_RESULTS: Final = "results and errors are not stored (docs: a task's return value is only logged)"

CONTRACT: Final = Contract(
    documented={
        "wrong_result": _NO_RESULTS,
        "error_lost": _NO_RESULTS,
        "success_without_run": _NO_RESULTS,
        "final_error_retried": "a retry strategy retries every exception that it is not told to leave (docs: retry)",
    },
    differences={},
    effective=effective,
)
