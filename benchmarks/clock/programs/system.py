"""A whole system: PostgreSQL, the API and two workers of examples/python-app, and a client; the mail server refuses."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import psycopg

data, folder, user, application = sys.argv[1:5]
os.environ["no_proxy"] = "127.0.0.1"
address = f"host={folder} port=54328 user={user} dbname=postgres"
environment = os.environ | {"DATABASE_URL": address, "PORT": "18080", "https_proxy": "http://127.0.0.1:1"}
as_user = ["setpriv", f"--reuid={user}", "--clear-groups"] if os.geteuid() == 0 else []
settings = ["listen_addresses=", "port=54328", "fsync=off", "autovacuum=off"]
server = subprocess.Popen(
    [*as_user, "postgres", "-D", data, "-k", folder, *(part for each in settings for part in ("-c", each))],
    stderr=subprocess.DEVNULL,
)
while True:
    try:
        db = psycopg.connect(address, autocommit=True)
        break
    except psycopg.OperationalError:
        time.sleep(0.1)
with open(os.path.join(application, "schema.sql")) as schema:
    db.execute(schema.read())
command = [sys.executable, os.path.join(application, "app.py")]
parts = [subprocess.Popen([*command, role], env=environment) for role in ("api", "worker", "worker")]
begun = time.time()
for name in ("ada", "bob", "cyd"):
    time.sleep(3)
    body = json.dumps({"recipient": f"{name}@example.org"}).encode()
    with urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:18080/mail", data=body)) as response:
        print(response.status, json.load(response), flush=True)
time.sleep(600 - (time.time() - begun))
for row in db.execute(
    "SELECT id, recipient, status, attempts, error, created_at, locked_at, done_at FROM mail ORDER BY id"
):
    print(*row)
for part in parts:
    part.send_signal(signal.SIGTERM if part is not parts[0] else signal.SIGKILL)
print([part.wait() for part in parts])
db.close()
server.send_signal(signal.SIGINT)
print(server.wait(), time.time() - begun)
