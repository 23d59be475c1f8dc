from functools import partial

import jobs

from job_harness.subjects.applications import Settings, minutes

SAFEGUARDS = (
    "settle-by-result escaped-errors transactional-enqueue reconcile-both-ways compare-and-set fencing heartbeats"
)


class MyApp:
    settings = Settings(batch_size=5, job_timeout=minutes(10), lease=minutes(10))

    def __init__(self, *safe):
        self.safe = safe
        self.safeguards = {name: partial(MyApp, *safe, name) for name in SAFEGUARDS.split() if name not in safe}

    def send(self, stage, job):
        return jobs.create_job(stage.tables, job, self.safe)

    def actors(self, stage):
        def work(name, row, batch):
            every = "1m" if "heartbeats" in self.safe else 0
            return stage.work(name, row, every=every, beat=lambda: [stage.tables.touch(each) for each in batch])

        workers = {name: partial(jobs.worker, stage.tables, name, work, self.safe) for name in stage.workers}
        return {**workers, "maintenance": partial(jobs.maintenance, stage.tables, self.safe)}


def safest():
    return MyApp(*SAFEGUARDS.split())
