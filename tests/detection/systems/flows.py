"""Two workers of a queue whose jobs depend on others: a report, and the two exports that it is made of.

The variable `MISTAKE` plants one mistake, by the name that stands beside the line.
"""

import os
import time

import psycopg

MISTAKE = os.environ.get("MISTAKE", "")
ALL_DONE = "NOT EXISTS (SELECT FROM step other WHERE other.id = ANY (step.needs) AND other.state <> 'done')"
ONE_DONE = (
    "(needs = '{}' OR EXISTS (SELECT FROM step other WHERE other.id = ANY (step.needs) AND other.state = 'done'))"
)
READY = ONE_DONE if MISTAKE == "waits-for-one" else ALL_DONE
CLAIM = f"""
UPDATE step SET state = 'running', attempts = attempts + 1, started_at = now()
WHERE id = (SELECT id FROM step
  WHERE {READY} AND (state = 'queued' OR state = 'running' AND started_at < now() - interval '2 minutes')
  ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, attempts
"""
DONE = "UPDATE step SET state = 'done' WHERE id = %s AND state = 'running' AND attempts = %s"


def work(db):
    if row := db.execute(CLAIM).fetchone():
        time.sleep(1 + row[0] % 2)
        db.execute(DONE, row)


while True:
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
            while True:
                work(db)
                time.sleep(2)
    except psycopg.OperationalError:
        time.sleep(1)
