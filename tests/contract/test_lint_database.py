"""`check --database` on the guide's two tables and the reference queue's: what is wrong now, the first cause first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from tests.unit.guide_repository import GUIDE, QUEUE, REPAIRED, TOOL_JOB, write

from job_harness.doors.cli import main
from job_harness.errors import EnvironmentUnavailable
from job_harness.review.check.database import read_only
from job_harness.review.check.diagnosis import Diagnosis, diagnose
from job_harness.review.check.facts import Facts
from job_harness.review.check.repository import read_repository
from job_harness.worlds.postgres import Cluster, provision
from job_harness_reference.store.migrations import migrate

pytestmark = pytest.mark.postgres

PREPARED = """
CREATE FUNCTION cuid() RETURNS text LANGUAGE sql AS $$ SELECT gen_random_uuid()::text $$;
CREATE TYPE "ToolJobStatus" AS ENUM ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED');
CREATE TABLE "user" (id text PRIMARY KEY);
CREATE SCHEMA pgboss;
CREATE TYPE pgboss.job_state AS ENUM ('created', 'retry', 'active', 'completed', 'cancelled', 'failed');
"""


def guide_schema(url: str) -> None:
    """Make the guide's two tables, with the two repairs without which they do not run."""
    queue = QUEUE.replace("  ...\n", '  PRIMARY KEY ("name", "id")\n').replace("UUID PRIMARY KEY", "UUID")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(PREPARED + TOOL_JOB + queue)
        connection.execute("CREATE TABLE pgboss.job_rest PARTITION OF pgboss.job DEFAULT")


def reference_schema(url: str) -> None:
    asyncio.run(migrate(url))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pgboss.register_tool('my-tool'), pgboss.register_tool('other-tool')")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        cluster = provision()
    except EnvironmentUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with cluster:
        yield cluster


class Patient(NamedTuple):
    """A database with both tables, and a hand that writes into them."""

    url: str
    connection: psycopg.Connection[Any]
    is_guide: bool

    def job(
        self,
        status: str,
        state: str | None,
        *,
        age: str = "1 hour",
        slug: str = "my-tool",
        started: str | None = None,
        **more: Any,
    ) -> str:
        """Insert a job that is so old; `state` is its partner's, none for no partner."""
        values = {"status": status, "state": state, "age": age, "slug": slug, "started": started}
        row = self.connection.execute(
            'INSERT INTO tool_job ("toolSlug", status, input, "createdAt", "updatedAt", "startedAt") VALUES '
            "(%(slug)s, %(status)s, '{}', now() - %(age)s::interval, now() - %(age)s::interval, "
            "now() - %(started)s::interval) RETURNING id",
            values,
        ).fetchone()
        assert row is not None
        identity: str = row[0]
        for name, value in more.items():
            self.connection.execute(f'UPDATE tool_job SET "{name}" = {value} WHERE id = %s', (identity,))
        if state is not None:
            started_on = "" if self.is_guide else ", started_on, created_on"
            moments = "" if self.is_guide else ", now() - %(started)s::interval, now() - %(age)s::interval"
            self.connection.execute(
                f"WITH made AS (INSERT INTO pgboss.job (name, state, data, start_after{started_on}) VALUES "
                "(%(slug)s, %(state)s, jsonb_build_object('toolJobId', %(id)s::text), now() - %(age)s::interval"
                f'{moments}) RETURNING id) UPDATE tool_job SET "pgBossJobId" = made.id::text FROM made '
                "WHERE tool_job.id = %(id)s",
                {**values, "id": identity},
            )
        return identity

    def enqueue(self, queue: str, state: str, data: str = "{}") -> None:
        """Insert a job that no row of the user's speaks of, two hours ago."""
        if not self.is_guide:
            self.connection.execute("SELECT pgboss.register_tool(%s)", (queue,))
        self.connection.execute(
            "INSERT INTO pgboss.job (name, state, data, start_after) VALUES (%s, %s, %s, now() - '2 h'::interval)",
            (queue, state, data),
        )

    def diagnosis(self, facts: Facts | None = None) -> Diagnosis:
        with read_only(self.url) as session:
            return diagnose(session, Facts() if facts is None else facts)

    def found(self, facts: Facts | None = None) -> list[str]:
        return [finding.rule for finding in self.diagnosis(facts).findings]


@pytest.fixture(params=["guide", "reference"])
def patient(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Patient]:
    url = cluster.create_database()
    makers: dict[str, Callable[[str], None]] = {"guide": guide_schema, "reference": reference_schema}
    makers[request.param](url)
    with psycopg.connect(url, autocommit=True) as connection:
        yield Patient(url, connection, request.param == "guide")
    cluster.drop_database(url.rpartition("/")[2].partition("?")[0])


def test_a_healthy_database_has_nothing(patient: Patient) -> None:
    patient.job("COMPLETED", "completed", started="59 minutes")
    patient.job("PROCESSING", "active", age="2 minutes", started="1 minute")
    patient.job("PENDING", "created", age="1 second")
    patient.job("FAILED", None, started="59 minutes")

    assert patient.diagnosis() == Diagnosis((), ())


def test_workers_that_are_not_running_are_the_first_cause(patient: Patient, tmp_path: Path) -> None:
    patient.job("COMPLETED", "completed", age="1 day", started="1 day")
    patient.job("PENDING", "created", age="2 hours")
    patient.job("PENDING", "created", age="3 hours")
    patient.job("PROCESSING", "active", age="4 hours", started="4 hours")
    files = {**GUIDE, "apps/api-server/.env": GUIDE["apps/api-server/.env"].replace("WORKERS=true", "WORKERS=1")}

    first, *rest = patient.diagnosis(read_repository(write(tmp_path, files))).findings

    assert first.rule == "workers_not_running"
    assert first.message.startswith("workers are not running: USE_PGBOSS_WORKERS is not true (apps/api-server/.env:2)")
    assert "2 jobs are due, the oldest for 3h" in first.message
    assert "stuck_now" in [finding.rule for finding in rest]


def test_jobs_that_wait_while_others_are_started_are_overdue(patient: Patient) -> None:
    patient.job("COMPLETED", "completed", age="1 hour", started="10 seconds")
    patient.job("PENDING", "created", age="10 minutes")

    assert patient.found() == ["overdue_now"]


def test_a_tool_that_nobody_serves_is_named(patient: Patient) -> None:
    patient.job("COMPLETED", "completed", age="1 hour", started="10 seconds")
    patient.job("PENDING", "created", slug="other-tool")

    findings = patient.diagnosis().findings
    assert [finding.rule for finding in findings] == ["overdue_now", "never_started_now"]
    assert "'other-tool'" in findings[1].message


def test_a_stuck_job_is_found(patient: Patient) -> None:
    identity = patient.job("PROCESSING", "active", age="2 hours", started="2 hours")

    found = {finding.rule: finding for finding in patient.diagnosis().findings}
    assert identity in found["stuck_now"].message
    assert ("lease_overdue_now" in found) is not patient.is_guide  # the guide's columns do not tell when a lease began


def test_rows_without_partner_are_orphans(patient: Patient) -> None:
    patient.job("COMPLETED", "completed", started="10 seconds")
    waiting = patient.job("PENDING", None)
    gone = patient.job("PENDING", "active", started="5 seconds")
    patient.connection.execute("DELETE FROM tool_job WHERE id = %s", (gone,))

    orphans = [finding for finding in patient.diagnosis().findings if finding.rule == "orphaned_now"]

    assert [str(finding.place) for finding in orphans] == ["database/public.tool_job:1", "database/pgboss.job:1"]
    assert waiting in orphans[0].message


@pytest.mark.parametrize(
    ("status", "state"),
    [("PENDING", "completed"), ("PROCESSING", "created"), ("COMPLETED", "active"), ("FAILED", "completed")],
)
def test_rows_that_disagree_are_found(status: str, state: str, patient: Patient) -> None:
    patient.job("COMPLETED", "completed", started="10 seconds")
    patient.job(status, state, age="25 minutes", started="10 minutes")

    diverged = [finding for finding in patient.diagnosis().findings if finding.rule == "diverged_now"]

    assert [finding.message.partition(" (")[0] for finding in diverged] == [
        f"1 job is {status}, and {state} in pgboss.job"
    ]


def test_a_disagreement_of_this_moment_is_none_yet(patient: Patient) -> None:
    patient.job("PROCESSING", "completed", age="10 seconds", started="10 seconds")

    assert patient.found() == []


def test_attempts_beyond_the_limit_and_rows_kept_too_long_are_found(patient: Patient) -> None:
    patient.job("FAILED", None, started="10 seconds", attempts=4)
    patient.job("COMPLETED", None, started="10 seconds", expiresAt="now() - interval '3 days'")

    assert patient.found() == ["attempts_over_limit_now", "kept_too_long_now"]


def test_nothing_is_changed_and_nothing_can_be(patient: Patient) -> None:
    patient.job("PENDING", "created")
    with (
        pytest.raises(EnvironmentUnavailable, match="read-only transaction"),
        read_only(patient.url) as session,
    ):
        session.rows("DELETE FROM tool_job RETURNING id")

    assert patient.connection.execute("SELECT count(*) FROM tool_job").fetchone() == (1,)


def test_the_settings_of_the_database_are_judged_too(
    patient: Patient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path: text for path, text in REPAIRED.items() if not path.endswith(".sql")}

    main(["check", str(write(tmp_path, files)), "--database", patient.url])

    told = capsys.readouterr().out
    assert ("attempts_disagree database/pgboss.job.retry_limit" in told) is patient.is_guide


def test_a_database_without_the_tables_is_inconclusive(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = cluster.create_database()

    assert main(["check", str(write(tmp_path, REPAIRED)), "--database", url]) == 3
    assert "neither a queue's job table nor table tool_job, the default of --table" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_database_that_does_not_answer_is_an_environment_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path), "--database", "postgresql://nobody@127.0.0.1:1/none"]) == 4
    assert "Give the URL of a running PostgreSQL" in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_that_is_locked_makes_the_look_inconclusive_not_endless(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job_harness.review.check.database.LOCK_SECONDS", 0.2)
    with psycopg.connect(patient.url) as other:
        other.execute("LOCK TABLE tool_job IN ACCESS EXCLUSIVE MODE")

        diagnosis = patient.diagnosis()

    assert diagnosis.findings == ()
    assert "locked" in diagnosis.uncovered[0]


def test_options_that_never_reached_an_existing_queue_are_found(patient: Patient, tmp_path: Path) -> None:
    patient.connection.execute("CREATE TABLE pgboss.queue (name text, retry_limit int, expire_seconds int)")
    patient.connection.execute("INSERT INTO pgboss.queue VALUES ('my-tool', 2, 900)")
    files = {"boss.ts": 'boss.createQueue("my-tool", { retryLimit: 2,\nexpireInMinutes: 11 });'}

    findings = patient.diagnosis(read_repository(write(tmp_path, files))).findings

    assert [(finding.rule, str(finding.place)) for finding in findings] == [("queue_options_differ_now", "boss.ts:2")]


def test_a_row_that_holds_what_update_queue_says_is_right(patient: Patient, tmp_path: Path) -> None:
    patient.connection.execute("CREATE TABLE pgboss.queue (name text, retry_limit int, expire_seconds int)")
    patient.connection.execute("INSERT INTO pgboss.queue VALUES ('my-tool', 2, 900)")
    update = 'boss.updateQueue("my-tool", { expireInSeconds: 900 });\n'
    files = {"boss.ts": update + 'boss.createQueue("my-tool", {\nexpireInSeconds: 660,\nretryLimit: 3 });'}

    findings = patient.diagnosis(read_repository(write(tmp_path, files))).findings

    assert [(finding.rule, str(finding.place)) for finding in findings] == [("queue_options_differ_now", "boss.ts:4")]


def test_the_reference_queues_own_database_passes(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.create_database()
    asyncio.run(migrate(url))

    assert main(["check", str(tmp_path), "--database", url]) == 0


def test_a_dead_queue_stays_visible_beside_the_users_table(patient: Patient) -> None:
    patient.job("COMPLETED", "completed", age="2 minutes", started="1 minute")
    patient.enqueue("reports", "created")

    told = [one.message for one in patient.diagnosis().findings if one.rule == "never_started_now"]
    assert patient.is_guide or ["'reports'" in message for message in told] == [True]


EVENTS = """
CREATE TABLE webhook_events (id text PRIMARY KEY, kind text, status text);
INSERT INTO webhook_events VALUES ('e1', 'paid', 'received');
"""


def test_another_table_is_looked_at_by_the_key_in_the_jobs_data(
    patient: Patient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patient.connection.execute(EVENTS)
    patient.enqueue("events", "active", '{"eventId": "e1"}')
    patient.enqueue("events", "active", '{"eventId": "gone"}')
    command = ["check", str(tmp_path), "--database", patient.url, "--table", "webhook_events"]

    main([*command, "--link", "data.eventId"])
    told = " ".join(capsys.readouterr().out.split())
    assert "1 job is in the queue for rows of webhook_events that are gone" in told
    assert "Not looked at: stuck and diverged rows: webhook_events has statuses of its own (received)" in told
    assert main([*command, "--link", "jobId"]) == 2
    assert "webhook_events has no such column" in capsys.readouterr().err


def test_what_is_not_there_is_said_and_not_looked_at(patient: Patient) -> None:
    patient.connection.execute("DROP TABLE tool_job CASCADE")

    assert patient.diagnosis().skipped == (
        "stuck, diverged and orphaned rows: there is no table tool_job, the default of --table; name yours with it",
    )
