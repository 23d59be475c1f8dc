"""Oban for Python: its own statements, read from the installed package, with the queue file's parameters in them.

What `_executor.py` decides before `ack_job.sql` (retry or discard) stands here as an expression, and `schedule_in` is
the wait that the harness computes. Rescuing and staging, two loops there, are the two statements of `expire`.
"""

from __future__ import annotations

from queues.package import Package, block, replaced, with_parameters

QUERIES = "oban/queries"
IN_UTC = "AT TIME ZONE 'UTC'"
ENDS = ":attempt::int >= :max_attempts::int"
ERROR = "jsonb_build_array(jsonb_build_object('attempt', :attempt::int, 'error', :error::text))"


def write(package: Package, settings: str) -> str:
    """Return the queue file of a release; `settings` are those of a column, default or recommended."""

    def query(name: str) -> str:
        return package.text(f"{QUERIES}/{name}.sql").strip().rstrip(";")

    nothing = {"attempt_change": "NULL", "meta": "NULL"}
    held = {"id": ":job::bigint", "attempted_at": ":token::timestamp"}
    insert = with_parameters(
        query("insert_job"),
        {
            "args": "jsonb_build_object('job', :job::text, 'input', :input::jsonb)",
            "inserted_at": "NULL::timestamp",
            "max_attempts": ":max_attempts",
            "meta": "'{}'",
            "priority": "9 - least(9, :priority::int)",
            "queue": "'default'",
            "scheduled_at": f"(CASE WHEN :start_after > now() THEN :start_after::timestamptz {IN_UTC} END)",
            "state": "'available'",
            "tags": "'{}'::text[]",
            "worker": ":tool",
        },
    )
    fetch = with_parameters(
        query("fetch_jobs"), {"queue": "'default'", "demand": ":limit", "attempted_by": "ARRAY[:worker::text]"}
    )
    complete = with_parameters(
        query("ack_job"), held | nothing | {"state": "'completed'", "schedule_in": "NULL", "error": "NULL"}
    )
    state = f"(CASE WHEN {ENDS} THEN 'discarded' ELSE 'retryable' END)"
    wait = f"(CASE WHEN {ENDS} THEN NULL ELSE :delay_seconds END)"
    fail = with_parameters(query("ack_job"), held | nothing | {"state": state, "schedule_in": wait, "error": ERROR})
    rescue = with_parameters(query("rescue_jobs"), {"rescue_after": ":lease_seconds"})
    stage = with_parameters(
        query("stage_jobs"), {"queues": "ARRAY['default']", "before": "NULL::timestamp", "limit": "20000"}
    )
    retry = with_parameters(query("retry_many_jobs"), {"ids": "ARRAY[:job::bigint]"})
    jobs = f"""
SELECT args->>'job' AS id, id AS key, args->'input' AS input, worker AS tool, state::text AS status,
       attempt AS attempts, max_attempts, 9 - priority AS priority, attempted_at AS token,
       attempted_by[1] AS worker, errors->-1->>'error' AS error,
       inserted_at {IN_UTC} AS created_at, scheduled_at {IN_UTC} AS start_after,
       CASE WHEN attempt > 0 THEN attempted_at {IN_UTC} END AS started_at,
       CASE WHEN state = 'executing'
            THEN attempted_at {IN_UTC} + :lease + interval '1 microsecond' END AS lease_until,
       coalesce(completed_at, discarded_at) {IN_UTC} AS completed_at
FROM oban_jobs ORDER BY id"""
    return (
        f"format: 1\nqueue: Oban for Python {package.version}\n"
        + block("schema", query("install"))
        + "tables: [oban_jobs]\n"
        + f"settings: {{{settings}}}\n"
        + block("enqueue", insert)
        + block("claim", replaced(fetch, "oj.id,", "oj.id, oj.attempted_at AS token,"))
        + block("complete", complete)
        + block("fail", fail)
        + block("retry", retry)
        + block("expire", f"{rescue};\n{stage}")
        + block("jobs", jobs)
        + "status: {available: PENDING, scheduled: PENDING, retryable: PENDING, suspended: PENDING, "
        + "executing: PROCESSING, completed: COMPLETED, discarded: FAILED, cancelled: CANCELLED}\n"
        + "design: [moves by sweep, keeps all errors, runs again]\n"
        + 'without: {error_lost: "rescue_jobs.sql writes no error for an attempt that it takes back"}\n'
    )
