import { db } from "@repo/database";
import { STUCK_JOB_TIMEOUT_MINUTES } from "./job-config.ts";

/** What the cron does every minute: reconcile the two tables, free stuck jobs, delete what is past its retention. */
export async function jobMaintenance(): Promise<Record<string, number>> {
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
