"""DBOS queues: the statements that its Python library sends through SQLAlchemy, overheard on a PostgreSQL of our own.

Who says that an executor is dead is ours: in production Conductor does, or an executor that restarts under the same ID.
Here it is said of each that took a workflow a `lease` ago, whether it lives or not. Each claim has a UUID as its owner.
Inputs and outputs are pickles there; here they are JSON, so that the harness can read them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from queues.package import Package, block, replaced, with_parameters

from job_harness.engines.queue_file.live import copied_schema
from job_harness.worlds.packages import python_package
from job_harness.worlds.postgres import provision

STATUS = "dbos.workflow_status"
TABLES = [STATUS, "dbos.workflow_input", "dbos.workflow_output"]
EPOCH_MS = "floor(extract(epoch FROM {}) * 1000)::bigint"
LATER = ":start_after > now()"
OVERHEAR = """
import json, os
from sqlalchemy import create_engine, event
from dbos import DBOS, SetWorkflowID
import dbos._dbos
engine = create_engine(os.environ["DATABASE_URL"])
DBOS(config={"name": "app", "system_database_url": os.environ["DATABASE_URL"], "system_database_engine": engine,
    "application_version": "1", "executor_id": "w1", "use_listen_notify": False, "log_level": "CRITICAL"})
@DBOS.workflow()
def work(job):
    return job
DBOS.launch()
DBOS.register_queue("jobs", worker_concurrency=1)
heard = []
@event.listens_for(engine, "before_cursor_execute")
def note(connection, cursor, statement, *rest):
    heard.append(statement)
with SetWorkflowID("a"):
    DBOS.enqueue_workflow("jobs", work, "a").get_result()
DBOS.cancel_workflow("a")
dbos._dbos._get_dbos_instance()._sys_db.reenqueue_for_recovery("a", ["w1"], "jobs")
DBOS.destroy()
print(json.dumps(heard))
"""
JOBS = f"""
SELECT s.workflow_uuid AS id, i.inputs::jsonb AS input, s.name AS tool, s.status, s.recovery_attempts AS attempts,
       9 - s.priority AS priority, s.owner_xid AS token, o.output::jsonb AS output, o.error AS error,
       CASE WHEN s.status = 'PENDING' THEN s.executor_id END AS worker,
       to_timestamp(s.created_at / 1000.0) AS created_at,
       to_timestamp(s.delay_until_epoch_ms / 1000.0) AS start_after,
       to_timestamp(s.started_at_epoch_ms / 1000.0) AS started_at,
       CASE WHEN s.status = 'PENDING' THEN to_timestamp(s.started_at_epoch_ms / 1000.0) + :lease END AS lease_until,
       to_timestamp(s.completed_at / 1000.0) AS completed_at
FROM {STATUS} AS s LEFT JOIN dbos.workflow_input AS i USING (workflow_uuid)
LEFT JOIN dbos.workflow_output AS o USING (workflow_uuid) ORDER BY s.created_at, s.workflow_uuid"""


def overheard(version: str) -> tuple[str, list[str]]:
    """Return the tables of a release, and what it sends to enqueue, to claim, to settle, to cancel and to recover."""
    environ = {**os.environ, "PYTHONPATH": str(python_package("dbos", version))}
    with provision() as server:
        url = server.url().replace("postgresql://", "postgresql+psycopg://", 1)
        done = subprocess.run(
            [sys.executable, "-c", OVERHEAR],
            env={**environ, "DATABASE_URL": url},
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        tables = copied_schema(server.url(), path="dbos", line=1, only=TABLES)
    return "\n".join(source.text for source in tables), json.loads(done.stdout.splitlines()[-1])


def _sent(statements: list[str], *words: str) -> str:
    """Return the first statement with these words."""
    return next(sql for sql in statements if all(word in sql for word in words))


def _settled(sql: str, **given: str) -> str:
    fixed = {"param_1": "1000", "param_2": "NULL", "param_3": "NULL", "status_1": "'PENDING'"}
    return with_parameters(sql, fixed | {"wf_id": ":job", "owner": ":token", "output": "NULL", "error": "NULL"} | given)


def write(package: Package, settings: str) -> str:
    """Return the queue file of a release."""
    schema, sent = overheard(package.version)
    nothing = dict.fromkeys(
        ("class_name", "config_name", "authenticated_user", "authenticated_roles", "assumed_role", "owner_xid",
         "workflow_timeout_ms", "workflow_deadline_epoch_ms", "deduplication_id", "queue_partition_key", "attributes",
         "parent_workflow_id", "schedule_name", "debounce_deadline_epoch_ms"),
        "NULL",
    )  # fmt: skip
    plain = {"queue_name": "'jobs'", "application_version": "'1'", "application_name": "'app'"}
    insert = with_parameters(
        _sent(sent, f"INSERT INTO {STATUS}"),
        nothing
        | plain
        | {
            "workflow_uuid": ":job",
            "status": f"(CASE WHEN {LATER} THEN 'DELAYED' ELSE 'ENQUEUED' END)",
            "delay_until_epoch_ms": f"(CASE WHEN {LATER} THEN {EPOCH_MS.format(':start_after')} END)",
            "name": ":tool",
            "executor_id": "'client'",
            "application_id": "''",
            "recovery_attempts": "0",
            "priority": "(9 - least(9, :priority::int))",
            "serialization": "'json'",
            "creator_xid": "gen_random_uuid()::text",
            "is_debounced": "false",
        },
    )
    inputs = with_parameters(
        _sent(sent, "INSERT INTO dbos.workflow_input"), {"workflow_uuid": ":job", "inputs": ":input::text"}
    )
    own = {"application_name_1_1": "'app'"}
    look = with_parameters(
        _sent(sent, "SKIP LOCKED", "LIMIT", "workflow_uuid \n", "application_version"),
        own | {"queue_name_1": "'jobs'", "status_1": "'ENQUEUED'", "application_version_1": "'1'", "param_1": "1"},
    )
    take = with_parameters(
        _sent(sent, f"UPDATE {STATUS}", "recovery_attempts"),
        own
        | {"application_version": "'1'", "application_name": "'app'", "status": "'PENDING'", "executor_id": ":worker"}
        | {"param_1": "1000", "param_2": "0", "param_3": "1000", "recovery_attempts_1": "1", "rate_limited": "false"}
        | {"workflow_timeout_ms_1": "0", "workflow_timeout_ms_2": "0", "owner_xid": "gen_random_uuid()::text"}
        | {"status_1": "'ENQUEUED'", "workflow_uuid_1_1": ":row_workflow_uuid"},
    )
    settle = _sent(sent, "WITH updated", "workflow_output")
    cleared = {"param_1": "1000", "started_at_epoch_ms": "NULL", "owner_xid": "NULL"}
    cancel = with_parameters(
        _sent(sent, f"UPDATE {STATUS}", "NOT IN"),
        cleared
        | {"status": "'CANCELLED'", "queue_name": "NULL", "deduplication_id": "NULL", "workflow_uuid_1_1": ":job"}
        | {"status_1_1": "'SUCCESS'", "status_1_2": "'ERROR'"},
    )
    due = with_parameters(
        _sent(sent, f"UPDATE {STATUS}", "delay_until_epoch_ms <="),
        own | {"status": "'ENQUEUED'", "status_1": "'DELAYED'", "delay_until_epoch_ms_1": EPOCH_MS.format("now()")},
    )
    recover = with_parameters(
        replaced(_sent(sent, f"UPDATE {STATUS}", "coalesce"), "workflow_uuid = ", "started_at_epoch_ms <= "),
        cleared
        | {"status": "'ENQUEUED'", "coalesce_1": "'jobs'", "status_1": "'PENDING'"}
        | {"workflow_uuid_1": EPOCH_MS.format("now() - :lease"), "executor_id_1_1": f"{STATUS}.executor_id"},
    ).replace("::bigint::VARCHAR", "::bigint")
    return (
        f"format: 1\nqueue: DBOS queues {package.version}\n"
        + block("schema", schema)
        + f"tables: [{', '.join(TABLES)}]\n"
        + f"settings: {{{settings}}}\n"
        + block("enqueue", f"{insert};\n{inputs}")
        + block("claim", f"{look};\n{take} AS id, {STATUS}.owner_xid AS token")
        + block("complete", _settled(settle, new_status="'SUCCESS'", output=":output"))
        + block("fail", _settled(settle, new_status="'ERROR'", error=":error"))
        + block("cancel", cancel)
        + block("expire", f"{due};\n{recover}")
        + block("jobs", JOBS)
        + "status: {DELAYED: PENDING, ENQUEUED: PENDING, PENDING: PROCESSING, SUCCESS: COMPLETED, ERROR: FAILED, "
        + "CANCELLED: CANCELLED}\n"
        + "design: [moves by sweep, retries forever, keeps no error]\n"
        + "without:\n"
        + '  failed_early: "a workflow that raises has ended: its steps are what is retried (Python, Steps)"\n'
        + '  backoff_out_of_range: "a recovered workflow may be taken at once (_sys_db.py, reenqueue_for_recovery)"\n'
    )
