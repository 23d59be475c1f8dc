"""A scheduler in two processes, and one worker: `python digests.py scheduler|worker|migrate`.

A digest is due every ten minutes; the variable `MISTAKE` plants one mistake, by the name that stands beside the line.
"""

import os
import sys
import time
from pathlib import Path

import psycopg

MISTAKE = os.environ.get("MISTAKE", "")
EVERY = "interval '10 minutes'"
MAKE = f"""
INSERT INTO digest (slot)
SELECT slot FROM generate_series(
  (SELECT coalesce(max(slot) + {EVERY}, date_bin({EVERY}, now(), '1970-01-01')) FROM digest), now(), {EVERY}
) AS slot ON CONFLICT DO NOTHING
"""
ON_THE_MINUTE = f"""
INSERT INTO digest (slot) SELECT date_trunc('minute', now())
WHERE date_trunc('minute', now()) = date_bin({EVERY}, now(), '1970-01-01') ON CONFLICT DO NOTHING
"""
EARLY = f"""
INSERT INTO digest (slot) SELECT date_bin({EVERY}, now() + interval '1 minute', '1970-01-01') ON CONFLICT DO NOTHING
"""
MAKES = {"slot-only-on-its-minute": ON_THE_MINUTE, "slot-early": EARLY}.get(MISTAKE, MAKE)
CLAIM = """
UPDATE digest SET state = 'running', attempts = attempts + 1, started_at = now()
WHERE id = (SELECT id FROM digest
  WHERE state = 'queued' OR state = 'running' AND started_at < now() - interval '2 minutes'
  ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, attempts
"""
DONE = "UPDATE digest SET state = 'done' WHERE id = %s AND state = 'running' AND attempts = %s"


def loop(work, *, every):
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
                while True:
                    work(db)
                    time.sleep(every)
        except psycopg.OperationalError:
            time.sleep(1)


def one(db):
    if row := db.execute(CLAIM).fetchone():
        db.execute(DONE, row)


def migrate():
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
        db.execute(Path(__file__).with_name("digests.sql").read_text())
        if MISTAKE == "slot-twice":
            db.execute("DROP INDEX one_of_a_slot")


if __name__ == "__main__":
    if sys.argv[1] == "migrate":
        migrate()
    elif sys.argv[1] == "scheduler":
        loop(lambda db: db.execute(MAKES), every=20)
    else:
        loop(one, every=5)
