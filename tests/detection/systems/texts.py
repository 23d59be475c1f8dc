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
  error = %(error)s, due_at = clock_timestamp() + interval '1 minute'
WHERE id = %(id)s AND state = 'sending' AND attempts = %(attempts)s
"""
LOST = """
UPDATE message SET state = 'failed', error = 'its worker died'
WHERE state = 'sending' AND attempts >= 3 AND taken_at < clock_timestamp() - interval '5 minutes'
"""
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


def one(row):
    error = None
    try:
        send(row[0], row[1])
    except AWAY as wrong:
        error = str(wrong)
    most = 1 if MISTAKE == "gives-up-at-once" else 3
    words = {"id": row[0], "attempts": row[2], "sent": error is None, "error": error, "most": most}
    persist(lambda db: db.execute(END, words))


while True:
    persist(lambda db: db.execute(LOST))
    if found := persist(lambda db: db.execute(CLAIM).fetchone()):
        one(found)
    else:
        time.sleep(2)
