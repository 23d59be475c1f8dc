import django
from django.conf import settings
from django.core import mail

from job_harness import JobResult

settings.configure(EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend")
django.setup()


def welcome(to):
    mail.send_mail("Welcome", "Hello", "shop@example.org", [to])


def as_processor(job):
    welcome(**job.input)
    return JobResult(success=True)


def test_a_crash_sends_the_mail_twice(job_harness):
    mail.outbox = []
    job_harness.register("welcome", as_processor)
    job = job_harness.enqueue("welcome", {"to": "ada@example.org"})
    job_harness.crash_worker(at="before complete", job=job)
    job_harness.run_until_idle()
    assert (job.attempts, len(mail.outbox)) == (2, 2)  # no job was lost, and the mail was sent again
