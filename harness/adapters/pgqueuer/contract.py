"""Where PgQueuer differs from this project's decisions, each with the place where it says so."""

from __future__ import annotations

from typing import Final

from harness.model.settings import Settings
from harness.port import Contract, Known


def effective(settings: Settings) -> Settings:
    """A limit is one entrypoint's: that on all of them is kept by each worker for itself alone."""
    limits = [limit for limit in (settings.concurrency, settings.tool_concurrency) if limit]
    return settings.changed(concurrency=0, tool_concurrency=min(limits, default=0))


_NO_TOKENS: Final = "there are no fencing tokens (docs: ADR-0004, delivery is at least once)"
_BY_ID: Final = f"whoever comes late settles a job by its id alone, waiting or held: {_NO_TOKENS}"
_NOT_COUNTED: Final = "picking a stale job again does not count as an attempt (docs: ADR-0004)"
_AT_ONCE: Final = "a stale job is picked again at once, and no crash lengthens a delay (docs: heartbeat; ADR-0004)"
_NO_FINAL: Final = "its retrying executor converts every exception (docs: retry)"
_NOT_TOLD: Final = "jobs that are gone are unaffected, and nobody is told (docs: job cancellation)"
_NO_RESULTS: Final = (
    "results are not stored, and a job that succeeded leaves the table (docs: reliability, audit trail)"
)

CONTRACT: Final = Contract(
    documented={
        "wrong_result": _NO_RESULTS,
        "success_without_run": _NO_RESULTS,
        "error_lost": _NO_RESULTS,
        "stale_complete": _NO_TOKENS,
        "stale_heartbeat": _NO_TOKENS,
        "stale_fail": _NO_TOKENS,
        "illegal_transition": _BY_ID,
        "terminal_job_revived": _BY_ID,
        "lost_update": _BY_ID,
        "attempt_overrun": _NOT_COUNTED,
        "backoff_out_of_range": _AT_ONCE,
        "final_error_retried": _NO_FINAL,
        "livelock": f"a job that kills its workers is picked for ever: {_NOT_COUNTED}",
        "priority_inversion": (
            "a stale job keeps its place under a limit, where a fresh one must wait (docs: design, dequeue composition)"
        ),
    },
    differences={
        "cancel/then_its_worker_fails": _NOT_TOLD,
        "cancel/then_its_worker_succeeds": _NOT_TOLD,
        "concurrency/failed_job_gives_its_permit_back": _NO_FINAL,
        "crashes/while_running": _AT_ONCE,
        "maintenance/one_bad_job_does_not_stop_the_rest": _NOT_COUNTED,
        "hostile/job_kills_its_worker": _NOT_COUNTED,
        "uniqueness/key_is_free_after_failure": _NO_FINAL,
        "uniqueness/retry_is_refused_while_another_has_the_key": _NO_FINAL,
        "zombies/failure_after_completion": _NO_TOKENS,
        "zombies/late_fail": _NO_TOKENS,
    },
    known={
        "hostile/error_with_lone_surrogate": Known(
            frozenset({"failed_early", "outcome_lost"}),
            "scenarios/findings/pgqueuer/a_lone_surrogate_loses_the_outcome.yaml",
        ),
    },
    effective=effective,
)
