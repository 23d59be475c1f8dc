"""Where PgQueuer differs from this project's decisions, each with the place where it says so.

`docs` is a page below docs/ of its repository, with the section; `src` a module of the package, with the function.
"""

from __future__ import annotations

from typing import Final

from harness.model.settings import Settings
from harness.port import Contract, Known


def effective(settings: Settings) -> Settings:
    """A limit is one entrypoint's: that on all of them is kept by each worker for itself alone."""
    limits = [limit for limit in (settings.concurrency, settings.tool_concurrency) if limit]
    return settings.changed(concurrency=0, tool_concurrency=min(limits, default=0))


_NO_TOKENS: Final = "there are no fencing tokens (docs: adr/ADR-0004, Positive consequences)"
_BY_ID: Final = (
    "whoever comes late settles a job by its id alone, waiting or held"
    f" (src: adapters/persistence/qb, build_log_job_query and build_retry_job_query): {_NO_TOKENS}"
)
_NOT_COUNTED: Final = (
    "attempts count retries that were requested (docs: guides/retry, How it works), and a job that is delivered again"
    " is not told so (docs: adr/ADR-0004, Negative consequences)"
)
_AT_ONCE: Final = (
    "a job whose heartbeat is too old is claimable as any other, with no delay after a crash"
    " (docs: adr/ADR-0005, Decision; guides/concurrency-control, Configuring timeouts)"
)
_NO_FINAL: Final = (
    "its retrying executor retries after any exception"
    " (docs: guides/retry, Automatic retry with DatabaseRetryEntrypointExecutor)"
)
_NOT_TOLD: Final = (
    "an outcome of a job that left the table changes nothing, and nobody is told"
    " (src: adapters/persistence/qb, build_log_job_query)"
)
_NO_RESULTS: Final = (
    "what a run returns is not looked at: its job is deleted, and logged by its status alone"
    " (docs: guides/retry, Behavior summary; guides/reliability, Audit Trail)"
)

CONTRACT: Final = Contract(
    documented={
        "wrong_result": _NO_RESULTS,
        "success_without_run": _NO_RESULTS,
        "error_lost": (
            "a job whose worker died keeps its row as it was picked (docs: guides/reliability, Worker-crash recovery)"
        ),
        "stale_complete": _NO_TOKENS,
        "stale_heartbeat": _NO_TOKENS,
        "stale_fail": _NO_TOKENS,
        "illegal_transition": _BY_ID,
        "terminal_job_revived": _BY_ID,
        "lost_update": _BY_ID,
        "attempt_overrun": _NOT_COUNTED,
        "backoff_out_of_range": _AT_ONCE,
        "final_error_retried": _NO_FINAL,
        "livelock": (
            "a job that kills its workers is picked for ever, with no dead letter queue for it"
            " (docs: guides/reliability, Poison Jobs)"
        ),
        "priority_inversion": (
            "a stale job is picked past a limit, where a fresh one must wait"
            " (docs: design/dequeue-composition, Invariants)"
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
