import pytest
from dbos import DBOS, SetWorkflowID

from job_harness import JobResult, at_most_once, dbos_process, effect

bank = {"knows keys": True, "keys": set()}  # stands in for the payment service


@DBOS.step()
def charge(order):
    if not (bank["knows keys"] and order in bank["keys"]):
        bank["keys"].add(order)
        effect("charged", order=order)


@DBOS.workflow()
def pay(order):
    charge(order)
    DBOS.sleep(60)


def work(job):
    with SetWorkflowID(job.id):  # the same one in each attempt
        pay(job.input)
    return JobResult(success=True)


@pytest.fixture
def job_invariants():
    return [at_most_once("charged", per=["order"])]


@pytest.fixture
def job_on_start(tmp_path):
    return dbos_process({"name": "shop", "system_database_url": f"sqlite:///{tmp_path}/dbos.sqlite"})


@pytest.mark.parametrize("knows_keys", [True, False], ids=["right", "wrong"])
def test_an_order_is_paid_once(job_harness, knows_keys):
    bank.update({"knows keys": knows_keys, "keys": set()})
    job_harness.register("pay", work)
    job_harness.enqueue("pay", "o1")
    job_harness.run_until_idle()
