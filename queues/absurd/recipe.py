"""Absurd: the functions of its schema, as its command-line tool carries it, called as its Python SDK calls them.

A job is a task without steps. The SDK's own loop is not run: what it sends for a claim, a result and a failure is.
"""

from __future__ import annotations

import ast

from queues.package import Package, RecipeOutdated, block

QUEUE = "'jobs'"
CANCELLED = "SELECT state = 'cancelled' FROM absurd.t_jobs WHERE task_id = :job::uuid"
"""`cancel_task` answers nothing, also for a task that has ended: a caller who wants to know looks."""


def schema_of(package: Package) -> str:
    """Return the schema that the tool keeps in a string of its module."""
    for node in ast.parse(package.text("absurdctl/__init__.py")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "BUNDLED_SCHEMA_SQL":
            return str(ast.literal_eval(node.value))
    raise RecipeOutdated(f"absurdctl {package.version} has no BUNDLED_SCHEMA_SQL")


def write(package: Package, settings: str) -> str:
    """Return the queue file of a release."""
    options = (
        "jsonb_build_object('max_attempts', :max_attempts::int, 'idempotency_key', :job::text, 'retry_strategy', "
        "jsonb_build_object('kind', CASE WHEN :retry_backoff::bool THEN 'exponential' ELSE 'fixed' END, "
        "'base_seconds', :retry_delay_seconds::float, 'factor', 2, 'max_seconds', :retry_delay_max_seconds::float))"
    )
    sent = "jsonb_build_object('job', :job::text, 'input', :input::jsonb)"
    run = "(SELECT run_id FROM absurd.r_jobs WHERE task_id = :job::uuid AND run_id = :token::uuid)"
    reason = "jsonb_build_object('name', 'Error', 'message', :error::text)"
    jobs = """
SELECT t.params->>'job' AS id, t.task_id AS key, t.params->'input' AS input, t.task_name AS tool, t.state AS status,
       (SELECT count(*) FROM absurd.r_jobs d WHERE d.task_id = t.task_id AND d.started_at IS NOT NULL) AS attempts,
       t.max_attempts,
       coalesce((SELECT d.run_id FROM absurd.r_jobs d WHERE d.task_id = t.task_id AND d.started_at IS NOT NULL
                 ORDER BY d.attempt DESC LIMIT 1), r.run_id) AS token,
       CASE WHEN t.state = 'running' THEN r.claimed_by END AS worker,
       t.completed_payload AS output, t.enqueue_at AS created_at,
       CASE WHEN t.state IN ('pending', 'sleeping') THEN r.available_at END AS start_after, r.started_at,
       CASE WHEN t.state = 'running' THEN r.claim_expires_at END AS lease_until,
       (SELECT d.failure_reason->>'message' FROM absurd.r_jobs d
         WHERE d.task_id = t.task_id AND d.failed_at IS NOT NULL AND t.state <> 'completed'
         ORDER BY d.attempt DESC LIMIT 1) AS error,
       coalesce(r.completed_at, CASE WHEN t.state = 'failed' THEN r.failed_at END, t.cancelled_at) AS completed_at
FROM absurd.t_jobs t JOIN absurd.r_jobs r ON r.run_id = t.last_attempt_run ORDER BY t.enqueue_at, t.task_id"""
    claim = (
        "SELECT task_id AS key, run_id AS token FROM absurd.claim_task("
        f"{QUEUE}, :worker, :lease_seconds::int, :limit::int)"
    )
    return (
        f"format: 1\nqueue: Absurd {package.version}\n"
        + block("schema", f"{schema_of(package)}\nSELECT absurd.create_queue({QUEUE});")
        + "tables: [absurd.t_jobs, absurd.r_jobs, absurd.w_jobs, absurd.c_jobs]\n"
        + f"settings: {{{settings}}}\n"
        + block("enqueue", f"SELECT created FROM absurd.spawn_task({QUEUE}, :tool, {sent}, {options})")
        + block("claim", claim)
        + block("heartbeat", f"SELECT absurd.extend_claim({QUEUE}, {run}, :lease_seconds::int)::text")
        + block("complete", f"SELECT absurd.complete_run({QUEUE}, {run}, :output::jsonb)::text")
        + block("fail", f"SELECT absurd.fail_run({QUEUE}, {run}, {reason}, NULL)::text")
        + block("cancel", f"SELECT absurd.cancel_task({QUEUE}, :job::uuid)::text;\n{CANCELLED}")
        + "takes_back: inside claim\nfinal_errors: false\n"
        + block("jobs", jobs)
        + "status: {pending: PENDING, sleeping: PENDING, running: PROCESSING, completed: COMPLETED, failed: FAILED, "
        + "cancelled: CANCELLED}\n"
    )
