"""The sweep of bob: a build that has been running for three hours is failed, or, once repaired, queued again twice."""

import os

import psycopg

with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
    stale = "state = 'running' AND started_at < now() - interval '3 hours'"
    if os.environ.get("REPAIRED") == "true":
        again = "state = 'queued', started_at = NULL, requeues = requeues + 1"
        db.execute(f"UPDATE build SET {again} WHERE {stale} AND requeues < 2")
    db.execute(f"UPDATE build SET state = 'failed', error = 'timed out', ended_at = now() WHERE {stale}")
