"""A scheduler of reminders in each of two servers, after 2anki/2anki.net#4217 (August 2026).

During a blue-green deploy both colours run the same scheduler. Each reads when the last batch was sent, and both find
it overdue before either has written down that it sent one: everybody gets two e-mails. The repaired form takes an
advisory lock, and looks at the time of the last batch again while it has it.
"""

import json
import os
import signal
import time
import urllib.request

import psycopg

REPAIRED = os.environ.get("REPAIRED") == "true"
MAX_FAILURES = 3
SEND_SECONDS = 60
LOCK_KEY = 4217

OVERDUE = "SELECT NOT EXISTS (SELECT FROM event WHERE name = 'email_batch_sent' AND at > now() - interval '5 minutes')"
DUE = "SELECT id, address FROM reminder WHERE status = 'due' ORDER BY id"
SENT = "UPDATE reminder SET status = 'sent', ended_at = now() WHERE id = %s AND status = 'due'"
FAILED = """
UPDATE reminder SET failures = failures + 1, error = %s,
  status = CASE WHEN failures + 1 < %s THEN 'due' ELSE 'failed' END
WHERE id = %s AND status = 'due'
"""


def connect(**options):
    return psycopg.connect(os.environ["DATABASE_URL"], **options)


def send(address):
    body = json.dumps({"to": address}).encode()
    request = urllib.request.Request("https://mail.example.com/send", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=SEND_SECONDS) as response:
        json.load(response)


def send_batch(db):
    due = db.execute(DUE).fetchall()
    for reminder, address in due:
        try:
            send(address)
        except Exception as error:
            db.execute(FAILED, [str(error).replace("\0", ""), MAX_FAILURES, reminder])
        else:
            db.execute(SENT, [reminder])
    if due:
        db.execute("INSERT INTO event (name) VALUES ('email_batch_sent')")


def tick(db):
    if not db.execute(OVERDUE).fetchone()[0]:
        return
    if not REPAIRED:
        send_batch(db)
        return
    with connect() as lock, lock.transaction():
        mine = lock.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK_KEY]).fetchone()[0]
        if mine and db.execute(OVERDUE).fetchone()[0]:
            send_batch(db)


def main():
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    db = connect(autocommit=True)
    while not stopping:
        try:
            tick(db)
        except psycopg.OperationalError:
            db = connect(autocommit=True)
        time.sleep(30)


if __name__ == "__main__":
    main()
