import asyncio

from job_harness import JobResult, ToolJob


async def my_tool(job: ToolJob) -> JobResult:
    await asyncio.sleep(300)  # five minutes that cost nothing
    return JobResult(success=True, output={"text": job.input["text"].upper()})


async def always_down(job: ToolJob) -> JobResult:
    return JobResult(success=False, error="503 from the upstream")


def test_my_tool_completes(job_harness):
    job_harness.register("my-tool", my_tool)
    job = job_harness.enqueue("my-tool", {"text": "hello"})
    assert job.status == "PENDING"
    job_harness.run_until_idle()
    assert job.path == ["PENDING", "PROCESSING", "COMPLETED"]
    assert job.output == {"text": "HELLO"}


def test_two_days_of_retries_take_milliseconds(job_harness):
    job_harness.register("my-tool", always_down)
    begin = job_harness.now
    job = job_harness.enqueue("my-tool", {"text": "hello"}, max_attempts=60)
    job_harness.run_until_idle()
    assert (job.status, job.attempts) == ("FAILED", 60)
    assert job.error == "503 from the upstream"
    assert (job_harness.now - begin).days == 2
