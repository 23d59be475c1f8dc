// A worker of pg-boss 10 or 12: node boss.mjs PACKAGES URL
import { createRequire } from "node:module";
const require = createRequire(process.argv[2] + "/");
const loaded = require("pg-boss");
const PgBoss = loaded.PgBoss ?? loaded.default ?? loaded;
const ten = !loaded.PgBoss;
const boss = new PgBoss({
  connectionString: process.argv[3], max: 2, schedule: false,
  ...(ten ? { maintenanceIntervalSeconds: 1, monitorStateIntervalSeconds: 1 }
          : { superviseIntervalSeconds: 1, maintenanceIntervalSeconds: 1, monitorIntervalSeconds: 1 }),
});
boss.on("error", () => {});
await boss.start();
const options = { retryLimit: 3, retryDelay: 1, expireInSeconds: 8 };
try { await boss.createQueue("work", options); } catch {}
await boss.work("work", { batchSize: 1, pollingIntervalSeconds: 1 }, async ([job]) => {
  await new Promise((resolve) => setTimeout(resolve, job.data.ms));
  return { done: true };
});
setInterval(() => boss.supervise?.("work").catch(() => {}), 1000);
