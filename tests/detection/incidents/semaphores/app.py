"""A queue that runs one job at a time, by a semaphore of which each takes a place: `python app.py worker|prune`.

A worker shows by its heartbeat that it lives. Another one that finds it silent fails its job and returns the place.
"""

import json
import os
import sys
import threading
import time
import urllib.request

import psycopg

REPAIRED = bool(os.environ.get("REPAIRED"))
ME = f"{os.environ.get('HOSTNAME', 'prune')}-{os.getpid()}"
BEAT = "INSERT INTO process (name) VALUES (%s) ON CONFLICT (name) DO UPDATE SET seen_at = clock_timestamp()"
TAKE_PLACE = "UPDATE semaphore SET free = free - 1 WHERE free > 0 RETURNING free"
RETURN_PLACE = "UPDATE semaphore SET free = free + 1 WHERE free < 1"
CLAIM = """
UPDATE job SET state = 'claimed', process = %s, started_at = clock_timestamp()
WHERE id = (SELECT id FROM job WHERE state = 'ready' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, name"""
READY = "SELECT 1 FROM job, semaphore WHERE state = 'ready' AND free > 0 LIMIT 1"
FINISH = "UPDATE job SET state = %s WHERE id = %s RETURNING id"
FINISH_OWN = "UPDATE job SET state = %s WHERE id = %s AND state = 'claimed' RETURNING id"
SILENT = """
UPDATE job SET state = 'failed' WHERE state = 'claimed' AND started_at < clock_timestamp() - interval '5 minutes'
AND process IN (SELECT name FROM process WHERE seen_at < clock_timestamp() - interval '5 minutes') RETURNING id"""


def perform(name):
    body = json.dumps({"name": name}).encode()
    try:
        with urllib.request.urlopen("http://reports.example.com/build", data=body, timeout=1200) as response:
            return "run" in json.load(response)
    except (OSError, ValueError):
        return False


def beat():
    """Show that this process lives; a heartbeat that fails is made up for by the next one."""
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
                db.execute(BEAT, [ME])
        except psycopg.OperationalError:
            pass
        time.sleep(60)


def claim(db):
    if not db.execute(READY).fetchone():
        return None
    with db.transaction() as transaction:
        if db.execute(TAKE_PLACE).fetchone():
            if row := db.execute(CLAIM, [ME]).fetchone():
                return row
            raise psycopg.Rollback(transaction)
    return None


def finish(db, job, state):
    with db.transaction():
        done = db.execute(FINISH_OWN if REPAIRED else FINISH, [state, job]).fetchone()
        if done or not REPAIRED:
            db.execute(RETURN_PLACE)


def work(db):
    if row := claim(db):
        state = "finished" if perform(row[1]) else "failed"
        persist(lambda db: finish(db, row[0], state))
    else:
        time.sleep(2)


def prune(db):
    with db.transaction():
        for _ in db.execute(SILENT).fetchall():
            db.execute(RETURN_PLACE)


def persist(step, *, for_ever=False):
    """Do a step until it is done, on a new connection where one breaks."""
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
                step(db)
                while for_ever:
                    step(db)
                return
        except psycopg.OperationalError:
            time.sleep(1)


if sys.argv[1] == "worker":
    threading.Thread(target=beat, daemon=True).start()
    persist(work, for_ever=True)
else:
    persist(prune)
