// Sends jobs to pg-boss: node send.mjs PACKAGES URL MS...
import { createRequire } from "node:module";
const require = createRequire(process.argv[2] + "/");
const loaded = require("pg-boss");
const PgBoss = loaded.PgBoss ?? loaded.default ?? loaded;
const boss = new PgBoss({ connectionString: process.argv[3], schedule: false, supervise: false });
await boss.start();
const options = { retryLimit: 3, retryDelay: 1, expireInSeconds: 8 };
try { await boss.createQueue("work", options); } catch {}
for (const ms of process.argv.slice(4)) await boss.send("work", { ms: Number(ms) }, options);
await boss.stop({ graceful: false });
process.exit(0);
