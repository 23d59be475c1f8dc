"""What the readers make of files: constants, precedence, services, and files that are broken or hostile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.guide_repository import write

from job_harness.errors import UsageError
from job_harness.review.check.cron import period_seconds, problem_of
from job_harness.review.check.examination import examine
from job_harness.review.check.facts import UNKNOWN, Facts
from job_harness.review.check.readers.schema import interval_seconds
from job_harness.review.check.releases import satisfies
from job_harness.review.check.repository import NamedEnvironment, read_repository
from job_harness.review.check.settings import standing, standings

DOUBLED = "".join(f"const a{n} = a{n + 1} + a{n + 1};\n" for n in range(60))


def read(root: Path, files: dict[str, str]) -> Facts:
    return read_repository(write(root, files))


def value_of(facts: Facts, name: str) -> object:
    return next(value.value for value in facts.values if value.name == name)


def setting(facts: Facts, name: str, *, queue: str = "") -> tuple[float, str] | None:
    found = standing(facts, facts.services[0] if facts.services else None, queue).get(name)
    return None if found is None else (found.value, str(found.place))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("10 * 60 * 1000", 600_000),
        ("10 * 60 * 1_000", 600_000),
        ("(5 + 5) * 6e4", 600_000),
        ("600_000 as const", 600_000),
        ("Number('600000')", 600_000),
        ("parseInt(`600000`, 10)", 600_000),
        ("Math.min(600000, 7e5)", 600_000),
        ("ms('10m')", 600_000),
        ("MINUTE * 10", 600_000),
        ("TIMES.job.ms", 600_000),
        ("0x927c0", 600_000),
        ("-1 * -600000", 600_000),
        ("0 || '' || 600000", 600_000),
        ("0 ?? 600000", 0),
        ("parseInt('600000.5 ms')", 600_000),
        ("Number('600_000')", UNKNOWN),
        ("ms('600000 milliseconds') + ms('0')", 600_000),
        ("ms('2 months')", UNKNOWN),
        ("Math.floor(600000.5, 1)", 600_000),
        ("(-8) ** 0.5", UNKNOWN),
        ("Math.round(1e999)", UNKNOWN),
        (f"0x{'f' * 300} * 2", UNKNOWN),
        ("`${true}\\x36\\u{30}${null ?? String(4)}`", "true604"),
        ("`${null}`", UNKNOWN),
        ("process.env[compute()]", UNKNOWN),
        ("compute()", UNKNOWN),
        ("1 / 0", UNKNOWN),
        ("JOB_TIMEOUT_MS", UNKNOWN),
    ],
)
def test_a_constant_is_computed_without_running_it(written: str, value: object, tmp_path: Path) -> None:
    text = (
        "const MINUTE = 60_000;\nconst TIMES = { job: { ms: MINUTE * 10 } } as const;\n"
        f"export const JOB_TIMEOUT_MS: number = {written};\n"
    )

    assert value_of(read(tmp_path, {"job-config.ts": text}), "JOB_TIMEOUT_MS") == value


def test_only_what_an_option_certainly_is_counts(tmp_path: Path) -> None:
    text = (
        'import PgBoss from "pg-boss";\nimport { retryDelay } from "./delays";\n'
        'const KEY = "LIMIT", retryLimit = 5;\n'
        'const send = (boss: PgBoss, retryLimit: number) => boss.send("handed", {}, { retryLimit });\n'
        'const take = (boss: PgBoss, { retryDelay }) => boss.send("taken apart", {}, { retryDelay, retryLimit });\n'
        'boss.send("either", {}, prod ? { retryLimit: 5, retryDelay: 1 } : { retryLimit: 0, retryDelay: 1 });\n'
        'boss.send("read", {}, { retryLimit: process.env[KEY] ?? 3 });\n'
    )
    facts = read(tmp_path, {"boss.ts": text, "delays.ts": "export const retryDelay = 7;\n"})
    told = {one.queue: {name: value.value for name, value in one.options.items()} for one in facts.calls}

    assert told == {
        "handed": {"retryLimit": UNKNOWN},
        "taken apart": {"retryDelay": UNKNOWN, "retryLimit": 5},
        "either": {"retryLimit": UNKNOWN, "retryDelay": 1},
        "read": {"retryLimit": 3},
    }
    assert [one.variable for one in facts.values if one.variable] == ["LIMIT"]


def test_a_constant_is_followed_through_imports(tmp_path: Path) -> None:
    files = {
        "lib/time.ts": "export const MINUTE = 60_000;\n",
        "lib/job-config.ts": 'import { MINUTE as M } from "./time";\nexport const JOB_TIMEOUT_MS = 10 * M;\n',
        "apps/boss.ts": (
            'import { JOB_TIMEOUT_MS } from "@repo/lib";\nnew PgBoss({\nexpireInSeconds: JOB_TIMEOUT_MS / 1000 });'
        ),
    }

    assert setting(read(tmp_path, files), "expiry") == (600.0, "apps/boss.ts:3")


def test_the_engines_precedence_decides_and_the_others_are_shown(tmp_path: Path) -> None:
    files = {
        "package.json": '{"dependencies": {"pg-boss": "10.4.2"}}',
        "boss.ts": (
            "new PgBoss({ retryLimit: 5, expireInHours: 1 });\n"
            'boss.createQueue("a", { retryLimit: 4 });\n'
            'boss.send("b", {}, { retryLimit: 1 });\n'
        ),
    }
    facts = read(tmp_path, files)

    assert setting(facts, "retry_limit", queue="a") == (4.0, "boss.ts:2")
    sent = [one.get("retry_limit") for one in standings(facts) if one.queue == "b"]
    assert [(one.value, str(one.place)) for one in sent if one is not None] == [(1.0, "boss.ts:3")]
    assert setting(facts, "retry_limit") == (5.0, "boss.ts:1")
    assert setting(facts, "expiry", queue="b") == (3600.0, "boss.ts:1")
    assert [str(other.place) for other in standing(facts, None, "a").settings["retry_limit"].others] == ["boss.ts:1"]


def test_without_any_option_the_defaults_of_pgboss_10_hold(tmp_path: Path) -> None:
    facts = read(tmp_path, {"package.json": '{"dependencies": {"pg-boss": "^10.1.0"}}'})

    assert setting(facts, "retry_limit") == (2.0, "None")
    assert setting(facts, "expiry") == (900.0, "None")


def test_a_variable_outranks_the_default_that_the_code_gives_it(tmp_path: Path) -> None:
    code = "const PGBOSS_BATCH_SIZE = Number(process.env.PGBOSS_BATCH_SIZE ?? 5);\n"

    assert setting(read(tmp_path / "unset", {"w.ts": code}), "batch_size") == (5.0, "w.ts:1")
    assert setting(read(tmp_path / "set", {"w.ts": code, ".env": "\nPGBOSS_BATCH_SIZE=1\n"}), "batch_size") == (
        1.0,
        ".env:2",
    )


def test_a_schema_of_variables_is_read_with_its_defaults(tmp_path: Path) -> None:
    code = "export const env = z.object({\n  PGBOSS_BATCH_SIZE: z.coerce.number().default(5),\n});\n"

    assert setting(read(tmp_path, {"env.ts": code}), "batch_size") == (5.0, "env.ts:2")


def test_env_files_lie_above_one_another_by_profile(tmp_path: Path) -> None:
    facts = read(
        tmp_path,
        {
            "web/.env": "A=base\nB=base\n",
            "web/.env.production": "A=production\n",
            "web/.env.local": "B=local\n",
            "web/.env.example": "A=example\n",
        },
    )

    values = {one.profile: {name: value.value for name, value in one.values.items()} for one in facts.services}
    assert values == {"production": {"A": "production", "B": "base"}, "local": {"A": "production", "B": "local"}}


def test_named_services_replace_the_env_files_that_are_found(tmp_path: Path) -> None:
    write(tmp_path, {".env": "USE_PGBOSS_WORKERS=false\n", "prod.env": "USE_PGBOSS_WORKERS=true\n"})
    named = [NamedEnvironment("worker", "prod.env"), NamedEnvironment("web", "-")]

    facts = read_repository(tmp_path, environments=named, environ={"CRON_SECRET": "x"})

    assert [(one.name, dict(one.values).keys()) for one in facts.services] == [
        ("worker", {"USE_PGBOSS_WORKERS"}),
        ("web", {"CRON_SECRET"}),
    ]


def test_what_a_secret_store_holds_is_unknown_and_not_wrong(tmp_path: Path) -> None:
    text = (
        "services:\n  - type: worker\n    name: w\n    envVars:\n      - key: USE_PGBOSS_WORKERS\n        sync: false\n"
    )
    examination = examine(read(tmp_path, {"render.yaml": text}))

    assert examination.findings == ()
    assert [(value.name, str(value.place)) for value in examination.unknown] == [
        ("USE_PGBOSS_WORKERS", "render.yaml:5")
    ]


def test_a_secret_is_never_told(tmp_path: Path) -> None:
    files = {".env": "CRON_SECRET=hunter2hunter\nDATABASE_URL=mysql://me:pa55word@h/d\n"}
    told = repr(examine(read(tmp_path, files)).findings)

    assert "hunter2" not in told
    assert "pa55word" not in told


@pytest.mark.parametrize(
    ("name", "text", "at"),
    [
        ("vercel.json", '{"crons": [\n  {"path": "/a",\n  "schedule": ]\n}', "vercel.json:3"),
        ("package.json", '{"dependencies": {\n', "package.json:1"),
        ("vercel.json", "", "vercel.json:1"),
        ("render.yaml", "services:\n  - name: a\n   type: web\n", "render.yaml:3"),
        ("render.yaml", "a: 1\na: 2\n", "render.yaml:2"),
        ("job-config.ts", "export const JOB_TIMEOUT_MS = 1;\nexport const = ;\n", "job-config.ts:2"),
        ("settings.py", "JOB_TIMEOUT_MS = 1\ndef (:\n", "settings.py:2"),
        (".env", "A=1\n= what is this\n", ".env:2"),
        ("vercel.json", "\x00\x01", "vercel.json:1"),
    ],
)
def test_a_broken_file_is_a_finding_at_the_line_where_it_breaks(name: str, text: str, at: str, tmp_path: Path) -> None:
    found = [one for one in examine(read(tmp_path, {name: text})).findings if one.rule == "unreadable_file"]

    assert [str(one.place) for one in found] == [at]


def test_python_that_is_newer_than_this_one_is_read(tmp_path: Path) -> None:
    newer = (
        "type Command = str\ntype Pair[T: (int, str)] = tuple[T, list[T]]\nclass Box[T, *Ts](Base[T]): ...\n"
        "async def first[\n    T: list[dict[str, int]],\n    **P,\n](items): ...\n"
        "try:\n    run()\nexcept KeyError, json.JSONDecodeError:\n    "
        "log(f'{job['id']} of {job['name']}', 1)\nJOB_TIMEOUT_MS = 5\n"
        "type Long[\n    T,\n] = list[T]\ndef last[T = int](items): ...\n"
        "told = f'{\n    f'{job['id']}'  # of the job\n}' + 'x'\nSTUCK_JOB_TIMEOUT_MINUTES = 30\n"
    )
    facts = read(tmp_path, {"settings.py": newer})

    assert facts.unreadable == []
    assert [(one.name, one.value, one.place.line) for one in facts.values] == [
        ("JOB_TIMEOUT_MS", 5, 12),
        ("STUCK_JOB_TIMEOUT_MINUTES", 30, 20),
    ]


def test_what_stands_beside_the_break_is_read(tmp_path: Path) -> None:
    text = "export const JOB_TIMEOUT_MS = 5;\nexport const = ;\nexport const STUCK_JOB_TIMEOUT_MINUTES = 30;\n"
    facts = read(tmp_path, {"job-config.ts": text})

    assert value_of(facts, "JOB_TIMEOUT_MS") == 5
    assert value_of(facts, "STUCK_JOB_TIMEOUT_MINUTES") == 30


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bomb.ts", DOUBLED + "const JOB_TIMEOUT_MS = a0, a60 = 1;"),
        ("text.ts", DOUBLED + 'const JOB_TIMEOUT_MS = a0, a60 = "x";'),
        ("deep.ts", "const JOB_TIMEOUT_MS = " + "(" * 20_000 + "1" + ")" * 20_000 + ";"),
        ("cycle.ts", "const a = b.c, b = a.c; const JOB_TIMEOUT_MS = a;"),
        ("slugs.ts", "const a = [...b], b = [...a]; const TOOL_SLUGS = [...a];"),
        ("deep.py", "JOB_TIMEOUT_MS = " + "(" * 5_000 + "1" + ")" * 5_000),
        ("big.py", "A = 9**9\nJOB_TIMEOUT_MS = " + "*".join(["10"] * 900)),
        ("bomb.sql", "/*" * 200_000 + " tool_job"),
        ("tags.sql", "".join(f"$a{n}$" for n in range(50_000)) + " tool_job"),
        ("deep.json", "[" * 100_000),
        ("vercel.json", "[" * 100_000),
        ("render.yaml", "[" * 2_000),
        ("render.yaml", "- " * 20_000 + "a"),
        ("render.yaml", "".join(" " * n + "a:\n" for n in range(600))),
        ("compose.yaml", "# celery worker\na: !!bool maybe\n"),
        ("compose.yaml", "command: celery worker\na: 0x_\n"),
        ("render.yaml", "a: 0b_\n"),
        ("render.yaml", "%YAML 1.1\n---\na: 1e5\n"),
        ("compose.yaml", "#c\n!!merge #c\n> #c\ncommand: celery worker\n!!str @|\n,,a%YAML 1.1\n---\n"),
        ("render.yaml", "x: &a\n  <<: *a\n"),
        ("render.yaml", f"services: [{{type: web, maxShutdownDelaySeconds: {'9' * 400}}}]\n"),
        ("pnpm-lock.yaml", "importers:\n" + "  x:\n" * 100_000),
        ("pyproject.toml", "a = " + "[" * 50_000),
        ("requirements.txt", "celery" * 50_000),
        ("crontab", "* " * 50_000),
        ("tasks.py", "from celery import Celery\nx = " + "f(" * 300 + ")" * 300),
        ("queue.ts", 'import { Queue } from "bullmq";\nconst q = ' + "{ a: " * 5_000 + "1" + "}" * 5_000 + ";"),
        ("loop.ts", "boss.send(a, {}); function f(a) { f(a); g(a); boss.send(a, {}); } function g(a) { f(a); }"),
        ("types.ts", "boss; const a = " + "x<" * 20_000 + ";"),
        ("bundle.js", "boss;" + "a(" * 30_000),
        ("schema.prisma", "model tool_job {\n a Int @default(" + "((" * 50_000 + "\n}\n"),
    ],
    ids=lambda value: value if len(value) < 20 else "",
)  # fmt: skip
def test_hostile_files_end(name: str, text: str, tmp_path: Path) -> None:
    read(tmp_path, {name: text})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("templates/package.json", '{"dependencies": {{{#if queue}} "pg-boss": "12" {{/if}}}'),
        ("vercel.json", '{"crons": <%- crons %>'),
        ("render.yaml", "services:\n{{- range .services }}\n  - name: a\n{{- end }}\n"),
        ("config/__init__.py", "{% if cookiecutter.use_celery == 'y' %}\nfrom .celery import app\n{% endif %}\n"),
        ("settings.py", "from {{ cookiecutter.project_slug }}.celery import app\n"),
    ],
)
def test_a_template_is_not_broken(name: str, text: str, tmp_path: Path) -> None:
    assert read(tmp_path, {name: text}).unreadable == []


def test_aliases_cannot_make_a_small_file_enormous(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    text = "\n".join(
        [*lines, "services:", "  - name: *a59", "    type: worker", "    envVars: [{key: A, value: *a59}]"]
    )

    assert read(tmp_path, {"render.yaml": text}).services[0].name == "service"


def test_links_that_go_round_and_pipes_and_unreadable_files_stop_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"a/.env": "USE_PGBOSS_WORKERS=true\nDATABASE_URL=postgres://h/d\n"})
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "a" / "self.ts").symlink_to(tmp_path / "a" / "self.ts")
    (tmp_path / "a" / "folder.ts").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.ts")

    facts = read_repository(tmp_path)

    assert [one.name for one in facts.services] == ["a"]
    assert [str(one.place) for one in facts.unreadable] == ["a/self.ts:1"]


def test_dependencies_and_tests_are_passed_by(tmp_path: Path) -> None:
    wrong = "export const JOB_TIMEOUT_MS = 1;\nexport const JOB_TIMEOUT_SECONDS = 2;\n"
    paths = ("node_modules/x/a.ts", "a.test.ts", "__tests__/a.ts", ".next/a.ts", "dist/a.js", "tests/a.ts")

    assert read(tmp_path, dict.fromkeys(paths, wrong)).values == []


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        read_repository(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:10:00", 600),
        ("15 minutes", 900),
        ("1 day 2 hours", 93_600),
        ("7 days", 604_800),
        ("1 year 2 mons", 31_557_600 + 2 * 30 * 86_400),
        ("500 milliseconds", 0.5),
        ("2 moons", None),
        ("soon", None),
        ("", None),
    ],
)
def test_intervals_are_read_as_seconds(text: str, seconds: float | None) -> None:
    assert interval_seconds(text) == seconds


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [
        ("* * * * *", 60),
        ("*/5 * * * *", 300),
        ("0,30 * * * *", 1800),
        ("0 3 * * *", 86_400),
        ("0 8-17 * * *", 54_000),
        ("0 8-17 * * mon-fri", 86_400),
        ("5/10 * * * *", 600),
        ("*/2 * * * mon-fri", 86_400),
        ("*/2 * 1-31 1-12 *", 120),
    ],
)
def test_a_schedule_says_how_far_apart_runs_are_at_most(schedule: str, seconds: float) -> None:
    assert period_seconds(schedule) == seconds


@pytest.mark.parametrize(
    ("schedule", "right"),
    [("0 0 12 ? * MON", True), ("0 12 1 * ?", True), ("0 ? * * *", False), ("0 0 12 ? 13 *", False)],
)
def test_a_parser_in_code_takes_a_question_mark_for_any_day(schedule: str, right: bool) -> None:
    assert (problem_of(schedule, seconds=True) is None) is right
    assert problem_of(schedule) is not None


@pytest.mark.parametrize("schedule", ["* * * *", "60 * * * *", "*/0 * * * *", "a * * * *", "* * * * 8", "5-1 * * * *"])
def test_what_is_no_schedule_is_said(schedule: str) -> None:
    assert problem_of(schedule) is not None


def test_two_calls_that_send_with_different_options_are_judged_each(tmp_path: Path) -> None:
    files = {
        "job-config.ts": "export const JOB_TIMEOUT_MS = 600_000;\n",
        "boss.ts": (
            "new PgBoss({ expireInMinutes: 5 });\n"
            'boss.send("a", {}, { expireInMinutes: 15 });\n'
            'boss.send("a", {}, { expireInMinutes: 8 });\n'
        ),
    }

    found = [one for one in examine(read(tmp_path, files)).findings if one.rule == "expiry_within_timeout"]

    assert [str(one.place) for one in found] == ["boss.ts:1", "boss.ts:3"]


def test_the_constructor_does_not_count_where_every_call_says_otherwise(tmp_path: Path) -> None:
    files = {
        "job-config.ts": "export const JOB_TIMEOUT_MS = 600_000;\n",
        "boss.ts": "new PgBoss({ expireInMinutes: 5 });\nboss.send(slug, {}, { expireInMinutes: 15 });\n",
    }

    assert examine(read(tmp_path, files)).findings == ()


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("a.ts", 'if (auth !== "Bearer " + process.env.CRON_SECRET) stop();', "`Bearer undefined`"),
        ("a.ts", "const want = `Bearer ${process.env.CRON_SECRET}`; if (auth !== want) stop();", "`Bearer undefined`"),
        ("a.ts", 'if (auth?.split(" ")[1] !== process.env.CRON_SECRET) stop();', "without any token"),
        ("a.py", "import os\nok = auth == f\"Bearer {os.environ.get('CRON_SECRET')}\"\n", "`Bearer None`"),
        ("a.ts", 'const s = process.env.CRON_SECRET; if (!s || auth !== "Bearer " + s) stop();', None),
        ("a.ts", "if (!process.env.CRON_SECRET || auth !== `Bearer ${process.env.CRON_SECRET}`) stop();", None),
        ("a.ts", "if (auth !== `Bearer ${env.CRON_SECRET}`) stop();", None),
        ("a.ts", "headers.set('authorization', `Bearer ${process.env.CRON_SECRET}`);", None),
        ("a.ts", "const h = `Bearer ${process.env.CRON_SECRET}`; send(h);", None),
        (
            "a.ts",
            "if (process.env.CRON_SECRET && auth !== `Bearer ${process.env.CRON_SECRET}`) stop();",
            "every request",
        ),
        ("a.ts", "const s = process.env.CRON_SECRET; if (s && auth !== `Bearer ${s}`) stop();", "every request"),
        ("a.ts", "const s = process.env.CRON_SECRET; if (!s) stop(); if (s && auth !== `Bearer ${s}`) stop();", None),
        ("a.ts", "fetch(url, { headers: { authorization: `Bearer ${process.env.CRON_SECRET}` } });", None),
        ("a.py", "s = os.getenv('CRON_SECRET')\nif not s: stop()\nok = auth == f'Bearer {s}'\n", None),
        ("a.py", "s = os.getenv('CRON_SECRET')\nwant = f'Bearer {s}'\nok = auth != want\n", "`Bearer None`"),
        (
            "a.py",
            "s = os.getenv('CRON_SECRET')\nok = hmac.compare_digest(auth, f'Bearer {s}'.encode())\n",
            "`Bearer None`",
        ),
        ("a.py", "s = os.getenv('API_KEY')\nrequests.post(url, headers={'Authorization': f'Bearer {s}'})\n", None),
        ("a.py", "s = os.getenv('API_KEY')\nheader = f'Bearer {s}'\nrequests.post(url, headers=header)\n", None),
    ],
)
def test_a_door_that_an_unset_secret_opens_is_seen(name: str, text: str, key: str | None, tmp_path: Path) -> None:
    found = [one.message for one in examine(read(tmp_path, {name: text})).findings]

    assert found == [] if key is None else [key in message for message in found] == [True]


def test_a_settings_class_is_outranked_by_its_variables(tmp_path: Path) -> None:
    code = (
        "class Settings(BaseSettings):\n"
        '    model_config = SettingsConfigDict(env_prefix="JOB_")\n'
        "    batch_size: int = 5\n"
        "    job_timeout_seconds: int = 600\n"
    )

    assert setting(read(tmp_path, {"s.py": code, ".env": "JOB_JOB_TIMEOUT_SECONDS=60\n"}), "job_timeout") == (
        60.0,
        ".env:1",
    )


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "NaN", "1e300 * 1e300"])
def test_numbers_that_are_none_stop_nothing(number: str, tmp_path: Path) -> None:
    files = {
        "job-config.ts": f"export const JOB_TIMEOUT_MS = {number};\nexport const STUCK_JOB_TIMEOUT_MINUTES = 30;\n",
        ".env": f"JOB_TIMEOUT_SECONDS={number}\nPGBOSS_BATCH_SIZE={number}\n",
        "vercel.json": '{"functions": {"**": {"maxDuration": 1e999}}}',
        "boss.ts": f'new PgBoss({{ expireInSeconds: {number} }}); boss.work("a", {{ batchSize: {number} }}, run);',
        "schema.sql": f"CREATE TABLE job (retry_limit int DEFAULT {number}, expire_in interval DEFAULT '99999999 d')",
    }

    examine(read(tmp_path, files))


def test_the_last_migration_says_what_a_column_defaults_to(tmp_path: Path) -> None:
    files = {
        "migrations/0001.sql": "CREATE TABLE pgboss.job (retry_limit int DEFAULT 3);",
        "migrations/0002.sql": "\nALTER TABLE pgboss.job ALTER COLUMN retry_limit SET DEFAULT 2;",
        "migrations/0003.sql": "ALTER TABLE other ALTER COLUMN retry_limit SET DEFAULT 9;",
    }

    assert setting(read(tmp_path, files), "retry_limit") == (2.0, "migrations/0002.sql:2")


def test_a_constant_is_followed_through_require(tmp_path: Path) -> None:
    files = {
        "config.js": "const TIMES = { hour: 3600 };\nmodule.exports = { TIMES };\n",
        "boss.js": 'const { TIMES: T } = require("./config");\nnew PgBoss({ expireInSeconds: T.hour });\n',
    }

    assert setting(read(tmp_path, files), "expiry") == (3600.0, "boss.js:2")


@pytest.mark.parametrize(
    "use", ["registerMyProcessor();", "const all = [registerMyProcessor];", "run(registerMyProcessor);"]
)
def test_a_registration_that_is_called_or_handed_on_is_no_finding(use: str, tmp_path: Path) -> None:
    files = {
        "r.ts": 'export function registerMyProcessor() {\n  registerProcessor("a", run);\n}',
        "w.ts": f'import {{ registerMyProcessor }} from "./r";\n{use}\n',
    }

    assert examine(read(tmp_path, files)).findings == ()


def test_a_registration_that_is_only_imported_is_a_finding(tmp_path: Path) -> None:
    files = {
        "r.ts": 'export function registerMyProcessor() {\n  registerProcessor("a", run);\n}',
        "w.ts": 'import { registerMyProcessor } from "./r";\nexport { registerMyProcessor };\n',
    }

    assert [one.rule for one in examine(read(tmp_path, files)).findings] == ["registration_never_called"]


def test_one_broken_statement_hides_no_other_and_an_array_is_one_default(tmp_path: Path) -> None:
    sql = (
        "CREATE TABEL tool_job (oops;\n"
        "CREATE TABLE tool_job (grants TEXT[] DEFAULT ARRAY['a', 'b']::TEXT[], max_attempts INT DEFAULT 3);\n"
        "SELECT FROM WHERE ((;\nALTER TABLE tool_job ALTER COLUMN max_attempts SET DEFAULT 5;\n"
    )
    columns = [(one.name, one.default, one.place.line) for one in read(tmp_path, {"schema.sql": sql}).columns]

    assert columns == [
        ("grants", "ARRAY [ 'a' , 'b' ] :: TEXT [ ]", 2),
        ("max_attempts", "3", 2),
        ("max_attempts", "5", 4),
    ]


def test_what_is_set_on_the_app_of_celery_replaces_what_it_takes_from_django(tmp_path: Path) -> None:
    files = {
        "shop/celery.py": 'from celery import Celery\napp = Celery("shop")\n'
        'app.config_from_object("django.conf:settings", namespace="CELERY")\n'
        "app.conf.update(task_time_limit=86400, task_soft_time_limit=86000)\n",
        "shop/settings.py": "INSTALLED_APPS = []\nCELERY_TASK_TIME_LIMIT = 30 * 60\n",
    }

    assert examine(read(tmp_path, files)).findings == ()


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("5.2.7", ">=5.1", True),
        ("5.2.7", ">=5.1,<5.2", False),
        ("6.0.0", ">=5.1,<6", False),
        ("5.2.7", ">=5", True),
        ("12.0.0", ">=10.1.0 <11 || 12", True),
        ("5.0.9", ">=5.1", False),
        ("0.0.3", "^0.0.3", True),
        ("0.0.4", "^0.0.3", False),
        ("0.0.4", "^0.0", True),
        ("0.1.0", "^0.0", False),
        ("0.2.5", "^0.2.3", True),
        ("0.3.0", "^0.2.3", False),
        ("0.9.0", "^0", True),
    ],
)
def test_a_range_is_read_to_its_end(version: str, wanted: str, fits: bool) -> None:
    assert satisfies(version, wanted) is fits


def test_a_requirement_of_poetry_is_found_at_its_own_line(tmp_path: Path) -> None:
    text = '[tool.poetry]\nname = "mycelery"\n[tool.poetry.dependencies]\ncelery = {version = ">=5.1"}\n'

    assert [one.place.line for one in read(tmp_path, {"pyproject.toml": text}).packages] == [4]


def test_the_commands_that_start_celery_are_read_wherever_they_stand_and_others_are_named(tmp_path: Path) -> None:
    files = {
        "Procfile": "web: gunicorn app\nmail: celery -A app worker -Q mail,sms --time-limit 900 # as Heroku has it\n",
        "compose.yaml": "services:\n  beat:\n    command: [celery, --app=app, beat]\n    deploy: {replicas: 2}\n"
        "  dev:\n    profiles: [dev]\n    command: celery -A app worker -B\n",
        "deploy/k8s.yml": "kind: Deployment\nspec:\n  replicas: 3\n  template:\n    spec:\n      containers:\n"
        '      - command: [sh, -c]\n        args: ["cd /srv && exec celery -A app worker -Qslow --beat"]\n',
        "supervisord.conf": "[program:w]\ncommand=celery -A app worker -c 4\nnumprocs=5\n",
        "w.service": "ExecStart=/opt/bin/celery \\\n  -A app worker $OPTIONS\n# celery -A app beat\n",
        "run.sh": "celery $ARGUMENTS\ncelery -A app flower\n",
        "apps/render.yaml": "services:\n  - type: worker\n    startCommand: celery -A app worker -B\n"
        "    numInstances: 3\n",
        "x/compose.yaml": "x-mail: &mail\n  command: celery -A app worker -B\nservices:\n  all: {<<: *mail}\n",
        "y/compose.yaml": "x-mail: &mail\n  command: celery -A app worker -B\nservices: {all: *mail}\n",
        "helm/beat.yaml": "{{- if .x }}\n- command: [celery, -A, app, beat]\n",
    }
    facts = read_repository(write(tmp_path, files))
    found = [
        (str(one.place), one.program, one.processes, {name: value.value for name, value in one.options.items()})
        for one in facts.commands
    ]

    assert found == [
        ("Procfile:2", "worker", 1, {"app": "app", "queues": "mail,sms", "time_limit": 900.0}),
        ("compose.yaml:3", "beat", 2, {"app": "app"}),
        ("compose.yaml:7", "worker", 0, {"app": "app", "beat": True}),
        ("supervisord.conf:2", "worker", 5, {"app": "app", "concurrency": 4.0}),
        ("w.service:1", "worker", 1, {"app": "app"}),
        ("apps/render.yaml:3", "worker", 3, {"app": "app", "beat": True}),
        ("deploy/k8s.yml:7", "worker", 3, {"app": "app", "queues": "slow", "beat": True}),
        ("x/compose.yaml:4", "worker", 1, {"app": "app", "beat": True}),
        ("x/compose.yaml:2", "worker", 0, {"app": "app", "beat": True}),
        ("y/compose.yaml:2", "worker", 1, {"app": "app", "beat": True}),
    ]
    assert [f"{place} {why}" for place, why in facts.passed_by] == [
        "run.sh:1 what it starts is a variable",
        "w.service:1 a part of the command is a variable",
        "helm/beat.yaml:2 the file is no plain YAML",
    ]


SETS = "from celery import Celery\napp = Celery('shop')\n"


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"a.py": SETS + "class Base:\n    task_time_limit = 9\nclass C(Base): ...\napp.config_from_object(C)\n"}, 4),
        ({"a.py": SETS + "class C:\n    task_time_limit = 9\napp.config_from_object(C())\n"}, 4),
        (
            {
                "a.py": SETS + "app.config_from_object('conf:C')\n",
                "conf.py": "class C:\n  task_time_limit = 9",
            },
            2,
        ),
        (
            {
                "a.py": SETS + "from conf import C\napp.conf.update(C)\n",
                "conf.py": "import celery\nC = dict(task_time_limit=9)",
            },
            2,
        ),
        (
            {
                "a.py": SETS + "app.config_from_object('django.conf:settings', namespace='CELERY')\n",
                "shop/conf/base.py": "CELERY_TASK_TIME_LIMIT = int(os.environ.get('LIMIT', 9))\n",
            },
            1,
        ),
        (
            {
                "a.py": SETS + "app.config_from_object('django.conf:settings', namespace='CELERY')\n",
                "shop/settings.py": (
                    "class Base(Configuration):\n    CELERY_TASK_TIME_LIMIT = values.IntegerValue(9)\n"
                    "class Test(Base):\n    CELERY_TASK_TIME_LIMIT = 1\n    CELERY_TASK_ACKS_LATE = True\n"
                    "class Production(Base):\n    CELERY_WORKER_CONCURRENCY = 2\n"
                    "class Staging(Production):\n    CELERY_WORKER_CONCURRENCY = 1\n"
                ),
            },
            2,
        ),
        ({"a.py": SETS + "CONF = {'task_time_limit': 9}\napp.conf.update(CONF)\n"}, 3),
        ({"a.py": SETS + "CONF = {'task_time_limit': 9}\napp.conf.update(**CONF)\n"}, 3),
        ({"a.py": SETS + "app.conf['task_time_limit'] = 9\n"}, 3),
        ({"a.py": SETS + "app.conf.task_time_limit = timedelta(0, 8, milliseconds=1000)\n"}, 3),
    ],
)
def test_the_settings_of_celery_are_followed_to_what_holds_them(
    files: dict[str, str], place: int, tmp_path: Path
) -> None:
    examination = examine(read(tmp_path, files))

    assert [(one.name, one.value, one.place.line) for one in examination.inventory.settings] == [
        ("task_time_limit", 9, place)
    ]
    assert examination.skipped == ()


@pytest.mark.parametrize(
    "text",
    ["config_from_object(load())", "config_from_object('shop.nowhere')", "conf.update(CONF)", "conf.update(**C)"],
)
def test_settings_of_celery_that_are_not_found_are_named(text: str, tmp_path: Path) -> None:
    examination = examine(read(tmp_path, {"a.py": f"{SETS}app.{text}\n"}))

    assert examination.skipped == ("what Celery's settings are taken from at a.py:3",)


def test_a_file_that_only_starts_celery_is_no_pass(tmp_path: Path) -> None:
    examination = examine(read_repository(write(tmp_path, {"Procfile": "w: celery -A app worker\nb: celery $X\n"})))

    assert examination.uncovered == ("celery is used (Procfile:1), and none of its calls or settings was understood",)
    assert examination.skipped == ("what starts Celery at Procfile:2 (what it starts is a variable)",)


def test_a_queue_file_is_told_by_its_keys(tmp_path: Path) -> None:
    queue = "format: 1\nqueue: jobs\nclaim: |\n  SELECT 1\n"

    facts = read_repository(write(tmp_path, {"q/queue.yaml": queue, "q/x.yaml": "queue: jobs\n"}))
    assert [str(place) for place in facts.queue_files] == ["q/queue.yaml:1"]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("Dockerfile", True),
        ("Dockerfile.worker", True),
        ("worker.Dockerfile", True),
        ("worker.dockerfile", True),
        ("Containerfile", True),
        ("Dockerfile.dev", False),
        ("local.Dockerfile", False),
        ("Dockerfile.dockerignore", False),
        ("Dockerfile.bak", False),
        ("dockerfiles", False),
    ],
)
def test_a_dockerfile_that_is_deployed_is_told_by_its_name(name: str, read: bool, tmp_path: Path) -> None:
    facts = read_repository(write(tmp_path, {name: "FROM python\nCMD celery -A app worker\n"}))
    assert [one.place.file for one in facts.commands] == [name] * read
