from celery import Celery

from job_harness import JobResult

app = Celery("shop", broker="memory://")
mailer = {"away": True}


@app.task(bind=True, max_retries=5)
def remind(self, user):
    if mailer.pop("away", False):
        raise self.retry(exc=ConnectionError("the mailer is away"))
    return {"to": user}


def as_processor(job):
    return JobResult(success=True, output=remind.run(**job.input))


def test_a_reminder_is_retried(job_harness):
    job_harness.register("remind", as_processor)
    job = job_harness.enqueue("remind", {"user": "ada"})
    job_harness.run_until_idle()
    assert (job.status, job.attempts, job.output) == ("COMPLETED", 2, {"to": "ada"})
