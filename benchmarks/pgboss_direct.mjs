// Sends, fetches and completes jobs one after the other in pg-boss itself; prints the milliseconds that it took.
// Usage: node pgboss_direct.mjs FOLDER URL JOBS
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, connectionString, jobs] = process.argv.slice(2);
const { PgBoss } = await import(pathToFileURL(createRequire(`${folder}/`).resolve("pg-boss")).href);
const boss = new PgBoss({ connectionString, max: 1, supervise: false, schedule: false, registerInstance: false });
await boss.start();
await boss.createQueue("direct");
const once = async () => {
  await boss.send("direct", { input: null });
  const [job] = await boss.fetch("direct", { includeMetadata: true });
  await boss.complete("direct", job, { value: null });
};
for (let number = 0; number < Number(jobs); number++) await once(); // compiles what is measured
await boss.deleteAllJobs("direct");
const began = performance.now();
for (let number = 0; number < Number(jobs); number++) await once();
console.log(performance.now() - began);
await boss.stop({ graceful: false });
process.exit(0);
