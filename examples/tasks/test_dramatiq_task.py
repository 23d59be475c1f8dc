import dramatiq
from dramatiq.brokers.stub import StubBroker

from job_harness import JobResult, effect

dramatiq.set_broker(StubBroker())
charged = set()


@dramatiq.actor(max_retries=3)
def charge(order):
    if order not in charged:
        effect("charged", order=order)  # in your test this is the fake that stands for the payment service
        charged.add(order)


def as_processor(job):
    charge.fn(**job.input)
    return JobResult(success=True)


def test_a_second_delivery_charges_nothing(job_harness):
    job_harness.register("charge", as_processor)
    job_harness.deliver_twice(job_harness.enqueue("charge", {"order": 7}))
    job_harness.run_until_idle()
    assert len(job_harness.effects("charged")) == 1
