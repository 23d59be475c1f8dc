"""django-q2 on its ORM broker: the statements that the broker sends, overheard on an SQLite in memory.

What `save_task` writes is ours: in Python, it looks for a row and then inserts or updates it. A failed task is left to
its lock, which ends `retry` after its claim, and is then presented again. Packages are signed pickles there; here they
are JSON, so that the harness can read them. In one verb, saving and acknowledging are one transaction, and there two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from queues.package import Package, block, with_values

from job_harness.worlds.packages import python_package

SENT = "(:now - interval '1 microsecond')"
"""What is sent and due at once is locked until then, and a lock has to have ended before."""
QUEUE = "'jobs'"
LOCKED = "a failed task waits for the end of its lock, `retry` after its claim (docs/configure, retry)"
SLOWER = "where another cluster was faster, it looks again 0.2 s later (brokers/orm.py, dequeue)"
DJANGO = "django==5.2.6"
OVERHEAR = """
import json, warnings
warnings.simplefilter("ignore")
from django.conf import settings
settings.configure(SECRET_KEY="k", INSTALLED_APPS=["django_q"], Q_CLUSTER={"name": "jobs", "orm": "default"},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
import django
django.setup()
from django.core.management import call_command
from django.db import connection
from django_q.brokers.orm import ORM
from django_q.models import OrmQ
call_command("migrate", verbosity=0)
said = []
def note(execute, sql, *rest):
    said.append(sql)
    return execute(sql, *rest)
broker = ORM("jobs")
with connection.execute_wrapper(note):
    broker.enqueue("package")
    broker.dequeue()
    broker.acknowledge(1)
print(json.dumps([sql for sql in said if sql != "BEGIN"]))
"""
SCHEMA = """
CREATE TABLE django_q_ormq (id serial PRIMARY KEY, key varchar(100) NOT NULL, payload text NOT NULL, lock timestamptz);
CREATE TABLE django_q_task (id varchar(32) PRIMARY KEY, started timestamptz NOT NULL, stopped timestamptz NOT NULL,
  result text, success boolean NOT NULL, attempt_count int NOT NULL, claimed timestamptz);"""
JOBS = """
SELECT coalesce(payload->>'job', t.id) AS id, q.id AS key, payload->'input' AS input, payload->>'tool' AS tool,
       CASE WHEN t.success THEN 'done' WHEN taken THEN 'taken' ELSE 'waits' END AS status,
       coalesce(t.attempt_count, 0) + coalesce(taken, false)::int AS attempts, lock AS token,
       CASE WHEN NOT t.success THEN t.result END AS error,
       CASE WHEN NOT taken THEN lock + interval '1 microsecond' END AS start_after,
       CASE WHEN taken THEN lock - :lease ELSE t.started END AS started_at,
       CASE WHEN taken THEN lock + interval '1 microsecond' END AS lease_until,
       CASE WHEN t.success THEN t.stopped END AS completed_at
FROM (SELECT o.id, o.payload::jsonb AS payload, lock,
             lock <> (o.payload::jsonb->>'sent')::timestamptz
             AND NOT EXISTS (SELECT FROM django_q_task AS l
                             WHERE l.id = o.payload::jsonb->>'job' AND l.claimed = lock) AS taken
      FROM django_q_ormq AS o) AS q
FULL JOIN django_q_task AS t ON t.id = payload->>'job'"""
"""A row whose lock is not the time at which it was sent has been claimed, and runs unless that claim was saved."""
SAVE = """
INSERT INTO django_q_task (id, started, stopped, result, success, attempt_count, claimed)
SELECT payload::jsonb->>'job', lock - :lease, :now, {result}, {success}, 1, :token FROM django_q_ormq WHERE id = :job
ON CONFLICT (id) DO UPDATE SET stopped = :now, result = excluded.result, success = excluded.success, claimed = :token,
  attempt_count = django_q_task.attempt_count + 1 WHERE NOT django_q_task.success"""


def overheard(version: str) -> list[str]:
    """Return what the broker of a release sends to enqueue, to look, to claim and to acknowledge."""
    modules = python_package("django-q2", version, DJANGO)
    command = [sys.executable, "-c", OVERHEAR]
    environ = {**os.environ, "PYTHONPATH": str(modules)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    statements: list[str] = json.loads(done.stdout)
    return statements


def write(package: Package, settings: str) -> str:
    """Return the queue file of a release."""
    insert, look, take, acknowledge = overheard(package.version)
    sent = f"jsonb_build_object('job', :job::text, 'tool', :tool::text, 'input', :input::jsonb, 'sent', {SENT})"
    claim = f"{with_values(look, QUEUE, ':now')};\n{with_values(take, ':now + :lease', ':row_id', ':row_lock')}"
    delete = with_values(acknowledge, ":job")
    return (
        f"format: 1\nqueue: django-q2 {package.version}, ORM broker\n"
        + block("schema", SCHEMA)
        + f"settings: {{{settings}}}\n"
        + block("enqueue", with_values(insert, QUEUE, f"{sent}::text", SENT))
        + block("claim", f"{claim} RETURNING id AS key, lock AS token")
        + block("complete", f"{SAVE.format(result=':output::text', success='true')};\n{delete}")
        + block("fail", SAVE.format(result=":error", success="false"))
        + "takes_back: inside claim\nfinal_errors: false\ndesign: [retries forever, keeps all errors]\n"
        + block("jobs", JOBS)
        + "status: {waits: PENDING, taken: PROCESSING, done: COMPLETED}\n"
        + "without:\n"
        + f'  backoff_out_of_range: "{LOCKED}"\n  due_job_left: "{SLOWER}"\n'
    )
