"""Real drivers through the proxy of a system: each statement of a session of each driver passes a gate."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from job_harness.core.sim.request import Wait
from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.systems.traffic import DatabaseSession
from job_harness.worlds.packages import find_node, npm_package, python_package
from job_harness.worlds.patience import Deadline, ready
from job_harness.worlds.postgres import Cluster, provision
from job_harness.worlds.postgres.gating import SessionCoordinator, SessionPool
from job_harness.worlds.wire.postgres_proxy import PasswordEndpoint

PAGE = Path(__file__).parents[2] / "docs" / "system_files.md"
PSYCOPG = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
    db.execute("INSERT INTO t VALUES (%s, CURRENT_TIMESTAMP)", [1])
    with db.transaction():
        db.execute("UPDATE t SET id = id + 1")
    with db.cursor().copy("COPY t (id) FROM STDIN") as copy:
        for number in range(50):
            copy.write_row([number])
    try:
        db.execute("SELECT * FROM nowhere")
    except psycopg.errors.UndefinedTable:
        pass
    db.execute("LISTEN bell")
    db.execute("NOTIFY bell, 'rings'")
    print(next(db.notifies()).payload, db.execute("SELECT count(*) FROM t").fetchone()[0])
"""
PSYCOPG2 = """
import io, os, select, psycopg2
db = psycopg2.connect(os.environ["DATABASE_URL"])
with db, db.cursor() as cursor:
    cursor.execute("INSERT INTO t VALUES (%s, CURRENT_TIMESTAMP)", [1])
    cursor.execute("UPDATE t SET id = id + 1")
    cursor.copy_expert("COPY t (id) FROM STDIN", io.StringIO("".join(f"{number}\\n" for number in range(50))))
db.autocommit = True
cursor = db.cursor()
try:
    cursor.execute("SELECT * FROM nowhere")
except psycopg2.errors.UndefinedTable:
    pass
cursor.execute("LISTEN bell")
cursor.execute("NOTIFY bell, 'rings'")
while not db.notifies:
    select.select([db], [], [], 5)
    db.poll()
cursor.execute("SELECT count(*) FROM t")
print(db.notifies[0].payload, cursor.fetchone()[0])
"""
SQLALCHEMY = """
import os, sqlalchemy
url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
engine = sqlalchemy.create_engine(url)
with engine.begin() as db:
    db.execute(sqlalchemy.text("INSERT INTO t SELECT n FROM generate_series(1, 51) n"))
with engine.connect() as db:
    print("rings", db.execute(sqlalchemy.text("SELECT count(*) FROM t WHERE id < :most"), {"most": 99}).scalar())
"""
ASYNCPG = """
import asyncio, os, asyncpg
async def main():
    db = await asyncpg.connect(os.environ["DATABASE_URL"])
    await db.execute("INSERT INTO t VALUES ($1, CURRENT_TIMESTAMP)", 1)
    async with db.transaction():
        await db.execute("UPDATE t SET id = id + 1")
        assert await db.fetchval("SELECT id FROM t") == 2
    await db.copy_records_to_table("t", records=[(n,) for n in range(50)], columns=["id"])
    try:
        await db.fetch("SELECT * FROM nowhere")
    except asyncpg.UndefinedTableError:
        pass
    heard = asyncio.get_running_loop().create_future()
    await db.add_listener("bell", lambda *told: heard.set_result(told[-1]))
    await db.execute("NOTIFY bell, 'rings'")
    print(await heard, await db.fetchval("SELECT count(*) FROM t"))
    await db.close()
asyncio.run(main())
"""
PG = """
import pg from "pg";
const db = new pg.Client({ connectionString: process.env.DATABASE_URL });
await db.connect();
await db.query("INSERT INTO t VALUES ($1, CURRENT_TIMESTAMP)", [1]);
await db.query("BEGIN");
await db.query("UPDATE t SET id = id + 1");
await db.query("COMMIT");
await db.query("SELECT * FROM nowhere").catch(() => {});
await db.query({ name: "more", text: "INSERT INTO t SELECT n FROM generate_series(1, $1::int) n", values: [50] });
const rings = new Promise((resolve) => db.on("notification", ({ payload }) => resolve(payload)));
await db.query("LISTEN bell");
await db.query("NOTIFY bell, 'rings'");
console.log(await rings, (await db.query("SELECT count(*)::int AS n FROM t")).rows[0].n);
await db.end();
"""
POSTGRES_JS = """
import postgres from "postgres";
const sql = postgres(process.env.DATABASE_URL, { max: 1 });
await sql`INSERT INTO t VALUES (${1}, CURRENT_TIMESTAMP)`;
await sql.begin(async (sql) => { await sql`UPDATE t SET id = id + 1`; });
await sql`SELECT * FROM nowhere`.catch(() => {});
await sql`INSERT INTO t SELECT n FROM generate_series(1, ${50}::int) n`;
const rings = new Promise((resolve) => sql.listen("bell", resolve).then(() => sql.notify("bell", "rings")));
console.log(await rings, (await sql`SELECT count(*)::int AS n FROM t`)[0].n);
await sql.end();
"""
DRIZZLE = """
import { drizzle } from "drizzle-orm/node-postgres";
import { sql } from "drizzle-orm";
const db = drizzle(process.env.DATABASE_URL);
await db.transaction((tx) => tx.execute(sql`INSERT INTO t SELECT n FROM generate_series(1, ${51}::int) n`));
const { rows } = await db.execute(sql`SELECT count(*)::int AS n FROM t`);
console.log("rings", rows[0].n);
await db.$client.end();
"""
PRISMA_SCHEMA = """
generator client {
  provider            = "prisma-client"
  output              = "../generated"
  engineType          = "client"
  runtime             = "nodejs"
  importFileExtension = "ts"
}
datasource db {
  provider = "postgresql"
}
model T {
  id Int       @id
  at DateTime? @default(now())
  @@map("t")
}
"""
PRISMA_CONFIG = """
import { defineConfig } from "prisma/config";
const datasource = { url: "postgresql://nobody@localhost/none" };
export default defineConfig({ schema: "prisma/schema.prisma", datasource });
"""
PRISMA = """
import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "./generated/client.ts";
const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: process.env.DATABASE_URL }) });
await prisma.t.create({ data: { id: 1 } });
await prisma.$transaction(async (tx) => {
  await tx.t.createMany({ data: Array.from({ length: 50 }, (_, n) => ({ id: n + 2 })) });
  await tx.t.updateMany({ where: { id: 1 }, data: { id: 60 } });
});
await prisma.$queryRawUnsafe("SELECT * FROM nowhere").catch(() => {});
const [{ n }] = await prisma.$queryRaw`SELECT count(*)::int AS n FROM t WHERE at IS NOT NULL`;
console.log("rings", n);
await prisma.$disconnect();
"""


class Driver(NamedTuple):
    """A driver, how a script of its own is started, and the script."""

    name: str
    command: Callable[[Path], tuple[list[str], dict[str, str]]]
    script: str


def _here(folder: Path) -> tuple[list[str], dict[str, str]]:
    return [sys.executable], {}


def _python(name: str, version: str, *extras: str) -> Callable[[Path], tuple[list[str], dict[str, str]]]:
    return lambda folder: ([sys.executable], {"PYTHONPATH": str(python_package(name, version, *extras))})


def _node(*packages: str) -> Callable[[Path], tuple[list[str], dict[str, str]]]:
    def command(folder: Path) -> tuple[list[str], dict[str, str]]:
        modules = folder / "node_modules"
        modules.mkdir()
        for package in packages:
            for found in (npm_package(*package.rsplit("@", 1)) / "node_modules").iterdir():
                if not (modules / found.name).exists() and not found.name.startswith("."):
                    (modules / found.name).symlink_to(found)
        return [find_node().path, "--preserve-symlinks", "--preserve-symlinks-main"], {}

    return command


def _prisma(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Make a client without a native engine: none is fetched, and the one for migrations is not needed."""
    packages = npm_package("prisma", "7.3.0", "@prisma/client@7.3.0", "@prisma/adapter-pg@7.3.0") / "node_modules"
    (folder / "node_modules").symlink_to(packages)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "prisma").mkdir()
    (folder / "prisma" / "schema.prisma").write_text(PRISMA_SCHEMA)
    (folder / "prisma.config.ts").write_text(PRISMA_CONFIG)
    node = find_node((22, 18)).path
    generate = [node, str(packages / "prisma" / "build" / "index.js"), "generate"]
    environment = {**os.environ, "PRISMA_SCHEMA_ENGINE_BINARY": "/usr/bin/true", "PRISMA_HIDE_UPDATE_MESSAGE": "1"}
    made = subprocess.run(
        generate, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    if made.returncode:
        raise EnvironmentUnavailable(f"prisma generate: {made.stderr[-500:]}")
    return [node], {}


DRIVERS = (
    Driver("psycopg 3", _here, PSYCOPG),
    Driver("psycopg2", _python("psycopg2-binary", "2.9.11"), PSYCOPG2),
    Driver("SQLAlchemy", _python("SQLAlchemy", "2.0.44"), SQLALCHEMY),
    Driver("asyncpg", _python("asyncpg", "0.31.0"), ASYNCPG),
    Driver("pg", _node("pg-boss@10.4.2"), PG),
    Driver("postgres.js", _node("postgres@3.4.7"), POSTGRES_JS),
    Driver("postgres.js 4", _node("postgres@4.2.0"), POSTGRES_JS),
    Driver("Drizzle", _node("drizzle-orm@0.44.7", "pg-boss@10.4.2"), DRIZZLE),
    Driver("Prisma", _prisma, PRISMA),
)
SUFFIXES = {PG: ".mjs", POSTGRES_JS: ".mjs", DRIZZLE: ".mjs", PRISMA: ".mts"}


OVER_OTHERS = frozenset({"psycopg2", "SQLAlchemy", "Drizzle", "Prisma"})
"""What speaks through one of the other drivers, or through the same library."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        found = provision()
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    with found:
        yield found


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.parametrize(
    "driver",
    [
        pytest.param(driver, marks=pytest.mark.campaign if driver.name in OVER_OTHERS else pytest.mark.slow)
        for driver in DRIVERS
    ],
    ids=lambda driver: driver.name,
)
def test_a_driver_passes_the_gates(driver: Driver, cluster: Cluster, tmp_path: Path) -> None:
    try:
        command, more = driver.command(tmp_path)
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    script = tmp_path / f"driver{SUFFIXES.get(driver.script, '.py')}"
    script.write_text(driver.script)
    url = cluster.create_database()
    with psycopg.connect(url, autocommit=True) as own:
        own.execute("CREATE TABLE t (id int, at timestamptz)")
    with SessionPool(cluster.url()) as pool:
        endpoint = PasswordEndpoint(driver.name, pool, kind=DatabaseSession)
        endpoint.database = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        endpoint.join(SessionCoordinator(pool), driver.name)
        environment = {**os.environ, **endpoint.environment, **more}
        with subprocess.Popen(
            [*command, str(script)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                gates = _served(endpoint, process)
                assert process.stdout is not None
                said = process.stdout.read().decode()
            finally:
                process.kill()
                endpoint.end()
    assert said.split()[-2:] == ["rings", "51"], said
    assert {"commit", "select t"} <= gates, gates


def _served(endpoint: PasswordEndpoint, process: subprocess.Popen[bytes]) -> set[str]:
    """Let everything through that comes, until the process has ended; return the gates."""
    gates: set[str] = set()
    deadline = Deadline(60)
    while process.poll() is None:
        assert not deadline.passed, gates
        live = {session.descriptor: session for session in endpoint.sessions if not session.closed}
        heard, _ = ready([endpoint.descriptor, *live], seconds=0.05)
        for descriptor in heard:
            if descriptor == endpoint.descriptor:
                endpoint.accept()
            else:
                live[descriptor].arrive()
        for session in live.values():
            while session.pending and not session.closed:
                for request in iter(session.carry_out().__await__()):
                    assert not isinstance(request, Wait), "nobody else has a lock"
                    gates.add("commit" if request.point.startswith("commit") else request.point)
        for session in live.values():
            session.nudge()  # type: ignore[attr-defined]
    return gates


def test_the_page_names_the_drivers_that_are_tried() -> None:
    page = PAGE.read_text(encoding="utf-8").partition("## Drivers that pass the proxy")[2]
    named = re.findall(r"^\| ([\w. ]+) \| yes", page, re.MULTILINE)
    assert named == [driver.name for driver in DRIVERS]
