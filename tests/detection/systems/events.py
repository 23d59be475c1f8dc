"""Events of an outbox, and the index of another service that has them too: `python events.py api|relay`.

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
EVENT = "INSERT INTO event (name) VALUES (%s) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id"
OF_CUSTOMER = "INSERT INTO customer (event) VALUES (%s) ON CONFLICT DO NOTHING"
NEXT = "SELECT id, name, attempts FROM event WHERE state = 'new' ORDER BY attempts, id LIMIT 1"
ENDS = "UPDATE event SET state = %s, attempts = attempts + 1 WHERE id = %s"


def tell(name):
    """Let the index have an event; say whether it has it."""
    body = json.dumps({"event": name}).encode()
    try:
        with urllib.request.urlopen("http://index.example.com/put", data=body, timeout=20) as response:
            return "run" in json.load(response)
    except (OSError, ValueError):
        return False


def create(name):
    """Write an event down, and what belongs to it; the relay announces it."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db, db.transaction():
        event = db.execute(EVENT, [name]).fetchone()[0]
        db.execute(OF_CUSTOMER, [event])
        if MISTAKE == "tells-before-it-commits":
            tell(name)
            db.execute(ENDS, ["told", event])
    return event


def relay(db):
    """Announce the next event, and mark it then: some are announced twice."""
    row = db.execute(NEXT).fetchone()
    if row is None:
        time.sleep(600 if MISTAKE == "looks-every-ten-minutes" else 2)
        return
    event, name, attempts = row
    if MISTAKE == "marks-first":
        db.execute(ENDS, ["told", event])
        tell(name)
        return
    told = tell(name)
    db.execute(ENDS, ["told" if told else "new" if attempts < 4 else "failed", event])
    if not told:
        time.sleep(30)


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            self.answer(200, {"id": create(asked["name"])})
        except (OSError, psycopg.OperationalError) as error:
            self.answer(500, {"error": str(error)})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


if sys.argv[1] == "api":
    HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
else:
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
                while True:
                    relay(db)
        except psycopg.OperationalError:
            time.sleep(1)
