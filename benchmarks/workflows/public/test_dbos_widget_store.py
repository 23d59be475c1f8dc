"""dbos-inc/dbos-demo-apps: python/widget-store"""

import os
import sqlite3
import sys

import pytest
import sqlalchemy
from dbos import DBOS, SetWorkflowID, SQLAlchemyDatasource

from job_harness import JobResult, dbos_process

sys.path.insert(0, os.path.join(os.environ["REPOSITORY"], "python/widget-store"))
from widget_store import main as app
from widget_store import schema


@pytest.fixture
def job_on_start(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/app.sqlite"
    engine = sqlalchemy.create_engine(url)
    schema.metadata.create_all(engine)
    with engine.begin() as connection:
        widget = {"product": "widget", "description": "", "inventory": 100, "price": 1}
        connection.execute(schema.products.insert().values(**widget))
    engine.dispose()

    def open_database():
        monkeypatch.setattr(app, "ds", SQLAlchemyDatasource.create(url), raising=False)

    config = {"name": "widget", "system_database_url": url, "application_version": "1"}
    return dbos_process(config, before=open_database)


@pytest.mark.job_accepts("the test itself failed", "no gate inside")
def test_a_checkout_takes_one_widget(job_harness, tmp_path):
    def read(query):
        database = sqlite3.connect(tmp_path / "app.sqlite")
        (value,) = database.execute(query).fetchone()
        database.close()
        return value

    def checkout(job):
        with SetWorkflowID(job.input):
            handle = DBOS.start_workflow(app.checkout_workflow)
        DBOS.get_event(handle.workflow_id, app.PAYMENT_ID)
        return JobResult(success=True)

    def pay(job):
        DBOS.send(job.input, "paid", app.PAYMENT_STATUS)
        return JobResult(success=bool(DBOS.get_event(job.input, app.ORDER_ID)))

    def takes_at_most_one(harness):
        return read("select inventory from products") >= 99 and read("select count(*) from orders") <= 1

    job_harness.always(takes_at_most_one)
    job_harness.register("checkout", checkout)
    job_harness.register("pay", pay)
    job_harness.enqueue("checkout", "c1")
    job_harness.run_until_idle()
    job_harness.enqueue("pay", "c1")
    job_harness.run_until_idle()
    assert read("select inventory from products") == 99
