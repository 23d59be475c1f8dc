// Makes the tables: ours, and pg-boss's own.
import { readFile } from "node:fs/promises";
import PgBoss from "pg-boss";
import { db } from "./index.ts";

await db.query(await readFile(new URL("schema.sql", import.meta.url), "utf8"));
await db.end();

const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, supervise: false, schedule: false });
await boss.start();
await boss.createQueue("my-tool", { retryLimit: 3, expireInSeconds: 600 } as PgBoss.Queue);
await boss.stop({ graceful: false });
