"""delayed_job with Active Record: the conditions, the order and the claim of its backend, read from the installed gem.

Active Record writes the rest: a job that is done is deleted by its id, one that failed is saved by its id, with what
`Worker#reschedule` sets. Its time is the worker's (`db_time_now`). A failed job is kept (`destroy_failed_jobs` off), or
nothing would show that it failed.
"""

from __future__ import annotations

from queues.package import Package, block, replaced

BACKEND = "lib/delayed/backend/active_record.rb"
NAME = "(:worker::text || ' ' || :now::text)"
"""A worker's name has its process id, so that a process that follows one that died has another name: here the time."""
SCHEMA = """
CREATE TABLE delayed_jobs (
  id bigserial PRIMARY KEY, priority int NOT NULL DEFAULT 0, attempts int NOT NULL DEFAULT 0, handler text NOT NULL,
  last_error text, run_at timestamptz, locked_at timestamptz, failed_at timestamptz, locked_by text, queue text,
  created_at timestamptz, updated_at timestamptz
);
CREATE INDEX delayed_jobs_priority ON delayed_jobs (priority, run_at);"""
"""The columns of the table in its manual (README, Gory Details)."""


def write(package: Package, settings: str) -> str:
    """Return the queue file of a release."""
    ready = package.one(BACKEND, r'where\(\s*"(\(\(run_at[^"]+)"')
    for value in (":now", ":now - :lease", NAME):
        ready = ready.replace("?", value, 1)
    order = package.one(BACKEND, r'scope :by_priority, lambda \{ order\("([^"]+)"\)')
    update = package.one(BACKEND, r'find_by_sql\(\s*\[\s*"(UPDATE [^"]+)"')
    for value in (":now", NAME):
        update = update.replace("?", value, 1)
    picked = f"SELECT id FROM delayed_jobs WHERE {ready} ORDER BY {order} LIMIT 1 FOR UPDATE SKIP LOCKED"
    claim = replaced(replaced(update, "#{subquery}", picked), "#{quoted_name}", "delayed_jobs")
    sent = "jsonb_build_object('job', :job::text, 'tool', :tool::text, 'input', :input::jsonb)::text"
    return (
        f"format: 1\nqueue: delayed_job {package.version}\n"
        + block("schema", SCHEMA)
        + f"settings: {{{settings}}}\n"
        + block(
            "enqueue",
            "INSERT INTO delayed_jobs (priority, handler, run_at, created_at, updated_at)\n"
            f"VALUES (- :priority::int, {sent}, coalesce(:start_after::timestamptz, :now), :now, :now)",
        )
        + block("claim", replaced(claim, "RETURNING *", "RETURNING id, locked_at AS token"))
        + block("complete", "DELETE FROM delayed_jobs WHERE id = :job")
        + block(
            "fail",
            "UPDATE delayed_jobs SET attempts = :attempt::int, last_error = :error, updated_at = :now,\n"
            "  run_at = CASE WHEN :attempt::int < :max_attempts::int THEN :now + :delay ELSE run_at END,\n"
            "  locked_at = CASE WHEN :attempt::int < :max_attempts::int THEN NULL ELSE locked_at END,\n"
            "  locked_by = CASE WHEN :attempt::int < :max_attempts::int THEN NULL ELSE locked_by END,\n"
            "  failed_at = CASE WHEN :attempt::int < :max_attempts::int THEN NULL ELSE :now END\n"
            "WHERE id = :job",
        )
        + "takes_back: inside claim\nfinal_errors: false\ndesign: [keeps all errors]\n"
        + block(
            "jobs",
            "SELECT handler::jsonb->>'job' AS id, id AS key, handler::jsonb->'input' AS input,\n"
            "  handler::jsonb->>'tool' AS tool, - priority AS priority, last_error AS error, run_at AS start_after,\n"
            "  created_at AS created_at, locked_at AS started_at, locked_at AS token, locked_by AS worker,\n"
            "  attempts + (locked_at IS NOT NULL AND failed_at IS NULL)::int AS attempts,\n"
            "  CASE WHEN failed_at IS NOT NULL THEN 'failed' WHEN locked_at IS NULL THEN 'waits'\n"
            "       ELSE 'locked' END AS status,\n"
            "  CASE WHEN locked_at IS NOT NULL AND failed_at IS NULL\n"
            "       THEN locked_at + :lease + interval '1 microsecond' END AS lease_until,\n"
            "  failed_at AS completed_at\n"
            "FROM delayed_jobs ORDER BY id",
        )
        + "status: {waits: PENDING, locked: PROCESSING, failed: FAILED}\n"
    )
