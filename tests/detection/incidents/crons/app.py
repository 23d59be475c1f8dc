"""A gateway that runs its own cron: `python app.py gateway|worker`.

After a restart it makes the runs that it finds due, also those that it had made and not written down yet.
"""

import os
import sys
import time
from datetime import UTC, datetime, timedelta

import psycopg

REPAIRED = bool(os.environ.get("REPAIRED"))
EVERY = 600


def slot_of(now):
    return datetime.fromtimestamp(now // EVERY * EVERY, UTC)


def gateway(db):
    (due,) = db.execute("SELECT next_run FROM task WHERE name = 'digest'").fetchone()
    slot = slot_of(time.time())
    if due > slot:
        time.sleep(30)
        return
    make = "INSERT INTO run (task, slot) VALUES ('digest', %s)"
    move = "UPDATE task SET next_run = %s WHERE name = 'digest'"
    if REPAIRED:
        with db.transaction():
            db.execute(make, [slot])
            db.execute(move, [slot + timedelta(seconds=EVERY)])
    else:
        db.execute(make, [slot])
        db.execute(move, [slot + timedelta(seconds=EVERY)])


def worker(db):
    row = db.execute(
        "UPDATE run SET state = 'done' WHERE id = (SELECT id FROM run WHERE state = 'queued' ORDER BY id LIMIT 1"
        " FOR UPDATE SKIP LOCKED) RETURNING id"
    ).fetchone()
    if row is None:
        time.sleep(2)


while True:
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
            while True:
                {"gateway": gateway, "worker": worker}[sys.argv[1]](db)
    except psycopg.OperationalError:
        time.sleep(1)
