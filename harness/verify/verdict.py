"""What a try came to: PENDING, PROCESSING, COMPLETED in time, or what happened instead and the first cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.errors import ExitCode
from harness.verify.watch import Watched


@dataclass(frozen=True, slots=True)
class Verdict:
    """`problem` is empty where all is well; `cause` is the first cause, where one is known."""

    job: str
    watched: Watched
    problem: str = ""
    cause: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """What a command answers."""
        return ExitCode.FAIL if self.problem else ExitCode.PASS

    def as_data(self) -> dict[str, Any]:
        """Answer it as JSON data."""
        return {
            "verdict": "fail" if self.problem else "pass",
            "job": self.job,
            "statuses": [{"status": seen.status, "seconds": round(seen.after, 3)} for seen in self.watched.statuses],
            "problem": self.problem,
            "cause": self.cause,
        }


def judged(job: str, watched: Watched, *, start_within: float, end_within: float, workers_off: str | None) -> Verdict:
    """Judge what was seen."""
    seen = [item.status for item in watched.statuses]
    if not seen:
        return Verdict(
            job,
            watched,
            "the job is not in tool_job",
            "the API acknowledged a job without a row, or --dsn names another database than the api-server uses",
        )
    if not watched.started and watched.last == "PENDING":
        cause = workers_off or (
            "no worker took it: are workers running with USE_PGBOSS_WORKERS=true, on this database, "
            "with the tool registered?"
        )
        return Verdict(job, watched, f"still PENDING after {start_within:g} s", cause)
    if watched.last in ("FAILED", "CANCELLED"):
        return Verdict(job, watched, f"the job is {watched.last}", watched.error or "the row has no error")
    if not watched.in_time:
        cause = "it failed and waits for a retry: " + watched.error if watched.error else "the processor still runs"
        return Verdict(job, watched, f"{watched.last} {end_within:g} s after it started", cause)
    if not watched.started and "PROCESSING" not in seen:
        return Verdict(
            job, watched, "COMPLETED without ever being PROCESSING", "startedAt is empty: nobody says who ran it"
        )
    return Verdict(job, watched)
