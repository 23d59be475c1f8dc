"""A runner of builds, after hexpm/bob#260 (June 2026).

A deploy stops the runner with SIGTERM in the middle of a build. The row stays `running`, until the maintenance sweep
fails it three hours later, although nothing was wrong with the build. The repaired runner gives it back to the queue.
"""

import json
import os
import signal
import sys
import time
import urllib.request

import psycopg

REPAIRED = os.environ.get("REPAIRED") == "true"
BUILD_SECONDS = 3600

CLAIM = """
UPDATE build SET state = 'running', started_at = now()
WHERE id = (SELECT id FROM build WHERE state = 'queued' ORDER BY inserted_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, ref, started_at
"""
MINE = " WHERE id = %s AND state = 'running' AND started_at = %s"
END = "UPDATE build SET state = %s, error = %s, ended_at = now()" + MINE
REQUEUE = "UPDATE build SET state = 'queued', started_at = NULL" + MINE


class Interrupted(Exception):
    """The runner was told to stop in the middle of a build."""


class Runner:
    def __init__(self):
        self.stopping = self.building = False

    def stop(self, *_):
        if not REPAIRED:
            sys.exit(0)
        self.stopping = True
        if self.building:
            raise Interrupted

    def run(self):
        db = connect()
        while not self.stopping:
            try:
                busy = self.run_one(db)
            except psycopg.OperationalError:
                db, busy = connect(), False
            if not busy:
                time.sleep(2)

    def run_one(self, db):
        row = db.execute(CLAIM).fetchone()
        if row is None:
            return False
        job, ref, started = row
        end, ended = END, ["done", None]
        try:
            self.building = True
            build(ref)
        except Interrupted:
            end, ended = REQUEUE, []
        except Exception as error:
            ended = ["failed", str(error).replace("\0", "")]
        finally:
            self.building = False
        db.execute(end, [*ended, job, started])
        return True


def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def build(ref):
    body = json.dumps({"ref": ref}).encode()
    request = urllib.request.Request("https://builder.example.com/build", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=BUILD_SECONDS) as response:
        json.load(response)


if __name__ == "__main__":
    runner = Runner()
    signal.signal(signal.SIGTERM, runner.stop)
    runner.run()
