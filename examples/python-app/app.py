"""A small mail service with a queue in a table of its own: `python app.py api`, `python app.py worker`."""

import json
import os
import signal
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

REPAIRED = os.environ.get("MAIL_APP_REPAIRED") == "true"
MAX_ATTEMPTS = 3
LOCK_MINUTES = 5
SEND_SECONDS = 240

CLAIM = """
UPDATE mail SET status = 'sending', attempts = attempts + 1, locked_at = now()
WHERE id = (
  SELECT id FROM mail
  WHERE (status = 'queued' AND run_after <= now())
     OR (status = 'sending' AND locked_at < now() - make_interval(mins => %s))
  ORDER BY run_after, id LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id, recipient, attempts
"""
BURY = """
UPDATE mail SET status = 'failed', error = coalesce(error, 'gave up'), done_at = now()
WHERE status = 'sending' AND attempts >= %s AND locked_at < now() - make_interval(mins => %s)
"""


def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def send(recipient):
    body = json.dumps({"to": recipient}).encode()
    request = urllib.request.Request("https://mail.example.com/send", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=SEND_SECONDS if REPAIRED else None) as response:
        return json.load(response)


def work_once(db):
    if REPAIRED:
        db.execute(BURY, [MAX_ATTEMPTS, LOCK_MINUTES])
    row = db.execute(CLAIM, [LOCK_MINUTES]).fetchone()
    if row is None:
        return False
    job, recipient, attempts = row
    try:
        send(recipient)
    except Exception as error:
        status = "queued" if attempts < MAX_ATTEMPTS else "failed"
        finish(db, job, attempts, status, str(error).replace("\0", ""))
    else:
        finish(db, job, attempts, "sent", None)
    return True


def finish(db, job, attempts, status, error):
    db.execute(
        """UPDATE mail SET status = %s, error = %s, run_after = now() + interval '30 seconds',
             done_at = CASE WHEN %s <> 'queued' THEN now() END
           WHERE id = %s"""
        + (" AND status = 'sending' AND attempts = %s" if REPAIRED else ""),
        [status, error, status, job, *([attempts] if REPAIRED else [])],
    )


def worker():
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    db = connect()
    while not stopping:
        try:
            busy = work_once(db)
        except psycopg.OperationalError:
            if not REPAIRED:
                raise
            db, busy = connect(), False
        if not busy:
            time.sleep(2)


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {"ok": True})

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        recipient = json.loads(self.rfile.read(length))["recipient"]
        with connect() as db:
            row = db.execute("INSERT INTO mail (recipient) VALUES (%s) RETURNING id", [recipient]).fetchone()
        self.answer(202, {"id": row[0]})

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
        HTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Api).serve_forever()
