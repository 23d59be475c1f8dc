"""A relay of an outbox: it marks events as published, and publishes them: `python app.py`."""

import json
import os
import time
import urllib.request

import psycopg

REPAIRED = bool(os.environ.get("REPAIRED"))
MARK = "UPDATE outbox SET published_at = now() WHERE id = %s"


def publish(event):
    body = json.dumps({"event": event}).encode()
    with urllib.request.urlopen(
        urllib.request.Request("http://broker.example.com/publish", data=body, method="POST"), timeout=60
    ) as response:
        return json.load(response)


def relay(db):
    with db.transaction():
        row = db.execute(
            "SELECT id, event FROM outbox WHERE published_at IS NULL AND failures < 3 ORDER BY failures, id LIMIT 1"
            " FOR UPDATE SKIP LOCKED"
        ).fetchone()
        if row is None:
            return False
        if REPAIRED:
            try:
                publish(row[1])
            except Exception:
                db.execute("UPDATE outbox SET failures = failures + 1 WHERE id = %s", [row[0]])
                return True
        db.execute(MARK, [row[0]])
    if not REPAIRED:
        publish(row[1])
    return True


while True:
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
            while True:
                if not relay(db):
                    time.sleep(2)
    except Exception:
        time.sleep(5)
