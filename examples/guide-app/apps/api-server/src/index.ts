import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createBoss } from "@repo/api/modules/jobs/lib/boss";
import { createJob } from "@repo/api/modules/jobs/lib/create-job";
import { jobMaintenance } from "@repo/api/modules/jobs/lib/maintenance";
import { db, findToolJob } from "@repo/database";

const boss = createBoss();
await boss.start();

async function answer(request: IncomingMessage): Promise<[number, unknown]> {
  const path = `${request.method} ${request.url}`;
  if (path === "GET /healthz") return [200, { ok: true }];
  if (path === "POST /api/jobs") {
    const { toolSlug, input } = JSON.parse(await text(request));
    return [202, { id: await createJob(boss, toolSlug, input) }];
  }
  if (path.startsWith("GET /api/jobs/")) {
    const job = await findToolJob(path.slice("GET /api/jobs/".length));
    return job ? [200, job] : [404, { error: "no such job" }];
  }
  if (path === "GET /api/cron/job-maintenance") {
    if (request.headers.authorization !== `Bearer ${process.env.CRON_SECRET}`) return [401, { error: "unauthorized" }];
    return [200, await jobMaintenance()];
  }
  return [404, { error: "no such route" }];
}

async function text(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [status, body] = await answer(request).catch((error: Error): [number, unknown] => {
    console.error(`${request.method} ${request.url}:`, error.message);
    return [500, { error: error.message }];
  });
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

const server = createServer(serve).listen(Number(process.env.PORT ?? 3000));

process.once("SIGTERM", () => {
  server.close(async () => {
    await boss.stop({ graceful: false });
    await db.end();
    process.exit(0);
  });
});
