"""What a job is and how it lives: pure values and tables, standard library only."""

from job_harness.core.model.design import EXCUSED, Design, done_statuses
from job_harness.core.model.duration import (
    DAY,
    HOUR,
    LONGEST,
    MILLISECOND,
    MINUTE,
    SECOND,
    Duration,
    Instant,
    format_duration,
    parse_duration,
    rounded,
)
from job_harness.core.model.job import JobId, JobView, Json, slug_of
from job_harness.core.model.json_value import canonical, json_problem, json_text, printable, same_json
from job_harness.core.model.lifecycle import (
    ARROWS_OF_VERB,
    CANCELLED,
    COMPLETED,
    FAILED,
    PARTNERS,
    PENDING,
    PROCESSING,
    TERMINAL,
    QueueState,
    Status,
)
from job_harness.core.model.rate import Starts
from job_harness.core.model.retry import moot_backoff, retry_bounds, retry_delay, spread
from job_harness.core.model.settings import Settings

__all__ = [
    "ARROWS_OF_VERB",
    "CANCELLED",
    "COMPLETED",
    "DAY",
    "EXCUSED",
    "FAILED",
    "HOUR",
    "LONGEST",
    "MILLISECOND",
    "MINUTE",
    "PARTNERS",
    "PENDING",
    "PROCESSING",
    "SECOND",
    "TERMINAL",
    "Design",
    "Duration",
    "Instant",
    "JobId",
    "JobView",
    "Json",
    "QueueState",
    "Settings",
    "Starts",
    "Status",
    "canonical",
    "done_statuses",
    "format_duration",
    "json_problem",
    "json_text",
    "moot_backoff",
    "parse_duration",
    "printable",
    "retry_bounds",
    "retry_delay",
    "rounded",
    "same_json",
    "slug_of",
    "spread",
]
