"""Small repositories that breach a rule about graphile-worker, procrastinate, PgQueuer, BullMQ or Celery, and keep it.

Each is of the shape of what public repositories hold, written anew.
"""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """A repository that breaches a rule at one place, and one like it that does not."""

    rule: str
    bad: dict[str, str]
    at: str
    good: dict[str, str]


CELERY = "from celery import Celery, shared_task\nfrom celery.schedules import crontab\napp = Celery('shop')\n"
APP = "import procrastinate\nfrom procrastinate import RetryStrategy\napp = procrastinate.App(connector=connector)\n"
PGQ = (
    "from pgqueuer import PgQueuer\n\nasync def main():\n    pgq = PgQueuer(driver)\n\n"
    "    @pgq.{}\n    async def run(job): ...\n"
)
PGQ_MAIN = "from pgqueuer import PgQueuer\n\n{}\nasync def main() -> PgQueuer:\n    return PgQueuer(driver)\n"
ENQUEUE = "from pgqueuer.queries import Queries\nasync def ask(): await queries.enqueue({})\n"
BULL = 'import {{ Queue, Worker }} from "bullmq";\n{}'
COLON = (
    'const q = new Queue("a");\nawait q.add("x", {},\n'
    "{ jobId: `page:${id}`, removeOnComplete: true, removeOnFail: true });"
)
SHARED = (
    'const queueOf = (name = "a") =>\n  new Queue(name, { connection,\n'
    "  defaultJobOptions: { backoff: { type: 'fixed', delay: 5 } } });\nconst queue = queueOf();\n"
)
EXPORTED = 'export const mails = new Queue("a");\nexport async function opened() {{ return new Queue("b"); }}'
LOOKS_UP = (
    'const q = new Queue("a", {{ defaultJobOptions: {{ removeOnComplete: true }} }});\n'
    'events.on("{}", async ({{ jobId }}) => {{\n  const job = await q.getJob(jobId); }});'
)
NEST = (
    "const all = BullModule.forRootAsync({{\n  useFactory: (redis) => {{\n"
    "    return {{ connection: redis, defaultJobOptions: {{ {} }} }};\n  }} }});\n"
    'pageQueue.add("x", {{}}, {{ jobId: `page-${{id}}` }});'
)
TWO_QUEUES = (
    'new Queue("a", {{ connection, defaultJobOptions: {{ {} }} }});\n'
    "new Queue({}, {{ connection, defaultJobOptions: {{ {} }} }});"
)
ADDS = (
    "CREATE OR REPLACE FUNCTION app.sign_up(who text) RETURNS void AS $$\nBEGIN\n"
    "  PERFORM graphile_worker.add_job('{}', json_build_object('to', who));\nEND;\n$$ LANGUAGE plpgsql;\n"
)
LISTED = 'const MAIL = "send-mail";\nawait run({{ taskList: {{ {} }} }});\nawait quickAddJob({{}}, "send-mail", {{}});'
GRAPHILE = 'import {{ run, quickAddJob }} from "graphile-worker";\n{}'


def celery(text: str) -> dict[str, str]:
    return {"tasks.py": CELERY + text}


def procrastinate(text: str) -> dict[str, str]:
    return {"jobs.py": APP + text + "\n\nasync def look():\n    await app.job_manager.get_stalled_jobs()\n"}


def bull(text: str, *, version: str = "5.79.0") -> dict[str, str]:
    return {"package.json": f'{{"dependencies": {{"bullmq": "{version}"}}}}', "queue.ts": BULL.format(text)}


def graphile(text: str) -> dict[str, str]:
    return {"package.json": '{"dependencies": {"graphile-worker": "0.16.6"}}', "worker.ts": GRAPHILE.format(text)}


def pgqueuer(text: str, *, plain: bool = False) -> dict[str, str]:
    return {"worker.py": PGQ.format(text).replace("    async def run", "    def run" if plain else "    async def run")}


LATE = "task_acks_late = True\ntask_reject_on_worker_lost = True\n"
TASK = "@app.task({})\ndef mail(to): ...\n"
RETRIED = "@app.task(bind=True{})\ndef mail(self, to):\n    raise self.retry({})\n"
BACKOFF = (
    "@app.task(autoretry_for=(IOError,), retry_backoff=True, max_retries={},\n retry_backoff_max={})\n"
    "def mail(to): ...\n"
)
CONF = "app.conf.update(broker_url='redis://r', broker_transport_options={{'visibility_timeout': {}}})\n"
PERIODIC = '@app.periodic(cron="0 * * * *")\n@app.task(queueing_lock="sweep")\ndef sweep({}): ...\n'
WORKER = 'app.run_worker(queues=["default", "{}"])\n@app.task(queue="slow")\ndef render(at): ...\n'

DJANGO = (
    CELERY + "from django.db import transaction\n" + TASK.format("") + "def view():\n    with transaction.atomic():\n"
)
QUEUES = (
    Example(
        "celery_sent_before_commit",
        {"tasks.py": DJANGO + "        mail.delay(1)\n"},
        "tasks.py:9",
        {
            "tasks.py": DJANGO
            + "        transaction.on_commit(lambda: mail.delay(1))\n        mail.delay_on_commit(2)\n"
            "        timer.delay(3)\n    mail.delay(4)\n"
            "    with transaction.atomic(using='replica'):\n        mail.delay(5)\n"
        },
    ),
    Example(
        "celery_sent_before_commit",
        {"tasks.py": DJANGO + "        save()\n@transaction.atomic\ndef order():\n    save()\n    mail.delay(1)\n"},
        "tasks.py:13",
        {
            "tasks.py": DJANGO + "        save()\n@transaction.atomic\ndef order():\n"
            "    transaction.on_commit(lambda: mail.delay(1))\n@transaction.atomic(using='replica')\n"
            "def read():\n    mail.delay(2)\n"
        },
    ),
    Example(
        "celery_milliseconds",
        celery("WAIT_MS = 60000\n" + TASK.format("") + "mail.apply_async(countdown=WAIT_MS)\n"),
        "tasks.py:7",
        celery(
            "WAIT_MS = 60000\nITEMS = 5\n"
            + TASK.format("time_limit=ITEMS")
            + "mail.apply_async(countdown=WAIT_MS / 1000)\n"
        ),
    ),
    Example(
        "celery_bind_mismatch",
        celery("@app.task(bind=True)\ndef mail(): ...\n"),
        "tasks.py:5",
        celery("@app.task(bind=True)\ndef mail(*given): ...\n@app.task(bind=True)\n@wrapped\ndef sms(): ...\n"),
    ),
    Example(
        "celery_bind_mismatch",
        celery("@app.task\ndef mail(self, to): ...\n"),
        "tasks.py:5",
        celery("@app.task(bind=True)\ndef mail(self, to): ...\nclass A:\n    @app.task\n    def sms(self): ...\n"),
    ),
    Example(
        "machine_cron_invalid",
        {".github/workflows/sweep.yml": "on:\n  schedule:\n    - cron: '*/5 24 * * *'\n"},
        ".github/workflows/sweep.yml:3",
        {".github/workflows/sweep.yml": "on:\n  schedule:\n    - cron: '*/5 0 * * *'\n"},
    ),
    Example(
        "beat_started_twice",
        {"compose.yml": "services:\n  w:\n    command: celery -A a worker -B\n    deploy: {replicas: 2}\n"},
        "compose.yml:3",
        {
            "compose.yml": "services:\n  b:\n    command: celery -A a beat\n"
            "  w:\n    command: celery -A a worker\n    deploy: {replicas: 2}\n",
            "b.service": "ExecStart=celery -A a beat\n",
        },
    ),
    Example(
        "beat_started_twice",
        {"Procfile": "b: celery -A a beat\nw: celery -A a worker -B\n"},
        "Procfile:1",
        {"Procfile": "b: celery -A a beat -S redbeat.RedBeatScheduler\nw: celery -A a worker -B -S redbeat.X\n"},
    ),
    Example(
        "celery_queue_unserved",
        {
            "Procfile": "w: celery worker -Q celery,mail\n",
            **celery("app.conf.task_routes = {'m': {'queue': 'mial'}}\n"),
        },
        "tasks.py:4",
        {
            "Procfile": "w: celery worker -Q celery,mail\n",
            **celery("app.conf.task_routes = {'m': {'queue': 'mail'}}\n"),
        },
    ),
    Example(
        "celery_queue_unserved",
        {"Procfile": "w: celery worker\n", **celery(TASK.format("") + "mail.apply_async(queue='slow')\n")},
        "tasks.py:6",
        {
            "Procfile": "w: celery worker\n",
            "s.sh": "celery worker -Q $Q\n",
            **celery(TASK.format("") + "mail.apply_async(queue='slow')\n"),
        },
    ),
    Example(
        "visibility_timeout_too_short",
        {"Procfile": "w: celery worker --time-limit=900\n", **celery(CONF.format(600) + TASK.format("acks_late=True"))},
        "Procfile:1",
        {"Procfile": "w: celery worker --time-limit=300\n", **celery(CONF.format(600) + TASK.format("acks_late=True"))},
    ),
    Example(
        "celery_task_unknown",
        celery("app.conf.beat_schedule = {'m': {\n'task': 'tasks.mial', 'schedule': 60.0}}\n" + TASK.format("")),
        "tasks.py:5",
        celery(
            "app.conf.beat_schedule = {'m': {'task': 'tasks.mail'}, 'c': {'task': 'celery.backend_cleanup'}}\n"
            + TASK.format("")
        ),
    ),
    Example(
        "celery_task_unknown",
        celery("app.send_task('tasks.mial')\n" + TASK.format("")),
        "tasks.py:4",
        celery("app.send_task('tasks.render')\n" + TASK.format("")),
    ),
    Example(
        "celery_task_unknown",
        {"shop/jobs.py": CELERY + "app.conf.beat_schedule = {'m': {'task': 'shop.jobs.post'}}\n" + TASK.format("")},
        "shop/jobs.py:4",
        {
            "shop/jobs.py": CELERY
            + "app.conf.beat_schedule = {'m': {'task': 'shop.jobs.post'}, 's': {'task': 'shop.jobs.sms'}}\n"
            + TASK.format("name='shop.jobs.post'")
            + "app.task(send, name='shop.jobs.sms')\n"
        },
    ),
    Example(
        "acks_late_loses_killed",
        {"celeryconfig.py": "BROKER_URL = 'amqp://'\nCELERY_ACKS_LATE = True  # again after a crash\n"},
        "celeryconfig.py:2",
        {"celeryconfig.py": "CELERY_ACKS_LATE = True\nCELERY_TASK_REJECT_ON_WORKER_LOST = True\n"},
    ),
    Example(
        "acks_late_loses_killed",
        celery(TASK.format("acks_late=True")),
        "tasks.py:4",
        celery(TASK.format("acks_late=True, reject_on_worker_lost=True")),
    ),
    *(
        Example(
            "acks_late_loses_killed",
            {"Procfile": bad, **celery(TASK.format("acks_late=True"))},
            "tasks.py:4",
            {"Procfile": good, **celery(pool + TASK.format("acks_late=True"))},
        )
        for bad, good, pool in (
            ("w: celery worker -P prefork\n", "w: celery worker -P threads\n", ""),
            ("w: celery worker --pool=solo\nm: celery worker\n", "w: celery worker --pool gevent\n", ""),
            ("w: celery worker\n", "w: celery worker\n", "app.conf.worker_pool = 'threads'\n"),
        )
    ),
    Example(
        "visibility_timeout_too_short",
        celery(CONF.format(3700) + RETRIED.format("", "countdown=7200")),
        "tasks.py:7",
        celery(CONF.format(7260) + RETRIED.format("", "countdown=7200")),
    ),
    Example(
        "visibility_timeout_too_short",
        celery(CONF.format(3700) + RETRIED.format(",\n default_retry_delay=7200", "exc=error")),
        "tasks.py:6",
        celery(CONF.format(3700) + RETRIED.format(",\n default_retry_delay=7200", "countdown=60")),
    ),
    Example(
        "visibility_timeout_too_short",
        celery(CONF.format(3700) + BACKOFF.format(13, 7200)),
        "tasks.py:5",
        celery(CONF.format(3700) + BACKOFF.format(12, 7200)),
    ),
    Example(
        "visibility_timeout_too_short",
        celery(CONF.format(3700) + BACKOFF.format(None, 7200)),
        "tasks.py:6",
        celery(CONF.format(3700) + BACKOFF.format(None, 3600)),
    ),
    Example(
        "visibility_timeout_too_short",
        celery(CONF.format(600) + TASK.format("") + "mail.apply_async(args=(1,),\n countdown=60 * 60)\n"),
        "tasks.py:8",
        celery(CONF.format(7200) + TASK.format("") + "mail.apply_async(args=(1,),\n countdown=60 * 60)\n"),
    ),
    Example(
        "visibility_timeout_too_short",
        celery(CONF.format(600) + TASK.format("acks_late=True, reject_on_worker_lost=True, time_limit=1200")),
        "tasks.py:5",
        celery(CONF.format(600) + TASK.format("time_limit=1200")),
    ),
    Example(
        "visibility_timeout_too_short",
        celery(CONF.format(600) + TASK.format("") + "mail.apply_async(countdown=3600)\n"),
        "tasks.py:7",
        celery(CONF.replace("redis", "amqp").format(600) + TASK.format("") + "mail.apply_async(countdown=3600)\n"),
    ),
    Example(
        "visibility_timeout_too_short",
        celery(CONF.format(600) + TASK.format("") + "mail.apply_async(\n eta=timezone.now() + timedelta(hours=1))\n"),
        "tasks.py:8",
        celery(CONF.format(600) + TASK.format("") + "mail.apply_async(\n eta=order.due + timedelta(hours=1))\n"),
    ),
    Example(
        "late_acks_with_prefetch",
        {"celeryconfig.py": LATE + "worker_prefetch_multiplier = 10\n"},
        "celeryconfig.py:3",
        {"celeryconfig.py": LATE + "worker_prefetch_multiplier = 1\n"},
    ),
    Example(
        "soft_limit_not_below_hard",
        celery(TASK.format("soft_time_limit=60, time_limit=60")),
        "tasks.py:4",
        celery(TASK.format("soft_time_limit=50, time_limit=60")),
    ),
    *(
        Example(
            "celery_backoff_never_grows",
            celery(TASK.format(f"autoretry_for=(OSError,), {bad}")),
            "tasks.py:4",
            celery(TASK.format(good)),
        )
        for bad, good in (
            ("retry_backoff=600", "autoretry_for=(OSError,), retry_backoff=600, retry_backoff_max=3600"),
            ("retry_backoff=90, retry_backoff_max=60", "autoretry_for=(OSError,), retry_backoff=True"),
            ("retry_backoff=900", "autoretry_for=(OSError,), retry_backoff=300, max_retries=9"),
            ("retry_backoff=600, max_retries=5", "autoretry_for=(OSError,), retry_backoff=600, max_retries=1"),
            ("retry_backoff=600, max_retries=None", "retry_backoff=600"),
            ("retry_backoff=600", "base=Mine, autoretry_for=(OSError,), retry_backoff=600"),
        )
    ),
    Example(
        "celery_names_mixed",
        {"celeryconfig.py": "CELERYD_CONCURRENCY = 2\nworker_prefetch_multiplier = 1\n"},
        "celeryconfig.py:1",
        {"celeryconfig.py": "worker_concurrency = 2\nworker_prefetch_multiplier = 1\n"},
    ),
    Example(
        "crontab_every_minute",
        celery("app.conf.beat_schedule = {'nightly': {'task': 'x',\n 'schedule': crontab(hour=3)}}\n"),
        "tasks.py:5",
        celery(
            "app.conf.beat_schedule = {'nightly': {'task': 'x',\n 'schedule': crontab(hour=3, minute=0)},\n"
            "'often': {'task': 'y', 'schedule': crontab(hour='*')}}\n"
        ),
    ),
    Example(
        "celery_waits_for_subtask",
        celery("@app.task\ndef page(url):\n    return fetch.delay(url).get(timeout=10)\n"),
        "tasks.py:6",
        celery("@app.task\ndef page(url):\n    return cache.get(url)\n"),
    ),
    Example(
        "celery_retries_forever",
        celery(TASK.format("autoretry_for=(IOError,), max_retries=None")),
        "tasks.py:4",
        celery(TASK.format("autoretry_for=(IOError,), max_retries=5")),
    ),
    Example(
        "expires_before_start",
        celery(TASK.format("") + "mail.apply_async(countdown=600, expires=60)\n"),
        "tasks.py:6",
        celery(TASK.format("") + "mail.apply_async(countdown=600, expires=900)\n"),
    ),
    Example(
        "code_cron_invalid",
        celery("schedule = crontab(minute=60)\n"),
        "tasks.py:4",
        celery("schedule = crontab(minute=59)\n"),
    ),
    Example(
        "code_cron_invalid",
        procrastinate(PERIODIC.format("timestamp").replace("0 * * * *", "61 * * * *")),
        "jobs.py:4",
        procrastinate(PERIODIC.format("timestamp").replace("0 * * * *", "*/5 * * * * */10")),
    ),
    Example(
        "code_cron_invalid",
        pgqueuer('schedule("sweep", "* * * *")'),
        "worker.py:6",
        pgqueuer('schedule("sweep", "* * * * *")'),
    ),
    Example(
        "code_cron_invalid",
        bull('const q = new Queue("a");\nawait q.add("x", {}, { repeat: { pattern: "0 25 * * *" } });'),
        "queue.ts:3",
        bull('const q = new Queue("a");\nawait q.add("x", {}, { repeat: { pattern: "0 0 3 * * *" } });'),
    ),
    Example("queue_unserved", procrastinate(WORKER.format("fast")), "jobs.py:5", procrastinate(WORKER.format("slow"))),
    Example(
        "queue_unserved",
        procrastinate(WORKER.format("fast")),
        "jobs.py:5",
        procrastinate(WORKER.format("fast").replace('queues=["default", "fast"]', "")),
    ),
    Example(
        "periodic_below_task",
        procrastinate('@app.task\n@app.periodic(cron="0 * * * *")\ndef sweep(timestamp): ...\n'),
        "jobs.py:5",
        procrastinate(PERIODIC.format("timestamp")),
    ),
    Example(
        "periodic_without_timestamp",
        procrastinate(PERIODIC.format("")),
        "jobs.py:6",
        procrastinate(PERIODIC.format("timestamp: int")),
    ),
    Example(
        "periodic_without_lock",
        procrastinate('@app.periodic(cron="0 * * * *")\n@app.task\ndef sweep(timestamp): ...\n'),
        "jobs.py:4",
        procrastinate(PERIODIC.format("timestamp: int")),
    ),
    Example(
        "retry_at_once",
        procrastinate(TASK.format("retry=True")),
        "jobs.py:4",
        procrastinate(TASK.format("retry=RetryStrategy(max_attempts=5, wait=10)")),
    ),
    Example(
        "backoff_explodes",
        procrastinate(TASK.format("retry=RetryStrategy(max_attempts=10, exponential_wait=60)")),
        "jobs.py:4",
        procrastinate(TASK.format("retry=RetryStrategy(max_attempts=4, exponential_wait=6)")),
    ),
    Example(
        "stalled_never_retried",
        {"jobs.py": APP + TASK.format("")},
        "jobs.py:5",
        {"jobs.py": APP + TASK.format(""), "docker-compose.yml": "command: ./manage.py retry_stalled_jobs\n"},
    ),
    Example(
        "pgqueuer_never_retried",
        pgqueuer('entrypoint("mail")'),
        "worker.py:6",
        pgqueuer('entrypoint("mail", on_failure="hold")'),
    ),
    Example(
        "graphile_option_unknown",
        graphile('await quickAddJob({ connectionString }, "mail", {}, { attempts: 3 });'),
        "worker.ts:2",
        graphile('await quickAddJob({ connectionString }, "mail", {}, { maxAttempts: 3 });'),
    ),
    Example(
        "graphile_crontab_refused",
        graphile("await run({ crontab: `\n*/5 * * * * sweep ?maxAttempts=3\n` });"),
        "worker.ts:3",
        graphile("await run({ crontab: `\n*/5 * * * * sweep ?max=3 {on: 1}\n` });"),
    ),
    Example(
        "graphile_crontab_refused",
        {**graphile("run({});"), "crontab": "# minute hour\n0 25 * * * sweep\n"},
        "crontab:2",
        {"crontab": "# of the system, not of a worker\n0 25 * * * root sweep\n"},
    ),
    Example(
        "job_key_mode_inert",
        graphile('await helpers.addJob("mail", {}, { jobKeyMode: "replace" });'),
        "worker.ts:2",
        graphile('await helpers.addJob("mail", {}, { jobKey: "m", jobKeyMode: "replace" });'),
    ),
    Example(
        "graphile_task_unknown",
        graphile('await run({ taskList: { mail } });\nawait quickAddJob({}, "mial", {});'),
        "worker.ts:3",
        graphile('await run({ taskList: { mail } });\nawait quickAddJob({}, "mail", {});'),
    ),
    *(
        Example(
            "graphile_task_unknown",
            graphile(LISTED.format("mail")),
            "worker.ts:4",
            graphile(LISTED.format(keys)),
        )
        for keys in (
            "[MAIL]: send",
            "['send-mail']: send",
            "async 'send-mail'() { }",
            "mail, [named()]: send",
            "mail, ...more",
        )
    ),
    *(
        Example(
            "graphile_task_unknown",
            {**graphile("await run({ taskList: { mail } });"), "m/1.sql": ADDS.format("mial")},
            "m/1.sql:3",
            {**graphile("await run({ taskList: { mail } });"), "m/1.sql": ADDS.format("mial"), "m/2.sql": later},
        )
        for later in (ADDS.format("mail"), "DROP FUNCTION app.sign_up(text);\n")
    ),
    Example(
        "graphile_signals_ignored",
        graphile("await run({ taskList, noHandleSignals: true });"),
        "worker.ts:2",
        graphile("await run({ taskList, noHandleSignals: false });"),
    ),
    Example(
        "graphile_signals_ignored",
        {
            **graphile("const runner = await run({ taskList, noHandleSignals: true });"),
            "index.ts": "process.on(`SIGTERM`, exit);",
        },
        "worker.ts:2",
        {
            **graphile(
                "const runner = await run({ taskList, noHandleSignals: true });\n"
                "export const stopJobs = runner.stop.bind(runner);"
            ),
            "index.ts": 'import { stopJobs } from "./worker";\nprocess.on("SIGTERM", stopJobs);',
        },
    ),
    *(
        Example(
            "queue_defaults_differ",
            bull(TWO_QUEUES.format(first, bad, second)),
            "queue.ts:3",
            bull(TWO_QUEUES.format(first, good, second)),
        )
        for first, second, bad, good in (
            ("attempts: 3", "attempts: 5", '"a"', '"b"'),
            ("attempts: 3, removeOnComplete: true", "attempts: 3", '"a"', "name"),
            (
                "attempts: 3, backoff: { type: 'fixed', delay: 5 }",
                "attempts: 3, backoff: { type: 'fixed', delay: 9 }",
                '"a"',
                '"b"',
            ),
        )
    ),
    Example(
        "backoff_without_attempts",
        bull('const q = new Queue("a");\nq.add("x", {}, { backoff: 5000 });'),
        "queue.ts:3",
        bull('const q = new Queue("a", { defaultJobOptions: { attempts: 3 } });\nq.add("x", {}, { backoff: 5000 });'),
    ),
    *(
        Example("backoff_without_attempts", bull(SHARED + "queue.add('x', {});"), "queue.ts:4", bull(SHARED + add))
        for add in (
            "(await queue).add('x', {}, { attempts: 3 });",
            "const add = (mails) => queue.addBulk(mails.map((data) => ({ name: 'x', data, opts: more(data) })));",
            "queue.upsertJobScheduler('x', { every: 60_000 }, { opts: { attempts: 3 } });",
            "const otherQueue = opened();\notherQueue.add('x', {}, { ...options });",
        )
    ),
    *(
        Example(
            "backoff_without_attempts",
            {**bull(EXPORTED), "send.ts": f"{way}.add('x', {{}},\n {{ backoff: 5000 }});"},
            "send.ts:3",
            {**bull(EXPORTED), "send.ts": f"{way}.add('x', {{}},\n {{ backoff: 5000, attempts: 3 }});"},
        )
        for way in (
            'import { mails } from "./queue";\nawait mails',
            'import { opened as open } from "./queue";\nawait (await open())',
        )
    ),
    Example(
        "bullmq_option_ignored",
        bull('new Queue("a", {\n limiter: { max: 10, duration: 1000 } });'),
        "queue.ts:3",
        bull('new Worker("a", run, { limiter: { max: 10, duration: 1000 } });'),
    ),
    Example(
        "bullmq_option_ignored",
        bull('const q = new Queue("a");\nq.add("x", {}, { timeout: 5000 });'),
        "queue.ts:3",
        {"queue.ts": 'const queue = new Set();\nqueue.add("x", {}, { timeout: 5000 });'},
    ),
    Example(
        "bullmq_option_ignored",
        bull("const q = new Queue('a');\nq.add('x', {}, { repeat: { every: 60_000 } });", version="6.7.0"),
        "queue.ts:3",
        bull("const q = new Queue('a');\nq.add('x', {}, { repeat: { every: 60_000 } });"),
    ),
    Example(
        "lock_renewed_too_late",
        bull('new Worker("a", run, { lockDuration: 30_000,\n lockRenewTime: 60_000 });'),
        "queue.ts:3",
        bull('new Worker("a", run, { lockDuration: 30_000,\n lockRenewTime: 10_000 });'),
    ),
    Example(
        "redis_retries_refused",
        bull('import { env } from "@acme/env";\nnew Worker("a", run, { connection: new IORedis(env.REDIS_URL) });'),
        "queue.ts:3",
        bull('import { env } from "@acme/env";\nnew Worker("a", run, { connection: new IORedis(env.REDIS) });'),
    ),
    Example(
        "redis_retries_refused",
        bull('const redis = new IORedis(process.env.REDIS_URL);\nnew Worker("a", run, { connection: redis });'),
        "queue.ts:2",
        bull(
            "const redis = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });\n"
            'new Worker("a", run, { connection: redis });\nnew Worker("b", run, { connection: { host } });'
        ),
    ),
    Example(
        "job_id_blocks_repeats",
        bull('const q = new Queue("a");\nq.add("x", {}, { jobId: `page-${id}` });'),
        "queue.ts:3",
        bull(
            'const q = new Queue("a");\n'
            "q.add('x', {}, { jobId: `page-${id}`, removeOnComplete: true, removeOnFail: true });"
        ),
    ),
    Example(
        "job_id_blocks_repeats",
        bull(
            'const q = new Queue("a");\nq.add("x", {}, { jobId: "a:b", removeOnComplete: true, removeOnFail: true });'
        ),
        "queue.ts:3",
        bull(
            'const q = new Queue("a");\nq.add("x", {}, { jobId: "a:b", removeOnComplete: true, removeOnFail: true });',
            version="4.18.2",
        ),
    ),
    *(
        Example(
            "job_id_blocks_repeats",
            bull(NEST.format(bad)),
            "queue.ts:6",
            bull(NEST.format("removeOnComplete: true, removeOnFail: true")),
        )
        for bad in ("removeOnComplete: 5", "attempts: 3")
    ),
    Example(
        "job_id_blocks_repeats",
        bull(COLON),
        "queue.ts:4",
        bull(
            COLON,
            version="5.58.6",
        ),
    ),
    Example(
        "job_id_blocks_repeats",
        bull('const q = new Queue("a");\nconst id = key();\nq.add("x", {}, { jobId: `page-${id}` });'),
        "queue.ts:4",
        bull(
            'const q = new Queue("a");\nconst id = randomUUID();\n'
            'q.add("x", {}, { jobId: `page-${id}` });\nq.add("y", {}, { jobId: id });'
        ),
    ),
    Example(
        "job_id_blocks_repeats",
        bull('const q = new Queue("a");\nconst send = (user) =>\nq.add("x", {}, { jobId: user.id });'),
        "queue.ts:4",
        bull(
            'const q = new Queue("a");\n'
            'const send = (data, options) => q.add("x", data, { jobId: options?.id, attempts: 3 });\n'
            'const other = (data, jobId?: string) => q.add("x", data, { jobId });\n'
            'const all = (opts) => each.map((job) => q.add("x", job, { jobId: opts.id }));'
        ),
    ),
    Example(
        "job_removed_before_read",
        bull('const q = new Queue("a", { defaultJobOptions: { removeOnComplete: true } });\nawait q.getJob(id);'),
        "queue.ts:3",
        bull(
            'const q = new Queue("a", { defaultJobOptions: { removeOnComplete: { age: 60 } } });\nawait q.getJob(id);'
        ),
    ),
    Example(
        "job_removed_before_read",
        bull(LOOKS_UP.format("completed")),
        "queue.ts:4",
        bull(LOOKS_UP.format("failed")),
    ),
    Example(
        "queue_scheduler_missing",
        bull('const q = new Queue("a");\nq.add("x", {}, { delay: 5000 });', version="1.91.1"),
        "queue.ts:3",
        bull('const q = new Queue("a");\nnew QueueScheduler("a");\nq.add("x", {}, { delay: 5000 });', version="1.91.1"),
    ),
    Example(
        "visibility_timeout_too_short",
        celery(
            CONF.format(10) + "@app.task(acks_late=True, reject_on_worker_lost=True)\ndef x():\n    time.sleep(60)\n"
        ),
        "tasks.py:6",
        celery(
            CONF.format(90) + "@app.task(acks_late=True, reject_on_worker_lost=True)\ndef x():\n    time.sleep(60)\n"
        ),
    ),
    Example(
        "acks_late_loses_killed",
        {
            "one.py": CELERY + "app.conf.update(task_acks_late=True)\n",
            "two.py": CELERY + "app.conf.task_acks_late = False\n",
        },
        "one.py:4",
        {"one.py": CELERY + "app.conf.update(\n task_acks_late=True, task_reject_on_worker_lost=True)\n"},
    ),
    Example(
        "celery_setting_unknown",
        celery("app.conf.update(task_time_limit=60,\n task_soft_limit=50)\n"),
        "tasks.py:5",
        celery("app.conf.update(task_time_limit=60,\n task_soft_time_limit=50, report_folder='r')\n"),
    ),
    Example(
        "celery_setting_unknown",
        {"jobs/celeryconf/base.py": "broker_name = 'r'\nbroker_url = f'redis://{broker_name}'\ntask_max_retries = 2\n"},
        "jobs/celeryconf/base.py:3",
        {"jobs/celeryconf/base.py": "broker_name = 'r'\nbroker_url = f'redis://{broker_name}'\n"},
    ),
    Example(
        "celery_never_retried",
        celery("@app.task(\n retry_backoff=True)\ndef mail(to): ...\n"),
        "tasks.py:5",
        celery("@app.task(\n retry_backoff=True, autoretry_for=(IOError,))\ndef mail(to): ...\n"),
    ),
    Example(
        "celery_never_retried",
        celery("@app.task(bind=True, max_retries=3)\ndef mail(self, to): ...\n"),
        "tasks.py:4",
        celery("@app.task(bind=True, max_retries=3)\ndef mail(self, to):\n    raise self.retry(countdown=5)\n"),
    ),
    Example(
        "celery_never_retried",
        celery("@app.task(bind=True, retry_kwargs={'max_retries': 5})\ndef mail(self, to):\n    post(to)\n"),
        "tasks.py:4",
        celery(
            "@app.task(bind=True, retry_kwargs={'max_retries': 5})\ndef mail(self, to):\n    post_or_retry(self, to)\n"
        ),
    ),
    Example(
        "celery_setting_unknown",
        celery("app.conf.task_time_limits = 60\n"),
        "tasks.py:4",
        {"tasks.py": "from celery import Celery\napp = Celery('shop', task_cls='shop.tasks:Task')\n"},
    ),
    Example(
        "lock_of_a_dead_worker",
        {"jobs.py": APP + TASK.format("") + "mail.configure(lock='m').defer(to=1)\n"},
        "jobs.py:6",
        procrastinate(TASK.format("") + "mail.configure(lock='m').defer(to=1)\n"),
    ),
    Example(
        "already_enqueued_raises",
        procrastinate(TASK.format('queueing_lock="m"') + "mail.defer(to=1)\n"),
        "jobs.py:6",
        procrastinate(TASK.format('queueing_lock="m"') + "try:\n    mail.defer(to=1)\nexcept AlreadyEnqueued: ...\n"),
    ),
    Example(
        "periodic_twice",
        procrastinate('@app.periodic(cron="0 9 * * *")\n' + PERIODIC.format("timestamp")),
        "jobs.py:5",
        procrastinate('@app.periodic(cron="0 9 * * *", periodic_id="b")\n' + PERIODIC.format("timestamp")),
    ),
    Example(
        "task_named_twice",
        procrastinate(TASK.format('name="m"') + "@app.task(name='m')\ndef sms(to): ...\n"),
        "jobs.py:7",
        procrastinate(TASK.format('name="m"') + "@app.task(name='s')\ndef sms(to): ...\n"),
    ),
    Example(
        "pgqueuer_option_refused",
        {"requirements.txt": "pgqueuer==1.6.0\n", **pgqueuer('entrypoint("mail", retry_timer=x)')},
        "worker.py:6",
        {"requirements.txt": "pgqueuer==0.26.3\n", **pgqueuer('entrypoint("mail", retry_timer=x)')},
    ),
    Example(
        "pgqueuer_option_refused",
        pgqueuer('entrypoint("mail", concurrency=1)'),
        "worker.py:6",
        pgqueuer('entrypoint("mail", concurrency_limit=1)'),
    ),
    Example(
        "pgqueuer_entrypoint_not_async",
        {"requirements.txt": "pgqueuer~=1.2\n", **pgqueuer('entrypoint("m")', plain=True)},
        "worker.py:6",
        {"requirements.txt": "pgqueuer~=1.2\n", **pgqueuer('entrypoint("m")')},
    ),
    Example(
        "pgqueuer_factory_refused",
        {"requirements.txt": "pgqueuer==1.6.0\n", "worker.py": PGQ_MAIN.format("")},
        "worker.py:4",
        {"requirements.txt": "pgqueuer==1.6.0\n", "worker.py": PGQ_MAIN.format("@asynccontextmanager")},
    ),
    Example(
        "pgqueuer_registered_twice",
        pgqueuer('entrypoint("m")\n    async def a(job): ...\n\n    @pgq.entrypoint("m")'),
        "worker.py:9",
        pgqueuer('entrypoint("m")\n    async def a(job): ...\n\n    @pgq.entrypoint("n")'),
    ),
    Example(
        "pgqueuer_entrypoint_unknown",
        {**pgqueuer('entrypoint("mail")'), "api.py": ENQUEUE.format('"mial", b""')},
        "api.py:2",
        {**pgqueuer('entrypoint("mail")'), "api.py": ENQUEUE.format('"mail", b""')},
    ),
    Example(
        "pgqueuer_payload_refused",
        {"api.py": ENQUEUE.format('"mail", json.dumps(order)')},
        "api.py:2",
        {"api.py": ENQUEUE.format('"mail", json.dumps(order).encode()')},
    ),
    Example(
        "pgqueuer_batch_refused",
        {"run.py": ENQUEUE.replace("queries.enqueue({})", "pgq.run(batch_size=10, max_concurrent_tasks=10)")},
        "run.py:2",
        {"run.py": ENQUEUE.replace("queries.enqueue({})", "pgq.run(batch_size=5, max_concurrent_tasks=10)")},
    ),
    Example(
        "pgqueuer_killed_stays_picked",
        {"requirements.txt": "pgqueuer==0.26.3\n", **pgqueuer('entrypoint("m")')},
        "worker.py:6",
        {"requirements.txt": "pgqueuer==1.6.0\n", **pgqueuer('entrypoint("m")')},
    ),
    Example(
        "pgqueuer_duplicate_raises",
        {"api.py": ENQUEUE.format('"mail", b"", dedupe_key="k"')},
        "api.py:2",
        {"api.py": ENQUEUE.format('"mail", b"", dedupe_key="k", on_conflict="skip"')},
    ),
    Example(
        "graphile_option_unknown",
        graphile("export const preset = { worker: { concurrency: 5 } };"),
        "worker.ts:2",
        graphile("export const preset = { worker: { concurrentJobs: 5 } };"),
    ),
    Example(
        "graphile_options_conflict",
        graphile("await run({ taskList,\n taskDirectory: 'tasks' });"),
        "worker.ts:3",
        graphile("await run({ taskList });"),
    ),
    Example(
        "max_attempts_zero",
        graphile("await helpers.addJob('mail', {}, { maxAttempts: 0 });"),
        "worker.ts:2",
        graphile("await helpers.addJob('mail', {}, { maxAttempts: 1 });"),
    ),
    Example(
        "job_key_mode_refused",
        graphile("await helpers.addJob('mail', {}, { jobKey: 'k', jobKeyMode: 'debounce' });"),
        "worker.ts:2",
        graphile("await helpers.addJob('mail', {}, { jobKey: 'k', jobKeyMode: 'preserve_run_at' });"),
    ),
    Example(
        "concurrency_above_pool",
        graphile("await run({ taskList, concurrency: 20 });"),
        "worker.ts:2",
        graphile("await run({ taskList, concurrency: 20, maxPoolSize: 24 });"),
    ),
    Example(
        "cron_not_filled",
        graphile("await run({ crontab: `\n0 3 * * * report\n` });"),
        "worker.ts:3",
        graphile("await run({ crontab: `\n0 3 * * * report ?fill=1d\n*/5 * * * * sweep\n` });"),
    ),
    Example(
        "redis_key_prefix_refused",
        bull(
            "const redis = new Redis({ maxRetriesPerRequest: null, keyPrefix: 'a:' });\nnew Queue('a', "
            "{ connection: redis });"
        ),
        "queue.ts:2",
        bull(
            "const redis = new Redis({ maxRetriesPerRequest: null });\nnew Queue('a', "
            "{ connection: redis, prefix: 'a' });"
        ),
    ),
    Example(
        "queue_name_refused", bull("new Queue('mail:out');"), "queue.ts:2", bull("new Queue('a:b');", version="4.18.2")
    ),
    Example(
        "repeat_left_behind",
        bull("const q = new Queue('a');\nq.add('x', {}, { repeat: { pattern: '0 3 * * *' } });"),
        "queue.ts:3",
        bull("const q = new Queue('a');\nq.upsertJobScheduler('x', { pattern: '0 3 * * *' });"),
    ),
    Example(
        "repeat_left_behind",
        bull("const q = new Queue('a');\nq.add('x', {}, { jobId: 'tick', repeat: { every: 60_000 } });"),
        "queue.ts:3",
        bull(
            "const q = new Queue('a');\nfor (const job of await q.getRepeatableJobs()) "
            "await q.removeRepeatableByKey(job.key);\nq.add('x', {}, { jobId: 'tick', repeat: { every: 60_000 } });"
        ),
    ),
    Example(
        "bullmq_add_refused",
        bull("const q = new Queue('a');\nq.add('x', {}, { repeat: { every: 60_000, pattern: '0 3 * * *' } });"),
        "queue.ts:3",
        bull("const q = new Queue('a');\nq.add('x', {}, { priority: 5, delay: 5 });"),
    ),
)
