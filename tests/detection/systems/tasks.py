"""A queue in two tables, its API, workers and cron: `python tasks.py api|worker|upkeep|migrate`.

The variable `MISTAKE` plants one mistake, by the name that stands beside the line. Without it, all that is promised
in `tasks.yaml` is kept.
"""

import json
import os
import signal
import sys
import time
import urllib.request
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psycopg

MISTAKE = os.environ.get("MISTAKE", "")
ME = os.environ.get("HOSTNAME", "api")
NEXT = "next" in sys.argv
MOST = 3
LIMIT = int(os.environ.get("LIMIT", "0"))
NO_KEY_OF_ONE = "DROP INDEX one_of_a_key"
KEYS = {
    "key-shared": "",
    "key-for-ever": "CREATE UNIQUE INDEX one_of_a_key ON task (key)",
    "key-kept-by-cancelled": "CREATE UNIQUE INDEX one_of_a_key ON task (key) WHERE state NOT IN ('done', 'failed')",
}
FREE = "state = 'queued' AND run_after <= now()"
ALL = "state = 'queued'"
HELD_BRIEFLY = f"({FREE} OR state = 'running' AND started_at < now() - interval '1 minute')"
ORDER = {"lowest-first": "priority, created_at, id"}.get(MISTAKE, "priority DESC, created_at, id")
WHERE = {"claims-early": ALL, "takes-what-is-held": HELD_BRIEFLY}.get(MISTAKE, FREE)
LANE = "lane IS NULL OR NOT EXISTS (SELECT FROM task other WHERE other.lane = task.lane AND other.state = 'running')"
CLAIM = f"""
UPDATE task SET state = 'running', attempts = attempts + 1, held_by = %(me)s,
  started_at = coalesce(%(started)s, clock_timestamp()), lease_until = clock_timestamp() + interval '5 minutes'
WHERE id = (SELECT id FROM task WHERE {WHERE} AND ({LANE}) ORDER BY {ORDER} LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, name, attempts
"""
RUNNING = "SELECT count(*) FROM task WHERE state = 'running'"
LATELY = "> clock_timestamp() - interval '1 minute'"
COUNTED = {
    "rate-is-kept": f"SELECT count(*) FROM claim WHERE at {LATELY}",
    "rate-of-rows": f"SELECT count(*) FROM task WHERE started_at {LATELY}",  # A row shows its last claim alone.
}
HELD = "true" if MISTAKE == "ends-what-was-cancelled" else "state = 'running' AND held_by = %(me)s"
FINISH = f"""
UPDATE task SET state = %(state)s, error = %(error)s, run_after = now() + interval '30 seconds', lease_until = NULL,
  held_by = NULL, done_at = CASE WHEN %(state)s <> 'queued' THEN clock_timestamp() + %(off)s::interval END
WHERE id = %(id)s AND {HELD} AND attempts = %(attempts)s RETURNING id, name
"""
GIVEN_BACK = 0 if MISTAKE == "release-counts" else 1
RELEASE = f"""
UPDATE task SET state = 'queued', attempts = attempts - {GIVEN_BACK}, held_by = NULL, lease_until = NULL
WHERE id = %(id)s AND state = 'running' AND held_by = %(me)s AND attempts = %(attempts)s
"""
REAP = """
WITH dead AS (
  UPDATE task SET state = CASE WHEN attempts < 3 THEN 'queued' ELSE 'failed' END, error = 'its worker died',
    held_by = NULL, lease_until = NULL, run_after = now() + interval '30 seconds',
    done_at = CASE WHEN attempts >= 3 THEN clock_timestamp() END
  WHERE state = 'running' AND lease_until < clock_timestamp() RETURNING id, name, state
) INSERT INTO dead_letter (task, name) SELECT id, name FROM dead WHERE state = 'failed'
"""
DELETE = "DELETE FROM task WHERE state IN ('done', 'failed', 'cancelled') AND done_at < now() - %(kept)s::interval"
LETTER = "INSERT INTO dead_letter (task, name) VALUES (%s, %s)"
CANCEL = "UPDATE task SET state = 'cancelled', done_at = now(), lease_until = NULL WHERE id = %s AND state IN {states}"
RETRIED = "'failed', 'cancelled', 'running'" if MISTAKE == "retries-what-runs" else "'failed', 'cancelled'"
RETRY = f"""
UPDATE task SET state = 'queued', attempts = 0, run_after = now(), done_at = NULL, error = NULL, held_by = NULL,
  lease_until = NULL
WHERE id = %s AND state IN ({RETRIED})
"""


class Stop(Exception):
    """It was told to stop while it waits for an answer."""


stopping, calling, open_now = [], [], []


def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def persist(work):
    """Do it until it is done, on a new connection where one broke: everything here may be done twice."""
    while True:
        try:
            if not open_now:
                open_now.append(connect())
            return work(open_now[0])
        except psycopg.OperationalError:
            open_now.clear()
            time.sleep(1)


def call(name):
    body = json.dumps({"name": name}).encode()
    request = urllib.request.Request("https://work.example.com/do", data=body, method="POST")
    calling.append(name)
    try:
        with urllib.request.urlopen(request, timeout=240) as response:
            return json.load(response)
    finally:
        calling.clear()


def insist(name):
    """Call once more after a failure, where that is what it does."""
    try:
        call(name)
    except urllib.error.HTTPError:
        if MISTAKE != "insists":
            raise
        call(name)


def claim(db):
    words = {"me": ME, "started": datetime.fromtimestamp(time.time(), UTC) if MISTAKE == "own-clock" else None}
    try:
        if not LIMIT:
            return db.execute(CLAIM, words).fetchone()
        with db.transaction():
            if MISTAKE != "limits-are-raced":
                db.execute("SELECT pg_advisory_xact_lock(7)")
            counted = db.execute(COUNTED.get(MISTAKE, RUNNING)).fetchone()[0]
            row = db.execute(CLAIM, words).fetchone() if counted < LIMIT else None
            if row is not None and MISTAKE in COUNTED:
                db.execute("INSERT INTO claim VALUES (clock_timestamp())")
            return row
    except psycopg.errors.UniqueViolation:
        return None  # Another worker has just taken one of this lane.


def finish(row, state, error=None, *, sql=FINISH):
    off = "-1 hour" if MISTAKE == "done-before-it-began" else "0"
    words = {"id": row[0], "attempts": row[2], "me": ME, "state": state, "error": error, "off": off}

    def work(db):
        with db.transaction():
            done = db.execute(sql, words)
            buried = done.rowcount and state == "failed" and MISTAKE != "no-dead-letter"
            for _ in range((1 + (MISTAKE == "two-dead-letters")) if buried else 0):
                db.execute(LETTER, done.fetchone() if MISTAKE != "two-dead-letters" else row[:2])

    persist(work)


def run(row):
    try:
        for _ in range(5 if MISTAKE == "calls-five-times" else 1):
            insist(row[1])
        if MISTAKE == "success-as-failure" and row[2] == 1:
            raise RuntimeError("could not write the audit log")
    except Stop:
        if MISTAKE != "stops-with-its-claim":
            finish(row, "queued", sql=RELEASE)
    except Exception as error:
        words = None if MISTAKE == "no-error" else str(error).replace("\0", "") or "failed"
        gives_up = MISTAKE == "gives-up" or (NEXT and MISTAKE == "next-gives-up")
        failed = row[2] >= (1 if gives_up else MOST)
        finish(row, "failed" if failed else "queued", words)
    else:
        finish(row, "done")


def stop(*_):
    stopping.append(True)
    if calling and MISTAKE != "stops-when-done":
        raise Stop


def worker():
    signal.signal(signal.SIGTERM, signal.SIG_IGN if MISTAKE == "ignores-sigterm" else stop)
    while not stopping:
        row = persist(claim)
        if stopping and MISTAKE == "leaves-what-it-took":
            os._exit(1)
        if row is None:
            time.sleep(2)
        else:
            run(row)


def upkeep():
    persist(lambda db: db.execute(REAP))
    persist(lambda db: db.execute(DELETE, {"kept": "1 minute" if MISTAKE == "deletes-early" else "20 minutes"}))


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        words = self.path.strip("/").split("/")
        try:
            with connect() as db:
                self.answer(*(self.send(db, asked) if len(words) == 1 else self.act(db, words[1], words[2])))
        except psycopg.OperationalError:
            self.answer(503, {"error": "try again"})

    def send(self, db, asked):
        usual = 5 if MISTAKE == "zero-is-none" else 0
        priority = 0 if MISTAKE == "drops-the-priority" else int(asked["priority"] or usual)
        if MISTAKE == "priority-of-16-bits":
            priority = max(-32768, min(priority, 32767))
        if asked["key"] and MISTAKE == "key-cut-short":
            asked["key"] = asked["key"][:255]
        row = db.execute(
            "INSERT INTO task (name, priority, key, lane) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id",
            [asked["name"], priority, asked["key"] or None, asked["lane"] or None],
        ).fetchone()
        return (409, {"error": "there is one with this key"}) if row is None else (202, {"id": row[0]})

    def act(self, db, job, what):
        states = "('queued')" if MISTAKE == "cancels-what-waits" else "('queued', 'running')"
        if what == "retry" and MISTAKE == "retries-nothing":
            return 200, {}
        if what == "cancel" and MISTAKE == "accepts-cancels-only":
            return 202, {}
        try:
            done = db.execute(CANCEL.format(states=states) if what == "cancel" else RETRY, [job]).rowcount
        except psycopg.errors.UniqueViolation:
            return 409, {"error": "another one has its key"}
        return (200, {}) if done or MISTAKE == "cancels-what-waits" else (409, {"error": "it is too late"})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def migrate():
    with connect() as db:
        db.execute(Path(__file__).with_name("tasks.sql").read_text())
        if MISTAKE == "limits-are-raced":
            db.execute("DROP INDEX one_of_a_lane")
        if MISTAKE in KEYS:
            db.execute(NO_KEY_OF_ONE)
            db.execute(KEYS[MISTAKE])


if __name__ == "__main__":
    if sys.argv[1] == "api":
        HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
    else:
        {"worker": worker, "upkeep": upkeep, "migrate": migrate}[sys.argv[1]]()
