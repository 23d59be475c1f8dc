"""A queue whose rows say who canceled them: `python app.py worker|api`.

A running job hears of a cancel when its worker next reads its row, and what ends in between is recorded as a success.
"""

import json
import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

REPAIRED = bool(os.environ.get("REPAIRED"))
ME = os.environ.get("HOSTNAME", "api")
CLAIM = """
UPDATE job SET state = CASE WHEN canceled_by IS NULL THEN 'running' ELSE 'canceled' END, started_at = now(), owner = %s
WHERE id = (SELECT id FROM job WHERE state = 'queued' OR state = 'running' AND started_at < now() - interval '5 minutes'
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, name, state"""
END = "UPDATE job SET state = %s WHERE id = %s AND state = 'running' AND owner = %s"
END_READING = """UPDATE job SET state = CASE WHEN canceled_by IS NULL THEN %s ELSE 'canceled' END
WHERE id = %s AND state = 'running' AND owner = %s"""


def post(name):
    body = json.dumps({"name": name}).encode()
    with urllib.request.urlopen(
        urllib.request.Request("http://scripts.example.com/run", data=body, method="POST"), timeout=120
    ) as response:
        return json.load(response)


def work(db):
    row = db.execute(CLAIM, [ME]).fetchone()
    if row is None:
        time.sleep(2)
    elif row[2] == "running":
        if db.execute("SELECT canceled_by FROM job WHERE id = %s", [row[0]]).fetchone()[0] is not None:
            db.execute(END, ["canceled", row[0], ME])
            return
        try:
            post(row[1])
            state = "succeeded"
        except Exception:
            state = "failed"
        db.execute(END_READING if REPAIRED else END, [state, row[0], ME])


def worker():
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
                while True:
                    work(db)
        except psycopg.OperationalError:
            time.sleep(1)


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
                done = db.execute(
                    "UPDATE job SET canceled_by = 'someone',"
                    " state = CASE state WHEN 'queued' THEN 'canceled' ELSE state END"
                    " WHERE id = %s AND state IN ('queued', 'running')",
                    [self.path.rpartition("/")[2]],
                ).rowcount
            self.answer(202 if done else 409)
        except psycopg.OperationalError:
            self.answer(503)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if sys.argv[1] == "api":
    HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
else:
    worker()
