"""Texts that a provider sends, which may be slow, out of patience, or away: `python texts.py`.

The variable `MISTAKE` plants one mistake, by the name that stands beside the line.
"""

import json
import os
import time
import urllib.error
import urllib.request

import psycopg

MISTAKE = os.environ.get("MISTAKE", "")
CLAIM = """
UPDATE message SET state = 'sending', attempts = attempts + 1, taken_at = clock_timestamp()
WHERE id = (SELECT id FROM message WHERE attempts < 3 AND (state = 'queued' AND due_at <= clock_timestamp()
  OR state = 'sending' AND taken_at < clock_timestamp() - interval '5 minutes')
  ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, name, attempts
"""
END = """
UPDATE message SET state = CASE WHEN %(sent)s THEN 'sent' WHEN attempts < %(most)s THEN 'queued' ELSE 'failed' END,
  error = %(error)s, due_at = clock_timestamp() + make_interval(secs => %(wait)s)
WHERE id = %(id)s AND state = 'sending' AND attempts = %(attempts)s
"""
LOST = """
UPDATE message SET state = 'failed', error = 'its worker died'
WHERE state = 'sending' AND attempts >= 3 AND taken_at < clock_timestamp() - interval '5 minutes'
"""
FAILURES = "UPDATE provider SET failures = CASE WHEN %s THEN failures + 1 ELSE 0 END"
AWAY = urllib.error.HTTPError if MISTAKE == "knows-no-broken-line" else Exception


def send(message, name):
    headers = {} if MISTAKE == "sends-without-a-key" else {"Idempotency-Key": f"message-{message}"}
    body = json.dumps({"to": name}).encode()
    request = urllib.request.Request("https://texts.example.com/send", data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = response.read()
    except urllib.error.HTTPError as error:
        if error.code == 429 and MISTAKE == "too-many-is-sent":
            return
        raise
    except TimeoutError as error:
        raise urllib.error.HTTPError(request.full_url, 504, "too slow", None, None) from error
    if not answer.startswith(b"{"):
        raise urllib.error.HTTPError(request.full_url, 502, "no JSON", None, None)


def persist(work):
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
                return work(db)
        except psycopg.OperationalError:
            time.sleep(1)


def wait_after(wrong):
    """Return the seconds until the next attempt: as many as the provider asks for, where it does."""
    if isinstance(wrong, urllib.error.HTTPError) and wrong.headers is not None and MISTAKE != "asks-again-at-once":
        return max(60, int(wrong.headers.get("Retry-After", 0)))
    return 1 if MISTAKE in ("retries-at-once", "asks-again-at-once") else 60


def one(row):
    error, wait, broke = None, 60, False
    try:
        send(row[0], row[1])
    except AWAY as wrong:
        error, wait, broke = str(wrong), wait_after(wrong), isinstance(wrong, ConnectionError)
    most = 1 if MISTAKE == "gives-up-at-once" else 3
    words = {"id": row[0], "attempts": row[2], "sent": error is None, "error": error, "most": most, "wait": wait}
    persist(lambda db: db.execute(END, words))
    persist(lambda db: db.execute(FAILURES, (broke,)))


def may_try():
    """Say whether the provider is to be tried: after three connections in a row that broke, every 30 seconds."""
    failures = persist(lambda db: db.execute("SELECT failures FROM provider").fetchone())[0]
    if failures < 3 or MISTAKE == "retries-at-once":
        return True
    if MISTAKE != "never-tries-again":
        time.sleep(30)
    return MISTAKE != "never-tries-again"


while True:
    persist(lambda db: db.execute(LOST))
    if may_try() and (found := persist(lambda db: db.execute(CLAIM).fetchone())):
        one(found)
    else:
        time.sleep(2)
