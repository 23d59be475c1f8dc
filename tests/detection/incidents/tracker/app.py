"""Executions belong to a queue, trackers to the application: `python app.py worker|prune`.

A process that is found dead is pruned, and its execution is failed; no one tells the tracker.
"""

import json
import os
import sys
import time
import urllib.request

import psycopg

ME = os.environ.get("HOSTNAME", "prune")
REPAIRED = bool(os.environ.get("REPAIRED"))


def post(name):
    body = json.dumps({"name": name}).encode()
    with urllib.request.urlopen(
        urllib.request.Request("http://slips.example.com/make", data=body, method="POST"), timeout=120
    ) as response:
        return json.load(response)


def worker():
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
                while True:
                    row = db.execute(
                        "UPDATE execution SET state = 'claimed', owner = %s, beat = now() WHERE tracker ="
                        " (SELECT tracker FROM execution WHERE state = 'ready' ORDER BY tracker LIMIT 1"
                        " FOR UPDATE SKIP LOCKED) RETURNING tracker",
                        [ME],
                    ).fetchone()
                    if row is None:
                        time.sleep(2)
                        continue
                    run(db, row[0])
        except psycopg.OperationalError:
            time.sleep(1)


def run(db, tracker):
    (name,) = db.execute(
        "UPDATE tracker SET status = 'Processing', started_at = now() WHERE id = %s RETURNING name", [tracker]
    ).fetchone()
    try:
        post(name)
        done, state = "Done", "finished"
    except Exception:
        done, state = "Failed", "failed"
    db.execute("UPDATE tracker SET status = %s WHERE id = %s AND status = 'Processing'", [done, tracker])
    db.execute("UPDATE execution SET state = %s WHERE tracker = %s AND owner = %s", [state, tracker, ME])


PRUNE = """
UPDATE execution SET state = 'failed' WHERE state = 'claimed' AND beat < now() - interval '5 minutes' RETURNING tracker
"""
BOTH = f"""
WITH dead AS ({PRUNE}) UPDATE tracker SET status = 'Failed' WHERE id IN (SELECT tracker FROM dead) AND status <> 'Done'
"""


def prune():
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
        db.execute(BOTH if REPAIRED else PRUNE)


{"worker": worker, "prune": prune}[sys.argv[1]]()
