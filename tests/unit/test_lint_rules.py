"""Every rule finds its breach at its line, and is silent about what is right."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.guide_repository import write
from tests.unit.queue_repositories import (
    CELERY,
    CONF,
    QUEUES,
    RETRIED,
    TASK,
    TWO_QUEUES,
    WORKER,
    Example,
    bull,
    celery,
    graphile,
    procrastinate,
)

from job_harness.review.check.catalogue import RULES
from job_harness.review.check.examination import examine
from job_harness.review.check.finding import CheckFinding, Severity
from job_harness.review.check.repository import read_repository
from job_harness.review.check.rules import queue_files
from job_harness.review.check.rules.application import LIVE
from job_harness.review.check.settings import standings

BOSS = '{"dependencies": {"pg-boss": "12.38.0"}}'
SECRET = "0f9d3c61b7a24e58" * 2
CONFIG = "export const JOB_TIMEOUT_MS = 10 * 60 * 1000;\n"
CRON = '{"crons": [{"path": "/api/cron/job-maintenance",\n"schedule": "* * * * *"}]}'
ROUTE = "apps/web/app/api/cron/job-maintenance/route.ts"
WORKER_ENV = "USE_PGBOSS_WORKERS=true\nDATABASE_URL=postgresql://u@db.example.org:5432/jobs\n"
RENDER = """\
services:
  - type: worker
    name: api-server
    maxShutdownDelaySeconds: {delay}
    envVars:
      - key: USE_PGBOSS_WORKERS
        value: "true"
      - key: DATABASE_URL
        sync: false
"""
ASKS = 'if (process.env.USE_PGBOSS_WORKERS === "true") await boss.start();\n'
EVERY_FIVE = CRON.replace("* * * * *", "*/5 * * * *")
SENT = "mail.apply_async(countdown={})\n"
BATCH = 'boss.work("a", {\n batchSize: 2 }, run);\n'
FORWARDS = (
    'await boss.createQueue("a");\nconst mail = { emit: (data, options) => boss.send("a", data, options ?? {}) };\n'
)
NAMES = 'const QUEUES = { MAIL: "mail" } as const;\nenum Other { SMS = "sms" }\n'
NPM_LOCK = '{"packages": {\n"node_modules/pg-boss": {\n"version": "10.4.2"\n}}}'
BUN_LOCK = '{\n  "packages": {\n    "pg-boss": ["pg-boss@12.14.0", "", {}, "sha512-x"],\n  }\n}'
WORKED = (
    'import { scrape } from "./slow";\n'
    'await boss.createQueue("a", { expireInSeconds: 15 * 60 });\n'
    'await boss.work<Scrape>("a", { batchSize: 1 }, withTracing(async ([job]) => { await scrape(job.data); }));'
)
SLOW = (
    "const TOTAL_TIMEOUT_MS = {minutes} * 60 * 1000;\n"
    "export async function scrape(input) {{ const deadline = start + TOTAL_TIMEOUT_MS; await until(deadline); }}\n"
)
UPDATED = (
    "const RENDER_TIMEOUT_MS = 10 * 60 * 1000;\n"
    'await boss.createQueue("a", {{ expireInSeconds: {} }});\n'
    'await boss.updateQueue("a", {{ expireInSeconds: {} }});\n'
    'await boss.work("a", async ([job]) => {{ await render(job, RENDER_TIMEOUT_MS); }});'
)
BATCHED = (
    "const RENDER_TIMEOUT_MS = 10 * 60 * 1000;\n"
    'await boss.createQueue("a", {{ expireInSeconds: 660 }});\n'
    'await boss.work("a", {{ batchSize: 10 }}, async (jobs) => {{ {} }});'
)
ASKED_SIZE = (
    'boss.work("a", {\n batchSize: Number(process.env.BATCH_SIZE ?? 1) }, run);\nnew PgBoss({expireInMinutes: 15})'
)
ASKED_DROPPING = 'boss.work("a", { batchSize: Number(process.env.BATCH_SIZE ?? 1) },\n async ([job]) => run(job));'
COMPOSE = "services:\n  worker:\n    build: .\n    environment:\n{}\n"
ASKED_WAIT = (
    'await boss.createQueue("a", { expireInSeconds: 300 });\n'
    "const settings = { wait: Number(process.env.WAIT ?? 600) };\n"
    "const load = (url) => fetch(url, { signal: AbortSignal.timeout(settings.wait * 1000) });\n"
    "class Client {\n  async get(url) { return this.load(url); }\n  async load(url) { return load(url); }\n}\n"
)
WEB = (
    "const wait = Number(process.env.WAIT ?? 600);\n"
    "export const get = (url) => fetch(url, { signal: AbortSignal.timeout(wait * 1000) });\n"
    "export const web = { get: (url) => get(url) };\n"
)
STOPS = 'await boss.work("a", run);\nprocess.on("SIGTERM", async () => {{ await {}; }});'
WORKS = 'await boss.createQueue("a");\nawait boss.work("a", run);'
ON_SIGNALS = "import {{ close }} from './stop';\nfor (const signal of [{}]) process.on(signal, close);\n"
GRACE = "services:\n  worker:\n    build: {{context: .}}\n    {}\n  db:\n    image: postgres\n"
ALWAYS = GRACE.format("restart: always")
BESIDE = {"web/compose.yml": "services: {web: {build: ., stop_grace_period: 5m}}\n"}
PM2 = (
    "const web = {{ name: 'web', script: 'web.js' }};\n"
    "module.exports = {{ apps: [web, {{ name: 'worker', script: 'w.js', {} }}] }};\n"
)
POD = (
    "kind: Deployment\nspec:\n  template:\n    spec:\n      terminationGracePeriodSeconds: 90\n"
    "      containers: [{name: worker}]\n"
)
FLAG_POD = "spec:\n  containers:\n    - env:\n        - {{name: USE_PGBOSS_WORKERS, value: '{}'}}\n      name: {}\n"
WORKER_POD = (
    "kind: ConfigMap\nmetadata: {{name: sizes}}\ndata: {{BATCH_SIZE: '2'}}\n---\nkind: Deployment\n"
    "spec: {{template: {{spec: {{\n  containers: [{{\n    name: worker,\n    {}\n  }}] }} }} }}\n"
)
ASKED_LEFT = (
    "async function mail(jobs) { await post(jobs); }\n"
    "async function beat(jobs) { while (running) { await boss.touch(jobs); } }\n"
    "const track = async (jobs) => {\n  try { await post(jobs); } catch { }\n};\n"
    "function plain(jobs) { post(jobs); }\n"
)
PROCESSOR = (
    'import {{ Mails, Outbox }} from "./mails";\n@Processor("a")\nexport class Mailer extends WorkerHost {{\n'
    "  private readonly outbox: Outbox;\n"
    "  constructor(private readonly mails: Mails, private readonly auditQueue: Queue) {{ super(); }}\n"
    "  async process(job: Job) {{\n    {}\n  }}\n  async own(job) {{ await post(job); }}\n}}"
)
MAIN = 'import {{ NestFactory }} from "@nestjs/core";\nconst app = await NestFactory.create(AppModule);\n{}\n'
MAILS = (
    "class Sender {\n  async send(job) { await post(job); }\n}\nexport class Mails extends Sender {}\n"
    "export class Outbox {\n  async keep(job) { await post(job); }\n  log(job) { console.log(job); }\n}\n"
)
WITHIN = "await boss.createQueue('a');\nawait {}async (tx) => {{\n{}\n}}{};"
PARTS = (
    "async function mail(job) {{ await post(job); }}\nasync function all(job) {{ {}; }}\n"
    'new Worker("a", async (job) => {{ await all(job); }}, {{}});'
)
IN_TURN = "for (const job of jobs) await render(job, RENDER_TIMEOUT_MS);"
AT_ONCE = "await Promise.all(jobs.map((job) => render(job, RENDER_TIMEOUT_MS)));"
FETCHES = (
    'import {{ fetch, url }} from "./web";\nawait boss.createQueue("a", {{ expireInSeconds: 300 }});\n'
    'await boss.work("a", async ([job]) => {{ {} }});'
)
PRISMA = 'model ToolJob {\n  maxAttempts Int @default(3)\n  @@map("tool_job")\n}\n'
PYTHON = 'registry.register_processor("a", run)\nregistry.register_processor("b", run)\n'
SLUGS = 'const TOOL_SLUGS = ["a",\n"b"] as const;\nregisterProcessor("a", run);\n'
REGISTER = 'export function registerMyProcessor() {\n  registerProcessor("a", run);\n}'
BOTH = {"api/package.json": '{"dependencies": {"pg-boss": "12.38.0"}}', "web/package.json": BOSS}
SCHEDULED = 'boss.schedule("a", "0 3 * * *", {}, { retryLimit: 3 });'
LOCK = "packages:\n\n  pg-boss@{}:\n    resolution: {{}}\n"
GUARDED = """\
export async function GET(request: Request) {
  const secret = process.env.CRON_SECRET;
  if (!secret) return new Response("", { status: 500 });
  if (request.headers.get("authorization") !== `Bearer ${secret}`) return new Response("", { status: 401 });
}
"""
BARE = """\
export async function GET(request: Request) {
  if (request.headers.get("authorization") !== `Bearer ${process.env.CRON_SECRET}`) {
    return new Response("", { status: 401 });
  }
}
"""


LOOKS = """setInterval(async () => {
  for (const event of await db.select().from(events).where(isNull(events.sentAt))) await boss.send("a", event);
}, 60_000);"""
ROWS = "export const createEvent = (given) => pool.query(`INSERT INTO events (payload) VALUES ($1)`, [given]);"
RECEIVES = (
    'import { createEvent } from "./rows";\nexport const receive = async (given) => { const event = await '
    'createEvent(given);\n await boss.send("a", { id: event.id }); };\n'
)
TOGETHER = RECEIVES.replace("createEvent(given);", "createEvent(given, db);").replace(
    "event.id }", "event.id }, { db }"
)
FLAGGED = (
    'boss.work("a", async ([job]) => {{\n  const row = await load(job.data.id);\n  if ({}) return;\n'
    "  await db.update(rows).set({{ refreshing: true{} }});\n  await crawl(row);\n"
    "  await db.update(rows).set({{ refreshing: false }});\n}});\n"
)
ENQUEUES = (
    'import { step } from "./packages/jobs/step";\n'
    "const enqueue = (job, data, key) => boss.send(job.name, data, { ...(key && { singletonKey: key }) });\n"
)
ENSURES = 'import PgBoss from "pg-boss";\nexport const ensure = (boss: PgBoss, job) => boss.createQueue(job.name{});\n'
DESCRIBED = {
    "packages/jobs/package.json": "{}",
    "packages/jobs/step.ts": 'export const step = { name: "step", options: { policy: "short" } };',
    "packages/db/package.json": '{"dependencies": {"pg-boss": "10.4.2"}}',
}


def boss(text: str, *, version: str = "10.4.2") -> dict[str, str]:
    return {
        "package.json": f'{{"dependencies": {{"pg-boss": "{version}"}}}}',
        "boss.ts": f'import PgBoss from "pg-boss";\n{text}',
    }


EXAMPLES = [
    Example(
        "timeout_units_disagree",
        {"job-config.ts": CONFIG + "export const JOB_TIMEOUT_SECONDS = 60;\n"},
        "job-config.ts:2",
        {"job-config.ts": CONFIG + "export const JOB_TIMEOUT_SECONDS = JOB_TIMEOUT_MS / 1_000;\n"},
    ),
    Example(
        "timeout_units_disagree",
        {"job-config.ts": CONFIG, ".env": "A=1\nJOB_TIMEOUT_SECONDS=300\n"},
        ".env:2",
        {"job-config.ts": CONFIG, ".env": "A=1\nJOB_TIMEOUT_SECONDS=600\n"},
    ),
    Example(
        "expiry_within_timeout",
        {"job-config.ts": CONFIG, **boss("new PgBoss({\n  expireInMinutes: 10,\n});")},
        "boss.ts:3",
        {"job-config.ts": CONFIG, **boss("new PgBoss({\n  expireInMinutes: 11,\n});")},
    ),
    Example(
        "expiry_within_timeout",
        {"settings.py": "JOB_TIMEOUT_MS = 10 * 60 * 1000\nJOB_EXPIRE_IN_SECONDS = 600\n"},
        "settings.py:2",
        {"settings.py": "JOB_TIMEOUT_MS = 10 * 60 * 1000\nJOB_EXPIRE_IN_SECONDS = 660\n"},
    ),
    Example(
        "batch_outlives_expiry",
        {"job-config.ts": CONFIG, **boss(BATCH + "new PgBoss({expireInMinutes: 15})")},
        "boss.ts:3",
        {"job-config.ts": CONFIG, **boss(BATCH + "new PgBoss({expireInMinutes: 21})")},
    ),
    Example(
        "batch_outlives_expiry",
        {"job-config.ts": CONFIG, **boss(BATCHED.format(IN_TURN))},
        "boss.ts:4",
        {"job-config.ts": CONFIG, **boss(BATCHED.format(AT_ONCE))},
    ),
    *(
        Example(
            "batch_outlives_expiry",
            {"job-config.ts": CONFIG, **boss(ASKED_SIZE), "compose.yml": COMPOSE.format(bad)},
            at,
            {"job-config.ts": CONFIG, **boss(ASKED_SIZE), "compose.yml": COMPOSE.format(good), ".env": "SIZE=1\n"},
        )
        for bad, good, at in (
            ("      BATCH_SIZE: 2", "      BATCH_SIZE: 1", "compose.yml:5"),
            ("      - BATCH_SIZE=2", "      - BATCH_SIZE=1", "compose.yml:5"),
            ("      BATCH_SIZE: ${SIZE:-2}", "      BATCH_SIZE: ${SIZE:-2}", "compose.yml:5"),
        )
    ),
    *(
        Example(
            "batch_outlives_expiry",
            {"job-config.ts": CONFIG, **boss(ASKED_SIZE), "k8s/worker.yaml": WORKER_POD.format(bad)},
            at,
            {"job-config.ts": CONFIG, **boss(ASKED_SIZE), "k8s/worker.yaml": WORKER_POD.format(good)},
        )
        for bad, good, at in (
            ('env: [{name: BATCH_SIZE, value: "2"}]', "env: [{name: BATCH_SIZE, value: 1}]", "k8s/worker.yaml:9"),
            ("envFrom: [{configMapRef: {name: sizes}}]", "envFrom: [{secretRef: {name: sizes}}]", "k8s/worker.yaml:3"),
            (
                "env: [{name: BATCH_SIZE, valueFrom: {configMapKeyRef: {name: sizes, key: BATCH_SIZE}}}]",
                "env: [{name: BATCH_SIZE, valueFrom: {secretKeyRef: {name: sizes, key: BATCH_SIZE}}}]",
                "k8s/worker.yaml:3",
            ),
        )
    ),
    Example(
        "handler_drops_jobs",
        {**boss(ASKED_DROPPING), "docker-compose.prod.yaml": COMPOSE.format("      BATCH_SIZE: 2")},
        "boss.ts:3",
        {**boss(ASKED_DROPPING), "docker-compose.test.yaml": COMPOSE.format("      BATCH_SIZE: 2")},
    ),
    Example(
        "stuck_within_timeout",
        {"job-config.ts": CONFIG + "export const STUCK_JOB_TIMEOUT_MINUTES = 10;\n"},
        "job-config.ts:2",
        {"job-config.ts": CONFIG + "export const STUCK_JOB_TIMEOUT_MINUTES = 12;\n"},
    ),
    Example(
        "stuck_within_timeout",
        {"job-config.ts": CONFIG + "export const STUCK_JOB_TIMEOUT_MINUTES = 12;\n", "vercel.json": EVERY_FIVE},
        "job-config.ts:2",
        {"job-config.ts": CONFIG + "export const STUCK_JOB_TIMEOUT_MINUTES = 16;\n", "vercel.json": EVERY_FIVE},
    ),
    Example(
        "stuck_before_expiry",
        {
            "job-config.ts": CONFIG + "export const STUCK_JOB_TIMEOUT_MINUTES = 13;\n",
            **boss("new PgBoss({ expireInMinutes: 11 });"),
        },
        "job-config.ts:2",
        {
            "job-config.ts": CONFIG + "export const STUCK_JOB_TIMEOUT_MINUTES = 14;\n",
            **boss("new PgBoss({ expireInMinutes: 11 });"),
        },
    ),
    Example(
        "polling_interval",
        {".env": "PGBOSS_POLLING_INTERVAL=2000\n"},
        ".env:1",
        {".env": "PGBOSS_POLLING_INTERVAL=2\n"},
    ),
    Example(
        "polling_interval",
        boss('boss.work("a", { pollingIntervalSeconds: 0.1 }, run);'),
        "boss.ts:2",
        boss('boss.work("a", { pollingIntervalSeconds: 0.5 }, run);'),
    ),
    Example(
        "attempts_disagree",
        {"job-config.ts": "export const JOB_MAX_ATTEMPTS = 3;\n", **boss('boss.createQueue("a", { retryLimit: 3 });')},
        "boss.ts:2",
        {"job-config.ts": "export const JOB_MAX_ATTEMPTS = 3;\n", **boss('boss.createQueue("a", { retryLimit: 2 });')},
    ),
    Example(
        "attempts_disagree",
        {"schema.prisma": PRISMA.replace("3", "5"), **boss("new PgBoss({});")},
        "schema.prisma:2",
        {"schema.prisma": PRISMA, **boss("new PgBoss({});")},
    ),
    Example(
        "backoff_outlives_retention",
        boss('boss.createQueue("a", { retryLimit: 12, retryDelay: 600, retryBackoff: true });'),
        "boss.ts:2",
        boss('boss.createQueue("a", { retryLimit: 5, retryDelay: 600, retryBackoff: true });'),
    ),
    Example(
        "workers_disabled",
        {".env": "DATABASE_URL=postgres://h/d\nUSE_PGBOSS_WORKERS=True\n"},
        ".env:2",
        {".env": 'DATABASE_URL=postgres://h/d\nUSE_PGBOSS_WORKERS="true"\n'},
    ),
    Example(
        "workers_disabled",
        {"api-server/.env": "PGBOSS_BATCH_SIZE=1\n", "w.ts": ASKS},
        "api-server/.env:1",
        {"api-server/.env": "PGBOSS_BATCH_SIZE=1\n"},
    ),
    Example(
        "workers_disabled",
        {"mail-worker/.env": "A=1\n", "w.py": "run = os.environ['USE_PGBOSS_WORKERS'] == 'true'\n"},
        "mail-worker/.env:1",
        {"mail-worker/.env": "USE_PGBOSS_WORKERS=true\nDATABASE_URL=postgres://h/d\n", "w.ts": ASKS},
    ),
    Example(
        "workers_disabled",
        {"k8s/w.yaml": FLAG_POD.format("True", "web"), "w.ts": ASKS},
        "k8s/w.yaml:4",
        {".env": "USE_PGBOSS_WORKERS=false\n", "k8s/w.yaml": FLAG_POD.format("true", "web"), "w.ts": ASKS},
    ),
    Example(
        "workers_disabled",
        {"render.yaml": RENDER.format(delay=300).replace('"true"', '"yes"')},
        "render.yaml:7",
        {"render.yaml": RENDER.format(delay=300).replace('value: "true"', "sync: false")},
    ),
    Example(
        "database_url",
        {".env": "USE_PGBOSS_WORKERS=true\nDATABASE_URL=mysql://h/d\n"},
        ".env:2",
        {".env": WORKER_ENV},
    ),
    Example("database_url", {".env": "USE_PGBOSS_WORKERS=true\n"}, ".env:1", {".env": WORKER_ENV}),
    Example(
        "databases_differ",
        {**BOTH, "api/.env": "DATABASE_URL=postgres://a/jobs\n", "web/.env": "DATABASE_URL=postgres://b/jobs\n"},
        "web/.env:1",
        {
            **BOTH,
            "api/.env": "DATABASE_URL=postgres://u:x@a/jobs\n",
            "web/.env": "DATABASE_URL=postgres://v:y@a/jobs\n",
        },
    ),
    Example(
        "databases_differ",
        {**BOTH, "api/.env": "DATABASE_URL=postgres://a/jobs\n", "web/.env": "DATABASE_URL=postgres://b/jobs\n"},
        "web/.env:1",
        {"api/.env": "DATABASE_URL=postgres://a/jobs\n", "shop/.env": "DATABASE_URL=postgres://b/shop\n"},
    ),
    Example(
        "pooled_database_with_listen",
        {".env": "DATABASE_URL=postgres://x-pooler.eu.example.org/jobs\n", **boss('client.query("LISTEN jobs");')},
        ".env:1",
        {".env": "DATABASE_URL=postgres://x.eu.example.org/jobs\n", **boss('client.query("LISTEN jobs");')},
    ),
    Example(
        "cron_secret_missing",
        {"vercel.json": CRON, ".env": "A=1\nCRON_SECRET=undefined\n"},
        ".env:2",
        {"vercel.json": CRON, ".env": f"A=1\nCRON_SECRET={SECRET}\n"},
    ),
    Example("cron_secret_weak", {".env": "CRON_SECRET=hunter2\n"}, ".env:1", {".env": f"CRON_SECRET={SECRET}\n"}),
    Example("setting_is_no_number", {".env": "JOB_TIMEOUT_MS=10m\n"}, ".env:1", {".env": "JOB_TIMEOUT_MS=600000\n"}),
    Example(
        "setting_is_no_number",
        {".env": "JOB_TIMEOUT_MS=600_000\n"},
        ".env:1",
        {".env": "JOB_TIMEOUT_MS=600_000\n", "s.py": "JOB_TIMEOUT_MS = int(os.environ['JOB_TIMEOUT_MS'])\n"},
    ),
    Example(
        "cron_schedule",
        {"vercel.json": CRON.replace("* * * * *", "* * * *")},
        "vercel.json:1",
        {"vercel.json": CRON},
    ),
    Example(
        "cron_schedule", {"vercel.json": CRON.replace("* * * * *", "0 3 * * *")}, "vercel.json:1", {"vercel.json": CRON}
    ),
    Example(
        "cron_path_unanswered",
        {"vercel.json": CRON, ROUTE.replace("maintenance", "maintenence"): GUARDED},
        "vercel.json:1",
        {"vercel.json": CRON, ROUTE: GUARDED},
    ),
    Example(
        "cron_path_unanswered",
        {"vercel.json": CRON, ROUTE: GUARDED.replace("GET", "POST")},
        "vercel.json:1",
        {"vercel.json": CRON, ROUTE.replace("job-maintenance", "[task]"): GUARDED},
    ),
    Example("cron_missing", {ROUTE: GUARDED}, f"{ROUTE}:1", {ROUTE: GUARDED, "vercel.json": CRON}),
    Example(
        "bearer_accepts_undefined",
        {ROUTE: BARE, "vercel.json": CRON},
        f"{ROUTE}:2",
        {ROUTE: GUARDED, "vercel.json": CRON},
    ),
    Example(
        "slug_not_registered",
        {"w.ts": SLUGS},
        "w.ts:2",
        {"w.ts": SLUGS + 'registerProcessor("b", run);'},
    ),
    Example(
        "processor_not_listed",
        {"w.py": 'TOOL_SLUGS = ("a",)\n' + PYTHON},
        "w.py:3",
        {"w.py": 'TOOL_SLUGS = ("a", "b")\n' + PYTHON},
    ),
    Example(
        "registration_never_called",
        {"r.ts": REGISTER},
        "r.ts:2",
        {"r.ts": REGISTER, "w.ts": "registerMyProcessor();"},
    ),
    Example(
        "pgboss_version",
        boss('boss.createQueue("a", { policy: "stately" });', version="10.1.1"),
        "package.json:1",
        boss('boss.createQueue("a");', version="10.1.1"),
    ),
    Example(
        "pgboss_version",
        {**boss(SCHEDULED, version="^10.1.1"), "pnpm-lock.yaml": LOCK.format("10.1.1")},
        "pnpm-lock.yaml:3",
        {**boss(SCHEDULED, version="^12.1.0"), "pnpm-lock.yaml": LOCK.format("12.38.0")},
    ),
    Example(
        "pgboss_version",
        boss('boss.send("a", {}, { retryBackoff: true });', version="12.5.2"),
        "package.json:1",
        boss(
            'const o = {};\nif (given.backoff !== undefined) o.retryBackoff = given.backoff;\nboss.send("a", {}, o);\n'
            'boss.schedule("a", "0 3 * * *");',
            version="12.5.2",
        ),
    ),
    Example(
        "queue_never_created",
        boss('boss.createQueue("a");\nboss.send("b", {});'),
        "boss.ts:3",
        boss('boss.createQueue("a");\nboss.send("a", {});'),
    ),
    Example(
        "queue_never_created",
        boss(NAMES + "boss.work(QUEUES.MAIL, run);\nawait boss.createQueue(Other.SMS);", version="12.18.2"),
        "boss.ts:4",
        boss(NAMES + "boss.work(QUEUES.MAIL, run);\nfor (const q of Object.values(QUEUES)) await boss.createQueue(q);"),
    ),
    Example(
        "queue_never_created",
        boss('boss.work("a", run);\nfor (const one of other()) await boss.createQueue(one.name);', version="12.18.2"),
        "boss.ts:2",
        boss(
            'boss.work("a", run);\nconst HANDLERS = [{ name: "a" }];\n'
            "for (const one of HANDLERS) await boss.createQueue(one.name);"
        ),
    ),
    Example(
        "singleton_key_inert",
        boss('await boss.createQueue("a");\nboss.send("a", {}, {\n singletonKey: id });'),
        "boss.ts:4",
        boss('await boss.createQueue("a", { policy: "short" });\nboss.send("a", {}, {\n singletonKey: id });'),
    ),
    Example(
        "singleton_key_inert",
        boss(FORWARDS + "await mail.emit({ to }, {\n singletonKey: `mail-${id}` });", version="12.38.0"),
        "boss.ts:5",
        boss(
            FORWARDS + "await mail.emit({ to }, { singletonKey: `mail-${id}`, singletonSeconds: 60 });\n"
            "log.info('sent', { singletonKey });\nawait temporal.start({ singletonKey });"
        ),
    ),
    Example(
        "singleton_key_inert",
        {**boss(ENQUEUES), **DESCRIBED, "packages/db/ensure.ts": ENSURES.format("")},
        "boss.ts:3",
        {**boss(ENQUEUES), **DESCRIBED, "packages/db/ensure.ts": ENSURES.format(", { ...job.options }")},
    ),
    Example(
        "singleton_key_inert",
        boss('boss.send("a", {}, { singletonKey: id });'),
        "boss.ts:2",
        boss('boss.send("a", {}, { singletonKey: id });', version="9.0.3"),
    ),
    Example(
        "handler_takes_one_job",
        boss('await boss.createQueue("a");\nawait boss.work("a",\n async (job) => run(job.data));'),
        "boss.ts:4",
        boss('await boss.createQueue("a");\nawait boss.work("a",\n async ([job]) => run(job.data));'),
    ),
    Example(
        "handler_takes_one_job",
        boss("const handle = async ({ data }) => run(data);\nawait boss.work(name, handle);"),
        "boss.ts:2",
        boss("const handle = async ({ data }) => run(data);\nawait boss.work(name, handle);", version="9.0.3"),
    ),
    Example(
        "option_ignored",
        boss('async function go() {\n const o = {};\n if (n) o["teamSize"] = n;\n await boss.work(name, o, run);\n}'),
        "boss.ts:4",
        boss('const o = {};\nfunction other() { const o = {}; o["teamSize"] = 2; }\nawait boss.work(name, o, run);'),
    ),
    Example(
        "package_versions_disagree",
        {**boss("", version="^12.14.0"), "package-lock.json": NPM_LOCK, "bun.lock": BUN_LOCK},
        "package-lock.json:3",
        {**boss("", version="^12.14.0"), "bun.lock": BUN_LOCK},
    ),
    Example(
        "handler_outlives_expiry",
        {**boss(WORKED, version="12.38.0"), "slow.ts": SLOW.format(minutes=60)},
        "boss.ts:4",
        {**boss(WORKED, version="12.38.0"), "slow.ts": SLOW.format(minutes=14)},
    ),
    Example(
        "handler_outlives_expiry",
        boss(UPDATED.format(660, 300)),
        "boss.ts:5",
        boss(UPDATED.format(300, 660)),
    ),
    Example("handler_outlives_expiry", boss(BATCHED.format(IN_TURN)), "boss.ts:4", boss(BATCHED.format(AT_ONCE))),
    Example(
        "handler_outlives_expiry",
        boss(
            BATCHED.format("await all(jobs);") + f"\nasync function all(batch) {{ {IN_TURN.replace('jobs', 'batch')} }}"
        ),
        "boss.ts:4",
        boss(
            BATCHED.format("const until = within(RENDER_TIMEOUT_MS); for (const job of jobs) await render(job, until);")
        ),
    ),
    Example(
        "handler_outlives_expiry",
        boss(FETCHES.format("await axios.get(url, { timeout: 10 * 60 * 1000 });")),
        "boss.ts:4",
        boss(FETCHES.format("await mails.add(job, { timeout: 10 * 60 * 1000 });")),
    ),
    Example(
        "handler_outlives_expiry",
        boss(FETCHES.format("return got(url, { timeout: { request: 600_000 } });")),
        "boss.ts:4",
        boss(FETCHES.format("return got(url, { timeout: { request: 60_000 } });")),
    ),
    Example(
        "handler_outlives_expiry",
        boss(FETCHES.format("const signal = AbortSignal.timeout(600_000); await fetch(url, { signal });")),
        "boss.ts:4",
        boss(FETCHES.format("const signal = AbortSignal.timeout(60_000); await fetch(url, { signal });")),
    ),
    *(
        Example(
            "handler_outlives_expiry",
            {**boss(ASKED_WAIT + way), "web.ts": WEB},
            at,
            {**boss(ASKED_WAIT + way), "web.ts": WEB, "compose.yml": COMPOSE.format("      WAIT: 60")},
        )
        for way, at in (
            ('await boss.work("a", async ([job]) => { await load(job); });', "boss.ts:9"),
            (
                'const mine = new Client();\nawait boss.work("a", async ([job]) => { await mine.get(job); });',
                "boss.ts:10",
            ),
            (
                'import { web } from "./web";\nawait boss.work("a", async ([job]) => { await web.get(job); });',
                "boss.ts:10",
            ),
            (
                'import * as all from "./web";\nawait boss.work("a", async ([job]) => { await all.get(job); });',
                "boss.ts:10",
            ),
        )
    ),
    Example(
        "queue_options_never_arrive",
        boss('boss.createQueue("a", { retryLimit: 2 });'),
        "boss.ts:2",
        boss('boss.createQueue("a", { retryLimit: 2 });\nboss.updateQueue("a", { retryLimit: 2 });'),
    ),
    Example(
        "handler_drops_jobs",
        boss('boss.createQueue("a");\nboss.work("a", { batchSize: 20 },\n async ([job]) => run(job));'),
        "boss.ts:4",
        boss(
            'boss.createQueue("a");\nboss.work("a", { batchSize: 1 }, async ([job]) => run(job));\n'
            'boss.work("a", { batchSize: 9 }, async ([job, ...rest]) => run(job, rest));\n'
            'boss.work("a", { batchSize: 9 }, async (jobs) => run(jobs));\n'
            'boss.work("a", { batchSize: size() }, async ([job]) => run(job));'
        ),
    ),
    Example(
        "dead_letter_never_created",
        boss('boss.createQueue("a", {\n deadLetter: "a-dead" });'),
        "boss.ts:3",
        boss('boss.createQueue("a-dead");\nboss.createQueue("a", { deadLetter: "a-dead" });'),
    ),
    Example(
        "dead_letter_never_created",
        boss('boss.createQueue("a");\nboss.send("a", {}, {\n deadLetter: "b" });', version="12.38.0"),
        "boss.ts:4",
        boss('for (const q of other()) boss.createQueue(q.name);\nboss.send("a", {}, { deadLetter: "b" });'),
    ),
    Example(
        "policy_in_update",
        boss('boss.createQueue("a", { policy: "short" });\nboss.updateQueue("a", { retryLimit: 2 });'),
        "boss.ts:3",
        boss(
            'boss.createQueue("a", { policy: "short" });\nboss.updateQueue("a", { policy: "short", retryLimit: 2 });\n'
            'boss.createQueue("b", { policy: "short" });\nboss.updateQueue("b", { retryLimit: 2, ...more });\n'
            'boss.createQueue("c", { policy: "standard" });\nboss.updateQueue("c", { retryLimit: 2 });'
        ),
    ),
    Example(
        "policy_in_update",
        boss(
            'boss.createQueue("a", { policy: "short" });\nboss.updateQueue("a", {\n policy: "short" });',
            version="12.38.0",
        ),
        "boss.ts:4",
        boss(
            'boss.createQueue("a", { policy: "short" });\nboss.updateQueue("a", { retryLimit: 2 });', version="12.38.0"
        ),
    ),
    Example(
        "option_ignored",
        boss('boss.createQueue("a", {\n expireInMinutes: 30 });'),
        "boss.ts:3",
        boss('boss.send("a", {}, {\n expireInMinutes: 30 });'),
    ),
    Example(
        "option_ignored",
        boss("new PgBoss({\n retryLimit: 5 });", version="12.38.0"),
        "boss.ts:3",
        boss("new PgBoss({\n retryLimit: 5 });"),
    ),
    Example(
        "option_ignored",
        boss('boss.work("a", { teamSize: 5 }, run);'),
        "boss.ts:2",
        boss('boss.work("a", { batchSize: 5 }, run);'),
    ),
    Example(
        "expiry_refused",
        boss("new PgBoss({ expireInHours: 24 });"),
        "boss.ts:2",
        boss('boss.createQueue("a", { expireInSeconds: 86400 });', version="12.38.0"),
    ),
    Example(
        "expiry_refused",
        boss('boss.send("a", {}, { expireInSeconds: 60 * 60 * 24 });', version="12.27.0"),
        "boss.ts:2",
        boss('boss.send("a", {}, { expireInSeconds: 60 * 60 * 24 });', version="12.28.0"),
    ),
    *(
        Example(
            "pgboss_milliseconds",
            boss(f'const DELAY_MS = 120_000;\nboss.send("a", {{}}, {{\n{wrong} }});', version="12.38.0"),
            "boss.ts:4",
            boss(f'const DELAY_MS = 120_000;\nboss.send("a", {{}}, {{\n{right} }});', version="12.38.0"),
        )
        for wrong, right in (
            ("retryDelay: 120000, // 2 mins\n", "retryDelay: 120, // 2 mins\n"),
            ("retryDelay: 3600, // ms\n", "retryDelay: 3600, // an hour: 3600 s\n"),
            ("retryDelay: DELAY_MS", "retryDelay: DELAY_MS / 1000"),
            ("startAfter: 2 * DELAY_MS", "startAfter: Math.round((2 * DELAY_MS) / 1000)"),
            ("retryDelay: config.retryDelayMs ?? 5", "retryDelay: config.retryDelay ?? 5"),
            ("expireInSeconds: 15 * 60 * 1000 / 2, retryDelayMax: 15 * 60 * 1000", "expireInSeconds: 15 * 60 * 10"),
            ('startAfter: ms("2m")', 'startAfter: ms("2m") / 1000'),
            ("retryDelay: 60_000", "retryDelay: 18_000, retryDelayMax: 432000"),
        )
    ),
    Example(
        "archived_before_its_row",
        {**boss("new PgBoss({});"), "schema.prisma": PRISMA},
        "boss.ts:2",
        boss("new PgBoss({});"),
    ),
    Example(
        "archived_before_its_row",
        {**boss("new PgBoss({});"), "schema.prisma": PRISMA},
        "boss.ts:2",
        {
            **boss("new PgBoss({ archiveCompletedAfterSeconds: 604800, retentionDays: 30 });"),
            "schema.prisma": PRISMA,
        },
    ),
    Example(
        "shutdown_shorter_than_job",
        {"job-config.ts": CONFIG, "render.yaml": RENDER.format(delay=60)},
        "render.yaml:4",
        {"job-config.ts": CONFIG, "render.yaml": RENDER.format(delay=300)},
    ),
    *(
        Example(
            "worker_killed_while_stopping",
            {**boss(stop), "docker-compose.yml": GRACE.format("restart: always"), **BESIDE},
            "boss.ts:3",
            {**boss(stop), "docker-compose.yml": GRACE.format(right), **BESIDE, **more},
        )
        for stop, right, more in (
            ("await boss.stop({\n timeout: 60_000 });", "stop_grace_period: 1m30s", {}),
            ("await boss.stop({\n timeout: 60_000 });", "restart: always", {"k8s/worker.yaml": POD}),
            (
                'process.on("SIGTERM", () => {\n setTimeout(() => process.exit(1), 60_000); });',
                "stop_grace_period: 60s",
                {},
            ),
        )
    ),
    *(
        Example(
            "worker_killed_while_stopping",
            {**boss(STOPS.format("boss.stop()")), "compose.prod.yml": GRACE.format("restart: always")},
            "boss.ts:3",
            {**boss(STOPS.format("boss.stop()")), name: GRACE.format("restart: always")},
        )
        for name in ("docker-compose.dev.yml", "docker-compose.build.yml")
    ),
    *(
        Example(
            "worker_killed_while_stopping",
            {**boss(STOPS.format(bad)), "compose.yml": GRACE.format("restart: always")},
            "boss.ts:3",
            {**boss(STOPS.format(good), version=version), "compose.yml": GRACE.format(told)},
        )
        for bad, good, told, version in (
            ("boss.stop()", "boss.stop()", "stop_grace_period: 40s", "12.38.0"),
            ("boss.stop({ close: true })", "boss.stop({ timeout: 5_000 })", "restart: always", "12.38.0"),
            ("boss.stop()", "boss.stop({ graceful: false })", "restart: always", "12.38.0"),
            ("boss.stop()", "boss.stop()", "restart: always", "9.0.3"),
        )
    ),
    *(
        Example(
            "worker_killed_while_stopping",
            {**boss("await boss.stop({\n timeout: 60_000 });"), "ecosystem.config.cjs": PM2.format("")},
            "boss.ts:3",
            {**boss("await boss.stop({\n timeout: 60_000 });"), "ecosystem.config.cjs": PM2.format(told)},
        )
        for told in ("kill_timeout: 65_000", "kill_timeout: Number(process.env.KILL_TIMEOUT)")
    ),
    Example(
        "worker_killed_while_stopping",
        {**boss("await boss.stop({\n timeout: 120_000 });"), "k8s/worker.yaml": POD},
        "boss.ts:3",
        {**boss("await boss.stop({\n timeout: 80_000 });"), "k8s/worker.yaml": POD},
    ),
    *(
        Example(
            "stop_signal_not_handled",
            {**boss(WORKS), "main.ts": ON_SIGNALS.format(bad), name: wrong},
            "main.ts:2",
            {**boss(WORKS), "main.ts": ON_SIGNALS.format(good), name: right, **more},
        )
        for bad, good, name, wrong, right, more in (
            ('"SIGINT"', '"SIGINT", "SIGTERM"', "compose.yml", ALWAYS, ALWAYS, {}),
            ('"SIGINT"', '"SIGINT"', "compose.yml", ALWAYS, GRACE.format("stop_signal: SIGINT"), {}),
            ('"SIGINT"', '"SIGINT"', "compose.yml", ALWAYS, ALWAYS, {"Dockerfile": "FROM node\nSTOPSIGNAL SIGINT\n"}),
            *(
                ('"SIGINT"', '"SIGINT"', "compose.yml", ALWAYS, ALWAYS, {name: "FROM node\nSTOPSIGNAL SIGINT\n"})
                for name in ("Dockerfile.worker", "docker/worker.Dockerfile", "Containerfile")
            ),
            ('"SIGTERM"', '"SIGTERM", "SIGINT"', "ecosystem.config.cjs", PM2.format(""), PM2.format(""), {}),
        )
    ),
    *(
        Example(
            "handler_promise_left",
            boss(ASKED_LEFT + f'await boss.work("a", async (jobs) => {{\n {bad} }});'),
            "boss.ts:9",
            boss(ASKED_LEFT + f'await boss.work("a", async (jobs) => {{\n {good} }});'),
        )
        for bad, good in (
            ("mail(jobs);", "await mail(jobs); return mail(jobs);"),
            ("jobs.forEach(async (job) => { await mail(job); });", "jobs.forEach((job) => { names.push(job); });"),
            (
                "jobs.map(async (job) => { await mail(job); });",
                "await Promise.all(jobs.map(async (job) => mail(job)));",
            ),
            (
                "if (jobs.length) mail(jobs);",
                "void mail(jobs); mail(jobs).catch(log); const sent = mail(jobs); await sent;",
            ),
            ("mail(jobs);", "beat(jobs); track(jobs); plain(jobs); other(jobs);"),
        )
    ),
    Example(
        "handler_promise_left",
        bull('async function mail(job) { await post(job); }\nnew Worker("a", async (job) => {\n mail(job); }, {});'),
        "queue.ts:4",
        bull(
            'async function mail(job) { await post(job); }\nnew Worker("a", async (job) => {\n await mail(job); }, {});'
        ),
    ),
    *(
        Example(
            "handler_promise_left",
            {**bull(PROCESSOR.format(bad)), "mails.ts": MAILS},
            "queue.ts:8",
            {**bull(PROCESSOR.format(good)), "mails.ts": MAILS},
        )
        for bad, good in (
            ("this.mails.send(job);", "await this.mails.send(job);"),
            ("this.outbox.keep(job);", "this.outbox.log(job);"),
            ("this.own(job);", "return this.own(job);"),
            ("this.auditQueue.add('x', job);", "return this.auditQueue.add('x', job);"),
            ("switch (job.name) { case 'a': this.own(job); break; }", "void this.own(job);"),
        )
    ),
    Example(
        "handler_promise_left",
        bull(PARTS.format("mail(job)")),
        "queue.ts:3",
        bull(PARTS.format("await mail(job)")),
    ),
    *(
        Example(
            "handler_promise_left",
            graphile(f"{task}\n  addJob('b', {{}});\n}};"),
            "worker.ts:3",
            graphile(f"{task}\n  await addJob('b', {{}});\n}};"),
        )
        for task in (
            "export const mail: Task = async (payload, { addJob }) => {",
            "const mail = async (payload, helpers: JobHelpers) => {",
        )
    ),
    *(
        Example(
            "job_sent_before_commit",
            boss(WITHIN.format("prisma.$transaction(", "  await boss.send('a', {});", ")")),
            "boss.ts:4",
            boss(WITHIN.format(opened, sent, closed)),
        )
        for opened, sent, closed in (
            ("prisma.$transaction(", "  await boss.send('a', {}, { db: fromPrisma(tx) });", ")"),
            ("prisma.$transaction(", "  await boss.send('a', {}, options);", ")"),
            ("prisma.$transaction(", "  afterCommit(() => boss.send('a', {}));", ")"),
            ("prisma.$transaction(", "  const boss = new PgBoss({ db: tx });\n  await boss.send('a', {});", ")"),
            ("prisma.$transaction(", "", "); await boss.send('a', {})"),
            ("each(", "  await boss.send('a', {});", ")"),
        )
    ),
    Example(
        "job_sent_before_commit",
        bull(WITHIN.format("db.transaction().execute(", "  await mailQueue.add('x', { id });", ")")),
        "queue.ts:4",
        bull(WITHIN.format("db.transaction().execute(", "  return id;", "); await mailQueue.add('x', { id })")),
    ),
    Example(
        "queue_never_stopped",
        boss('boss.createQueue("a");\nboss.work("a", run);'),
        "boss.ts:3",
        boss('boss.createQueue("a");\nboss.work("a", run);\nprocess.on("SIGTERM", () => boss.stop());'),
    ),
    Example(
        "queue_never_stopped",
        {**boss('boss.work("a", run);\nexport const stopJobs = boss.stop.bind(boss);'), "server.ts": "listen(3000);"},
        "boss.ts:2",
        {
            **boss('boss.work("a", run);\nexport const stopJobs = boss.stop.bind(boss);'),
            "server.ts": 'import { stopJobs } from "./boss";\nprocess.on("SIGTERM", stopJobs);',
        },
    ),
    Example(
        "queue_never_stopped",
        boss('boss.work("a", run);\nprocess.on("SIGINT", () => boss.stop());'),
        "boss.ts:2",
        {
            **boss('boss.work("a", run);\nprocess.on("SIGINT", () => boss.stop());'),
            "Dockerfile": "FROM node\nSTOPSIGNAL SIGINT\n",
        },
    ),
    Example(
        "queue_never_stopped",
        bull('const worker = new Worker("a", run, { connection });'),
        "queue.ts:2",
        bull('const worker = new Worker("a", run, { connection });\nprocess.on("SIGTERM", () => worker.close());'),
    ),
    *(
        Example(
            "row_written_before_send",
            {**boss(RECEIVES), **rows, **apart},
            "boss.ts:4",
            {**boss(RECEIVES if rescue else TOGETHER), **rows, **rescue},
        )
        for rows, apart, rescue in (
            ({"rows.ts": ROWS}, {}, {"cron.ts": "const rescue = () => boss.send('a', { id: left.id });"}),
            ({"rows.ts": ROWS}, {"cron.ts": "boss.send('b', {});"}, {}),
            ({"rows.ts": ROWS}, {"cron.ts": "setInterval(() => boss.send('b', {}), 60_000);"}, {"cron.ts": LOOKS}),
        )
    ),
    *(
        Example("flag_left_by_crash", boss(FLAGGED.format("row.refreshing", "")), "boss.ts:4", good)
        for good in (
            boss(FLAGGED.format("row.refreshing && row.refreshingUntil > now", ", refreshingUntil: soon()")),
            {
                **boss(FLAGGED.format("row.refreshing", "")),
                "main.ts": "await db.update(rows).set({ refreshing: false }).where(eq(rows.refreshing, true));",
            },
        )
    ),
    *(
        Example(
            "nest_workers_not_closed",
            {**bull(PROCESSOR.format("")), "mails.ts": MAILS, "main.ts": MAIN.format("await app.listen(3000);")},
            "main.ts:2",
            {**bull(PROCESSOR.format("")), "mails.ts": MAILS, **main},
        )
        for main in (
            {"main.ts": MAIN.format("app.enableShutdownHooks();")},
            {"main.ts": MAIN.format("process.on('SIGTERM', async () => { await app.close(); });")},
            {"main.ts": MAIN.format("setupGracefulShutdown({ app });")},
            {"main.ts": MAIN.format("close(app);"), "close.ts": "const close = (app) => app.enableShutdownHooks();"},
        )
    ),
    Example(
        "function_shorter_than_job",
        {"job-config.ts": CONFIG, **boss('export const maxDuration = 60;\nboss.work("a", run);')},
        "boss.ts:2",
        {"job-config.ts": CONFIG, **boss('export const maxDuration = 800;\nboss.work("a", run);')},
    ),
    Example(
        "seed_not_terminal",
        {"seed.sql": "INSERT INTO tool_job (id, status) VALUES\n('a', 'COMPLETED'),\n('b', 'PENDING');\n"},
        "seed.sql:3",
        {"seed.sql": "INSERT INTO tool_job (id, status) VALUES\n('a', 'COMPLETED'),\n('b', 'FAILED');\n"},
    ),
    Example(
        "column_ignores_virtual_time",
        {"m.sql": "CREATE TABLE tool_job (\n  id text,\n  c timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP);"},
        "m.sql:3",
        {"m.sql": "CREATE TABLE tool_job (\n  id text,\n  c timestamptz NOT NULL DEFAULT now());"},
    ),
    Example("unreadable_file", {"vercel.json": '{"crons": [\n{"path": '}, "vercel.json:2", {"vercel.json": CRON}),
]


def findings(root: Path, files: dict[str, str]) -> list[str]:
    return [f"{one.severity} {one.rule} {one.place}" for one in examine(read_repository(write(root, files))).findings]


def told(root: Path, files: dict[str, str], rule: str) -> list[CheckFinding]:
    return [one for one in examine(read_repository(write(root, files))).findings if one.rule == rule]


def test_update_queue_wins_for_each_option_that_it_names_wherever_it_stands(tmp_path: Path) -> None:
    first = 'await boss.updateQueue("a", { retryLimit: 5 });\nawait boss.createQueue("a", {\n expireInSeconds: 660,\n'
    files = {**boss(first + " retryLimit: 2 });", version="12.38.0"), "job.ts": CONFIG}
    here = next(one for one in standings(read_repository(write(tmp_path, files))) if one.queue == "a")

    held = {name: setting for name in ("expiry", "retry_limit") if (setting := here.get(name)) is not None}
    assert {name: str(setting.place) for name, setting in held.items()} == {
        "expiry": "boss.ts:4",
        "retry_limit": "boss.ts:2",
    }
    assert [f"{one.place}: {one.message}" for one in here.related(held["retry_limit"])] == [
        "boss.ts:2: retryLimit = 5 (updateQueue())",
        "boss.ts:5: retryLimit = 2 (the queue's options, not in effect here)",
    ]


def test_of_two_update_calls_either_may_come_last(tmp_path: Path) -> None:
    again = 'await boss.updateQueue("a", {\n expireInSeconds: 300 });\n'
    [found] = told(tmp_path, boss(again + UPDATED.format(900, 660)), "handler_outlives_expiry")

    assert found.message.startswith("'a' takes a job back after 5m, and its handler may wait 10m (RENDER_TIMEOUT_MS")
    assert [one.message for one in found.related if "expireInSeconds" in one.message] == [
        "expireInSeconds = 300 (updateQueue())",
        "expireInSeconds = 660 (updateQueue(), it is unknown which call comes last)",
        "expireInSeconds = 900 (the queue's options, not in effect here)",
    ]


def test_an_update_of_a_queue_that_cannot_be_told_overrules_no_queue_by_name(tmp_path: Path) -> None:
    files = boss(UPDATED.format(300, 660).replace('updateQueue("a"', "updateQueue(other()"))
    [found] = told(tmp_path, files, "handler_outlives_expiry")

    assert "expireInSeconds = 660 (updateQueue(), for a queue whose name is unknown)" in [
        one.message for one in found.related
    ]
    both = UPDATED.format(300, 660).replace('Queue("a"', "Queue(name()")
    assert told(tmp_path, boss(both), "handler_outlives_expiry") == []


def test_the_repair_of_a_batch_is_enough_for_the_batch(tmp_path: Path) -> None:
    [found] = told(tmp_path, boss(BATCHED.format(IN_TURN)), "handler_outlives_expiry")

    assert "may wait 10m for each of 10 jobs, one after the other, 1h40m in all" in found.message
    assert found.repair == (
        "Set batchSize to 1 and expireInSeconds of 'a' to 660 or more; or to 6060 for 10 jobs at a time."
    )
    longer = BATCHED.format(IN_TURN).replace("660", "6060")
    assert told(tmp_path, boss(longer), "handler_outlives_expiry") == []


def test_the_visibility_timeout_that_is_advised_is_enough(tmp_path: Path) -> None:
    late = "@app.task(acks_late=True, reject_on_worker_lost=True, time_limit=4000)\ndef page(url): ...\n"
    tasks = late + RETRIED.format("", "countdown=7200")
    found = told(tmp_path, celery(CONF.format(3700) + tasks), "visibility_timeout_too_short")

    assert [one.message.partition(", and the broker")[0] for one in found] == [
        "page may run for 1h6m40s before it is acknowledged",
        "mail may be retried 2h ahead (self.retry(countdown=...))",
    ]
    assert found[0].repair.startswith("Set visibility_timeout of broker_transport_options to 4060 or more")
    assert "visibility_timeout of broker_transport_options at 11260 or more" in found[1].repair
    once = told(tmp_path, celery(CONF.format(4060) + tasks), "visibility_timeout_too_short")
    assert [one.message for one in once] == [found[1].message.replace("1h1m40s", "1h7m40s")]
    assert told(tmp_path, celery(CONF.format(11260) + tasks), "visibility_timeout_too_short") == []


def test_one_limit_of_many_tasks_is_one_finding_and_a_long_wait_does_not_raise_what_it_advises(tmp_path: Path) -> None:
    limited = "app.conf.update(task_acks_late=True,\n task_time_limit=900)\n@app.task\ndef page(url): ...\n"
    files = celery(CONF.format(300) + limited + TASK.format("") + "mail.apply_async(countdown=86400 * 3)\n")
    runs, waits = told(tmp_path, files, "visibility_timeout_too_short")

    assert runs.message.startswith("2 tasks may run for 15m before they are acknowledged")
    assert runs.message.endswith("(mail, page)")
    assert runs.subject == "task_time_limit"
    assert runs.repair.startswith("Set visibility_timeout of broker_transport_options to 960 or more")
    assert waits.repair.startswith("Keep a wait of 3d out of the broker")


def test_what_cron_refuses_or_never_starts_is_found_in_crontabs_cronjobs_and_workflows(tmp_path: Path) -> None:
    files = {
        "crontab": "MAILTO=a\n@daily x\n61 * * * * sweep --all\n0 3 30 2 * never\n0 3 29 2 * rare\n0 H * * * ci\n",
        "k8s/digest.yaml": 'kind: CronJob\nmetadata: {name: digest}\nspec:\n  schedule: "* 25 * * *"\n',
        "k8s/ok.yaml": 'kind: CronJob\nspec:\n  schedule: "@every 5m"\n---\nkind: X\nspec: {schedule: "61 * * * *"}\n',
        ".github/workflows/c.yml": "on:\n  schedule:\n    - cron: '99 * * * *'\n    - cron: '7 3 * * 1-5'\n",
        ".github/other.yml": "on: {schedule: [{cron: '99 * * * *'}]}\n",
    }
    found = told(tmp_path, files, "machine_cron_invalid")

    assert [f"{one.place} {one.message}" for one in found] == [
        ".github/workflows/c.yml:3 the schedule '99 * * * *' of the workflow is no cron expression: bad minute",
        "crontab:3 the schedule '61 * * * *' of 'sweep --all' is no cron expression: bad minute",
        "crontab:4 the schedule '0 3 30 2 *' of 'never' names a day that none of its months has: it never comes",
        "k8s/digest.yaml:4 the schedule '* 25 * * *' of the CronJob 'digest' is no cron expression: bad hour",
    ]
    right = {"crontab": "0 3 29 2 * seldom\n"}
    assert not examine(read_repository(write(tmp_path / "right", right))).covered


def test_retries_for_ever_without_a_pause_weigh_more_than_those_with_one(tmp_path: Path) -> None:
    tasks = RETRIED.format(", max_retries=None", "countdown={}")
    weights = {
        seconds: told(tmp_path / str(seconds), celery(tasks.format(seconds)), "celery_retries_forever")[0].severity
        for seconds in (0, 5)
    }

    assert weights == {0: Severity.WARNING, 5: Severity.NOTE}


def test_a_crontab_of_celery_is_repaired_in_its_own_form(tmp_path: Path) -> None:
    [found] = told(tmp_path, celery("schedule = crontab(minute=0, hour=25)\n"), "code_cron_invalid")

    assert found.repair == "Write each field within its range: crontab(minute=0, hour=3) is daily at 3:00."


def test_a_task_of_an_unserved_queue_is_not_said_to_be_sent_where_nothing_sends_it(tmp_path: Path) -> None:
    [found] = told(tmp_path, procrastinate(WORKER.format("fast")), "queue_unserved")

    assert found.message.startswith("render is a task of the queue 'slow', and every worker names its queues")


def test_a_policy_is_left_out_of_an_update_where_it_raises(tmp_path: Path) -> None:
    created = 'boss.createQueue("a", { policy: "short", retryLimit: 2 });'
    found = {
        version: told(tmp_path / version, boss(created, version=version), "queue_options_never_arrive")[0].repair
        for version in ("10.4.2", "12.38.0")
    }

    assert found == {
        "10.4.2": "Call updateQueue with the same options right after createQueue.",
        "12.38.0": "Call updateQueue with the same options, but for the policy, right after createQueue.",
    }


def test_numbers_of_different_things_do_not_contradict_each_other(tmp_path: Path) -> None:
    slug = "const MAX_ATTEMPTS = 5;\nfor (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) await free(slug);\n"
    files = boss(slug + 'boss.createQueue("prune", { retryLimit: 1 });\nboss.updateQueue("prune", { retryLimit: 1 });')

    assert findings(tmp_path, files) == []


def test_the_names_of_the_reference_application_count_as_what_they_are(tmp_path: Path) -> None:
    files = {
        "job-config.ts": (
            "export const JOB_TIMEOUT_MS = 10 * 60 * 1000;\n"
            'export const JOB_EXPIRE_IN_INTERVAL = "15 minutes";\n'
            "export const RETRY_CONFIG = { limit: 3 } as const;\n"
            "export const WORKER_CONFIG = { batchSize: 5 };\n"
            "export const JOB_MAX_ATTEMPTS = 3;\n"
        )
    }

    assert findings(tmp_path, files) == [
        "error attempts_disagree job-config.ts:3",
        "error batch_outlives_expiry job-config.ts:4",
    ]


def test_advice_is_given_in_the_unit_of_the_constant(tmp_path: Path) -> None:
    files = {"job-config.ts": CONFIG + "export const STUCK_JOB_TIMEOUT_MINUTES = 10;\n"}
    found = examine(read_repository(write(tmp_path, files))).findings

    assert [one.repair for one in found] == ["Set STUCK_JOB_TIMEOUT_MINUTES to 12 minutes or more: it needs 11m10s."]


def test_a_number_of_seven_digits_is_written_whole(tmp_path: Path) -> None:
    files = {"job-config.ts": "const JOB_TIMEOUT_SECONDS = 7201.5;\nconst JOB_TIMEOUT_MS = 7_201_501;\n"}
    examination = examine(read_repository(write(tmp_path, files)))

    assert [one.repair for one in examination.findings] == [
        "Set JOB_TIMEOUT_MS to 7201500, or derive it from JOB_TIMEOUT_SECONDS."
    ]
    assert [str(one) for one in examination.inventory.settings] == [
        "JOB_TIMEOUT_SECONDS = 7201.5",
        "JOB_TIMEOUT_MS = 7201501",
    ]


def test_what_stands_in_an_example_is_a_note_and_says_so(tmp_path: Path) -> None:
    files = {**boss(""), "examples/send.ts": 'boss.send("a", {}, { singletonKey: id });'}
    found = examine(read_repository(write(tmp_path, files))).findings

    assert {(str(one.severity), one.rule) for one in found} == {
        ("note", "singleton_key_inert"),
        ("note", "queue_never_created"),
    }
    assert all("(in a test or an example)" in one.message for one in found)


def test_the_default_wait_of_stop_weighs_more_beside_a_handler_that_waits_longer(tmp_path: Path) -> None:
    compose = {"compose.yml": GRACE.format("restart: always")}
    long = 'await boss.work("b", async ([job]) => { await sleep(20_000); });\n'
    rule = "worker_killed_while_stopping"

    short = told(tmp_path / "short", {**boss(STOPS.format("boss.stop()")), **compose}, rule)
    longer = told(tmp_path / "long", {**boss(long + STOPS.format("boss.stop()")), **compose}, rule)

    assert [str(one.severity) for one in (*short, *longer)] == ["note", "warning"]


def test_two_versions_in_an_example_are_a_note(tmp_path: Path) -> None:
    asked = '{"dependencies": {"pg-boss": "^12.0.0"}}'
    files = {"sample/package.json": asked, "sample/package-lock.json": NPM_LOCK}

    assert findings(tmp_path, files) == ["note package_versions_disagree sample/package-lock.json:3"]


def test_the_default_of_a_queue_that_is_not_there_is_not_judged(tmp_path: Path) -> None:
    files = {**boss('await boss.createQueue("a", {\n expireInSeconds: 600 });'), "job.ts": CONFIG.replace("10", "20")}

    assert places(write(tmp_path, files), "expiry_within_timeout") == ["boss.ts:3"]


def test_a_cron_path_that_is_one_letter_off_names_the_route(tmp_path: Path) -> None:
    files = {"vercel.json": CRON.replace("job-maintenance", "job-maintenence"), ROUTE: GUARDED}
    found = [one.message for one in examine(read_repository(write(tmp_path, files))).findings]

    assert "did you mean '/api/cron/job-maintenance'?" in found[0]


def test_copies_of_the_queue_itself_and_bundles_are_passed_by(tmp_path: Path) -> None:
    inert = 'boss.send("a", {}, { singletonKey: id });\n'
    files = {
        **boss(""),
        "packages/pg-boss/package.json": '{"name": "pg-boss", "dependencies": {"pg-boss": "12.38.0"}}',
        "packages/pg-boss/src/manager.ts": inert,
        "public/app.js": inert + "x" * 30_000,
        "public/app.min.js": inert,
    }

    assert findings(tmp_path, files) == []


def test_each_package_is_judged_by_its_own_release(tmp_path: Path) -> None:
    files = {
        "apps/new/package.json": '{"dependencies": {"pg-boss": "12.38.0"}}',
        "apps/new/boss.ts": "new PgBoss({\n monitorStateIntervalSeconds: 30 });",
        "apps/old/package.json": '{"dependencies": {"pg-boss": "^10.0.0"}}',
        "apps/old/boss.ts": "new PgBoss({\n monitorStateIntervalSeconds: 30 });",
        "pnpm-lock.yaml": (
            "importers:\n\n  apps/new:\n    dependencies:\n      pg-boss:\n        specifier: 12.38.0\n"
            "        version: 12.38.0\n\n  apps/old:\n    dependencies:\n      pg-boss:\n        specifier: ^10.0.0\n"
            "        version: 10.4.2\n\npackages:\n\n  pg-boss@10.4.2:\n  pg-boss@12.38.0:\n"
        ),
    }

    assert findings(tmp_path, files) == ["error option_ignored apps/new/boss.ts:2"]


@pytest.mark.parametrize(
    "text",
    [
        "const rows = await sql<{ n: number; s: string }[]>`select 1`;",
        'type Key = import("./types").Names["key"];',
        "export const load = db<Row>`select 1`.then(first);",
        "async function rows(): Promise<Row[]> {\n  return db.$queryRaw<{ a: Map<string, number[]> }[]>`select 1`;\n}",
        'const actual = await importOriginal<typeof import("./jobs")>();',
        'export type * from "./types";\nexport type * as names from "./names";',
        "class Client {\n  ready: (string) => boolean;\n  constructor(private a: (any) => void) {}\n}",
        "interface Paper {\n  abstract?: string\n  abstract: string;\n}\ntype Other = { abstract: string };",
    ],
)
def test_valid_typescript_that_the_grammar_stumbles_over_is_read_past(text: str, tmp_path: Path) -> None:
    line = text.count("\n") + 3
    assert findings(tmp_path, {"job-config.ts": f"{text}\nexport const JOB_TIMEOUT_SECONDS = 5;\n{CONFIG}"}) == [
        f"error timeout_units_disagree job-config.ts:{line}"
    ]


@pytest.mark.parametrize("name", ["status.tsx", "status.js"])
def test_jsx_is_read_with_a_bare_ampersand_and_in_javascript_too(name: str, tmp_path: Path) -> None:
    page = (
        '(<p title="a&b">\n  Jobs & retries\n  <a href="/jobs?page=1&size=5">{count} done & gone</a>\n'
        "  Terms & conditions {count}</p>)"
    )
    files = {name: f"const page = () => {page};\nexport const JOB_TIMEOUT_SECONDS = 5;\n{CONFIG}"}

    assert findings(tmp_path, files) == [f"error timeout_units_disagree {name}:6"]


@pytest.mark.parametrize(
    ("name", "text", "library"),
    [
        ("a.ts", 'import { task } from "@trigger.dev/sdk/v3";\ntask({ id: "a" });', "trigger.dev"),
        ("a.ts", 'import { Inngest } from "inngest";\nnew Inngest({ id: "a" });', "inngest"),
        ("a.ts", 'import { Worker } from "@temporalio/worker";\nWorker.create({});', "temporal"),
        ("a.py", "from apscheduler.schedulers.background import BackgroundScheduler\n", "apscheduler"),
        ("a.py", "from temporalio.worker import Worker\n", "temporal"),
        ("a.py", "import inngest\n", "inngest"),
    ],
)
def test_a_queue_that_is_not_read_is_named(name: str, text: str, library: str, tmp_path: Path) -> None:
    examination = examine(read_repository(write(tmp_path, {name: text})))

    assert examination.uncovered == (f"{library} is used ({name}:1), and check does not read it",)


def test_what_is_found_and_not_understood_is_open(tmp_path: Path) -> None:
    files = {"package.json": '{"dependencies": {"bullmq": "5.79.0"}}', "a.ts": 'import Bull from "bull";\nBull();'}
    examination = examine(read_repository(write(tmp_path, files)))

    assert examination.uncovered == (
        "bull is used (a.ts:1), and check does not read it",
        "bullmq is a dependency (package.json:1), and nothing that was read uses it",
    )


def test_a_default_of_a_schema_of_the_environment_reaches_the_options(tmp_path: Path) -> None:
    files = {
        "env.ts": "export const env = z.object({ SIZE: z.coerce.number().default(20) }).parse(process.env);\n",
        **boss('import { env } from "./env";\nboss.work("a", { batchSize: env.SIZE }, run);\n' + CONFIG),
    }

    assert "error batch_outlives_expiry boss.ts:3" in findings(tmp_path, files)


def places(root: Path, rule: str) -> list[str]:
    found = examine(read_repository(root)).findings
    return list(dict.fromkeys(str(finding.place) for finding in found if finding.rule == rule))


SECONDS = "class {}Config:\n    JOB_TIMEOUT_SECONDS = {}\n"
ASKED = '"mail", run, {{ connection: {} }}'
RIGHT = {
    "two objects of a queue, of which what one spreads is unknown": bull(
        TWO_QUEUES.format("attempts: 3", '"a"', "...common(), priority: 3")
    ),
    "a pg-boss that no flag starts": {
        **boss('await boss.createQueue("a");\nawait boss.work("a", async ([job]) => run(job));', version="12.38.0"),
        "main.ts": 'process.once("SIGTERM", () => boss.stop());',
        ".env": "DATABASE_URL=postgres://h/d\nPGBOSS_SCHEMA=jobs\n",
    },
    "two apps of Celery": {
        "a/app.py": CELERY.replace("'shop'", "'a', broker='amqp://a'") + TASK.format("") + SENT.format(86400),
        "b/app.py": CELERY.replace("'shop'", "'b', broker='redis://b'"),
    },
    "two apps of Celery, of which one waits longer": {
        "a/app.py": CELERY + CONF.format(100_000) + TASK.format("") + SENT.format(86400),
        "b/app.py": CELERY + CONF.format(3600),
    },
    "two packages that call a timeout alike": {
        "apps/a/config.ts": CONFIG,
        "apps/b/config.ts": CONFIG.replace("10", "20") + "export const JOB_TIMEOUT_SECONDS = 20 * 60;\n",
    },
    "two packages with a timeout each": {
        "apps/a/config.ts": CONFIG,
        "apps/a/package.json": "{}",
        "apps/b/config.ts": "export const JOB_TIMEOUT_SECONDS = 60;\n",
    },
    "a class of settings for each stage": {
        "config.py": SECONDS.format("Development", 60) + SECONDS.format("Production", 600),
        "job.py": "JOB_TIMEOUT_MS = 5_000\n",
    },
    "options of Redis that another package holds": bull(
        'import { options } from "@acme/redis";\n'
        + "".join(f"new Worker({ASKED.format(made)});\n" for made in (
            "new IORedis(options)", "new IORedis(process.env.REDIS_URL, { ...options })", "new IORedis(redis())",
        ))
        + "process.on('SIGTERM', () => Promise.all(workers.map((worker) => worker.close())));\n"
    ),
    "values that a variable fills in, and a URL of SQLAlchemy": {
        "a/.env": "USE_PGBOSS_WORKERS=$RUN\nDATABASE_URL=$POSTGRES_URL\nPGBOSS_POLLING_INTERVAL=$POLL\n",
        "b/.env": "USE_PGBOSS_WORKERS=true\nDATABASE_URL=postgres://$USER@$HOST:$PORT/d\n",
        "c/.env": "USE_PGBOSS_WORKERS=true\nDATABASE_URL=postgresql+psycopg2://h/d\n",
    },
    "a crontab of the machine beside graphile-worker": {
        **graphile("await run({ connectionString });"),
        "docker/crontab": "MAILTO=a\n15 4 * * * /usr/bin/prune\n",
        "etc/crontab": "15 4 * * * root cd /srv && prune\n",
    },
    "a day that cron-parser takes any": bull(
        "const q = new Queue('a');\nq.upsertJobScheduler('a', { pattern: '0 0 12 ? * MON' });"
    ),
    "a secret that only the dashboard knows": {"vercel.json": CRON, ".env": "NEXT_PUBLIC_NAME=a\n", ROUTE: GUARDED},
    "queues under their name of Celery 3": {
        "celeryconfig.py": "import celery\nCELERY_QUEUES = make()\nCELERY_ROUTES = {'a.b': {'queue': 'slow'}}\n",
        "Procfile": "worker: celery -A shop worker\n",
    },
    "a parameter that is called like a constant": {
        "tasks.py": CELERY + CONF.format(3600) + "hours = 86400\n" + TASK.format("") + (
            "def later(minutes, hours):\n    mail.apply_async(countdown=minutes)\n"
            "    mail.apply_async(countdown=hours)\n    rest = hours - 1\n    mail.apply_async(countdown=rest)\n"
        ),
        "report.py": "import celery\nminutes = rest = 60 * 24 * 365\n",
    },
}  # fmt: skip


@pytest.mark.parametrize("what", RIGHT)
def test_a_repository_that_is_right_is_silent(what: str, tmp_path: Path) -> None:
    assert findings(tmp_path, RIGHT[what]) == []


@pytest.mark.parametrize("example", [*EXAMPLES, *QUEUES], ids=lambda example: f"{example.rule}-{example.at}")
def test_a_breach_is_found_at_its_line(example: Example, tmp_path: Path) -> None:
    assert places(write(tmp_path, example.bad), example.rule) == [example.at]


@pytest.mark.parametrize("example", [*EXAMPLES, *QUEUES], ids=lambda example: f"{example.rule}-{example.at}")
def test_the_repaired_copy_is_silent(example: Example, tmp_path: Path) -> None:
    assert places(write(tmp_path, example.good), example.rule) == []


def test_every_rule_has_an_example() -> None:
    in_queue_files = {rule.id for rule in queue_files.RULES}  # tests/unit/test_queue_file_check.py
    assert {example.rule for example in (*EXAMPLES, *QUEUES)} == set(RULES) - set(LIVE) - in_queue_files
