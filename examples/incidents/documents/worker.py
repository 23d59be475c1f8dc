"""A worker that reads documents into a wiki, after Tencent/WeKnora#2715 (August 2026).

A document is parsed, by a task of the queue, and then ingested, by an operation in a table of its own. Housekeeping
fails documents that were not touched for long and have no task: it asks the queue only, so it fails a document whose
ingestion waits its turn. The operation runs later all the same, and makes the failed document complete.
"""

import json
import os
import signal
import time
import urllib.request

import psycopg

MAX_FAILURES = 3
INGEST_SECONDS = 3600

PARSE = """
WITH parsed AS (
  DELETE FROM task WHERE document_id = (SELECT document_id FROM task ORDER BY 1 LIMIT 1 FOR UPDATE SKIP LOCKED)
  RETURNING document_id
), pending AS (INSERT INTO pending_op (document_id) SELECT document_id FROM parsed)
UPDATE document SET status = 'finalizing', updated_at = now() WHERE id IN (SELECT document_id FROM parsed) RETURNING id
"""
CLAIM = """
WITH claimed AS (
  UPDATE pending_op SET claimed_at = now()
  WHERE document_id = (
    SELECT document_id FROM pending_op
    WHERE run_after <= now() AND (claimed_at IS NULL OR claimed_at < now() - interval '65 minutes')
    ORDER BY run_after, document_id LIMIT 1 FOR UPDATE SKIP LOCKED
  ) RETURNING *
)
UPDATE document SET updated_at = now() FROM claimed WHERE id = document_id RETURNING id, title, failures, claimed_at
"""
AGAIN = """
UPDATE pending_op SET claimed_at = NULL, failures = failures + 1, run_after = now() + interval '1 minute'
WHERE document_id = %s AND claimed_at = %s
"""
DONE = "DELETE FROM pending_op WHERE document_id = %s AND claimed_at = %s"
END = "UPDATE document SET status = %s, error = %s, updated_at = now(), ended_at = now() WHERE id = %s"


def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def ingest(title):
    body = json.dumps({"title": title}).encode()
    request = urllib.request.Request("https://model.example.com/ingest", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=INGEST_SECONDS) as response:
        json.load(response)


def work_once(db):
    if db.execute(PARSE).fetchone():
        return True
    row = db.execute(CLAIM).fetchone()
    if row is None:
        return False
    document, title, failures, claimed = row
    status, error = "completed", None
    try:
        ingest(title)
    except Exception as failure:
        status, error = "failed", str(failure).replace("\0", "")
        if failures + 1 < MAX_FAILURES:
            db.execute(AGAIN, [document, claimed])
            return True
    with db.transaction():
        if db.execute(DONE, [document, claimed]).rowcount:
            db.execute(END, [status, error, document])
    return True


def main():
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    db = connect()
    while not stopping:
        try:
            busy = work_once(db)
        except psycopg.OperationalError:
            db, busy = connect(), False
        if not busy:
            time.sleep(2)


if __name__ == "__main__":
    main()
