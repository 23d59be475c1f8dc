"""The jobs of a small application. `safe` names the safeguards that are switched on; as written first, it had none."""

from job_harness.subjects.applications import poll, step


async def create_job(db, job, safe, retry_limit=None):
    await step("insert tool_job", job.id)
    if "transactional-enqueue" in safe:
        with db.transaction():
            db.insert_tool_job(job.id, input=job.input)
            db.send(job.id, retry_limit=retry_limit)
    else:
        db.insert_tool_job(job.id, input=job.input)
        await step("insert queue row", job.id)
        db.send(job.id, retry_limit=retry_limit)


async def worker(db, name, work, safe):
    while True:
        await step("fetch")
        batch = db.fetch(name, limit=db.settings.batch_size)
        while batch:
            await run(db, name, batch, work, safe)
            batch.pop(0)
        await poll("2s")


async def run(db, name, batch, work, safe):
    row = batch[0]
    await step("start", row.job)
    if "fencing" in safe and not db.touch(row, fenced=True):
        return
    db.update_tool_job(row.job, status="PROCESSING", attempts=row.attempt)
    try:
        output = await work(name, row, batch)
        await settle(db, row, safe, status="COMPLETED", output=output)
    except Exception as error:
        status = "PENDING" if row.attempt < db.settings.max_attempts else "FAILED"
        text = ascii(str(error)) if "escaped-errors" in safe else str(error)
        await settle(db, row, safe, failed=True, status=status, error=text)


async def settle(db, row, safe, *, failed=False, **columns):
    settled = db.fail if failed and "settle-by-result" in safe else db.complete
    await step("update tool_job", row.job)
    if "fencing" in safe:
        with db.transaction():
            if settled(row, fenced=True):
                db.update_tool_job(row.job, **columns)
    else:
        db.update_tool_job(row.job, **columns)
        await step("settle queue row", row.job)
        settled(row)


async def maintenance(db, safe):
    while True:
        await poll("1m")
        for job in list(db.tool_jobs.values()):
            if job.status in ("PENDING", "PROCESSING"):
                await reconcile(db, job, safe)
            elif job.expires_at <= db.now():
                await step("delete", job.id)
                with db.transaction():
                    db.delete_tool_job(job.id)
                    db.delete_row(job.id)


async def reconcile(db, job, safe):
    row = db.queue.get(job.id)
    await step("reconcile", job.id)
    where = {}
    if "compare-and-set" in safe:
        row, where = db.queue.get(job.id), {"status": job.status}
    if row is None:
        if "reconcile-both-ways" in safe:
            db.send(job.id)
    elif row.state == "completed":
        db.update_tool_job(job.id, where, status="COMPLETED")
    elif row.state == "failed":
        db.update_tool_job(job.id, where, status="FAILED")
    elif row.state == "retry":
        db.update_tool_job(job.id, where, status="PENDING")
