// The repaired worker. It takes a job only in the attempt that the queue delivered, stops the work when its time is up,
// and settles both rows in one transaction, and only while the delivery is still its own. It fetches by itself, since
// the loop of pg-boss 10 settles a job by its id alone, and awaits no answer.
import { db, type ToolJob } from "@repo/database";
import type pg from "pg";
import type PgBoss from "pg-boss";
import type { QueuedJob } from "./boss.ts";
import { deadline } from "./deadline.ts";
import { JOB_TIMEOUT_MS, RETENTION_DAYS } from "./job-config.ts";
import type { JobResult } from "./processor-registry.ts";
import { runProcessor, type Delivery } from "./run-job.ts";
import { inTransaction, onClient } from "./transaction.ts";

/** Work until `stopping` says so. */
export async function workRepaired(boss: PgBoss, slug: string, seconds: number, stopping: () => boolean): Promise<void> {
  while (!stopping()) {
    try {
      const found = await boss.fetch<QueuedJob>(slug, { includeMetadata: true, batchSize: 1 });
      const delivery = found[0] as Delivery | undefined;
      if (delivery) await deliver(boss, delivery);
      else await sleep(seconds);
    } catch (error) {
      // What was being done is taken back once its expiry is over: a connection that broke must not end the process.
      console.error("worker:", (error as Error).message);
      await sleep(seconds);
    }
  }
}

async function deliver(boss: PgBoss, delivery: Delivery): Promise<void> {
  const job = await take(delivery);
  if (!job) return;
  const result = await deadline.run(AbortSignal.timeout(JOB_TIMEOUT_MS), () => runProcessor(job));
  await settle(boss, delivery, job, result);
}

/** Take the row for this attempt, unless it has ended, or a later attempt has it. */
async function take(delivery: Delivery): Promise<ToolJob | undefined> {
  return inTransaction(async (client) => {
    if (!(await holds(client, delivery))) return undefined;
    const { rows } = await client.query(
      `UPDATE "tool_job" SET "status" = 'PROCESSING', "attempts" = $2, "startedAt" = NOW(), "updatedAt" = NOW()
       WHERE "id" = $1 AND "status" IN ('PENDING', 'PROCESSING') AND "attempts" < $2 RETURNING *`,
      [delivery.data.toolJobId, delivery.retryCount + 1],
    );
    return rows[0];
  });
}

async function settle(boss: PgBoss, delivery: Delivery, job: ToolJob, result: JobResult): Promise<void> {
  const failed = !result.success && job.attempts >= job.maxAttempts;
  const error = result.success ? null : printable(result.error ?? "failed");
  await inTransaction(async (client) => {
    if (!(await holds(client, delivery))) return;
    await client.query(
      `UPDATE "tool_job" SET "status" = $2, "output" = $3, "error" = $4, "updatedAt" = NOW(),
         "completedAt" = CASE WHEN $5 THEN NOW() END,
         "expiresAt" = CASE WHEN $5 THEN NOW() + make_interval(days => $6) END
       WHERE "id" = $1 AND "status" = 'PROCESSING'`,
      [
        job.id,
        result.success ? "COMPLETED" : failed ? "FAILED" : "PENDING",
        result.success ? printable(JSON.stringify(result.output ?? null)) : null,
        error,
        result.success || failed,
        RETENTION_DAYS,
      ],
    );
    const over = { db: onClient(client) };
    if (result.success) await boss.complete(delivery.name, delivery.id, {}, over);
    else await boss.fail(delivery.name, delivery.id, { message: error }, over);
  });
}

/** Whether the queue's row is still in this delivery; it is locked, so that it stays so. */
async function holds(client: pg.PoolClient, delivery: Delivery): Promise<boolean> {
  const { rowCount } = await client.query(
    `SELECT 1 FROM pgboss.job WHERE name = $1 AND id = $2 AND state = 'active' AND retry_count = $3 FOR UPDATE`,
    [delivery.name, delivery.id, delivery.retryCount],
  );
  return rowCount === 1;
}

/** PostgreSQL takes no NUL, and no half of a surrogate pair. */
function printable(text: string): string {
  return text.replaceAll("\0", "\\0").replaceAll("\\u0000", "\\\\0").toWellFormed();
}

function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
