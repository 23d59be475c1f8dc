"""Events that are written into PostgreSQL, and their jobs into Redis: `python app.py api|worker|sweep`."""

import json
import os
import socket
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

REPAIRED = bool(os.environ.get("REPAIRED"))
ME = os.environ.get("HOSTNAME", "api")
INSERT = "INSERT INTO event (transaction_id) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id"
END = "UPDATE event SET state = %s WHERE id = %s AND state = 'created'"
OLD = (
    "SELECT id FROM event WHERE state = 'created' AND created_at < clock_timestamp() - interval '3 minutes' ORDER BY id"
)


class Redis:
    """A connection to Redis that knows as much of the protocol as is needed here."""

    def __init__(self):
        self.socket = socket.create_connection((os.environ["REDIS_HOST"], int(os.environ["REDIS_PORT"])))
        self.reads = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reads.close()
        self.socket.close()

    def do(self, *words):
        parts = [str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        line = self.reads.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("Redis is gone")
        if line[:1] == b"$":
            return None if line[1:3] == b"-1" else self.reads.read(int(line[1:]) + 2)[:-2].decode()
        if line[:1] == b"-":
            raise ConnectionResetError(line.decode())
        return int(line[1:]) if line[:1] == b":" else None


def database():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def create(transaction):
    with database() as db:
        row = db.execute(INSERT, [transaction]).fetchone()
    if row is None:
        return 422, {"error": "value_already_exist"}
    with Redis() as redis:
        redis.do("LPUSH", "events", row[0])
    return 200, {"id": row[0]}


def process(event):
    body = json.dumps({"event": event}).encode()
    try:
        with urllib.request.urlopen("http://fees.example.com/charge", data=body, timeout=60) as response:
            return "run" in json.load(response)
    except (OSError, ValueError):
        return False


def work(redis):
    event = redis.do("LMOVE", "events", f"taken:{ME}", "RIGHT", "LEFT")
    if event is None:
        time.sleep(2)
        return
    with database() as db:
        row = db.execute("SELECT transaction_id FROM event WHERE id = %s AND state = 'created'", [event]).fetchone()
        if row:
            db.execute(END, ["processed" if process(row[0]) else "failed", event])
    redis.do("LREM", f"taken:{ME}", 1, event)


def worker():
    while True:
        try:
            with Redis() as redis:
                while redis.do("LMOVE", f"taken:{ME}", "events", "RIGHT", "RIGHT") is not None:
                    pass
                while True:
                    work(redis)
        except (OSError, psycopg.OperationalError):
            time.sleep(1)


def sweep():
    """Send again what has waited for long: an event may be in the list twice."""
    while True:
        try:
            with database() as db, Redis() as redis:
                for (event,) in db.execute(OLD).fetchall():
                    redis.do("LPUSH", "events", event)
        except (OSError, psycopg.OperationalError):
            pass
        time.sleep(60)


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            self.answer(*create(asked["transaction_id"]))
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
elif sys.argv[1] == "worker":
    worker()
elif REPAIRED:
    sweep()
else:
    time.sleep(1e9)
