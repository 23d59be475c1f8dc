"""The application of the guide: what fails is settled as failed, and `retry_limit` is 3 where `maxAttempts` is 3."""

from functools import partial

import jobs
from my_app import SAFEGUARDS, MyApp

from job_harness.subjects.applications import poll, step


async def free_stuck(db, safe):
    while True:
        await poll("1m")
        for job in list(db.tool_jobs.values()):
            if job.status == "PROCESSING" and job.started_at + db.settings.stuck_timeout <= db.now():
                await step("free stuck", job.id)
                where = {"status": "PROCESSING", "attempts": job.attempts} if "compare-and-set" in safe else {}
                status = "PENDING" if job.attempts < job.max_attempts else "FAILED"
                row = db.queue.get(job.id)
                with db.transaction():
                    if row is not None and row.state == "active" and db.update_tool_job(job.id, where, status=status):
                        db.fail(row)


class Guide(MyApp):
    def __init__(self, *safe):
        super().__init__("settle-by-result", *safe)
        lacking = {*SAFEGUARDS.split(), "derived-retry-limit"}.difference(self.safe)
        self.safeguards = {name: partial(Guide, *safe, name) for name in sorted(lacking)}

    def send(self, stage, job):
        retry_limit = None if "derived-retry-limit" in self.safe else 3
        return jobs.create_job(stage.tables, job, self.safe, retry_limit=retry_limit)

    def actors(self, stage):
        return {**super().actors(stage), "rescue": partial(free_stuck, stage.tables, self.safe)}


def repaired():
    return Guide("derived-retry-limit", *SAFEGUARDS.split())
