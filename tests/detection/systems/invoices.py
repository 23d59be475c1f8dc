"""Invoices that are mailed by workers which read them from a replica: `python invoices.py api|worker|reaper`.

The variable `MISTAKE` plants one mistake, by the name that stands beside the line.
"""

import json
import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

MISTAKE = os.environ.get("MISTAKE", "")
MAKE = """
WITH made AS (INSERT INTO invoice (name) VALUES (%s) RETURNING id)
INSERT INTO mail (id) SELECT id FROM made RETURNING id
"""
CLAIM = """
UPDATE mail SET state = 'sending', attempts = attempts + 1, taken_at = now()
WHERE id = (SELECT id FROM mail WHERE state = 'queued' AND due_at <= now() ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, attempts
"""
END = """
UPDATE mail SET state = CASE WHEN %(error)s::text IS NULL THEN 'sent' WHEN attempts < 3 THEN 'queued' ELSE 'failed' END,
  error = %(error)s, due_at = now() + interval '1 minute'
WHERE id = %(id)s AND state = 'sending' AND attempts = %(attempts)s
"""
READ = "SELECT name FROM invoice WHERE id = %s"
OVERDUE = "state = 'sending' AND taken_at < now() - interval '5 minutes'"
TAKE_BACK = f"""
UPDATE mail SET state = CASE WHEN attempts < 3 THEN 'queued' ELSE 'failed' END, error = 'its worker died',
  due_at = now() + interval '1 minute'
WHERE id = %s {"" if MISTAKE == "reaps-what-it-read" else f"AND {OVERDUE}"}
"""


def ask(variable, sql, *values):
    """Carry out a statement, again and again while the database is away; return its first row."""
    while True:
        try:
            with psycopg.connect(os.environ[variable], autocommit=True) as db:
                cursor = db.execute(sql, *values)
                return cursor.fetchone() if cursor.description else None
        except psycopg.OperationalError:
            time.sleep(1)


def read(invoice):
    found = ask("REPLICA_URL", READ, (invoice,))
    if found is None and MISTAKE != "missing-is-deleted":
        found = ask("DATABASE_URL", READ, (invoice,))
    return found


def send(invoice, name):
    headers = {"Idempotency-Key": f"invoice-{invoice}"}
    body = json.dumps({"invoice": name}).encode()
    request = urllib.request.Request("https://mail.example.com/send", data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        json.loads(response.read())


def work():
    row = ask("DATABASE_URL", CLAIM)
    if row is None:
        time.sleep(2)
        return
    error, found = None, read(row[0])
    try:
        if found is not None:  # else it was deleted meanwhile, and needs no mail
            send(row[0], found[0])
    except Exception as wrong:
        error = str(wrong)
    written = "REPLICA_URL" if MISTAKE == "writes-to-the-replica" else "DATABASE_URL"
    ask(written, END, {"id": row[0], "attempts": row[1], "error": error})


def reap():
    overdue = ask("REPLICA_URL", f"SELECT id FROM mail WHERE {OVERDUE} ORDER BY id LIMIT 1")
    if overdue is not None:
        ask("DATABASE_URL", TAKE_BACK, overdue)
    time.sleep(20)


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(201, {"id": ask("DATABASE_URL", MAKE, (asked["name"],))[0]})

    def answer(self, status, told):
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said):
        pass


if sys.argv[1] == "api":
    HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
while True:
    work() if sys.argv[1] == "worker" else reap()
