import asyncio

from temporalio import activity
from temporalio.testing import ActivityEnvironment

from job_harness import JobResult


@activity.defn
async def ship(order: int) -> str:
    activity.heartbeat("packing")
    await asyncio.sleep(300)
    return f"parcel {order}"


async def as_processor(job):
    return JobResult(success=True, output=await ActivityEnvironment().run(ship, job.input["order"]))


def test_a_parcel_is_shipped_though_the_worker_dies(job_harness):
    job_harness.register("ship", as_processor)
    job = job_harness.enqueue("ship", {"order": 7})
    job_harness.crash_worker(at="while running", job=job)
    job_harness.run_until_idle()
    assert (job.attempts, job.output) == (2, "parcel 7")
