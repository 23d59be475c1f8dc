"""Notices that are sent by a mail service, which asks for patience with a 429: `python app.py`."""

import json
import os
import time
import urllib.error
import urllib.request

import psycopg

REPAIRED = bool(os.environ.get("REPAIRED"))
CLAIM = """
UPDATE notice SET state = 'sending', attempts = attempts + 1, taken_at = clock_timestamp()
WHERE id = (SELECT id FROM notice WHERE state = 'queued' AND due_at <= clock_timestamp()
OR state = 'sending' AND attempts < 3 AND taken_at < clock_timestamp() - interval '5 minutes'
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, domain, attempts"""
END = "UPDATE notice SET state = %s WHERE id = %s AND state = 'sending' AND attempts = %s"
AGAIN = """
UPDATE notice SET state = 'queued', due_at = clock_timestamp() + interval '1 minute'
WHERE id = %s AND state = 'sending' AND attempts = %s"""


LOST = """
UPDATE notice SET state = 'failed'
WHERE state = 'sending' AND attempts >= 3 AND taken_at < clock_timestamp() - interval '5 minutes'"""


def send(domain):
    """Return whether it was sent, or could not be; raise where another attempt may send it."""
    body = json.dumps({"domain": domain}).encode()
    try:
        with urllib.request.urlopen("http://mail.example.com/send", data=body, timeout=60) as response:
            return "run" in json.load(response)
    except urllib.error.HTTPError as error:
        if error.code == 429 and REPAIRED:
            raise ConnectionError("asked to wait") from error
        if error.code >= 500:
            raise ConnectionError("the service failed") from error
        return False


def work(db):
    db.execute(LOST)
    row = db.execute(CLAIM).fetchone()
    if row is None:
        time.sleep(2)
        return
    try:
        state = "sent" if send(row[1]) else "failed"
    except (OSError, ValueError):
        if row[2] < 3:
            db.execute(AGAIN, [row[0], row[2]])
            return
        state = "failed"
    db.execute(END, [state, row[0], row[2]])


while True:
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
            while True:
                work(db)
    except psycopg.OperationalError:
        time.sleep(1)
