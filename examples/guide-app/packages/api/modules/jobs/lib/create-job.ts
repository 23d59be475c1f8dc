import { db } from "@repo/database";
import type PgBoss from "pg-boss";
import { JOB_TIMEOUT_SECONDS, REPAIRED } from "./job-config.ts";
import { inTransaction, onClient } from "./transaction.ts";

const INSERT = `INSERT INTO "tool_job" ("toolSlug", "input") VALUES ($1, $2) RETURNING "id"`;
const LINK = `UPDATE "tool_job" SET "pgBossJobId" = $2 WHERE "id" = $1`;

/** Create a job: a row that users see, and a row in the queue. */
export async function createJob(boss: PgBoss, toolSlug: string, input: unknown): Promise<string> {
  if (REPAIRED) return createBoth(boss, toolSlug, input);
  const { rows } = await db.query(INSERT, [toolSlug, JSON.stringify(input)]);
  const toolJobId: string = rows[0].id;
  const pgBossJobId = await boss.send(toolSlug, { toolJobId });
  await db.query(LINK, [toolJobId, pgBossJobId]);
  return toolJobId;
}

/** The same in one transaction, with as many deliveries as attempts, and an expiry that outlives the timeout. */
async function createBoth(boss: PgBoss, toolSlug: string, input: unknown): Promise<string> {
  return inTransaction(async (client) => {
    const { rows } = await client.query(INSERT, [toolSlug, JSON.stringify(input)]);
    const toolJobId: string = rows[0].id;
    const options = { db: onClient(client), retryLimit: 2, expireInSeconds: JOB_TIMEOUT_SECONDS + 60 };
    const pgBossJobId = await boss.send(toolSlug, { toolJobId }, options);
    await client.query(LINK, [toolJobId, pgBossJobId]);
    return toolJobId;
  });
}
