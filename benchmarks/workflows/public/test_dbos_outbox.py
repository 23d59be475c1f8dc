"""dbos-inc/dbos-demo-apps: python/transactional-outbox/atomic_workflow.py"""

import os
import sys

import pytest
from dbos import SetWorkflowID

from job_harness import JobResult, at_most_once, dbos_process, effect

sys.path.insert(0, os.path.join(os.environ["REPOSITORY"], "python/transactional-outbox"))


class Time:
    def sleep(self, seconds):  # stands for the mail or webhook that the step only pretends to send
        effect("notified", order="o1")


@pytest.fixture
def job_invariants():
    return [at_most_once("notified", per=["order"])]


@pytest.fixture
def app(tmp_path, monkeypatch):
    os.environ["DBOS_DATABASE_URL"] = f"sqlite:///{tmp_path}/app.sqlite"
    import atomic_workflow as app  # it opens its database as it is loaded

    app.metadata.create_all(app.ds.engine)
    app.ds.engine.dispose()
    monkeypatch.setattr(app, "time", Time())
    return app


@pytest.fixture
def job_on_start(app, tmp_path):
    url = f"sqlite:///{tmp_path}/app.sqlite"
    return dbos_process({"name": "outbox", "system_database_url": url, "application_version": "1"})


def test_an_order_is_notified_once(job_harness, app):
    def work(job):
        with SetWorkflowID(job.id):
            app.place_order_workflow("ann", "book", 1)
        return JobResult(success=True)

    job_harness.register("order", work)
    job_harness.enqueue("order", "o1")
    job_harness.run_until_idle()
