"""Fail the documents that nothing works on any more. The repaired form looks into both places where work may wait."""

import os

import psycopg

SWEEP = """
UPDATE document SET status = 'failed', error = 'stuck, recovered by housekeeping', updated_at = now(), ended_at = now()
WHERE status IN ('processing', 'finalizing') AND updated_at < now() - interval '130 minutes'
  AND id NOT IN (SELECT document_id FROM task)
"""

with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
    repaired = os.environ.get("REPAIRED") == "true"
    db.execute(SWEEP + (" AND id NOT IN (SELECT document_id FROM pending_op)" if repaired else ""))
