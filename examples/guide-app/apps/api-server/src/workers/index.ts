import { createBoss, type QueuedJob } from "@repo/api/modules/jobs/lib/boss";
import { registerAllProcessors } from "@repo/api/modules/jobs/lib/processor-registry";
import { runJobs } from "@repo/api/modules/jobs/lib/run-job";
import { workRepaired } from "@repo/api/modules/jobs/lib/run-job-repaired";
import { registerMyToolProcessor } from "@repo/api/modules/my-tool/lib/register";
import { REPAIRED } from "@repo/api/modules/jobs/lib/job-config";
import { db } from "@repo/database";

const TOOL_SLUGS = ["my-tool"] as const;

function initializeProcessors(): void {
  registerAllProcessors();
  registerMyToolProcessor();
}

if (process.env.USE_PGBOSS_WORKERS !== "true") {
  console.log("USE_PGBOSS_WORKERS is not true: no workers");
} else {
  initializeProcessors();
  const boss = createBoss();
  await boss.start();
  const seconds = Number(process.env.PGBOSS_POLLING_INTERVAL ?? 2);
  let stopping = false;
  const loops = TOOL_SLUGS.map((slug) => (REPAIRED ? workRepaired(boss, slug, seconds, () => stopping) : undefined));
  for (const slug of REPAIRED ? [] : TOOL_SLUGS) {
    await boss.work<QueuedJob>(
      slug,
      {
        includeMetadata: true,
        batchSize: Number(process.env.PGBOSS_BATCH_SIZE ?? 5),
        pollingIntervalSeconds: seconds,
      },
      runJobs,
    );
  }
  process.once("SIGTERM", async () => {
    stopping = true;
    await Promise.all(loops);
    await boss.stop({ graceful: true, wait: true, timeout: 30_000 });
    await db.end();
    process.exit(0);
  });
}
