import { db, findToolJob, type ToolJob } from "@repo/database";
import type PgBoss from "pg-boss";
import type { QueuedJob } from "./boss.ts";
import { JOB_TIMEOUT_MS, RETENTION_DAYS } from "./job-config.ts";
import { getProcessor, type JobResult } from "./processor-registry.ts";

export type Delivery = PgBoss.JobWithMetadata<QueuedJob>;

/** What pg-boss calls with a batch. */
export async function runJobs(batch: Delivery[]): Promise<void> {
  for (const delivery of batch) await runJob(delivery);
}

async function runJob(delivery: Delivery): Promise<void> {
  const job = await findToolJob(delivery.data.toolJobId);
  if (!job) return;
  const attempts = delivery.retryCount + 1;
  await db.query(
    `UPDATE "tool_job" SET "status" = 'PROCESSING', "attempts" = $2, "startedAt" = NOW(), "updatedAt" = NOW()
     WHERE "id" = $1`,
    [job.id, attempts],
  );
  const result = await withTimeout(runProcessor(job));
  if (result.success) {
    await db.query(
      `UPDATE "tool_job" SET "status" = 'COMPLETED', "output" = $2, "error" = NULL, "completedAt" = NOW(),
         "expiresAt" = NOW() + make_interval(days => $3), "updatedAt" = NOW()
       WHERE "id" = $1`,
      [job.id, JSON.stringify(result.output ?? null), RETENTION_DAYS],
    );
    return;
  }
  const failed = attempts >= job.maxAttempts;
  await db.query(
    `UPDATE "tool_job" SET "status" = $2, "error" = $3, "updatedAt" = NOW(),
       "completedAt" = CASE WHEN $4 THEN NOW() END,
       "expiresAt" = CASE WHEN $4 THEN NOW() + make_interval(days => $5) END
     WHERE "id" = $1`,
    [job.id, failed ? "FAILED" : "PENDING", result.error, failed, RETENTION_DAYS],
  );
  throw new Error(result.error);
}

export async function runProcessor(job: ToolJob): Promise<JobResult> {
  const processor = getProcessor(job.toolSlug);
  if (!processor) return { success: false, error: `no processor for ${job.toolSlug}` };
  return processor(job);
}

function withTimeout(work: Promise<JobResult>): Promise<JobResult> {
  const timeout = new Promise<JobResult>((resolve) => {
    setTimeout(() => resolve({ success: false, error: "timed out" }), JOB_TIMEOUT_MS).unref();
  });
  return Promise.race([work, timeout]);
}
