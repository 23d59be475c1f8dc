// The schema of the application by its own migrations, one pipeline with one subscriber, and pg-boss's own tables.
import { readFileSync, readdirSync } from "node:fs";
import pg from "pg";
import { PgBoss } from "pg-boss";
const db = new pg.Client({ connectionString: process.env.DATABASE_URL });
await db.connect();
for (const file of readdirSync("db/migrations").sort()) await db.query(readFileSync(`db/migrations/${file}`, "utf8"));
await db.query("INSERT INTO pipelines (name, action_type) VALUES ('all', 'addTimestamp')");
await db.query("INSERT INTO subscribers (pipeline_id, target_url) VALUES (1, 'http://hooks.example.com/in')");
await db.end();
const boss = new PgBoss({ connectionString: process.env.DATABASE_URL });
await boss.start();
await boss.createQueue("process_event");
await boss.stop({ graceful: false });
