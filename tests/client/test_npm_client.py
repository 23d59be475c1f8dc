"""The npm package as a user has it: packed, installed in a fresh folder, in Vitest and in Jest. `make client` runs it.

It needs npm, and takes some minutes; what of the client needs neither is in `tests/unit/test_npm_package.py`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from tests.docs import pages

from job_harness.worlds.packages import find_typescript_node
from job_harness.worlds.patience import Deadline
from job_harness.worlds.peers.peer import _PROC, end_marked
from job_harness.worlds.postgres.launcher import launch
from job_harness.worlds.postgres.provider import find_embedded

NPM = shutil.which("npm")
pytestmark = [pytest.mark.campaign, pytest.mark.skipif(NPM is None, reason="npm is not on the PATH")]
INSTALL_SECONDS = 300
RUN_SECONDS = 300
NODE_TYPES = "@types/node@22.20.7"
BABEL_PACKAGES = ("@babel/core@7.29.13", "@babel/preset-env@7.29.14", "@babel/preset-typescript@7.29.7")
PACKAGES = (  # As exact as npm can have them: what a runner prints is read here, and changes from release to release.
    "vitest@4.1.12",
    "jest@30.5.2",
    *BABEL_PACKAGES,
    "typescript@5.9.3",
    NODE_TYPES,
    "pg-boss@10.4.2",
    "graphile-worker@0.16.6",
    "pg@8.23.1",
    "postgres@3.4.9",
    "@electric-sql/pglite@0.5.17",
    "undici@7.30.2",
)
BABEL = """
const env = ["@babel/preset-env", { targets: { node: "current" } }];
module.exports = { presets: [env, "@babel/preset-typescript"] };
"""
# Both give a test five seconds of the machine's time, which a busy one may need for its first request.
JEST = 'module.exports = { testMatch: ["**/*.jest.ts"], testTimeout: 60_000 };'
VITEST = "export default { test: { testTimeout: 60_000, hookTimeout: 60_000 } };"
RUNNERS = ("vitest", "jest")
VERBOSE = {"vitest": "--reporter=verbose", "jest": "--verbose"}
PAGE = pages.ROOT / "docs/typescript.md"
TYPED = [block for page in pages.PAGES for block in pages.blocks(page) if block.words[:2] == ("console", "npm")]


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    text: str


class Project:
    """A folder with the packed client and both runners."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("JOB_HARNESS", "VIRTUAL_ENV"))},
            "JOB_HARNESS_PYTHON": sys.executable,
            "PYTHONPATH": str(pages.ROOT),
            "NO_COLOR": "1",
            "CI": "",
        }

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return name

    def test(self, runner: str, name: str, text: str) -> str:
        """Write a test for a runner; it is written for Vitest."""
        if runner == "jest":
            text = text.replace("job-harness/vitest", "job-harness/jest")
            text = text.replace('import { vi } from "vitest";', 'import { jest } from "@jest/globals";')
            text = text.replace('from "vitest"', 'from "@jest/globals"')
            text = re.sub(r"\bvi\.", "jest.", text)
        return self.write(f"{name}.{'test' if runner == 'vitest' else 'jest'}.ts", text)

    def run(self, *command: str, **variables: str) -> Ran:
        """Run a command of the folder to its end; nothing that it started may be left."""
        self.number += 1
        mark = f"JOB_HARNESS_TEST={os.getpid()}-{self.number}"
        environment = {**self.environment, **variables, "JOB_HARNESS_TEST": mark.partition("=")[2]}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )
        gone = Deadline(30)
        while (left := marked(mark)) and not gone.passed:
            gone.pause(0.05)
        end_marked(mark)
        assert left == []
        return Ran(done.returncode, done.stdout + done.stderr)

    def play(self, runner: str, *files: str, **variables: str) -> Ran:
        """Run test files."""
        verb = ["vitest", "run"] if runner == "vitest" else ["jest"]
        return self.run("npx", "--no-install", *verb, *files, **variables)


def marked(entry: str) -> list[str]:
    """List the commands of processes whose environment has an entry."""
    found = []
    for folder in _PROC.iterdir():
        try:
            if folder.name.isdigit() and entry.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("project")
    assert NPM is not None
    quiet = ("--silent", "--no-audit", "--no-fund")
    packed = subprocess.run(
        [NPM, "pack", "--silent", "--pack-destination", str(folder)],
        cwd=pages.ROOT / "clients/node",
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=True,
    )
    tarball = packed.stdout.split()[-1]
    subprocess.run([NPM, "init", "-y"], cwd=folder, capture_output=True, timeout=INSTALL_SECONDS, check=True)
    installed = subprocess.run(
        [NPM, "install", "-D", *quiet, f"./{tarball}", *PACKAGES],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    made = Project(folder)
    made.write("babel.config.cjs", BABEL)
    made.write("jest.config.cjs", JEST)
    made.write("vitest.config.mjs", VITEST)
    for block in pages.blocks(PAGE):
        if block.file is not None and block.file.startswith(("src/", "test/")):  # the others are for pytest
            made.write(block.file, block.text)
    yield made
    shutil.rmtree(folder, ignore_errors=True)


GUIDE_CONFIG = """
import { describe, it, expect } from "vitest";
import { JOB_TIMEOUT_MS, JOB_TIMEOUT_SECONDS, STUCK_JOB_TIMEOUT_MINUTES } from "./job-config";

describe("job-config", () => {
  it("should have consistent timeout values", () => {
    expect(JOB_TIMEOUT_SECONDS).toBe(JOB_TIMEOUT_MS / 1000);
  });

  it("should have stuck timeout greater than job timeout", () => {
    expect(STUCK_JOB_TIMEOUT_MINUTES).toBeGreaterThan(JOB_TIMEOUT_SECONDS / 60);
  });
});
"""
GUIDE_UNIT = """
import { describe, it, expect, vi } from "vitest";
import { processMyTool } from "./processor";

describe("processMyTool", () => {
  it("should process valid input", async () => {
    const job = { id: "job-123", toolSlug: "my-tool", input: { text: "Hello" } };
    const result = await processMyTool(job);
    expect(result.success).toBe(true);
    expect(result.output).toBeDefined();
  });
});
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_first_test_of_the_page_is_green(project: Project, runner: str) -> None:
    text = (project.folder / "test/pay.test.ts").read_text(encoding="utf-8")
    ran = project.play(runner, project.test(runner, "test/pay", text))
    assert ran.code == 0, ran.text
    assert "open handle" not in ran.text
    assert "did not exit" not in ran.text


def test_tests_that_know_nothing_of_the_harness_stay_as_they_are(project: Project) -> None:
    project.write(
        "guide/job-config.ts",
        """
        export const JOB_TIMEOUT_MS = 10 * 60 * 1000;
        export const JOB_TIMEOUT_SECONDS = JOB_TIMEOUT_MS / 1000;
        export const STUCK_JOB_TIMEOUT_MINUTES = 13;
        """,
    )
    project.write(
        "guide/processor.ts",
        "export const processMyTool = async (job: any) => ({ success: true, output: job.input.text });",
    )
    ran = project.play(
        "vitest",
        project.write("guide/config.test.ts", GUIDE_CONFIG),
        project.write("guide/unit.test.ts", GUIDE_UNIT),
        "test/pay.test.ts",
    )
    assert ran.code == 0, ran.text
    assert "Tests  4 passed" in ran.text


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_planted_bug_is_found_and_its_token_replays_in_both_runners(project: Project, runner: str) -> None:
    text = (project.folder / "test/explore.test.ts").read_text(encoding="utf-8")
    file = project.test(runner, "test/explore", text)
    json_report = ("--reporter=json",) if runner == "vitest" else ("--json",)
    ran = project.play(runner, file, *json_report)
    [report] = re.findall(r'^\{"num.*$', ran.text, re.M)
    [told] = json.loads(report)["testResults"][0]["assertionResults"]
    assert (ran.code, told["status"]) == (1, "failed")
    screen = "\n".join(told["failureMessages"])
    [shown] = [block.shown for block in pages.blocks(PAGE) if block.words == ("console", "npm", "fails")]
    for line in filter(None, shown):
        assert line in screen
    name = "a charge happens once, whatever happens"
    for other in RUNNERS:
        replayed = project.play(
            other,
            project.test(other, "test/explore", text),
            "-t",
            name,
            JOB_HARNESS_REPLAY=token_in(screen),
        )
        assert replayed.code == 1
        assert "One fault: worker-1 crashes right after `charged job-1`" in replayed.text
    by_name = project.run(
        "npx",
        "--no-install",
        "job-harness",
        "replay",
        token_in(screen),
        "test/explore.test.ts",
        "-t",
        name,
    )
    assert by_name.code == 1
    assert "One fault: worker-1 crashes right after `charged job-1`" in by_name.text


def token_in(text: str) -> str:
    found = re.search(r"JOB_HARNESS_REPLAY=(jh1_\w+)", text)
    assert found is not None, text
    return found[1]


ALIKE = """
import { effect, jobHarness, test } from "job-harness/vitest";

const harness = jobHarness({ atMostOnce: "charged" });
const pays = async () => {
  harness.register("pay", harness.external("charged"));
  await harness.enqueue("pay", { order: 7 });
  await harness.runUntilIdle();
};
describe("group", () => test.explore("it's charged", { runs: 20 }, pays));
test.explore("it's charged again", { runs: 3 }, async () => {
  harness.register("pay", harness.external("asked"));
  await harness.enqueue("pay", { order: 7 });
  await harness.runUntilIdle();
});
test.explore.each([["rightly", "asked"], ["wrongly", "charged"]])("pays %s", { runs: 20 }, async (how, name) => {
  harness.register("pay", () => effect(name, { order: 7 }));
  await harness.enqueue("pay");
  await harness.runUntilIdle();
});
test.explore("takes too long", { runs: 100_000, seconds: 60, timeout: 1_500 }, async () => {
  harness.register("ship", async () => 1);
  await harness.enqueue("ship");
  await harness.runUntilIdle();
});
test("the next one", pays);
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_line_that_replays_runs_its_test_alone_and_one_that_takes_too_long_fails_alone(
    project: Project, runner: str
) -> None:
    text = ALIKE if runner == "jest" else f'import {{ describe }} from "vitest";{ALIKE}'
    file = project.test(runner, "my tests/alike", text)
    ran = project.play(runner, file, "--verbose" if runner == "jest" else "--reporter=verbose")
    failed = {re.split(" [>›] ", name)[-1] for name in failed_in(ran.text)}
    assert failed == {"it's charged", "takes too long", "pays wrongly"}, ran.text
    assert "Unhandled" not in ran.text
    for name in ("group", "wrongly"):
        replay = re.search(rf"Replay: ((?:.*\\\n)+.*{name}.*)", ran.text)
        assert replay is not None
        again = project.run("sh", "-c", replay[1])
        assert again.code == 1
        assert "One fault: worker-1 crashes right after `charged job-1`" in again.text
        assert "recorded for something else" not in again.text


@pytest.mark.parametrize("block", TYPED, ids=lambda block: f"{block.page.stem}-{block.number}")
def test_what_the_pages_tell_to_type_works_and_prints_what_is_shown(project: Project, block: pages.Block) -> None:
    for other in pages.blocks(block.page):
        if other.file is not None:
            project.write(other.file, other.text)
    for command in block.commands:
        ran = project.run("sh", "-c", command)
        assert ran.code == (1 if "fails" in block.words else 0), ran.text
        assert [line for line in block.shown if line.strip() and line.strip() not in ran.text] == []


FIXED = """
import { effect } from "job-harness";
import { expect, jobHarness, test } from "job-harness/vitest";

const harness = jobHarness({ atMostOnce: "charged" });

test.explore("the receiver recognises a repetition", { runs: 60 }, async () => {
  const receipts = new Map<number, string>();
  const charge = async (order: number) => {
    if (!receipts.has(order)) {
      receipts.set(order, "r-1");
      await effect("charged", { order });
    }
    return receipts.get(order);
  };
  harness.register("pay", (job) => charge(job.input.order));
  const job = await harness.enqueue("pay", { order: 7 });
  await harness.runUntilIdle();
  expect(job).toHaveStatus("COMPLETED");
});
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_is_right_passes_and_says_what_it_cost(project: Project, runner: str) -> None:
    ran = project.play(runner, project.test(runner, "more/fixed", FIXED))
    assert ran.code == 0, ran.text
    assert re.search(r"recognises a repetition: \d+ disturbed runs in [\d.]+ s \([\d.]+ runs/s\), seed 0", ran.text)


STORES = {
    "pg": """
import pg from "pg";
import { afterAll } from "vitest";

export const db = new pg.Pool({ connectionString: process.env.STORE });
db.on("error", () => {});
afterAll(() => db.end());
export const reset = (sql: string) => db.query(sql);
export async function transaction(body: (tx: any) => Promise<unknown>) {
  const client = await db.connect();
  try {
    await client.query("BEGIN");
    await body(client);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}
""",
    "pglite": """
import { PGlite } from "@electric-sql/pglite";

export const db = new PGlite();
export const reset = (sql: string) => db.exec(sql);
export const transaction = (body: (tx: any) => Promise<unknown>) => db.transaction(body);
""",
}
BALANCE = """
import { beforeAll } from "vitest";
import { jobHarness, test } from "job-harness/vitest";
import { db, reset, transaction } from "./STORE";

const harness = jobHarness();
const TABLES = "CREATE TABLE balance (of_STORE int); CREATE TABLE booked (job text PRIMARY KEY)";
beforeAll(() => reset(`DROP TABLE IF EXISTS balance, booked; ${TABLES}`), 60_000);

const lost = async (job: any) => {
  const { rows: [{ of_STORE: balance }] } = await db.query("SELECT * FROM balance");
  await db.query("UPDATE balance SET of_STORE = $1", [balance + job.input]);
};
const kept = (job: any) => transaction(async (tx) => {
  const { rows: [{ of_STORE: balance }] } = await tx.query("SELECT * FROM balance FOR UPDATE");
  const { rows } = await tx.query("INSERT INTO booked VALUES ($1) ON CONFLICT DO NOTHING RETURNING job", [job.id]);
  if (rows.length === 1) await tx.query("UPDATE balance SET of_STORE = $1", [balance + job.input]);
});

for (const add of [lost, kept]) {
  test.explore(add.name, { runs: 200, timeout: 280_000 }, async () => {
    await reset("DELETE FROM balance; DELETE FROM booked; INSERT INTO balance VALUES (0)");
    harness.register("add", add);
    const jobs = [await harness.enqueue("add", 1), await harness.enqueue("add", 2)];
    await harness.runUntilIdle();
    const { rows } = await db.query("SELECT * FROM balance");
    const done = () => jobs.every(({ status }) => status === "COMPLETED");
    harness.always(function bothAreBooked() {
      return !done() || rows[0].of_STORE === 3;
    });
  });
}
"""


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    installation, reason = find_embedded()
    if installation is None:
        pytest.skip(reason)
    server = launch(installation, tcp=True)
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(server.password)))
    yield str(server.tcp_url("postgres"))
    server.supervised.stop()


@pytest.mark.parametrize(("runner", "kind"), [("vitest", "pg"), ("vitest", "pglite"), ("jest", "pg")])
def test_a_lost_update_in_a_database_is_found_and_its_repair_stays_silent(
    project: Project, store: str, runner: str, kind: str
) -> None:
    module = STORES[kind] if runner == "vitest" else STORES[kind].replace('from "vitest"', 'from "@jest/globals"')
    project.write(f"stores-{runner}/{kind}.ts", module)
    file = project.test(runner, f"stores-{runner}/{kind}", BALANCE.replace("STORE", kind))
    ran = project.play(runner, file, VERBOSE[runner], STORE=store)
    assert failed_in(ran.text) == {"lost"}, ran.text
    assert "invariant_violated: bothAreBooked: it returned false" in ran.text
    assert re.search(r"Steps in .*, from left to right as they came:\n +job-1 +job-2\n.*SELECT", ran.text), ran.text
    assert "kept: 200 disturbed runs in " in ran.text
    assert "not judged" not in ran.text


POOLS = """
import { afterAll, beforeAll } from "vitest";
import postgres from "postgres";
import { jobHarness, test } from "job-harness/vitest";
import { db, reset } from "./pg";

const open = () => postgres(process.env.STORE!, { max: 2, onnotice: () => {} });
const shared = open();
const harness = jobHarness();
const TABLES = "CREATE TABLE wallets (cents int); CREATE TABLE booked (job text PRIMARY KEY)";
beforeAll(async () => {
  await reset(`DROP TABLE IF EXISTS wallets, booked; ${TABLES}`);
  await shared`SELECT 1`;
}, 60_000);
afterAll(() => shared.end());

const add = (lock: (sql: any) => any) => (sql: postgres.Sql, job: any) => sql.begin(async (tx) => {
  const fresh = await tx`INSERT INTO booked VALUES (${job.id}) ON CONFLICT DO NOTHING RETURNING job`;
  if (fresh.length === 0) return;
  const [wallet] = await tx`SELECT cents FROM wallets ${lock(tx)}`;
  await tx`UPDATE wallets SET cents = ${wallet!.cents + job.input}`;
});
const adding = { lost: add((tx) => tx``), kept: add((tx) => tx`FOR UPDATE`) };
const inRun = (how: any) => async (job: any) => {
  const sql = open();
  try { await how(sql, job); } finally { await sql.end(); }
};
const before = (how: any) => (job: any) => how(shared, job);

for (const [name, how] of Object.entries(adding)) {
  for (const opens of [inRun, before]) {
    test.explore(`${name} ${opens.name}`, { runs: 40, timeout: 280_000 }, async () => {
      await reset("DELETE FROM wallets; DELETE FROM booked; INSERT INTO wallets VALUES (0)");
      harness.register("add", opens(how));
      await harness.enqueue("add", 1);
      await harness.enqueue("add", 2);
      await harness.runUntilIdle();
      const { rows } = await db.query("SELECT cents, (SELECT count(*)::int FROM booked) AS jobs FROM wallets");
      harness.always(function bothAreBooked() {
        return rows[0].jobs < 2 || rows[0].cents === 3;
      });
    });
  }
}
"""


@pytest.mark.parametrize("release", ["3.4.9", "4.2.0"])
def test_a_lost_update_over_a_pool_of_postgres_js_is_found_wherever_the_pool_is_opened(
    project: Project, store: str, release: str
) -> None:
    folder = f"pools-{release[0]}"
    project.write(f"{folder}/pg.ts", STORES["pg"])
    installed = project.run("npm", "install", "--silent", "--no-audit", "--prefix", folder, f"postgres@{release}")
    assert installed.code == 0, installed.text
    assert f'"version": "{release}"' in (project.folder / folder / "node_modules/postgres/package.json").read_text()
    ran = project.play("vitest", project.test("vitest", f"{folder}/pools", POOLS), VERBOSE["vitest"], STORE=store)
    assert failed_in(ran.text) == {"lost inRun", "lost before"}, ran.text
    assert ran.text.count(": 40 disturbed runs in ") == 2, ran.text
    assert "not judged" not in ran.text


MARKS = """
import { beforeAll } from "vitest";
import { MockAgent, request, setGlobalDispatcher } from "undici";
import { expect, jobHarness, test } from "job-harness/vitest";
import { db, reset } from "./pg";

const harness = jobHarness();
beforeAll(() => reset("CREATE TABLE IF NOT EXISTS orders (id int, charged boolean)"));

const isCharged = async () => (await db.query("SELECT * FROM orders")).rows[0].charged;
const mark = () => db.query("UPDATE orders SET charged = true");
const post = { method: "POST", headers: { "idempotency-key": "7" } } as const;
const by = {
  request: async () => void (await (await request("http://pay.example/charge", post)).body.json()),
  fetch: async () => void (await (await fetch("http://pay.example/charge", post)).json()),
};
for (const [how, charge] of Object.entries(by)) {
  const wrong = async () => void ((await isCharged()) || (await mark(), await charge()));
  const right = async () => void ((await isCharged()) || (await charge(), await mark()));
  const forgets = async () => void (charge(), await mark());
  for (const pay of [wrong, right, forgets]) {
    test.explore(`${pay.name} by ${how}`, { runs: 200, timeout: 280_000, callsFail: false }, async () => {
      await reset("DELETE FROM orders; INSERT INTO orders VALUES (7, false)");
      const charged = new Set();
      const agent = new MockAgent();
      agent.disableNetConnect();
      const answer = ({ headers }: any) => (charged.add(JSON.stringify(headers)), { ok: true });
      agent.get("http://pay.example").intercept({ path: "/charge", method: "POST" }).reply(200, answer).persist();
      setGlobalDispatcher(agent);
      harness.register("pay", pay);
      const job = await harness.enqueue("pay");
      await harness.runUntilIdle();
      harness.always(() => expect(charged.size).toBeLessThan(2));
      harness.always(function chargedOnceDone() {
        return job.status !== "COMPLETED" || charged.size === 1;
      });
    });
  }
}
"""


def test_a_mark_before_the_charge_is_found_between_a_statement_and_a_request(project: Project, store: str) -> None:
    project.write("marks/pg.ts", STORES["pg"])
    ran = project.play("vitest", project.test("vitest", "marks/pay", MARKS), VERBOSE["vitest"], STORE=store)
    assert failed_in(ran.text) == {f"{how} by {what}" for how in ("wrong", "forgets") for what in ("fetch", "request")}
    assert ran.text.count("nothing waits for the reply to POST ") >= 2, ran.text
    assert ran.text.count("One fault: worker-1 crashes before `reply to UPDATE orders in pay.test.ts:mark") >= 2
    assert ran.text.count(": 200 disturbed runs in ") == 2
    assert "not judged" not in ran.text


CALLS = """
import { MockAgent, request, setGlobalDispatcher } from "undici";
import { effect, jobHarness, test } from "job-harness/vitest";

const harness = jobHarness({ exactlyOnce: { name: "charged", tool: "pay" } });
const url = "http://pay.example/charge";
const sleep = (ms: number) => new Promise((wake) => setTimeout(wake, ms));
const post = (key: string) => ({ method: "POST", headers: { "idempotency-key": key } }) as const;
let service: (key: string) => Promise<void>;
const by = {
  fetch: async (key: string) => {
    const reply = await fetch(url, post(key));
    if (!reply.ok) throw new Error(`it answers ${reply.status}`);
    await reply.json();
  },
  request: async (key: string) => {
    const { statusCode, body } = await request(url, post(key));
    if (statusCode !== 200) throw new Error(`it answers ${statusCode}`);
    await body.json();
  },
  external: (key: string) => service(key),
};
const NETWORK = ["ECONNREFUSED", "UND_ERR_SOCKET"];
const isNetwork = (error: any) => NETWORK.includes(error.code ?? error.cause?.code);

for (const [how, charge] of Object.entries(by)) {
  const retries = (keyOf: (job: string, attempt: number) => string) => async (job: { id: string }) => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await charge(keyOf(job.id, attempt));
      } catch (error) {
        if (!isNetwork(error) || attempt === 3) throw error;
        await sleep(1_000);
      }
    }
  };
  const programs = {
    right: retries((job) => job),
    anew: retries((job, attempt) => `${job}-${attempt}`),
    swallows: async ({ id }: { id: string }) => charge(id).catch((error) => { if (!isNetwork(error)) throw error; }),
  };
  for (const [name, pay] of Object.entries(programs)) {
    test.explore(`${name} by ${how}`, { runs: 40 }, async () => {
      const seen = new Set<string>();
      const charged = (key: string) => {
        if (!seen.has(key)) { seen.add(key); void effect("charged"); }
        return { ok: true };
      };
      service = harness.external("called", charged) as any;
      const agent = new MockAgent();
      agent.disableNetConnect();
      const answer = ({ headers }: any) => charged(headers["idempotency-key"]);
      agent.get("http://pay.example").intercept({ path: "/charge", method: "POST" }).reply(200, answer).persist();
      setGlobalDispatcher(agent);
      harness.register("pay", pay);
      await harness.enqueue("pay");
      await harness.runUntilIdle();
    });
  }
}
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_a_failed_call_leaves_wrong_is_found_and_a_right_retry_stays_silent(project: Project, runner: str) -> None:
    ways = ("fetch", "request", "external") if runner == "vitest" else ("request", "external")
    # In Jest, undici's mock does not reach the global fetch.
    asked = CALLS if runner == "vitest" else re.sub(r"(?s)\n  fetch: .*?\n  },", "", CALLS)
    file = project.test(runner, f"calls-{runner}/calls", asked)
    ran = project.play(runner, file, VERBOSE[runner])
    assert failed_in(ran.text) == {f"{name} by {how}" for name in ("anew", "swallows") for how in ways}, ran.text
    assert ran.text.count(": 40 disturbed runs in ") == len(ways)
    words = " ".join(ran.text.split())
    assert words.count("One fault: the reply of `") >= len(ways)
    assert words.count("is refused until this attempt ends") >= len(ways)


SLOW = """
import { MockAgent, request, setGlobalDispatcher } from "undici";
import { effect, jobHarness, test } from "job-harness/vitest";

const harness = jobHarness({ exactlyOnce: { name: "charged", tool: "pay" } });
const url = "http://pay.example/charge";
let service: (given: { signal: AbortSignal }) => Promise<void>;
const signal = () => ({ method: "POST", signal: AbortSignal.timeout(500) }) as const;
const by = {
  fetch: async (looks = true) => {
    const reply = await fetch(url, signal());
    if (looks && !reply.ok) throw new Error(`it answers ${reply.status}`);
    await reply.json();
  },
  request: async (looks = true) => {
    const { statusCode, body } = await request(url, signal());
    if (looks && statusCode !== 200) throw new Error(`it answers ${statusCode}`);
    await body.json();
  },
  external: () => service(signal()),
};
for (const [how, charge] of Object.entries(by)) {
  const programs = {
    right: () => charge(),
    unchecked: () => charge(false),
    swallows: () => charge().catch((error) => { if (error.name !== "TimeoutError") throw error; }),
    waits: () => Promise.race([charge(), new Promise<void>((wake) => setTimeout(wake, 100))]),
  };
  for (const [name, pay] of Object.entries(programs)) {
    test.explore(`${name} by ${how}`, { runs: 20 }, async () => {
      let done = false;
      const charged = () => {
        if (!done) { done = true; void effect("charged"); }
        return { ok: true };
      };
      service = harness.external("called", charged, { data: () => ({}) }) as any;
      const agent = new MockAgent();
      agent.disableNetConnect();
      agent.get("http://pay.example").intercept({ path: "/charge", method: "POST" }).reply(200, charged).persist();
      setGlobalDispatcher(agent);
      harness.register("pay", pay);
      await harness.enqueue("pay");
      await harness.runUntilIdle();
    });
  }
}
"""


def test_a_service_that_never_answers_or_answers_503_is_found_where_that_is_taken_for_success(project: Project) -> None:
    ways = ("fetch", "request", "external")
    ran = project.play("vitest", project.test("vitest", "slow/slow", SLOW), VERBOSE["vitest"])
    wrong = {f"{name} by {how}" for name in ("swallows", "waits") for how in ways}
    unchecked = {f"unchecked by {how}" for how in ("fetch", "request")}  # What is no HTTP has no status.
    assert failed_in(ran.text) == wrong | unchecked, ran.text
    assert ran.text.count(": 20 disturbed runs in ") == len(ways) + 1
    words = " ".join(ran.text.split())
    assert "gets no reply, and does nothing, until this attempt ends" in words
    assert words.count("is answered 503 until this attempt ends") >= len(unchecked)


ENDS = """
import { setImmediate } from "node:timers/promises";
import { expect, jobHarness, test } from "job-harness/vitest";

const harness = jobHarness();
async function reserves(status: Map<string, string>) {
  const confirm = harness.external("asked", () => {}, { data: () => ({}) });
  harness.register("reserve", async ({ id }) => {
    status.set(id, "held");
    const given = { signal: AbortSignal.timeout(500) };
    await (confirm as any)(given).then(() => status.set(id, "confirmed"), (error: any) => {
      if (error.name !== "TimeoutError") throw error;
    });
  });
  const job = await harness.enqueue("reserve");
  await harness.runUntilIdle();
  return job;
}
test.explore("by its end", { runs: 30 }, async () => {
  const status = new Map<string, string>();
  harness.atRest(async function confirmedAtRest() {
    await setImmediate();
    expect(status.get(job.id)).toBe("confirmed");
  });
  const job = await reserves(status);
});
test.explore("by its body", { runs: 30 }, async () => {
  const status = new Map<string, string>();
  const job = await reserves(status);
  expect(status.get(job.id)).toBe("confirmed");
});
test("in a plain test", async () => {
  harness.atRest(async () => expect((await reserves(new Map())).status).toBe("held"));
});
"""


def test_a_check_of_the_end_judges_disturbed_runs_and_one_of_the_body_alone_can_be_replayed(project: Project) -> None:
    file = project.test("vitest", "ends/ends", ENDS)
    ran = project.play("vitest", file, VERBOSE["vitest"])
    assert failed_in(ran.text) == {"by its end", "in a plain test"}, ran.text
    words = " ".join(ran.text.split())
    assert "confirmedAtRest: expected 'held' to be 'confirmed'" in words
    assert "in atRest(): the run is over" in words
    assert "put what must hold there too into always(), or into atRest(), which may be async; replay one: " in words
    assert "disturbed runs in which only a call failed, which was not tried again" in words
    strict = project.play("vitest", file, "-t", "^by its body$", CI="true")
    assert "Inconclusive" in strict.text
    assert "\nnot judged: the test itself failed in 1 of 30 disturbed runs in which only a call failed" in strict.text
    token = words.split("replay one: JOB_HARNESS_REPLAY=")[1].split()[0]
    again = project.play("vitest", file, "-t", "^by its body$", JOB_HARNESS_REPLAY=token)
    assert "AssertionError: expected 'held' to be 'confirmed'" in again.text, again.text


HELPED = {
    "http": """
import { request } from "undici";

export async function post(): Promise<void> {
  const { body } = await request("http://pay.example/charge", { method: "POST" });
  await body.json();
}
""",
    "pay": """
import { post } from "./http";

const charge = async () => {
  await post();
};
export async function pay() {
  await charge();
}
""",
}
HELPING = """
import { MockAgent, setGlobalDispatcher } from "undici";
import { effect, jobHarness, test } from "job-harness/vitest";
import { pay } from "./pay";

const harness = jobHarness({ atMostOnce: "charged" });
test.explore("charges once", async () => {
  const agent = new MockAgent();
  agent.disableNetConnect();
  const answer = () => (void effect("charged"), { ok: true });
  agent.get("http://pay.example").intercept({ path: "/charge", method: "POST" }).reply(200, answer).persist();
  setGlobalDispatcher(agent);
  harness.register("pay", pay);
  await harness.enqueue("pay");
  await harness.runUntilIdle();
});
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_a_helper_asks_for_shows_its_line_and_that_of_the_processor(project: Project, runner: str) -> None:
    for name, text in HELPED.items():
        project.write(f"lines-{runner}/{name}.ts", text)
    ran = project.play(runner, project.test(runner, f"lines-{runner}/lines", HELPING))
    assert ran.code == 1
    words = " ".join(ran.text.split())
    assert f"lines-{runner}/pay.ts:8: leads to http.ts:5" in words, ran.text
    assert f"lines-{runner}/http.ts:5: `charged` by worker-1" in words, ran.text


MARKED = """
import { jobHarness, test } from "job-harness/vitest";

const harness = jobHarness({ exactlyOnce: { name: "mailed", tool: "receipt" } });
for (const marks of ["before", "after"]) {
  test.explore("a receipt is mailed", async () => {
    const sent = new Set<number>();
    const mail = harness.external("mailed", async (order: number) => ({ order }));
    harness.register("receipt", async ({ input: { order } }) => {
      if (sent.has(order)) return;
      if (marks === "before") sent.add(order);
      await mail(order);
      sent.add(order);
    });
    await harness.enqueue("receipt", { order: 7 });
    await harness.runUntilIdle();
  });
}
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_mark_in_memory_is_judged_on_both_sides_of_a_call_outside_and_each_test_has_its_page(
    project: Project, runner: str
) -> None:
    files = [project.test(runner, f"marked/{name}", MARKED) for name in ("one", "other")]
    ran = project.play(runner, *files)
    causes = re.findall(r"^\s*One fault: worker-1 crashes (.*)", ran.text, re.MULTILINE)
    assert causes.count("before `call of mailed() job-1`") >= 2, ran.text
    assert causes.count("right after `mailed job-1`") >= 2, ran.text
    assert max(map(int, re.findall(r"Found in (\d+) runs", ran.text))) <= 40
    assert ran.text.count(">   12 |       await mail(order);") >= 4, ran.text
    assert "or a Map or a Set in memory?" in ran.text
    written = set(re.findall(r"Written: (\.job-harness/found/\S+)", ran.text))
    assert len(written) == 4
    assert (
        len([page for page in written if f"effect_missing-one.{'test' if runner == 'vitest' else 'jest'}-a-" in page])
        == 1
    )
    command = re.search(r"Replay: (JOB_HARNESS_REPLAY=(?:.*\n)*?.*\$')", ran.text)
    assert command is not None
    again = project.run("sh", "-c", f"{command[1]} {VERBOSE[runner]}").text
    assert len(re.findall(r"^ *[✓✔] .*token of a receipt is mailed\b", again, re.MULTILINE)) == 1, again


LATE = """
import { jobHarness, test } from "job-harness/vitest";

const harness = jobHarness();
const pause = () => new Promise((resolve) => setTimeout(resolve, 1_000));

test.explore("late, and isn't one to be wrapped in the middle of a word that is quoted", { runs: 30 }, async () => {
  let credits = 0;
  harness.register("credit", async () => (await pause(), credits++, await pause()));
  await harness.enqueue("credit");
  await harness.runUntilIdle();
  harness.always(() => credits <= 1);
});
test("early", async () => {
  let called = 0;
  harness.always(() => void called++);
  harness.register("credit", pause);
  await harness.enqueue("credit");
  await harness.crashWorker({ at: "while running" });
  await harness.runUntilIdle();
  if (called < 20) throw new Error(`only ${called} times`);
});
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_check_that_is_set_last_is_judged_and_its_run_replays_as_it_is_printed(project: Project, runner: str) -> None:
    file = project.test(runner, "late/late", LATE)
    ran = project.play(runner, file, VERBOSE[runner])
    [name] = failed_in(ran.text)
    assert name.startswith("late, and isn't"), ran.text
    assert "invariant_violated" in ran.text
    typed = re.match(r"(?:.*\\\n)*.*", ran.text.partition("Replay: ")[2])[0]  # type: ignore[index]  # never None
    again = project.run("sh", "-c", textwrap.dedent(typed))
    assert again.code == 1
    assert "invariant_violated" in again.text
    missed = [project.play(runner, file, "-t", "^early$", JOB_HARNESS_REPLAY=token_in(ran.text))]
    if runner == "vitest":
        replay = ("npx", "--no-install", "job-harness", "replay")
        missed += [project.run(*replay, token_in(ran.text), file, "-t", name) for name in ("^early$", "^misspelt$")]
    assert [each.text for each in missed if each.code == 0 or "nothing was replayed" not in each.text] == []


UNJUDGED = """
import { jobHarness, test } from "job-harness/vitest";

const harness = jobHarness({ atMostOnce: "chargd" });

test.explore("a misspelt effect", { runs: 20 }, async () => {
  harness.register("pay", harness.external("charged"));
  await harness.enqueue("pay", { order: 7 });
  await harness.runUntilIdle();
});
test("forgotten", async () => {
  harness.register("pay", harness.external("charged"));
  await harness.enqueue("pay", { order: 7 });
});
test("put off", async () => {
  harness.register("pay", harness.external("charged"));
  await harness.enqueue("pay", { order: 7 }, { startAfter: "1h" });
  if (harness.effects("charged").length > 0) throw new Error("too early");
});
test.explore.skip("left out", () => Promise.reject(new Error("it was played")));
test.explore("no job", { runs: 5 }, async () => harness.register("pay", harness.external("charged")));
for (const declare of [test, test.explore]) {
  declare("swallowed", async () => {
    let asked = 0;
    harness.register("resolve", async () => ({ success: asked++ > 0, domain: "a.example" }));
    await harness.enqueue("resolve");
    await harness.runUntilIdle();
  });
}
test("a JobResult", async () => {
  harness.register("pay", async (job) => ({ success: job.attempts > 1, error: "no card" }));
  await harness.enqueue("pay");
  await harness.runUntilIdle();
});
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_was_not_judged_is_told_and_fails_where_that_is_asked_for(project: Project, runner: str) -> None:
    file = project.test(runner, "more/unjudged", UNJUDGED)
    told = (
        "effect: not judged: no processor declared the effect 'chargd', which atMostOnce names",
        "(did you mean 'charged'?)",
        "effect: not judged: 'charged' was repeated in ",
        "no job: not judged: no job was enqueued",
        "forgotten: not judged: a job had not ended and the test never looked at it; call runUntilIdle()",
    )
    doubt = (
        "swallowed: not judged: the processor of 'resolve' returned success: false beside domain, and its job failed"
    )
    in_ci = project.play(runner, file, JOB_HARNESS_STRICT="", CI="1")
    unjudged = {"a misspelt effect", "forgotten", "no job", "swallowed"}
    assert (in_ci.code, failed_in(in_ci.text) & {*unjudged, "a JobResult"}) == (1, unjudged), in_ci.text
    assert "the effect 'chargd' is asked about and never happened in this file" in in_ci.text
    bare = (
        "swallowed: not judged: no processor declared the effect 'chargd', which atMostOnce names, "
        "and no check judged it"
    )
    assert bare in in_ci.text, in_ci.text
    for strict in ("", "1"):
        ran = project.play(runner, file, JOB_HARNESS_STRICT=strict, CI="")
        assert [each for each in told if each not in ran.text] == [], ran.text
        assert ran.text.count(doubt) == 2, ran.text
        assert not re.search(r"(put off|JobResult): not judged", ran.text)
        assert (ran.code, "Inconclusive: not judged: " in ran.text) == ((1, True) if strict else (0, False)), ran.text


FORGOTTEN = """
import { beforeAll } from "vitest";
import postgres from "postgres";
import { jobHarness, test } from "job-harness/vitest";
import { db, reset } from "./pg";

const harness = jobHarness();
const js = postgres(process.env.STORE!, { max: 1 });
beforeAll(async () => (await reset("CREATE TABLE IF NOT EXISTS notes (note int)"), await js`SELECT 1`));

const note = "INSERT INTO notes VALUES (1)";
const forgets = {
  pool: () => void db.query(note),
  later: () => void (async () => (await null, await db.query(note)))(),
  js: () => void js.unsafe(note).execute(),
};
for (const [name, forgotten] of Object.entries(forgets)) {
  test.explore(name, { runs: 3 }, async () => {
    harness.register("write", async () => (await db.query("SELECT 1"), forgotten()));
    await harness.enqueue("write");
    await harness.runUntilIdle();
  });
}
"""


def test_a_statement_for_which_nothing_waits_is_named_whoever_sends_it(project: Project, store: str) -> None:
    project.write("forgotten/pg.ts", STORES["pg"])
    file = project.test("vitest", "forgotten/writes", FORGOTTEN)
    ran = project.play("vitest", file, VERBOSE["vitest"], STORE=store)
    assert failed_in(ran.text) == {"pool", "later", "js"}, ran.text
    for place in (":pool", "", ":js"):
        assert f"nothing waits for the reply to INSERT notes in writes.test.ts{place}: await it" in ran.text, ran.text


REMEMBERED = """
import { effect, jobHarness, test } from "job-harness/vitest";

const charged = new Map();
async function pay(job: any) {
  if (charged.has(job.input)) return;
  await effect("charged");
  charged.set(job.input, true);
}
const harness = jobHarness({ atMostOnce: "charged" });
async function body() {
  harness.register("pay", pay);
  await harness.enqueue("pay", "order 7");
  await harness.runUntilIdle();
}
test("plain", body);
test.explore("explored", { runs: 5 }, body);
"""


def test_what_an_earlier_test_left_in_a_module_is_no_pass_of_an_explored_one(project: Project) -> None:
    file = project.test("vitest", "more/remembered", REMEMBERED)
    ran = project.play("vitest", file, VERBOSE["vitest"], CI="1")
    assert failed_in(ran.text) == {"explored"}, ran.text
    told = (
        "'pay' had the effect 'charged' in an earlier test of this file and in no run of this one, and it uses charged"
    )
    assert f"not judged: {told}" in ran.text
    assert "no processor declared the effect 'charged', which atMostOnce names, and no check judged it" in ran.text


OPENED_IN_RUN = """
import postgres from "postgres";
import { expect, jobHarness, test } from "job-harness/vitest";

const harness = jobHarness();
for (let number = 0; number < 15; number++) {
  test(`a connection of its own ${number}`, async () => {
    harness.register("write", async () => {
      const sql = postgres(process.env.STORE!, { max: 2 });
      await sql.begin(async (tx) => (await tx`SELECT 1`, await tx`SELECT 2`));
      await sql.end();
    });
    const [began, job] = [Date.now(), await harness.enqueue("write")];
    await harness.runUntilIdle();
    expect([job.attempts, Date.now() - began < 1_000]).toEqual([1, true]);
  });
}
"""


def test_time_stands_still_while_a_connection_is_asked_again_as_soon_as_it_answers(
    project: Project, store: str
) -> None:
    ran = project.play("vitest", project.test("vitest", "more/opened", OPENED_IN_RUN), STORE=store)
    assert ran.code == 0, ran.text


OPENED_LATE = """
import net from "node:net";
import { afterAll, beforeAll } from "vitest";
import { jobHarness, test } from "job-harness/vitest";

const server = net.createServer((socket) => void socket.on("data", (data) => socket.write(data)));
let kept: net.Socket | undefined;
beforeAll(() => new Promise<void>((go) => void server.listen(0, "127.0.0.1", go)));
afterAll(() => void (kept?.destroy(), server.close()));

async function ask(text: string) {
  if (kept === undefined) {
    kept = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
    await new Promise((go) => setTimeout(go, 1));
  }
  const answer = new Promise((hear) => kept!.once("data", hear));
  kept.write(text);
  return answer;
}

const harness = jobHarness();
test.explore("a connection that is opened late", { runs: 5 }, async () => {
  harness.register("ask", async () => void (await ask("how much?")));
  await harness.enqueue("ask");
  await harness.runUntilIdle();
});
"""


def test_a_connection_that_only_the_first_run_opens_is_named(project: Project) -> None:
    ran = project.play("vitest", project.test("vitest", "more/opened-late", OPENED_LATE))
    assert ran.code == 1, ran.text
    assert "Inconclusive: two undisturbed runs differ" in ran.text
    named = "it opens a connection to 127.0.0.1, and the next run finds it open. Open it before the test"
    assert named in " ".join(ran.text.split()), ran.text


ENDLESS = """
import { effect, jobHarness, test } from "job-harness/vitest";

const harness = jobHarness();
test.explore("many runs", { runs: 1_000_000, timeout: 30_000 }, async () => {
  harness.register("pay", (job) => effect("put", { data: job.id, idempotent: true }));
  await harness.enqueue("pay");
  await harness.runUntilIdle();
});
"""


@pytest.mark.nightly
def test_a_search_ends_before_its_test_does_and_tells_how_far_it_came(project: Project) -> None:
    ran = project.play("vitest", project.test("vitest", "more/endless", ENDLESS), JOB_HARNESS_STRICT="", CI="")
    assert "stopped after 22.5 s" in ran.text, ran.text
    assert ran.code == 0, ran.text


NEVER = """
import { jobHarness, test } from "job-harness/vitest";

const harness = jobHarness({ exactlyOnce: { name: "charged", tool: "pay" }, atMostOnce: "mailed" });
for (const name of ["charged", "refused"]) {
  test(name, async () => {
    const charge = harness.external("charged");
    harness.register("pay", (job) => (job.input === "refused" ? harness.external("noted")() : charge()));
    harness.register("refuse", () => ({ success: true }));
    harness.external("refunded");
    await harness.enqueue(name === "refused" ? "refuse" : "pay", name);
    await harness.runUntilIdle();
  });
}
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_effect_that_no_plain_test_of_a_file_has_fails_where_ci_is_set(project: Project, runner: str) -> None:
    file = project.test(runner, "more/never", NEVER)
    never = "not judged: the effect 'mailed' is asked about and never happened in this file"
    for variable, code in (("", 0), ("1", 1)):
        ran = project.play(runner, file, CI=variable)
        assert (ran.code, never in ran.text, "'charged' is asked" in ran.text) == (code, True, False), ran.text
        assert re.findall(r"not judged: external '(\w+)': no run called it", ran.text) == ["refunded"], ran.text


ANEW = """
import { jobHarness, test } from "job-harness/vitest";

const harness = jobHarness();
const pause = () => new Promise((resolve) => setTimeout(resolve, 2_000));

test.explore("what the body makes anew", { runs: 40 }, async () => {
  const sent: number[] = [];
  harness.always(() => sent.length < 2);
  harness.register("mail", async () => {
    await pause();
    sent.push(7);
    await pause();
  });
  await harness.enqueue("mail");
  await harness.runUntilIdle();
});
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_the_body_makes_anew_is_nothing_that_earlier_runs_left_behind(project: Project, runner: str) -> None:
    ran = project.play(runner, project.test(runner, "more/anew", ANEW))
    assert ran.code == 1
    assert "One fault: worker-1 crashes" in ran.text, ran.text
    assert "earlier runs" not in ran.text


LEFT_ON = """
import { vi } from "vitest";
import { jobHarness, test } from "job-harness/vitest";

jobHarness();
TEST("leaves them on", async () => void vi.useFakeTimers());
test("the next one", async () => {});
"""


@pytest.mark.parametrize("kind", ["test", "test.explore"])
@pytest.mark.parametrize(("runner", "mocks"), [("vitest", "vi"), ("jest", "jest")])
def test_fake_timers_that_an_earlier_test_left_on_are_blamed_on_it(
    project: Project, runner: str, mocks: str, kind: str
) -> None:
    ran = project.play(runner, project.test(runner, "more/left", LEFT_ON.replace("TEST", kind)))
    assert "There is one time in a test" in ran.text
    assert f'the test "leaves them on" left them on. Call {mocks}.useRealTimers() in an afterEach there.' in ran.text


SET_TIME = """
import { afterEach, vi } from "vitest";
import { expect, jobHarness, test } from "job-harness/vitest";

const harness = jobHarness();
afterEach(() => void vi.useRealTimers());

test("sets the time", () => void vi.setSystemTime(new Date("2030-01-01")));
test("the next one", async () => {
  harness.register("pay", async () => 1);
  const job = await harness.enqueue("pay");
  await harness.runUntilIdle();
  expect(job).toHaveStatus("COMPLETED");
});
"""


def test_a_date_that_vitest_replaced_is_named_and_fails_no_later_test(project: Project) -> None:
    ran = project.play("vitest", project.test("vitest", "more/set_time", SET_TIME))
    assert "a Date that Vitest put in its place" in ran.text
    assert "leave out vi.setSystemTime()" in ran.text
    assert "Tests  1 failed | 1 passed" in ran.text


OWN = """
import PgBoss from "pg-boss";
import { run, runMigrations, makeWorkerUtils } from "graphile-worker";
import { effect } from "job-harness";
import { expect, ownWorkers, test } from "job-harness/vitest";

const harness = ownWorkers({ queue: "QUEUE" });

async function opened() {
  const boss = new PgBoss(harness.databaseUrl);
  boss.on("error", console.error);
  await boss.start();
  return boss;
}

/** A worker that fetches one job, and completes it whether or not it still has it. */
const takes = (ms: number) => async () => {
  const boss = await opened();
  const poll = setInterval(async () => {
    for (const job of (await boss.fetch("pay")) ?? []) {
      clearInterval(poll);
      setTimeout(() => boss.complete("pay", job.id), ms);
    }
  }, 2_000);
};

TESTS
"""
ON_PGBOSS = """
test("REFUSED a worker completes what another one has", async () => {
  const boss = await opened();
  await boss.createQueue("pay");
  await boss.send("pay", { order: 7 }, { expireInSeconds: 60, retryLimit: 2 });
  await harness.start("slow", takes(150_000));
  await harness.advance("10s");
  await harness.start("fast", takes(200_000));
  await harness.runUntilIdle();
}, 60_000);
test("a worker that is killed between two polls", async () => {
  await harness.start("worker", async () => (await opened()).work("pay", async () => "done"));
  await harness.crashWorker();
  const boss = await opened();
  await boss.createQueue("pay");
  const id = await boss.send("pay", {});
  await harness.waitFor(id!, "COMPLETED", { within: "1m" });
  expect(harness.job(id!)).toHaveRun(1);
}, 60_000);
test("effects of a worker that was begun without start, two that die in one turn", async () => {
  const begun: Record<string, number> = {};
  for (const worker of ["w1", "w2"]) {
    await harness.start(worker, () => {
      begun[worker] = (begun[worker] ?? 0) + 1;
      setTimeout(() => effect("hit"), 1_000);
    });
    await harness.crashWorker({ at: "hit", worker });
  }
  setTimeout(() => effect("outside"), 500);
  await harness.advance("10s");
  expect(begun).toEqual({ w1: 2, w2: 2 });
  const effects = harness.effects().map(({ name, worker }) => `${name} ${worker}`);
  expect(effects).toEqual(["outside null", "hit w1", "hit w2", "hit w1", "hit w2"]);
}, 60_000);
test("REFUSED begins anew and throws", async () => {
  let begun = 0;
  await harness.start("worker", () => {
    if (++begun > 1) throw new Error("no configuration");
  });
  await harness.crashWorker();
  await harness.advance("1s");
}, 60_000);
test("REFUSED always", async () => {
  harness.always(function never() { throw new Error("charged twice"); });
  await opened();
  await harness.advance("1s");
}, 60_000);
test("REFUSED no job", async () => {
  await opened();
  await harness.advance("1s");
  expect(harness.job("no-such")).toHaveRun(0);
}, 60_000);
test("REFUSED no id", () => void expect(harness.job(null as any)).not.toHaveStatus("FAILED"));
test("REFUSED register", () => harness.register("a", async () => 1));
test("REFUSED nothing to kill", () => harness.crashWorker().then(() => {}));
test("REFUSED never came", async () => {
  await harness.start("worker", opened);
  await harness.crashWorker({ at: "charged" });
  await harness.advance("1s");
}, 60_000);
test("REFUSED no table", () => harness.runUntilIdle().then(() => {}));
test.explore("REFUSED explored", async () => {});
"""
ON_GRAPHILE = """
test("a job that NOTIFY starts at once, in which the worker dies outside a turn", async () => {
  const connectionString = harness.databaseUrl;
  const pay = () => effect("charged");
  let begun = 0;
  await harness.start("worker", () => (begun++, run({ connectionString, noHandleSignals: true, taskList: { pay } })));
  const utils = await makeWorkerUtils({ connectionString });
  const first = await utils.addJob("pay", {});
  await harness.waitFor(first.id, "COMPLETED", { within: "1m" });
  expect(harness.job(first.id)).toHavePath(["PENDING", "PROCESSING", "COMPLETED"]);
  await harness.crashWorker({ at: "charged" });
  await utils.addJob("pay", {});
  while (harness.effects().length < 2) await utils.withPgClient((client) => client.query("SELECT pg_sleep(0.01)"));
  expect(begun).toBe(1);
  await harness.advance("1s");
  expect(begun).toBe(2);
}, 60_000);
test("a failed job runs again", async () => {
  const connectionString = harness.databaseUrl;
  await runMigrations({ connectionString });
  const pay = async (_: unknown, { job }: any) => {
    if (job.attempts < 2) throw new Error("503");
  };
  await harness.start("worker", () => run({ connectionString, noHandleSignals: true, taskList: { pay } }));
  const utils = await makeWorkerUtils({ connectionString });
  const { id } = await utils.addJob("pay", { order: 7 });
  await harness.runUntilIdle();
  expect(harness.job(id)).toHavePath(["PENDING", "PROCESSING", "PENDING", "PROCESSING", "COMPLETED"]);
}, 60_000);
"""
TOLD_OF_OWN = (
    "stale_complete: A worker that no longer held its claim could still complete.",
    "slow changed the job",
    "this test has workers of its own",
    'no worker was begun with harness.start("worker"',
    'crashWorker({ at: "charged" }): no worker came to that effect or step',
    "no configuration",
    "never: charged twice",
    'no job "no-such" is known here; known: none',
    "job() takes the id of a job, not null",
    "there is no table pgboss.job in the database of this test",
    "test.explore cannot play workers of the test's own",
)


@pytest.mark.parametrize("runner", RUNNERS)
def test_workers_that_a_test_starts_itself_are_on_virtual_time_and_judged(project: Project, runner: str) -> None:
    verbose = "--verbose" if runner == "jest" else "--reporter=verbose"
    text = OWN.replace("QUEUE", "pgboss10").replace("TESTS", ON_PGBOSS)
    ran = project.play(runner, project.test(runner, "own/pgboss", text), verbose)
    assert [told for told in TOLD_OF_OWN if told not in ran.text] == [], ran.text
    assert failed_in(ran.text) == set(re.findall(r'"(REFUSED [\w ]+)"', ON_PGBOSS)), ran.text
    text = OWN.replace("QUEUE", "graphile-worker").replace("TESTS", ON_GRAPHILE)
    files = [project.test(runner, f"own/graphile{number}", text) for number in range(2)]
    ran, starts = on_one_python_side(project, runner, *files)
    assert ran.code == 0, ran.text
    assert len(starts) == 1


def failed_in(text: str) -> set[str]:
    """Return the names of the tests that failed, as a verbose runner lists them, or Jest where the file failed, too."""
    return set(re.findall(r"^ *[×✕●] (?:\S+ > )?(.*?) *(?:\(?\d+ ?ms\)?)?$", text, re.M))


@pytest.mark.parametrize("queue", ["bullmq", "nope"])
def test_workers_of_a_queue_that_cannot_be_seen_are_refused_by_name(project: Project, queue: str) -> None:
    text = OWN.replace("QUEUE", queue).replace("TESTS", 'test("a", () => {});')
    ran = project.play("vitest", project.test("vitest", f"own/{queue}", text))
    assert ran.code == 1
    told = {"bullmq": "They wait in a blocking command of Redis", "nope": "no known table has that name"}
    assert told[queue] in ran.text


ISOLATED = """
import { jobHarness, test } from "job-harness/vitest";

const harness = jobHarness({ atMostOnce: "charged" });
let played = 0;

test.explore("more than state that a module keeps", { runs: 1 }, async () => {});
test.explore("state that a module keeps", { runs: 2, isolate: "worker" }, async () => {
  const charge = harness.external("charged");
  const first = played++ === 0;
  harness.register("pay", async () => void (await (first ? charge({ order: 7 }) : charge({ order: 8 }))));
  await harness.enqueue("pay");
  await harness.runUntilIdle();
});
"""


@pytest.mark.parametrize(("runner", "runs"), [("vitest", 12), ("jest", 1)])
def test_runs_in_processes_of_their_own_share_no_state(project: Project, runner: str, runs: int) -> None:
    text = ISOLATED.replace("runs: 2", f"runs: {runs}")
    ran = project.play(runner, project.test(runner, "more/isolated", text))
    assert "One fault: worker-1 crashes right after `charged job-1`" in ran.text, ran.text
    assert ran.code == 1


KEEPS = """
const receipts = new Map<string, string>();

export async function pay(id: string, charge: () => Promise<string>) {
  if (!receipts.has(id)) receipts.set(id, await charge());
}
"""
KEPT = """
import { jobHarness, test } from "job-harness/vitest";
import { pay } from "./keeps";

const harness = jobHarness({ atMostOnce: "charged" });
test.explore("what a module keeps", { runs: 6 }, async () => {
  const charge = harness.external("charged", async () => "r-1");
  harness.register("pay", (job) => pay(job.id, charge));
  await harness.enqueue("pay");
  await harness.runUntilIdle();
});
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_runs_that_a_module_keeps_state_between_go_on_in_processes_of_their_own(project: Project, runner: str) -> None:
    project.write(f"kept-{runner}/keeps.ts", KEEPS)
    ran = project.play(runner, project.test(runner, f"kept-{runner}/kept", KEPT))
    assert "runs of one process are not the same, as earlier ones changed receipts, which pay uses: so" in ran.text
    assert "One fault: worker-1 crashes right after `charged job-1`" in ran.text, ran.text
    assert "Inconclusive" not in ran.text


OUT_OF_SIGHT = """
import { effect, expect, jobHarness, test } from "job-harness/vitest";

const harness = jobHarness();
const done: Set<string> = ((globalThis as any).done = new Set());
test.explore("awards", { runs: 8 }, async () => {
  const points = new Map<string, number>();
  harness.register("award", async (job: any) => {
    const ids: Set<string> = (globalThis as any).done;
    if (ids.has(job.id)) return;
    points.set(job.id, 10);
    ids.add(job.id);
  });
  harness.atRest(() => expect([...points.values()]).toEqual([10]));
  await harness.enqueue("award");
  await harness.runUntilIdle();
});
test.explore("waits for nothing", { runs: 60 }, async () => {
  harness.register("award", async () => {
    await new Promise((resolve) => setTimeout(resolve, 50));
    void effect("awarded");
  });
  await harness.enqueue("award");
  await harness.runUntilIdle();
});
"""


def test_state_that_only_a_check_of_the_end_sees_is_no_finding_without_a_fault(project: Project) -> None:
    ran = project.play("vitest", project.test("vitest", "kept-vitest/unseen", OUT_OF_SIGHT), CI="1")
    assert "awards: runs of one process are not the same: so each run has a process of its own" in ran.text, ran.text
    assert "No fault was needed" not in ran.text
    assert "the test itself failed" not in ran.text  # By the death of a worker whose last effect nothing awaited.


HOSTILE = """
import { execSync } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { vi } from "vitest";
import { beforeEach } from "vitest";
import { effect, expect, jobHarness, step, test } from "job-harness/vitest";

const harness = jobHarness();
const early = promisify(setTimeout);
const one = async () => 1;

beforeEach(() => harness.register("hooked", one));

async function runs(processor: any, options = {}) {
  harness.register("a", processor);
  const job = await harness.enqueue("a", { n: 1 }, options);
  await harness.runUntilIdle();
  return job;
}

test("every timer follows", async () => {
  const job = await runs(async () => {
    const began = Date.now();
    await early(1_000);
    await sleep(2_000);
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    return [Date.now() - began, Math.round(performance.now()) >= 6_000];
  });
  expect(job).toHaveOutput([6_000, true]);
});

test("real I/O holds time", async () => {
  const server = http.createServer((_, response) => void response.end("hello"));
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", () => resolve()));
  const { port } = server.address() as { port: number };
  const late = () => new Promise((resolve) => setTimeout(() => resolve("late"), 1_000));
  const job = await runs(() => Promise.race([fetch(`http://127.0.0.1:${port}/`).then((got) => got.text()), late()]));
  expect(job).toHaveOutput("hello");
  server.closeAllConnections();
  server.close();
});

test("a job that enqueues, a step at which the worker dies", async () => {
  harness.register("a", async (job) => {
    await step("middle");
    return (await harness.enqueue("b", { from: job.id })).id;
  });
  harness.register("b", one);
  const job = await harness.enqueue("a");
  await harness.crashWorker({ at: "middle" });
  expect(await harness.drain({ withScheduled: true })).toEqual({ completed: 2, retried: 1 });
  expect(job).toHaveRun(2);
  await harness.assertEnqueued("b", { input: { from: job.id } });
});

test("performJob", async () => {
  harness.register("a", async (job) => {
    await job.updateProgress(50);
    return job.data.n * (await job.log("half of it")) * 2;
  });
  expect(await harness.performJob("a", { n: 4 })).toEqual({ success: true, output: 8, error: null });
});

test("a processor of BullMQ gets its token and a signal", async () => {
  const held: string[] = [];
  const job = await runs(async ({ data }: any, token: string, signal: AbortSignal) => {
    held.push(token);
    if (held.length === 1) throw new Error("once more");
    return [data.n, signal.aborted, typeof token, new Set(held).size];
  });
  expect(job).toHaveOutput([1, false, "string", 2]);
});

class Host {
  private held = 3;
  async process(job: any, token?: string) {
    return [this.held, typeof token, job.data.n];
  }
}
test("an object that has process, as NestJS has it", async () => {
  expect(await runs(new Host())).toHaveOutput([3, "string", 1]);
});
test("REFUSED class", () => runs(Host).then(() => {}));
test("REFUSED bound", () => runs(Host.prototype.process.bind(new Host())).then(() => {}));
test("REFUSED cause", async () => {
  const away = () => Promise.reject(new RangeError("away", { cause: new Error(["no", "route"].join(" ")) }));
  expect(await runs(away)).not.toHaveStatus("FAILED");
});
test("REFUSED own timer", () => early(50), 8_000);
test("REFUSED date", async () => expect(await runs(async () => new Date(0))).toHaveOutput(new Date(0)));

test("a worker thread is real work, and what is printed goes where it always does", async () => {
  const job = await runs(async () => {
    console.log('{"ask": 1, "do": "close"}');
    process.stdout.write("no line of the protocol\\n");
    const thread = new Worker('require("node:worker_threads").parentPort.postMessage(7)', { eval: true });
    const [value] = await once(thread, "message");
    await thread.terminate();
    return value;
  });
  expect(job).toHaveOutput(7);
});

test("a hang costs its second once", async () => {
  let first = true;
  const job = await runs(async () => {
    if (first) {
      first = false;
      await new Promise(() => {});
    }
    for (let n = 0; n < 6; n++) await step(`step ${n}`);
    return 7;
  });
  expect(job).toHaveOutput(7);
});
test("REFUSED never settles", async () => {
  const job = await runs(() => new Promise(() => {}), { maxAttempts: 1 });
  expect(job.error).toBe("never");
});
test("REFUSED fake timers", async () => {
  vi.useFakeTimers();
  try {
    await runs(one);
  } finally {
    vi.useRealTimers();
  }
});
test("REFUSED unseen", () => runs(() => Promise.reject(new RangeError("too much"))).then(() => {}));
test("REFUSED unknown tool", () => harness.enqueue("nope").then(() => {}));
test("REFUSED bigint", () => harness.enqueue("a", { n: 1n }).then(() => {}));
test("REFUSED never crashed", async () => {
  await harness.crashWorker({ at: "paid" });
  await runs(one);
});
test("REFUSED interval", () => runs(() => void setInterval(() => {}, 1_000)).then(() => {}));
test("REFUSED always", async () => {
  harness.always(() => harness.effects("charged").length < 2);
  await runs(() => effect("charged").then(() => effect("charged")));
});
test("REFUSED registered twice", async () => {
  harness.register("a", one);
  await runs(one);
});
test("arguments that JSON cannot hold, beside one that a fake is called with", async () => {
  const charge = harness.external("charged", async (..._: any[]) => ({ receipt: "r-1" }));
  const job = await runs(() => charge(7, undefined, { signal: new AbortController().signal }));
  expect(job).toHaveOutput({ receipt: "r-1" });
  expect(job.effects).toEqual([["charged", { args: [7, null, { signal: {} }] }]]);
});
test("a result with what the queue does not keep", async () => {
  expect(await runs(async () => ({ success: true, receipt: "r-1" }))).toHaveOutput(null);
});
test("REFUSED not a job", async () => void expect(await harness.workOne()).not.toHaveStatus("FAILED"));
test("REFUSED waitFor", () => runs(one).then((job) => harness.waitFor(job, "COMPLETED", { timeout: "1s" } as any)));
test("REFUSED input by itself", () => harness.assertEnqueued("a", { n: 7 } as any).then(() => {}));
test("REFUSED milliseconds", () => harness.advance(60_000));
test("REFUSED effects", () => void harness.effects("charged", { tool: "a" } as any));
test("REFUSED NaN", () => harness.drain({ limit: NaN }).then(() => {}));
test("REFUSED crash", () => harness.crashWorker({ at: 5 as any }).then(() => {}));
const misused = (use: () => Promise<void>) => runs(use).then((job) => expect(job.error).toBe("no error"));
test("REFUSED effect without a name", () => misused(() => effect(undefined as any)));
test("REFUSED effect with a misspelt option", () => misused(() => effect("charged", {}, { idempotant: true } as any)));
test("REFUSED two parameters", () => runs((async (job: any, helpers: any) => helpers.log(job)) as any).then(() => {}));
test("REFUSED batch", () => runs(async ([job]: any) => job.id).then(() => {}));
test("REFUSED slug", async () => {
  harness.register("My Tool", one);
  await harness.enqueue("My Tool");
});
test("REFUSED async check", async () => {
  harness.always(async () => Promise.reject(new Error("nope")));
  await runs(one);
});
test.explore("REFUSED promised check", { runs: 5 }, async () => {
  harness.always(function paid() { return Promise.reject(new Error("nope")); });
  await runs(one);
});
test.explore("REFUSED state", { runs: 5 }, state());
function state() {
  let count = 0;
  return async () => {
    await runs(async () => void (++count > 1 && (await sleep(10))));
  };
}
test.explore("REFUSED body", { runs: 5 }, () => early(60));
test.explore("REFUSED hook", { runs: 5 }, () => harness.enqueue("hooked"));
test("REFUSED killed", async () => {
  await runs(() => void execSync(`pkill -KILL -P ${process.pid} -f serve`));
});
test("after it a new one is there", async () => {
  expect(await runs(one)).toHaveRun(1);
});
"""
TOLD = (
    'Expected: "never"',
    "timed out after 600 s",
    "two clocks are on",
    "a job ended FAILED and the test never looked",
    "no processor is registered for the tool 'nope'",
    "input.n is the BigInt 1n, which JSON cannot hold",
    "crashWorker(at='paid')",
    "a setInterval of 1000 ms still runs",
    "invariant_violated",
    "its result has receipt beside success, output, error and retryable: the queue keeps none of it",
    "expected a job, what enqueue() returned; got null",
    'waitFor takes no "timeout". Available: within.',
    'assertEnqueued takes no "n". Available: input, ',
    'advance: 60000 would be seconds, and looks like milliseconds; write "60s", or "60000s" if you mean seconds',
    'effects takes no "tool". Available: job.',
    "drain.limit is NaN, which JSON cannot hold",
    "crashWorker: at must be text, not 5",
    "effect(): the name is of type undefined",
    "Available: identity, idempotent.",
    "the tool 'a' already has a processor",
    'register("a"): the processor takes 2 parameters, and is called with the job alone',
    "if its second parameter is called token",
    'register("a"): the processor is the class Host; give a function, or an object of it that has a method process()',
    "(job) => process(job.input, ...)",
    "no route",
    "REFUSED own timer: nothing was asked for 2 s, and a setTimeout of 50 ms waits for virtual time",
    "a Date has become text there",
    "5 s, and a setTimeout of 60 ms waits for virtual time",
    "A hook such as beforeEach runs once, and not for each run",
    'Wrap it: register("a", (job) => processor([job])).',
    "'My Tool' is not a valid tool name",
    "always(): the check returns a promise",
    "always(paid): the check returns a promise",
    "runs of one process are not the same, as earlier ones changed count, which a uses: so each run",
    "waits for a promise that does not settle",
    "the Python side is gone: its process was killed by SIGKILL",
)


AT_ONCE = """
import { jobHarness, test } from "job-harness/vitest";

const harness = jobHarness();
const pays = async () => {
  harness.register("pay", async () => 1);
  await harness.enqueue("pay");
  await harness.runUntilIdle();
};
test.concurrent("one", pays);
test.concurrent("another", pays);
"""


def test_tests_that_run_at_the_same_time_are_told_so(project: Project) -> None:
    ran = project.play("vitest", project.test("vitest", "more/at_once", AT_ONCE))
    assert ran.code == 1
    assert "tests that run at the same time would share one virtual time" in ran.text
    assert "Open one first" not in ran.text


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_cannot_be_judged_is_refused_by_name(project: Project, runner: str) -> None:
    ran = project.play(
        runner, project.test(runner, "more/hostile", HOSTILE), "--verbose" if runner == "jest" else "--reporter=verbose"
    )
    assert [told for told in TOLD[1:] if told not in ran.text] == [], ran.text
    failed = failed_in(ran.text)
    assert failed
    assert [name for name in failed if not name.startswith("REFUSED")] == [], ran.text
    assert len(failed) == HOSTILE.count('"REFUSED')
    assert "Unhandled" not in ran.text


def test_jest_may_reset_its_module_registry(project: Project) -> None:
    text = """
    import { jest } from "@jest/globals";
    import { expect, jobHarness, test } from "job-harness/jest";

    const harness = jobHarness();

    test("the module registry is reset", async () => {
      jest.resetModules();
      const { effect } = require("job-harness");
      require("job-harness/jest");
      harness.register("a", () => effect("charged"));
      const job = await harness.enqueue("a");
      await harness.crashWorker({ at: "charged" });
      await harness.runUntilIdle();
      expect(job).toHaveRun(2);
    });
    """
    ran = project.play("jest", project.write("more/reset.jest.ts", text), "--detectOpenHandles")
    assert ran.code == 0, ran.text
    assert "open handle" not in ran.text


@pytest.mark.parametrize(
    ("runner", "option"), [("vitest", "--pool=threads"), ("vitest", "--no-isolate"), ("jest", "--maxWorkers=2")]
)
def test_files_run_beside_each_other_on_one_python_side(project: Project, runner: str, option: str) -> None:
    text = (project.folder / "test/pay.test.ts").read_text(encoding="utf-8")
    files = [project.test(runner, f"beside/pay{number}", text) for number in range(3)]
    ran, starts = on_one_python_side(project, runner, *files, option)
    assert ran.code == 0, ran.text
    [started] = starts
    assert " serve --at " in started


def on_one_python_side(project: Project, runner: str, *given: str) -> tuple[Ran, list[str]]:
    """Run test files with the Python side that `globalSetup` starts; return also what of it was started."""
    setup = 'globalSetup: "job-harness/global-setup"'
    config = project.write("shared.vitest.config.mjs", VITEST.replace("{ test: {", f"{{ test: {{ {setup},"))
    if runner == "jest":
        config = project.write("shared.jest.config.cjs", JEST.replace("{", f"{{ {setup},", 1))
    counting = project.folder / "counting.sh"
    counting.write_text(f'#!/bin/sh\necho "$*" >>starts-{runner}\nexec "$PYTHON" "$@"\n')
    counting.chmod(0o755)
    (project.folder / f"starts-{runner}").unlink(missing_ok=True)
    ran = project.play(runner, *given, "--config", config, JOB_HARNESS_PYTHON=str(counting), PYTHON=sys.executable)
    return ran, (project.folder / f"starts-{runner}").read_text().splitlines()


def test_a_python_side_that_is_missing_polluted_or_another_is_named(project: Project) -> None:
    file = project.write("more/one.test.ts", (project.folder / "test/pay.test.ts").read_text(encoding="utf-8"))
    script = project.folder / "polluting.sh"
    script.write_text('#!/bin/sh\necho activating\nexec "$PYTHON" "$@"\n')
    other = project.folder / "other.sh"
    other.write_text('#!/bin/sh\necho \'{"hello": 1, "version": "9.9.9"}\'\ncat >/dev/null\n')
    old = project.folder / "old.sh"
    old.write_text("#!/bin/sh\necho 'Unknown option: -P' >&2\nexit 2\n")
    for each in (script, other, old):
        each.chmod(0o755)
    for named, told in (
        (str(script), 'something wrote "activating" into its standard output'),
        (str(other), "it is job-harness 9.9.9 (protocol 1), and this npm package is"),
        (str(old), "old.sh: it is older than Python 3.11"),
        ("/nowhere/python", "/nowhere/python: there is no such program"),
    ):
        ran = project.play("vitest", file, JOB_HARNESS_PYTHON=named, PYTHON=sys.executable)
        assert ran.code == 1
        assert told in ran.text
    assert "Install the Python package job-harness" in ran.text


def test_npx_passes_commands_and_exit_codes_on(project: Project) -> None:
    said = project.run("npx", "--no-install", "job-harness", "explore", "memory", "--runs", "20")
    assert said.code == 0, said.text
    wrong = project.run("npx", "--no-install", "job-harness", "explroe")
    assert wrong.code == 2
    assert "did you mean 'explore'?" in wrong.text
    assert project.run("npx", "--no-install", "job-harness", "replay", "jh").code == 2


FOUND = """
import { effect, expect, it, jobHarness, test } from "job-harness/vitest";
import { processorOf } from "../src/charging";

const harness = jobHarness({ atMostOnce: "charged" });

it("has matchers for effects", async () => {
  harness.register("pay", () => effect("charged", { order: 7 }));
  const job = await harness.enqueue("pay");
  await harness.runUntilIdle();
  expect(job).toHaveEffect("charged");
  expect(job).toHaveEffect("charged", 1);
  expect(job).not.toHaveEffect("mailed");
  expect(() => expect(job).toHaveEffect("mailed")).toThrow("at least 1, but it has 0");
});
test.explore.skipIf(true)("is skipped", async () => { throw new Error("it ran"); });
test.explore.runIf(true).for([[1, 2]])("doesn't charge a customer's card twice", { runs: 20 }, async (orders) => {
  const charge = harness.external("charged");
  harness.register("pay", processorOf(charge));
  await harness.enqueue("pay", { order: orders[0] });
  await harness.runUntilIdle();
});
"""
CHARGING = """
interface Job { input: { order: number } }

type Charge = (order: { order: number }) => Promise<unknown>;

export function processorOf(charge: Charge) {
  return async (job: Job): Promise<void> => {
    const order: number = job.input.order;
    await charge({ order }); // here
  };
}
"""
ANNOTATED = {
    "vitest": ("--reporter=default", "--reporter=github-actions"),
    "jest": ("--reporters=default", "--reporters=github-actions"),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_finding_shows_its_line_as_the_runner_does_and_its_replay_never_passes_unplayed(
    project: Project, runner: str
) -> None:
    project.write("src/charging.ts", CHARGING)
    file = project.test(runner, "found/found", FOUND)
    ran = project.play(runner, file, *ANNOTATED[runner], GITHUB_ACTIONS="true")
    shown = "\n".join(line for line in ran.text.splitlines() if not line.startswith("::"))
    assert ran.code == 1
    assert ran.text.count("await charge({ order }); // here") >= 2, ran.text  # ours, and the runner's
    assert re.search(r"^::error file=.*src/charging\.ts,.*line=9", ran.text, re.MULTILINE), ran.text
    page = f"effect_repeated-{Path(file).stem}-doesn-t-charge*.html"
    pages_of_findings = (project.folder / ".job-harness/found").glob(page)
    assert ["src/charging.ts:9" in page.read_text(encoding="utf-8") for page in pages_of_findings] == [True]
    command = re.search(r"Replay: (JOB_HARNESS_REPLAY=(?:.*\n)*?.*\$')", shown)
    assert command is not None
    again = project.run("sh", "-c", command[1])
    assert (again.code, "One fault: worker-1 crashes right after `charged job-1`" in again.text) == (1, True), (
        again.text
    )
    unplayed = project.run("sh", "-c", command[1].replace("charge a", "charged a"))
    assert unplayed.code == 1
    assert "nothing was replayed" in unplayed.text


TYPED_FOR_BOTH = """
import { expect, it, jobHarness, ownWorkers, pinned, test } from "job-harness/vitest";

const harness = jobHarness({ engine: "memory", settings: { maxAttempts: 3 }, atMostOnce: ["charged"],
  exactlyOnce: { name: "charged", tool: "pay" } });
// @ts-expect-error - a setting that does not exist
jobHarness({ settings: { jobTimeot: "1m" } });
test("types", async () => {
  harness.register("pay", async (job) => ({ success: true, output: job.data.order }));
  const job = await harness.enqueue("pay", { order: 7 }, { startAfter: "5m" });
  expect(job).toHaveRun(2);
  expect(job).not.toHavePath(["PENDING"]);
  // @ts-expect-error - a status that does not exist
  expect(job).toHaveStatus("DONE");
  const charge = harness.external("charged", async (order: number) => ({ receipt: "r" }));
  const { receipt }: { receipt: string } = await charge(7);
});
test("a processor for BullMQ's Job, and one for a batch", () => {
  interface BullJob { id?: string; data: { order: number }; updateProgress(value: number): Promise<void> }
  harness.register("pay", async (job: BullJob) => job.data.order);
  harness.register("pay", async (job: BullJob, token?: string) => token);
  harness.register("pay", async (job: BullJob, token: string, signal?: AbortSignal) => signal?.aborted);
  abstract class Host { abstract process(job: BullJob, token?: string): Promise<number> }
  class Paying extends Host { process = async (job: BullJob) => job.data.order; }
  harness.register("pay", new Paying());
  // @ts-expect-error - a class, and not an object of it
  harness.register("pay", Paying);
  // @ts-expect-error - a task of graphile-worker
  harness.register("pay", async (payload: any, helpers: { job: object }) => helpers.job);
  // @ts-expect-error - it is called with one job
  harness.register("ship", async ([job]: { id: string; data: object }[]) => job);
});
test.explore("explored", { runs: 10, isolate: "worker" }, async () => {});
test.explore.skip("skipped", async () => {});
test.explore.each([["EUR", 5], ["USD", 7]])("%s", { runs: 3 }, async (currency, amount) => {
  const told: string = currency;
  const paid: number = amount;
  // @ts-expect-error - the second value of a case is a number
  const wrong: boolean = amount;
});
test.explore.only.each([{ order: 7 }])("order $order", async ({ order }) => { const paid: number = order; });
const own = ownWorkers({ queue: "pgboss10" });
test("own", async () => {
  const begun: number = await own.start("worker", async () => own.databaseUrl.length);
  expect(own.job("1")).toHaveRun(begun);
});
it("has matchers", async () => {
  const job = await harness.enqueue("pay", { order: 7 });
  expect(job).not.toHaveEffect("charged", 2);
  await expect(Promise.resolve(job)).resolves.toHaveStatus("COMPLETED");
  expect([1]).not.toEqual([2]);
  // @ts-expect-error it is a number
  expect(job).toHaveRun("once");
});
it.each([1, 2])("n %s", (n) => void (n satisfies number));
test.explore.skipIf(true).for([1, 2])("n %s", async (n) => void (n satisfies number));
it.explore.runIf(false).for([{ a: 1 }] as const)("a", async ({ a }) => void (a satisfies 1));
pinned("effect_repeated", { file: "a.test.ts", test: "a", token: "jh1_a" });
"""
TYPED_FOR_VITEST = """
const stored = test.extend<{ store: Map<string, number> }>({ store: async ({}, use) => use(new Map()) });
const more = stored.extend<{ more: number }>({ more: [async ({ store }, use) => use(store.size), { auto: true }] });
more("a plain test", ({ store, more }) => void ([store, more] satisfies [Map<string, number>, number]));
more.explore.skip("skipped", async () => {});
more.explore("fixtures", { runs: 3 }, async (harness, { store, more }) => {
  harness.register("pay", () => store.set("paid", more satisfies number));
});
// @ts-expect-error there is no such fixture
more.explore("a fixture that is not there", async (harness, { made }) => {});
"""
STRICT = {
    "strict": True,
    "skipLibCheck": False,
    "module": "NodeNext",
    "target": "ES2022",
    "noEmit": True,
    "types": ["node"],
}
COMPILERS = ("typescript5@npm:typescript@5.9.3", "typescript7@npm:typescript@7.0.2")
RELEASES = [
    *(pytest.param(release, COMPILERS) for release in ("vitest@2.1.9", "vitest@5.1.2", "jest@29.7.0", "jest@30.5.2")),
    *(
        pytest.param(
            release, ("typescript5@npm:typescript@5", "typescript7@npm:typescript@7"), marks=pytest.mark.nightly
        )
        for release in ("vitest@2", "vitest@3", "vitest@4", "vitest@5", "jest@29", "jest@30")
    ),
]
"""Exactly the oldest and the newest in every run, and in the night whatever npm has of each today."""


OF_OTHERS = ("node_modules/@types/", "node_modules/vitest/")
"""Whose declarations may contradict each other: those of Vitest 3 and of chai today both have `containSubset`."""


@pytest.mark.parametrize(("release", "compilers"), RELEASES)
def test_each_release_finds_it_and_its_types_fit(
    project: Project, tmp_path: Path, release: str, compilers: tuple[str, ...]
) -> None:
    runner, _, version = release.partition("@")
    more = (*BABEL_PACKAGES, f"@jest/globals@{version}") if runner == "jest" else ()
    [tarball] = project.folder.glob("job-harness-*.tgz")
    other = Project(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/node").symlink_to(find_typescript_node().path)  # Vitest 5 prints findings on Node 22 alone.
    other.environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    other.write("package.json", json.dumps({"name": "other", "private": True, "type": "commonjs"}))
    other.write("babel.config.cjs", BABEL)
    other.write("jest.config.cjs", JEST)
    other.write("vitest.config.mjs", VITEST)
    wanted = (release, *compilers, NODE_TYPES, *more)
    installed = other.run("npm", "install", "-D", "--silent", "--no-audit", "--no-fund", str(tarball), *wanted)
    assert installed.code == 0, installed.text
    other.write("src/charging.ts", CHARGING)
    other.write("tsconfig.json", json.dumps({"compilerOptions": STRICT, "include": ["typed"]}))
    typed = TYPED_FOR_BOTH.replace("job-harness/vitest", f"job-harness/{runner}")
    other.write(
        "typed/types.ts" if runner == "jest" else "typed/types.mts",
        typed if runner == "jest" else f"{typed}{TYPED_FOR_VITEST}",
    )
    for compiler in compilers:
        checked = other.run("node", f"node_modules/{compiler.partition('@')[0]}/bin/tsc")
        errors = [line for line in checked.text.splitlines() if "error TS" in line]
        assert bool(errors) == bool(checked.code), checked.text
        assert [line for line in errors if not line.startswith(OF_OTHERS)] == [], checked.text
    ran = other.play(runner, other.test(runner, "found/found", FOUND))
    assert ran.code == 1, ran.text
    assert "src/charging.ts:9" in ran.text
    if runner == "vitest":
        extended = other.play(runner, other.write("found/extended.test.ts", EXTENDED), VERBOSE[runner])
        assert extended.code == 0, extended.text
        assert "fixtures: 2 disturbed runs" in extended.text


EXTENDED = """
import { expect, jobHarness, test } from "job-harness/vitest";

jobHarness();
let made = 0;
const stored = test.extend<{ store: string; unused: string }>({
  store: async ({}, use) => (made++, use("pg")),
  unused: async () => { throw new Error("it was made"); },
});
stored.explore("fixtures", { runs: 2 }, async (harness, { store }) => {
  expect(store).toBe("pg");
  harness.register("pay", async () => {});
  await harness.enqueue("pay", { order: 1 });
  await harness.runUntilIdle();
});
test("are made once", () => void expect(made).toBe(1));
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_finding_is_kept_as_a_test_of_its_own(project: Project, runner: str) -> None:
    project.write("src/charging.ts", CHARGING)
    file = project.test(runner, "found/pinned", FOUND)
    text = project.play(runner, file, JOB_HARNESS_PIN="1").text
    kind = "test" if runner == "vitest" else "jest"
    pinned = re.search(r"Pinned: (tests/regressions/effect_repeated-\S+\.test\.ts)", text)
    assert pinned is not None, text
    pin = project.folder / pinned[1]
    kept = pin.rename(pin.with_name(f"kept.{kind}.ts")).relative_to(project.folder).as_posix()
    again = project.play(runner, kept)
    assert again.code == 1
    assert "One fault: worker-1 crashes right after `charged job-1`" in again.text
    repaired = FOUND.replace('{ atMostOnce: "charged" }', "")
    project.test(runner, "found/pinned", repaired)
    assert project.play(runner, kept).code == 0
    project.test(runner, "found/pinned", repaired.replace('external("charged")', 'external("billed")'))
    unfit = project.play(runner, kept)
    assert unfit.code == 1
    assert "the token no longer fits this test" in unfit.text
    (project.folder / kept).unlink()
