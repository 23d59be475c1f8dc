import PgBoss from "pg-boss";
import { JOB_TIMEOUT_SECONDS } from "./job-config.ts";

export interface QueuedJob {
  toolJobId: string;
}

export function createBoss(): PgBoss {
  const boss = new PgBoss({
    connectionString: process.env.DATABASE_URL,
    max: 2,
    schedule: false,
    supervise: process.env.USE_PGBOSS_WORKERS === "true",
    retryDelay: 60,
    retryBackoff: true,
    retryLimit: 3,
    expireInSeconds: JOB_TIMEOUT_SECONDS,
  });
  boss.on("error", (error) => console.error("pg-boss:", error.message));
  return boss;
}
