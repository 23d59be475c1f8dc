"""Executions of a flow, one at a time, as a counter of the running ones allows: `python app.py executor|sweep`."""

import json
import os
import sys
import time
import urllib.request

import psycopg

REPAIRED = bool(os.environ.get("REPAIRED"))
CLAIM = """
UPDATE execution SET state = 'running', started_at = clock_timestamp()
WHERE id = (SELECT id FROM execution WHERE state = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, name"""
FREE = "SELECT 1 FROM execution, flow WHERE state = 'queued' AND running < 1 LIMIT 1"
END = "UPDATE execution SET state = %s WHERE id = %s AND state = 'running' RETURNING id"
LOST = """
UPDATE execution SET state = 'failed'
WHERE state = 'running' AND started_at < clock_timestamp() - interval '5 minutes' RETURNING id"""


def perform(name):
    body = json.dumps({"name": name}).encode()
    try:
        with urllib.request.urlopen("http://tasks.example.com/run", data=body, timeout=100) as response:
            return "run" in json.load(response)
    except (OSError, ValueError):
        return False


def claim(db):
    if not db.execute(FREE).fetchone():
        return None
    with db.transaction() as transaction:
        if db.execute("UPDATE flow SET running = running + 1 WHERE running < 1 RETURNING running").fetchone():
            if row := db.execute(CLAIM).fetchone():
                return row
            raise psycopg.Rollback(transaction)
    return None


def end(db, execution, state):
    with db.transaction():
        if db.execute(END, [state, execution]).fetchone():
            db.execute("UPDATE flow SET running = running - 1")


def execute(db):
    if row := claim(db):
        state = "success" if perform(row[1]) else "failed"
        persist(lambda db: end(db, row[0], state))
    else:
        time.sleep(2)


def sweep(db):
    with db.transaction():
        for _ in db.execute(LOST).fetchall():
            if REPAIRED:
                db.execute("UPDATE flow SET running = running - 1")


def persist(step, *, for_ever=False):
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
                step(db)
                while for_ever:
                    step(db)
                return
        except psycopg.OperationalError:
            time.sleep(1)


if sys.argv[1] == "executor":
    persist(execute, for_ever=True)
else:
    persist(sweep)
