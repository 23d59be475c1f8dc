"""The database of DBOS is away, as in a restart, while a pending workflow of a queue is recovered."""

import logging
import sqlite3

import pytest
import sqlalchemy
from dbos import DBOS, Queue, SetWorkflowID, _dbos
from dbos._sys_db import SystemDatabase
from sqlalchemy.exc import OperationalError

from job_harness import JobResult, choose, effect

logging.getLogger("dbos").setLevel(logging.CRITICAL)
queue = Queue("orders")


@DBOS.step()
def charge(order):
    effect("charged", order=order)


@DBOS.workflow()
def pay(order):
    charge(order)
    DBOS.sleep(60)
    return order


@pytest.fixture
def start(tmp_path, monkeypatch):
    config = {
        "name": "shop",
        "system_database_url": f"sqlite:///{tmp_path}/dbos.sqlite",
        "log_level": "CRITICAL",
        "application_version": "1",
        "executor_id": "local",
        "use_listen_notify": False,
        "run_admin_server": False,
    }
    create, lives = SystemDatabase.create, []

    def created(*arguments, **options):
        database = create(*arguments, **options)
        sqlalchemy.event.listen(
            database.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=0")
        )

        def before(connection, cursor, statement, *rest):
            recovers = statement.startswith("UPDATE") and "started_at_epoch_ms" in statement and len(lives) > 1
            if recovers and choose("the database", "answers", "is away") == "is away":
                raise OperationalError(statement, None, sqlite3.OperationalError("database is locked"))

        sqlalchemy.event.listen(database.engine, "before_cursor_execute", before)
        return database

    monkeypatch.setattr(SystemDatabase, "create", created)

    def begin():
        _dbos._dbos_global_instance = _dbos._get_or_create_dbos_registry().dbos = None
        DBOS(config=config)
        lives.append(begin)
        DBOS.launch()

    return begin


@pytest.mark.job_accepts("no gate inside")
def test_an_order_is_paid(job_harness, start):
    def work(job):
        with SetWorkflowID(job.id):
            queue.enqueue(pay, job.input)
        return JobResult(success=True)

    def look(job):
        status = DBOS.get_workflow_status(job.input)
        return JobResult(success=True, output=status and status.status)

    def is_done(harness):
        looked = [each.output for each in harness.all_enqueued() if each.tool == "look" and each.status == "COMPLETED"]
        return all(status == "SUCCESS" for status in looked)

    job_harness.on_start(start, polls_late_by="1m")
    job_harness.register("pay", work)
    job_harness.register("look", look)
    order = job_harness.enqueue("pay", "o1")
    job_harness.enqueue("look", order.id, start_after="2h")
    job_harness.always(is_done)
    job_harness.advance("30s")
    job_harness.crash_worker()
    job_harness.run_until_idle()
