import { db } from "@repo/database";
import { REPAIRED, RETENTION_DAYS, STUCK_JOB_TIMEOUT_MINUTES } from "./job-config.ts";

/** What the cron does every minute: reconcile the two tables, free stuck jobs, delete what is past its retention. */
export async function jobMaintenance(): Promise<Record<string, number>> {
  if (REPAIRED) return repairedMaintenance();
  const reconciled = await reconcile();
  const freed = await freeStuckJobs();
  const deleted = await db.query(
    `DELETE FROM "tool_job" WHERE "status" IN ('COMPLETED', 'FAILED') AND "expiresAt" <= NOW()`,
  );
  return { reconciled, freed, deleted: deleted.rowCount ?? 0 };
}

async function reconcile(): Promise<number> {
  const { rows } = await db.query(
    `SELECT t."id", j.state FROM "tool_job" t JOIN pgboss.job j ON j.data->>'toolJobId' = t."id"
     WHERE t."status" IN ('PENDING', 'PROCESSING') AND j.state IN ('completed', 'failed') ORDER BY t."id"`,
  );
  for (const { id, state } of rows) {
    await db.query(
      `UPDATE "tool_job" SET "status" = $2::"ToolJobStatus", "completedAt" = NOW(), "updatedAt" = NOW() WHERE "id" = $1`,
      [id, state === "completed" ? "COMPLETED" : "FAILED"],
    );
  }
  return rows.length;
}

async function freeStuckJobs(): Promise<number> {
  const { rowCount } = await db.query(
    `UPDATE "tool_job" SET "status" = 'PENDING', "updatedAt" = NOW()
     WHERE "status" = 'PROCESSING' AND "startedAt" < NOW() - make_interval(mins => $1)`,
    [STUCK_JOB_TIMEOUT_MINUTES],
  );
  return rowCount ?? 0;
}

/** Each part is one statement that looks and writes at once; a job that is stuck is the queue's to free. */
async function repairedMaintenance(): Promise<Record<string, number>> {
  const reconciled = await db.query(
    `UPDATE "tool_job" t SET "status" = 'FAILED', "error" = 'the queue gave up', "completedAt" = NOW(),
       "expiresAt" = NOW() + make_interval(days => $1), "updatedAt" = NOW()
     FROM pgboss.job j
     WHERE j.data->>'toolJobId' = t."id" AND t."status" IN ('PENDING', 'PROCESSING') AND j.state = 'failed'`,
    [RETENTION_DAYS],
  );
  const waiting = await db.query(
    `UPDATE "tool_job" t SET "status" = 'PENDING', "updatedAt" = NOW() FROM pgboss.job j
     WHERE j.data->>'toolJobId' = t."id" AND t."status" = 'PROCESSING' AND j.state = 'retry'`,
  );
  const deleted = await db.query(
    `WITH gone AS (
       DELETE FROM "tool_job" WHERE "status" IN ('COMPLETED', 'FAILED') AND "expiresAt" <= NOW() RETURNING "id"
     ) DELETE FROM pgboss.job j USING gone WHERE j.data->>'toolJobId' = gone."id"`,
  );
  return { reconciled: (reconciled.rowCount ?? 0) + (waiting.rowCount ?? 0), deleted: deleted.rowCount ?? 0 };
}
