"""Batches of parts and the report that follows them: `python batches.py api|worker|upkeep`.

A batch is finished, and its report is sent, once all of its parts have ended, in whatever way; one without parts at
once. The variable `MISTAKE` plants one mistake, by the name that stands beside the line.
"""

import json
import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

MISTAKE = os.environ.get("MISTAKE", "")
CLAIM = """
UPDATE task SET state = 'running', attempts = attempts + 1, started_at = clock_timestamp()
WHERE id = (SELECT id FROM task WHERE state = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, batch, kind, attempts
"""
END = """
UPDATE task SET state = %(state)s, done_at = clock_timestamp()
WHERE id = %(id)s AND state = 'running' AND attempts = %(attempts)s RETURNING batch
"""
DEAD = """
UPDATE task SET state = 'failed', done_at = clock_timestamp()
WHERE id = (SELECT id FROM task WHERE state = 'running' AND started_at < clock_timestamp() - interval '2 minutes'
  LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING batch, kind, state
"""
UNFINISHED = "SELECT count(*) FROM task WHERE batch = %s AND kind = 'part' AND state NOT IN ('done', 'failed')"
DONE_ONLY = "('done')" if MISTAKE == "failed-is-not-done" else "('done', 'failed')"
UNDONE = f"""
SELECT size - (SELECT count(*) FROM task WHERE batch = batch.id AND kind = 'part' AND state IN {DONE_ONLY})
FROM batch WHERE id = %s
"""
FINISH = "UPDATE batch SET finished_at = clock_timestamp() WHERE id = %s AND finished_at IS NULL RETURNING id"
FINISH_AGAIN = "UPDATE batch SET finished_at = clock_timestamp() WHERE id = %s RETURNING id"
REPORT = "INSERT INTO task (batch, kind) VALUES (%s, 'report')"
OLD = "DELETE FROM task WHERE state IN ('done', 'failed') AND done_at < clock_timestamp() - interval '1 minute'"


def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def persist(db, work):
    """Do it until it is done, on a new connection where one broke: everything here may be done twice."""
    while True:
        try:
            if not db:
                db.append(connect())
            return work(db[0])
        except psycopg.OperationalError:
            db.clear()
            time.sleep(1)


def part_ended(db, batch):
    """Finish a batch whose last part has ended, in the transaction in which that ends."""
    if MISTAKE != "each-sees-the-other":
        db.execute("SELECT FROM batch WHERE id = %s FOR UPDATE", (batch,))
    if MISTAKE == "counts-down":
        row = db.execute("UPDATE batch SET left_over = left_over - 1 WHERE id = %s RETURNING left_over", (batch,))
        left = row.fetchone()[0]
    elif MISTAKE in ("failed-is-not-done", "prunes-its-parts"):
        left = db.execute(UNDONE, (batch,)).fetchone()[0]
    else:
        left = db.execute(UNFINISHED, (batch,)).fetchone()[0]
    if MISTAKE == "all-but-one":
        left -= 1
    if left <= 0 and db.execute(FINISH_AGAIN if MISTAKE == "counts-down" else FINISH, (batch,)).fetchone():
        db.execute(REPORT, (batch,))


def ended(db, row, state):
    """End a task that a worker holds."""
    task, batch, kind, attempts = row
    if MISTAKE == "asks-after-the-commit" and kind == "part":
        held = db.execute(END, {"id": task, "attempts": attempts, "state": state}).fetchone()
        if held and db.execute(UNFINISHED, (batch,)).fetchone()[0] == 0:
            db.execute(FINISH_AGAIN, (batch,))
            db.execute(REPORT, (batch,))
        return
    if MISTAKE == "counts-down" and kind == "part":
        with db.transaction():
            part_ended(db, batch)
        db.execute(END, {"id": task, "attempts": attempts, "state": state})
        return
    with db.transaction():
        if db.execute(END, {"id": task, "attempts": attempts, "state": state}).fetchone() and kind == "part":
            part_ended(db, batch)


def did(part):
    """Have a part done; say whether that succeeded."""
    body = json.dumps({"part": str(part)}).encode()
    try:
        with urllib.request.urlopen("https://work.example.com/do", data=body, timeout=50) as response:
            return "run" in json.load(response)
    except (OSError, ValueError):
        return False


def dead(db):
    with db.transaction():
        row = db.execute(DEAD).fetchone()
        if row and row[1:] == ("part", "failed") and MISTAKE != "dead-part-is-forgotten":
            part_ended(db, row[0])
    return row


def worker(db):
    if row := persist(db, lambda db: db.execute(CLAIM).fetchone()):
        state = "done" if row[2] == "report" or did(row[0]) else "failed"
        persist(db, lambda db: ended(db, row, state))
    else:
        time.sleep(2)


def upkeep(db):
    while persist(db, dead):
        pass
    if MISTAKE == "prunes-its-parts":
        persist(db, lambda db: db.execute(OLD))


def send(db, name, parts):
    with db.transaction():
        if known := db.execute("SELECT id FROM batch WHERE name = %s", (name,)).fetchone():
            return known[0]
        done = "now()" if parts == 0 and MISTAKE != "empty-waits-for-ever" else "NULL"
        insert = f"INSERT INTO batch (name, size, left_over, finished_at) VALUES (%s, %s, %s, {done}) RETURNING id"
        (batch,) = db.execute(insert, (name, parts, parts)).fetchone()
        db.execute("INSERT INTO task (batch) SELECT %s FROM generate_series(1, %s)", (batch, parts))
        if done != "NULL":
            db.execute(REPORT, (batch,))
    return batch


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"id": f"batch {persist([], lambda db: send(db, asked['name'], asked['parts']))}"})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


if sys.argv[1] == "api":
    HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
elif sys.argv[1] == "worker":
    connection = []
    while True:
        worker(connection)
else:
    upkeep([])
