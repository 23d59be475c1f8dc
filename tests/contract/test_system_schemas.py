"""Schemas that Django, SQLAlchemy and Prisma make follow virtual time: their defaults, triggers and constraints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from job_harness.core.model.duration import parse_duration
from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.systems.database import SystemDatabase
from job_harness.subjects.systems.document import read_system_file
from job_harness.subjects.systems.migration import migrate
from job_harness.worlds.packages import npm_package, python_package
from job_harness.worlds.wire.database import timestamp_of

LATER = parse_duration("3d5m")
BY_THE_CLOCK = {"at": timestamp_of(LATER), "touched": timestamp_of(LATER), "day": timestamp_of(LATER).date()}

DJANGO_SETTINGS = """
import os
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "queue_app"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"],
    "PASSWORD": os.environ["PGPASSWORD"], "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""
DJANGO_MIGRATION = """
from django.db import migrations, models
from django.db.models.functions import Now
class Migration(migrations.Migration):
    dependencies = [("auth", "0012_alter_user_first_name_max_length")]
    operations = [
        migrations.CreateModel("Job", [
            ("id", models.BigAutoField(primary_key=True)),
            ("at", models.DateTimeField(db_default=Now())),
            ("day", models.DateField()),
            ("touched", models.DateTimeField(null=True))],
            options={"db_table": "job"}),
        migrations.AddConstraint("Job", models.CheckConstraint(condition=models.Q(at__lte=Now()), name="in_the_past")),
        migrations.RunSQL('''
            ALTER TABLE job ALTER COLUMN day SET DEFAULT CURRENT_DATE;
            CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN NEW.touched = CURRENT_TIMESTAMP; RETURN NEW; END $$;
            CREATE TRIGGER touch BEFORE INSERT ON job FOR EACH ROW EXECUTE FUNCTION touch();
            CREATE VIEW due AS SELECT id FROM job WHERE at <= LOCALTIMESTAMP'''),
    ]
"""
SQLALCHEMY = """
import os, sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
class Base(DeclarativeBase): pass
class Job(Base):
    __tablename__ = "job"
    id: Mapped[int] = mapped_column(primary_key=True)
    at = mapped_column(sa.DateTime(timezone=True), server_default=sa.func.current_timestamp())
    touched = mapped_column(sa.DateTime(timezone=True), server_default=sa.func.now())
    day = mapped_column(sa.Date, server_default=sa.func.current_date())
    __table_args__ = (sa.CheckConstraint("at <= CURRENT_TIMESTAMP"),)
Base.metadata.create_all(sa.create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")))
"""
PRISMA_SCHEMA = """
datasource db {
  provider = "postgresql"
  url = env("DATABASE_URL")
}
model Job {
  id Int @id @default(autoincrement())
  at DateTime @default(now()) @db.Timestamptz(3)
  touched DateTime? @default(dbgenerated("CURRENT_TIMESTAMP")) @db.Timestamptz(3)
  day DateTime @default(now()) @db.Date
  @@map("job")
}
"""
PRISMA_CONFIG = """
import { defineConfig } from "prisma/config";
import { PrismaPg } from "@prisma/adapter-pg";
const adapter = async () => new PrismaPg({ connectionString: process.env.DATABASE_URL });
export default defineConfig({ schema: "schema.prisma", experimental: { adapter: true }, engine: "js", adapter });
"""
PRISMA_MIGRATION = """
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import pg from "pg";
const prisma = ["node_modules/prisma/build/index.js", "migrate", "diff", "--from-empty", "--script"];
const { stdout } = await promisify(execFile)(process.execPath, [...prisma, "--to-schema-datamodel", "schema.prisma"]);
const db = new pg.Client(process.env.DATABASE_URL);
await db.connect();
await db.query(stdout);
await db.end();
"""


class Maker(NamedTuple):
    """What makes a schema: its files, the command, and the environment that finds its packages."""

    files: dict[str, str]
    command: str
    environment: Callable[[Path], dict[str, str]]


def _prisma(folder: Path) -> dict[str, str]:
    """Link the packages; the engines are modules of WebAssembly, and no native one is fetched."""
    modules = npm_package("prisma", "6.19.0", "@prisma/adapter-pg@6.19.0") / "node_modules"
    (folder / "node_modules").symlink_to(modules)
    native = ("PRISMA_QUERY_ENGINE_LIBRARY", "PRISMA_SCHEMA_ENGINE_BINARY")
    return {**dict.fromkeys(native, "/usr/bin/true"), "PRISMA_HIDE_UPDATE_MESSAGE": "1"}


MAKERS = {
    "Django": Maker(
        {
            "settings.py": DJANGO_SETTINGS,
            "queue_app/__init__.py": "",
            "queue_app/migrations/__init__.py": "",
            "queue_app/migrations/0001_initial.py": DJANGO_MIGRATION,
        },
        "python -m django migrate --settings settings",
        lambda folder: {"PYTHONPATH": f"{python_package('Django', '5.2.6')}:{folder}"},
    ),
    "SQLAlchemy": Maker(
        {"tables.py": SQLALCHEMY},
        "python tables.py",
        lambda folder: {"PYTHONPATH": str(python_package("SQLAlchemy", "2.0.44"))},
    ),
    "Prisma": Maker(
        {"schema.prisma": PRISMA_SCHEMA, "prisma.config.ts": PRISMA_CONFIG, "migrate.mjs": PRISMA_MIGRATION},
        "node migrate.mjs",
        _prisma,
    ),
}

LONGER = {"Prisma": pytest.mark.campaign, "SQLAlchemy": pytest.mark.long}
"""Django stands for both: another package writes the same kinds of defaults."""


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=LONGER.get(name, ())) for name in MAKERS])
def test_a_schema_of_a_tool_follows_virtual_time(name: str, tmp_path: Path) -> None:
    maker = MAKERS[name]
    for path, text in maker.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    try:
        environment = maker.environment(tmp_path)
        database = SystemDatabase()
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    (tmp_path / "system.yaml").write_text(
        f"format: 1\nsystem: tables\nenv: {json.dumps(environment)}\ndatabase: {{migrate: {maker.command}}}\n"
        "processes: {worker: {command: python worker.py}}\n"
        "send: {sql: 'INSERT INTO job (id) VALUES (${job})'}\njobs: SELECT id, 'PENDING' AS status FROM job\n"
    )
    try:
        migrate(read_system_file(str(tmp_path / "system.yaml")), database)
        database.renew()
        database.set_now(LATER)
        database.send("INSERT INTO job DEFAULT VALUES", "b")
        [row] = database.rows("SELECT at, day, touched FROM job")
    finally:
        database.close()
    assert row == BY_THE_CLOCK
