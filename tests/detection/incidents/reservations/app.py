"""Scheduled jobs that are reserved before they run, and an operator who edits them: `python app.py scheduler|api`."""

import json
import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

REPAIRED = bool(os.environ.get("REPAIRED"))
ME = os.environ.get("HOSTNAME", "api")
RESERVE = """
UPDATE job SET status = 'running', token = %(me)s || '-' || runs + 1, runs = runs + 1, reserved_at = clock_timestamp()
WHERE id = (SELECT id FROM job WHERE status <> 'ended' AND (token = '' OR reserved_at < clock_timestamp() - interval
'5 minutes') ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, name, token"""
RESULT = "UPDATE job SET status = 'ended', token = '', result = %s WHERE id = %s AND token = %s"
SAVE = "UPDATE job SET title = %s, status = %s, token = %s, runs = %s, reserved_at = %s WHERE id = %s"
SAVE_TITLE = "UPDATE job SET title = %s WHERE id = %s"


def perform(name):
    body = json.dumps({"name": name}).encode()
    try:
        with urllib.request.urlopen("http://agent.example.com/turn", data=body, timeout=100) as response:
            return "ok" if "run" in json.load(response) else "error"
    except (OSError, ValueError):
        return "error"


def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def scheduler():
    while True:
        try:
            with connect() as db:
                while True:
                    if row := db.execute(RESERVE, {"me": ME}).fetchone():
                        db.execute(RESULT, [perform(row[1]), row[0], row[2]])
                    else:
                        time.sleep(2)
        except psycopg.OperationalError:
            time.sleep(1)


def edit():
    """Give every job that has not ended another title."""
    with connect() as db:
        read = "SELECT id, title, status, token, runs, reserved_at FROM job WHERE status <> 'ended' ORDER BY id"
        for job, title, *rest in db.execute(read).fetchall():
            if REPAIRED:
                db.execute(SAVE_TITLE, [title + "!", job])
            else:
                db.execute(SAVE, [title + "!", *rest, job])


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        try:
            edit()
            self.answer(200)
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
    scheduler()
