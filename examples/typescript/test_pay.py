import pytest

from job_harness import TypeScriptProcessor, effect


@pytest.fixture
def paid(job_harness):
    orders = set()
    fakes = {
        "isPaid": lambda order: order in orders,
        "charge": lambda order: effect("charged", order=order),
        "record": orders.add,
    }
    job_harness.register("pay", TypeScriptProcessor("lib/pay.ts#processPay", globals=fakes))
    return orders


def test_an_order_is_charged_once(job_harness, paid):
    def charged_once(harness):
        assert len(harness.effects("charged")) <= 1

    job_harness.always(charged_once)
    job = job_harness.enqueue("pay", {"order": 7})
    job_harness.run_until_idle()
    assert (job.status, paid) == ("COMPLETED", {7})
