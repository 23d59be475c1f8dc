"""A queue whose operator brings dead jobs back; their time counts from their first run: `python app.py worker|api`."""

import json
import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

ANEW = ", started_at = NULL, attempts = 0" if os.environ.get("REPAIRED") else ""
TOO_LONG = """
UPDATE job SET state = 'dead', error = 'wall-clock timeout exceeded', token = token + 1
WHERE state IN ('waiting', 'active') AND started_at < clock_timestamp() - interval '200 seconds'"""
CLAIM = """
UPDATE job SET state = 'active', token = token + 1, attempts = attempts + 1, taken_at = clock_timestamp(),
  started_at = coalesce(started_at, clock_timestamp())
WHERE id = (SELECT id FROM job WHERE state = 'waiting'
OR state = 'active' AND taken_at < clock_timestamp() - interval '2 minutes' AND attempts < 3
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, name, token"""
END = """
UPDATE job SET state = CASE WHEN %(done)s THEN 'completed' WHEN attempts < 3 THEN 'waiting' ELSE 'dead' END,
  error = CASE WHEN NOT %(done)s THEN 'it failed' END
WHERE id = %(id)s AND token = %(token)s AND state = 'active'"""
RETRY = f"UPDATE job SET state = 'waiting'{ANEW} WHERE id = %s AND state = 'dead'"


def perform(name):
    body = json.dumps({"name": name}).encode()
    try:
        with urllib.request.urlopen("http://handler.example.com/run", data=body, timeout=100) as response:
            return "run" in json.load(response)
    except (OSError, ValueError):
        return False


def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def worker():
    while True:
        try:
            with connect() as db:
                while True:
                    db.execute(TOO_LONG)
                    if row := db.execute(CLAIM).fetchone():
                        db.execute(END, {"done": perform(row[1]), "id": row[0], "token": row[2]})
                    else:
                        time.sleep(2)
        except psycopg.OperationalError:
            time.sleep(1)


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        try:
            with connect() as db:
                self.answer(200 if db.execute(RETRY, [self.path.rpartition("/")[2]]).rowcount else 409)
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
