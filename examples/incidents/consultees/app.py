"""E-mails to consultees, after unboxed/bops#3111 (June 2026): `python app.py api`, `python app.py worker`.

The request writes the e-mail and puts its job on the queue before the transaction is committed. A worker that is
quicker than the COMMIT finds no e-mail and drops the job, as one whose record was deleted; the e-mail stays pending for
good. bops enqueues after the commit now. Here the queue is in the same database: the repaired form enqueues in the
transaction.
"""

import json
import os
import signal
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

REPAIRED = os.environ.get("REPAIRED") == "true"
MAX_FAILURES = 3
SEND_SECONDS = 240

ENQUEUE = "INSERT INTO queue (email_id) VALUES (%s)"
CLAIM = """
UPDATE queue SET locked_at = now()
WHERE id = (
  SELECT id FROM queue WHERE run_at <= now() AND (locked_at IS NULL OR locked_at < now() - interval '10 minutes')
  ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id, email_id, failures, locked_at
"""
AGAIN = """
UPDATE queue SET locked_at = NULL, failures = failures + 1, run_at = now() + interval '1 hour'
WHERE id = %s AND locked_at = %s
"""
DONE = "DELETE FROM queue WHERE id = %s AND locked_at = %s"
END = "UPDATE consultee_email SET status = %s, error = %s, ended_at = now() WHERE id = %s"


def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def send(address):
    body = json.dumps({"email_address": address}).encode()
    request = urllib.request.Request("https://notify.example.com/email", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=SEND_SECONDS) as response:
        json.load(response)


def work_once(db):
    row = db.execute(CLAIM).fetchone()
    if row is None:
        return False
    job, email, failures, locked = row
    found = db.execute("SELECT address FROM consultee_email WHERE id = %s AND status = 'pending'", [email]).fetchone()
    if found is None:
        db.execute(DONE, [job, locked])  # Likely something got deleted, so drop the job.
        return True
    status, error = "sent", None
    try:
        send(found[0])
    except Exception as failure:
        status, error = "failed", str(failure).replace("\0", "")
        if failures + 1 < MAX_FAILURES:
            db.execute(AGAIN, [job, locked])
            return True
    with db.transaction():
        if db.execute(DONE, [job, locked]).rowcount:
            db.execute(END, [status, error, email])
    return True


def worker():
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    db = connect()
    while not stopping:
        try:
            busy = work_once(db)
        except psycopg.OperationalError:
            db, busy = connect(), False
        if not busy:
            time.sleep(2)


def create(address):
    with connect() as db, db.transaction():
        row = db.execute("INSERT INTO consultee_email (address) VALUES (%s) RETURNING id", [address]).fetchone()
        if REPAIRED:
            db.execute(ENQUEUE, row)
        else:
            with connect() as queue:  # A queue knows nothing of this transaction.
                queue.execute(ENQUEUE, row)
    return row[0]


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {"ok": True})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.answer(202, {"id": create(json.loads(body)["address"])})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        worker()
    else:
        HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
