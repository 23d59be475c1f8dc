"""Start a PostgreSQL server on a data folder, and try its clocks and its three timeouts with two clients."""

import os
import signal
import subprocess
import sys
import threading
import time

import psycopg

data, folder, user = sys.argv[1:4]
as_user = ["setpriv", f"--reuid={user}", "--clear-groups"] if os.geteuid() == 0 else []
server = subprocess.Popen(
    [
        *as_user,
        "postgres",
        "-D",
        data,
        "-k",
        folder,
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "port=54329",
        "-c",
        "fsync=off",
    ],
    stderr=subprocess.DEVNULL,
)
for _ in range(100):
    try:
        one = psycopg.connect(f"host={folder} port=54329 user={user} dbname=postgres", autocommit=True)
        break
    except psycopg.OperationalError:
        time.sleep(0.1)
two = psycopg.connect(f"host=127.0.0.1 port=54329 user={user} dbname=postgres", autocommit=True)
one.execute("CREATE TABLE IF NOT EXISTS item (id int PRIMARY KEY, n int, at timestamptz DEFAULT now())")
one.execute("DELETE FROM item")
one.execute("INSERT INTO item VALUES (1, 0), (2, 0)")


def took(what: str, begun: float, asked: float) -> None:
    print(f"{what} asked {asked:.3f} passed {time.monotonic() - begun:.3f}", flush=True)


print(
    *one.execute(
        "SELECT now(), CURRENT_TIMESTAMP = now(), clock_timestamp(), random(), gen_random_uuid(), pg_backend_pid()"
    ).fetchone()
)
t = time.monotonic()
one.execute("SELECT pg_sleep(60)")
took("pg_sleep", t, 60)
for setting, value in (("statement_timeout", "20s"), ("idle_in_transaction_session_timeout", "0")):
    one.execute(f"SET {setting} = '{value}'")
t = time.monotonic()
try:
    one.execute("SELECT pg_sleep(600)")
except psycopg.errors.QueryCanceled as error:
    print(str(error).strip())
took("statement_timeout", t, 20)
one.execute("SET statement_timeout = 0")
two.execute("SET lock_timeout = '7s'")
t = time.monotonic()
with one.transaction():
    one.execute("UPDATE item SET n = n + 1 WHERE id = 1")
    try:
        two.execute("UPDATE item SET n = n + 1 WHERE id = 1")
    except psycopg.errors.LockNotAvailable as error:
        print(str(error).splitlines()[0])
took("lock_timeout", t, 7)
two.execute("SET lock_timeout = 0")
for connection in (one, two):
    connection.execute("SET deadlock_timeout = '3s'")


def cross(connection: psycopg.Connection, first: int, second: int, name: str) -> None:
    begun = time.monotonic()
    try:
        with connection.transaction():
            connection.execute("UPDATE item SET n = n + 1 WHERE id = %s", (first,))
            time.sleep(1)
            connection.execute("UPDATE item SET n = n + 1 WHERE id = %s", (second,))
    except psycopg.errors.DeadlockDetected as error:
        print(name, str(error).splitlines()[0], flush=True)
    took(f"deadlock_timeout, {name}", begun, 4)


pair = [
    threading.Thread(target=cross, args=(one, 1, 2, "one")),
    threading.Thread(target=cross, args=(two, 2, 1, "two")),
]
for thread in pair:
    thread.start()
for thread in pair:
    thread.join()
two.execute("LISTEN news")
one.execute("NOTIFY news, 'unread'")
t = time.monotonic()
time.sleep(3600)
took("an hour beside an unread notification", t, 3600)
print([n.payload for n in two.notifies(timeout=1, stop_after=1)])
print(one.execute("SELECT id, n, at FROM item ORDER BY id").fetchall(), time.time())
two.close()
one.close()
server.send_signal(signal.SIGINT)
print(server.wait())
