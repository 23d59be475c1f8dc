import pg from "pg";

export type ToolJobStatus = "PENDING" | "PROCESSING" | "COMPLETED" | "FAILED";

export interface ToolJob {
  id: string;
  toolSlug: string;
  status: ToolJobStatus;
  input: unknown;
  output: unknown;
  error: string | null;
  pgBossJobId: string | null;
  attempts: number;
  maxAttempts: number;
  startedAt: Date | null;
  completedAt: Date | null;
  expiresAt: Date | null;
}

export const db = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 2, idleTimeoutMillis: 0 });

if (process.env.GUIDE_APP_REPAIRED === "true") db.on("error", (error) => console.error("pool:", error.message));

export async function findToolJob(id: string): Promise<ToolJob | undefined> {
  const { rows } = await db.query(`SELECT * FROM "tool_job" WHERE "id" = $1`, [id]);
  return rows[0];
}
