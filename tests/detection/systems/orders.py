"""Orders in PostgreSQL, and their messages and what customers see in Redis: `python orders.py api|relay|worker`.

The variable `MISTAKE` plants one mistake, by the name that stands beside the line.
"""

import json
import os
import socket
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

MISTAKE = os.environ.get("MISTAKE", "")
ME = os.environ.get("HOSTNAME", "api")
ORDER = "INSERT INTO orders (name) VALUES (%s) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id"
UNSENT = "SELECT id FROM orders WHERE sent_at IS NULL ORDER BY id"
SENT = "UPDATE orders SET sent_at = clock_timestamp() WHERE id = %s"
STARTS = (
    "UPDATE orders SET attempts = attempts + 1, held_until = clock_timestamp() + interval '2 minutes' WHERE id = %s "
    "AND state = 'open' AND (held_until IS NULL OR held_until < clock_timestamp()) RETURNING name, attempts"
)
GIVES_BACK = "UPDATE orders SET held_until = NULL WHERE id = %s AND state = 'open'"
ENDS = "UPDATE orders SET state = %s WHERE id = %s AND state = 'open'"


class Redis:
    """A connection to Redis that knows as much of the protocol as is needed here."""

    def __init__(self):
        self.socket = socket.create_connection((os.environ["REDIS_HOST"], int(os.environ["REDIS_PORT"])))
        self.reads = self.socket.makefile("rb")

    def do(self, *words):
        parts = [str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        line = self.reads.readline()
        if not line.endswith(b"\r\n") or line[:1] == b"-":
            raise ConnectionResetError(line.decode() or "Redis is gone")
        if line[:1] == b"$":
            return None if line[1:3] == b"-1" else self.reads.read(int(line[1:]) + 2)[:-2].decode()
        return line[1:-2].decode()


stores = []


def persist(work):
    """Do it until it is done, on new connections where one broke: everything here may be done twice."""
    while True:
        try:
            if not stores:
                stores.extend((psycopg.connect(os.environ["DATABASE_URL"], autocommit=True), Redis()))
                if sys.argv[1] == "worker":
                    unfinished(*stores)
            return work(*stores)
        except (psycopg.OperationalError, ConnectionError):
            stores.clear()
            time.sleep(1)


def create(name):
    """Write an order down; its message is sent by the relay."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
        if MISTAKE == "pushes-before-it-commits":
            with db.transaction():
                order = db.execute(ORDER, [name]).fetchone()[0]
                Redis().do("LPUSH", "orders", order)
                db.execute(SENT, [order])
            return order
        order = db.execute(ORDER, [name]).fetchone()[0]
    if MISTAKE == "pushes-once":
        Redis().do("LPUSH", "orders", order)
    return order


def relay(db, redis):
    """Send the messages of orders that have none: sent first and marked then, so some come twice."""
    for (order,) in db.execute(UNSENT).fetchall() if MISTAKE != "pushes-once" else []:
        if MISTAKE == "marks-before-it-pushes":
            db.execute(SENT, [order])
            redis.do("LPUSH", "orders", order)
        else:
            redis.do("LPUSH", "orders", order)
            db.execute(SENT, [order])


def charged(order, name):
    headers = {} if MISTAKE in ("takes-all-for-new", "forgets-too-soon") else {"Idempotency-Key": f"order-{order}"}
    body = json.dumps({"order": name}).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request("http://pay.example.com/charge", data=body, headers=headers), timeout=50
        ) as response:
            return "run" in json.load(response)
    except (OSError, ValueError):
        return False


def is_new(redis, order):
    """Say whether a message was not seen before, where that is remembered by a key that expires."""
    return MISTAKE != "forgets-too-soon" or redis.do("SET", f"seen:{order}", ME, "NX", "EX", 5) is not None


def work(db, redis):
    order = redis.do("LMOVE", "orders", f"taken:{ME}", "RIGHT", "LEFT")
    if order is None:
        time.sleep(2)
        return
    if (row := db.execute(STARTS, [order]).fetchone()) and is_new(redis, order):
        if MISTAKE == "shows-first":
            redis.do("HSET", "shown", order, "paid")
        state = "paid" if charged(order, row[0]) else "failed" if row[1] >= 3 else "open"
        db.execute(*((GIVES_BACK, [order]) if state == "open" else (ENDS, [state, order])))
    if db.execute("SELECT 1 FROM orders WHERE id = %s AND state = 'open'", [order]).fetchone():
        redis.do("LPUSH", "orders", order)  # It is tried again, or another worker has it, by a second message.
        time.sleep(0 if row else 2)
    show(db, redis, order)
    redis.do("LREM", f"taken:{ME}", 1, order)


def show(db, redis, order):
    """Let customers see what stands in the table."""
    row = db.execute("SELECT state FROM orders WHERE id = %s AND state <> 'open'", [order]).fetchone()
    if row and MISTAKE != "shows-first":
        redis.do("HSET", "shown", order, row[0])


def unfinished(db, redis):
    """Take up again what this worker had when it died, or when it did not hear what it was given."""
    while redis.do("LMOVE", f"taken:{ME}", "orders", "RIGHT", "RIGHT") is not None:
        pass


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
elif sys.argv[1] == "relay":
    while True:
        persist(relay)
        time.sleep(2)
else:
    while True:
        persist(work)
