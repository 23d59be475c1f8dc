import time

from job_harness import JobResult


def resize(image, width):
    time.sleep(90)
    return f"{image} at {width}"


def as_processor(job):
    return JobResult(success=True, output=resize(**job.input))


def test_a_worker_that_dies_loses_no_image(job_harness):
    job_harness.register("resize", as_processor)
    job = job_harness.enqueue("resize", {"image": "a.png", "width": 80})
    job_harness.crash_worker(at="while running", job=job)
    job_harness.run_until_idle()
    assert (job.attempts, job.output) == (2, "a.png at 80")
