"""Queues in a file, on a real PostgreSQL: what is wrong with one, what the examples show, what a search is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
import pytest

from job_harness.core.faults import FaultPlan
from job_harness.core.history.event import Return
from job_harness.core.history.jsonl import dump_history
from job_harness.core.history.outcome import Outcome
from job_harness.core.model.settings import Settings
from job_harness.core.port import JobRequest
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.core.sim.clock import Clocks
from job_harness.doors.cli import main
from job_harness.engines.conformance.judge import Level, Mark, conform
from job_harness.engines.queue_file import QueueFileEngine
from job_harness.engines.queue_file.live import read_live_schema
from job_harness.errors import EnvironmentUnavailable, ExitCode, HarnessError, Misdescribed
from job_harness.report.blame import with_source
from job_harness.search.finding import ScenarioFinding
from job_harness.search.sampling import Sampler
from job_harness.search.scope.bounds import SCOPE_SETTINGS, Scope
from job_harness.search.scope.search import Explorer
from job_harness.search.targets import NotApplicable, checked
from job_harness.worlds.patience import Deadline
from job_harness.worlds.postgres import Cluster, provision

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples" / "queues"


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    try:
        cluster = provision()
    except EnvironmentUnavailable as missing:
        pytest.skip(f"no PostgreSQL: {missing.message}")
    with cluster:
        yield cluster


Open = Callable[..., QueueFileEngine]


@pytest.fixture
def opened(server: Cluster) -> Iterator[Open]:
    engines: list[QueueFileEngine] = []

    def open_it(path: Path, **options: object) -> QueueFileEngine:
        engines.append(QueueFileEngine(str(path), dsn=server.url(), **options))  # type: ignore[arg-type]
        return engines[-1]

    yield open_it
    for engine in engines:
        engine.close()


# what is wrong with a file --------------------------------------------------------------------------------------------


SMALL = """\
format: 1
queue: small
schema: |
  CREATE TABLE jobs (
    id text PRIMARY KEY, status text DEFAULT 'PENDING', attempts int DEFAULT 0, until timestamptz);
  CREATE TABLE other (n int);
enqueue: INSERT INTO jobs (id) VALUES (:job)
claim: |
  UPDATE jobs SET status = 'PROCESSING', attempts = attempts + 1, until = now() + :lease
  WHERE id = (SELECT id FROM jobs WHERE status = 'PENDING' LIMIT 1 FOR UPDATE SKIP LOCKED)
  RETURNING id
complete: UPDATE jobs SET status = 'COMPLETED' WHERE id = :job
fail: UPDATE jobs SET status = 'PENDING' WHERE id = :job
expire: UPDATE jobs SET status = 'PENDING' WHERE status = 'PROCESSING' AND until <= now()
jobs: SELECT id, status, attempts, until AS lease_until FROM jobs
"""
ENQUEUE = "enqueue: INSERT INTO jobs (id) VALUES (:job)"
COMPLETE = "complete: UPDATE jobs SET status = 'COMPLETED' WHERE id = :job"
JOBS = "jobs: SELECT id, status, attempts, until AS lease_until FROM jobs"


class Wrong(NamedTuple):
    """One mistake: what is written instead of what, and what is told, at which line."""

    was: str
    now: str
    line: int
    told: str


WRONG = {
    "a key of no meaning": Wrong("expire:", "expires:", 14, "unknown key 'expires' (did you mean 'expire'?)"),
    "no format": Wrong("format: 1", "format: 2", 1, "this program reads format 1"),
    "no enqueue": Wrong(ENQUEUE, "", 1, "the key 'enqueue' is missing"),
    "nobody takes back": Wrong("expire:", "release:", 8, "nothing here takes back the job of a worker that died"),
    "two places for the tables": Wrong("queue: small", "queue: small\nconnection: x", 4, "both name the tables"),
    "no file of that name": Wrong(
        SMALL[SMALL.index("schema") : SMALL.index("enqueue")], "schema: no.sql\n", 3, "no.sql"
    ),
    "an unknown parameter": Wrong(
        "id = :job\nfail", "id = :jobs\nfail", 12, "no parameter :jobs (did you mean 'job'?)"
    ),
    "a numbered parameter": Wrong("VALUES (:job)", "VALUES ($1)", 7, "the parameter $1 has no name"),
    "a COMMIT of its own": Wrong(COMPLETE, f"{COMPLETE}; COMMIT", 12, "COMMIT begins or ends a transaction"),
    "an unknown anomaly": Wrong("queue: small", "queue: small\nwithout: {late: so}", 3, "no such anomaly: 'late'"),
    "a schema that does not load": Wrong("attempts int", "attempts nit", 5, 'type "nit" does not exist'),
    "a schema with an extension that is not there": Wrong(
        "  CREATE TABLE o", "  CREATE EXTENSION nosuch;\n  CREATE TABLE o", 4, 'extension "nosuch" is not available'
    ),
    "a schema that opens a transaction": Wrong("  CREATE TABLE o", "  BEGIN; CREATE TABLE o", 4, "leaves it open"),
    "a schema that is a script of psql": Wrong(
        "  CREATE TABLE o", "  \\set x 1\n  CREATE TABLE o", 6, "a psql command"
    ),
    "a schema with an owner": Wrong(
        "  CREATE TABLE o", "  ALTER TABLE jobs OWNER TO app;\n  CREATE TABLE o", 4, 'role "app" does not'
    ),
    "a schema by a clock that is the machine's": Wrong(
        "until timestamptz", "until timestamptz DEFAULT CURRENT_TIMESTAMP(3)", 3, "CURRENT_TIMESTAMP"
    ),
    "a verb that runs a program": Wrong(
        COMPLETE, "complete: COPY (SELECT 1) TO PROGRAM 'true'", 12, "to COPY to or from an external program"
    ),
    "a SELECT that reads a file": Wrong(
        JOBS, f"{JOBS} WHERE pg_read_file('/etc/passwd') <> ''", 15, "permission denied for function pg_read_file"
    ),
    "a schema that takes another role": Wrong(
        "  CREATE TABLE o", "  RESET ROLE; COPY jobs TO PROGRAM 'true';\n  CREATE TABLE o", 4, "external program"
    ),
    "a schema with an extension for superusers": Wrong(
        "  CREATE TABLE o", "  CREATE EXTENSION file_fdw;\n  CREATE TABLE o", 4, "denied to create extension"
    ),
    "SQL that does not parse": Wrong("WHERE status = 'PENDING' L", "WERE status = 'PENDING' L", 10, "syntax error"),
    "a column that is not there": Wrong("until = now()", "untli = now()", 9, 'column "untli"'),
    "a column that means nothing": Wrong("lease_until", "lease_til", 15, "unknown column 'lease_til' (did you"),
    "a column that is missing": Wrong("id, status, attempts,", "id, status,", 15, "it shows no column attempts"),
    "a column that only PostgreSQL names": Wrong(
        "id, status, attempts,", "id, status, (attempts),", 15, "PostgreSQL names a column 'attempts', but"
    ),
    "all columns": Wrong("id, status, attempts, until AS lease_until", "*", 15, "it shows `*`"),
    "two rows for a job": Wrong(JOBS, f"{JOBS}, generate_series(1, 2)", 15, "two rows for the job 'rehearsal'"),
    "no row for a job": Wrong(
        JOBS, f"{JOBS} WHERE false", 15, "enqueue was given 'rehearsal' as :job, and it shows not"
    ),
    "a status that is none": Wrong("DEFAULT 'PENDING'", "DEFAULT 'new'", 15, "has the status 'new', which is none of"),
    "a status without a meaning": Wrong(
        JOBS, f"{JOBS}\nstatus: {{new: PENDING}}", 16, "does not say what 'PENDING' me"
    ),
    "a time that is none": Wrong("until AS lease", "12 AS lease", 15, "must be a timestamp"),
    "a SELECT that is slow": Wrong(JOBS, f"{JOBS}, pg_sleep(9)", 15, "did not end within 0.2 s"),
    "a verb that never ends": Wrong(COMPLETE, "complete: SELECT pg_sleep(9)", 12, "did not end within 0.2 s"),
    "a verb that commits by itself": Wrong(
        "  CREATE TABLE other (n int);",
        "  CREATE PROCEDURE other() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;\ntables: [jobs]",
        13,
        "it ends its transaction by itself",
    ),
    "another table": Wrong(
        "queue: small", "queue: small\ntables: [jobs]", 13, "it changes the table other, which is not listed"
    ),
    "a table that is not there": Wrong("queue: small", "queue: small\ntables: [job]", 16, "(did you mean 'jobs'?)"),
    "a claim that tells nothing": Wrong("  RETURNING id\n", "", 9, "it returns no row for the job that it took"),
    "a claim that only locks": Wrong(
        SMALL[SMALL.index("  UPDATE jobs SET status = 'PROCESSING'") : SMALL.index("complete")],
        "  SELECT id FROM jobs WHERE status = 'PENDING'\n  LIMIT 1 FOR UPDATE SKIP LOCKED\n\n",
        9,
        "leaves it as it was: `jobs` shows no claim",
    ),
    "a claim of no job": Wrong(
        "RETURNING id", "RETURNING attempts AS id", 9, "it returned 1 as id, but `jobs` shows no"
    ),
    "claims that nothing tells apart": Wrong(
        "attempts = attempts + 1, ", "", 15, "attempts is the same for two claims"
    ),
    "attempts before the first": Wrong(
        "id, status, attempts,",
        "id, status, attempts + 2 AS attempts,",
        15,
        "attempts is 2 of a job that was just sent",
    ),
    "a claim that takes nothing": Wrong(
        "LIMIT 1 FOR", "LIMIT 0 FOR", 9, "it takes nothing, neither when a job is sent nor"
    ),
    "a verb that always fails": Wrong(
        COMPLETE, "complete: SELECT 1 / attempts * 0 / 0 FROM jobs", 12, "division by zero"
    ),
    "an enqueue that sends nothing": Wrong("VALUES (:job)", "SELECT :job WHERE false", 7, "it inserts nothing"),
    "a queue that is not named": Wrong("WHERE status = 'PENDING' L", "WHERE queue = :queue L", 8, "names no `queues`"),
    "queues that nothing tells apart": Wrong(
        "queue: small",
        "queue: small\nqueues: [a, b]",
        3,
        "enqueue does not take :queue, so nothing tells the queues apart",
    ),
    "a start that is the first": Wrong(
        JOBS,
        f"{JOBS[:-10]}, made AS started_at FROM jobs",
        15,
        "started_at does not change when a job is claimed a sec",
    ),
    "a start that heartbeats move": Wrong(
        JOBS,
        f"heartbeat: UPDATE jobs SET made = now() WHERE id = :job\n{JOBS[:-10]}, made AS started_at FROM jobs",
        16,
        "started_at changes with a heartbeat, which begins no claim",
    ),
    "an end that is the last change": Wrong(
        JOBS, f"{JOBS[:-10]}, made AS completed_at FROM jobs", 15, "completed_at shows a time for a job that was sent"
    ),
    "a start time that no failure writes": Wrong(
        JOBS,
        f"{JOBS[:-10]}, made AS start_after FROM jobs",
        1,
        "after attempt 1 a failed job waits 0s, and the settings",
    ),
    "attempts that failures count": Wrong(
        "attempts = attempts + 1, ", "", 15, "attempts rises when a job fails, and not"
    ),
    "an error that is kept": Wrong(
        JOBS, f"{JOBS[:-10]}, (SELECT 'x' WHERE attempts > 1) AS error FROM jobs", 15, "error is still there for a job"
    ),
    "a smaller number that goes first": Wrong(
        JOBS,
        f"{JOBS[:-10]}, rank AS priority FROM jobs",
        9,
        "it took a job of priority 0 although an older one of priority 5",
    ),
    "a time that no run has": Wrong(
        JOBS,
        f"{JOBS[:-10]}, 'infinity'::timestamptz AS expires_at FROM jobs",
        15,
        "expires_at of the job 'rehearsal' is",
    ),
    "a clock that is the machine's": Wrong("until timestamptz", "until timestamp DEFAULT localtimestamp", 3, "LOCALTI"),
}
MADE = ("until timestamptz", "made timestamptz DEFAULT now(), until timestamptz")
FOLLOWS = {
    **dict.fromkeys(
        ("a start that is the first", "an end that is the last change", "a start time that no failure writes"), (MADE,)
    ),
    "a start that heartbeats move": [MADE, ("attempts + 1, until", "attempts + 1, made = now(), until")],
    "attempts that failures count": [("fail: UPDATE jobs SET", "fail: UPDATE jobs SET attempts = attempts + 1,")],
    "a smaller number that goes first": [
        ("attempts int DEFAULT 0", "rank int, attempts int DEFAULT 0"),
        (ENQUEUE, "enqueue: INSERT INTO jobs (id, rank) VALUES (:job, :priority)"),
        ("PENDING' LIMIT", "PENDING' ORDER BY rank LIMIT"),
    ],
    "a verb that commits by itself": [(COMPLETE, "complete: CALL other()")],
    "another table": [(COMPLETE, f"{COMPLETE}; INSERT INTO other VALUES (1)")],
}
"""What else has to be written for a mistake to be one."""


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_its_line_and_leaves_nothing(
    name: str, tmp_path: Path, opened: Open, server: Cluster
) -> None:
    wrong = WRONG[name]
    text = SMALL
    for was, now in ((wrong.was, wrong.now), *FOLLOWS.get(name, ())):
        assert text.count(was) == 1
        text = text.replace(was, now)
    path = tmp_path / "queue.yaml"
    path.write_text(text)
    before = databases(server)
    with pytest.raises(HarnessError) as error:
        opened(path, patience_seconds=0.4).info.prepare()
    assert wrong.told in error.value.message
    assert not wrong.line or error.value.message.startswith(f"{path}:{wrong.line}: ")
    assert error.value.exit_code in (ExitCode.USAGE, ExitCode.ENVIRONMENT)
    assert error.value.hint
    assert ("extension" in wrong.told) == ("JOB_HARNESS_DSN" in error.value.hint)
    assert databases(server) == before


def databases(server: Cluster) -> list[object]:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        return connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()


def test_the_small_file_itself_is_right(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "queue.yaml"
    path.write_text(SMALL)
    opened(path).info.prepare()


TABLE = """id text PRIMARY KEY, status text DEFAULT 'PENDING', attempts int DEFAULT 0, until timestamptz);
"""
RIGHT = {
    "attempts that only a role counts which is no superuser": [
        (
            "attempts = attempts + 1",
            "attempts = attempts + (SELECT count(*)::int FROM pg_roles WHERE rolname = session_user AND NOT rolsuper)",
        )
    ],
    "a table in partitions": [
        (TABLE, f"{TABLE[:-2]} PARTITION BY LIST (id);\n  CREATE TABLE p PARTITION OF jobs DEFAULT;\n"),
        ("queue: small", "queue: small\ntables: [jobs]"),
    ],
    "a schema that sets the search_path": [
        ("  CREATE TABLE jobs", "  CREATE SCHEMA a; SET search_path = a;\n  CREATE TABLE jobs")
    ],
    "a schema of pg_dump": [
        (
            "  CREATE TABLE jobs",
            (
                "  \\restrict sEcret\n  SELECT set_config('search_path', '', false);\n"
                "  COMMENT ON SCHEMA public IS 'ours'; COMMENT ON EXTENSION plpgsql IS 'a language';\n"
                "  CREATE TABLE public.jobs"
            ),
        ),
        ("TABLE other", "TABLE public.other"),
        ("(n int);\n", "(n int);\n  \\unrestrict sEcret\n"),
    ],
    "a job that is due only after it was sent": [
        (TABLE, TABLE.replace("until", "at timestamptz DEFAULT now(), until")),
        ("WHERE status = 'PENDING' LIMIT", "WHERE status = 'PENDING' AND at < now() LIMIT"),
        ("until AS lease", "at AS start_after, until AS lease"),
    ],
    "an isolation level": [
        ("claim: |\n", "claim: |\n  SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;\n"),
        ("queue: small", "queue: small\ntables: [jobs]"),
    ],
}
"""By what a file may have, what is written in the small one for what."""
ONE_JOB = """\
format: 1
title: One job
jobs:
  a: {takes: 1s}
steps: [run until idle]
expect:
  a: {status: COMPLETED}
"""


@pytest.mark.parametrize("name", RIGHT)
def test_a_file_that_is_right_runs_with_sessions_and_from_a_snapshot(name: str, tmp_path: Path, opened: Open) -> None:
    text = SMALL
    for was, now in RIGHT[name]:
        assert text.count(was) == 1
        text = text.replace(was, now)
    path = tmp_path / "queue.yaml"
    path.write_text(text)
    assert play(read_scenario_text(ONE_JOB), engine=opened(path, sessions=True)).verdict is Verdict.PASS
    clocks = Clocks()
    queue: Any = opened(path).open(Settings(), clocks, lambda: 0.0)
    queue.enqueue(JobRequest("a"))
    clocks.advance(1)
    sent = queue.snapshot()
    assert len(queue.claim("w1", 1).value) == 1
    queue.restore(sent)
    assert len(queue.claim("w1", 1).value) == 1


FUNCTIONS = """\
format: 1
queue: functions
schema: |
  CREATE FUNCTION "current_time"() RETURNS timestamptz LANGUAGE sql AS $$ SELECT clock_timestamp() $$;
  CREATE TABLE queues (name text); INSERT INTO queues VALUES ('jobs');
  CREATE TABLE jobs (id text PRIMARY KEY, status text DEFAULT 'PENDING', attempts int DEFAULT 0, until timestamptz);
  CREATE FUNCTION settle(name text, own int, now_is text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    UPDATE jobs SET status = now_is WHERE id = name AND status = 'PROCESSING' AND attempts = own;
    IF NOT FOUND THEN RAISE 'the claim of % is over', name USING ERRCODE = '23503'; END IF;
  END $$;
  CREATE FUNCTION again(name text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    UPDATE jobs SET status = 'PENDING', attempts = 0 WHERE id = name AND status = 'FAILED';
    IF NOT FOUND THEN RAISE EXCEPTION '% has not failed', name; END IF;
  END $$;
tables: [jobs]
enqueue: INSERT INTO jobs (id) VALUES (:job)
claim: |
  UPDATE jobs SET status = 'PROCESSING', attempts = attempts + 1, until = "current_time"() + :lease
  WHERE id = (SELECT id FROM jobs WHERE status = 'PENDING' OR (status = 'PROCESSING' AND until <= now()) LIMIT 1
              FOR UPDATE SKIP LOCKED)
  RETURNING id
complete: SELECT settle(:job, :attempt::int, 'COMPLETED')
fail: SELECT settle(:job, :attempt::int, 'FAILED')
retry: SELECT again(:job)
takes_back: inside claim
jobs: SELECT id, status, attempts, until AS lease_until FROM jobs
"""

LATE = """\
format: 1
title: A late worker
workers: [w1, w2]
jobs:
  a: {takes: 30s}
steps:
  - w1 pauses before completing a
  - w2 completes a -> done
  - w1 completes a -> refused
expect:
  a: {status: COMPLETED, attempts: 2, runs: 2}
"""


def test_a_file_that_hides_a_job_which_is_claimed_is_wrong_and_the_queue_is_not_judged(
    tmp_path: Path, opened: Open
) -> None:
    path = tmp_path / "queue.yaml"
    path.write_text(SMALL.replace(JOBS, f"{JOBS} ORDER BY id LIMIT 1"))
    engine = opened(path)
    two = read_scenario_text(ONE_JOB.replace("jobs:\n", "jobs:\n  b: {}\n"))
    with pytest.raises(Misdescribed, match=r"queue.yaml:9: claim: it returned 'b' as id, but `jobs` shows no such job"):
        play(two, engine=engine)


@pytest.mark.parametrize("sessions", [False, True])
def test_a_function_that_raises_refuses_and_leaves_nothing_behind(tmp_path: Path, opened: Open, sessions: bool) -> None:
    path = tmp_path / "queue.yaml"
    path.write_text(FUNCTIONS)
    run = play(read_scenario_text(LATE), engine=opened(path, sessions=sessions))
    refused = [event.outcome for event in run.history if isinstance(event, Return) and not event.outcome.done]
    assert refused == [Outcome.refused("the claim of a is over")]
    assert run.verdict is Verdict.PASS
    settled = [one.actor for _, one in run.statements if "settle(" in one.sql]
    assert settled == ["w2", "w1"], "the statements that were sent, and who sent them"


TAKEN = """SELECT id FROM messages WHERE NOT dead AND visible_at <= now() AND received < :max_attempts
    ORDER BY visible_at, id LIMIT :limit FOR UPDATE SKIP LOCKED"""
DEAD = """UPDATE messages SET dead = true, receipt = NULL
  WHERE NOT dead AND visible_at <= now() AND received >= :max_attempts;
"""
SETTLED = "WHERE id = :job AND status = 'running' AND lock_token = :token\n\nfail"


class Written(NamedTuple):
    """One way to write a queue that holds: of which example, what stands there, and what is written instead."""

    example: str
    changes: Sequence[tuple[str, str]]


WRITTEN = {
    "a claim that fails the overdue in a WITH": Written(
        "visibility", [(f"  {DEAD}\n", f"  WITH over AS ({DEAD.strip()[:-1]} RETURNING id)\n")]
    ),
    "a claim that fails the overdue, and then finds no job": Written(
        "visibility",
        [(DEAD, f"{DEAD}\n  {TAKEN};"), (f"id IN (\n    {TAKEN})\n  RETURNING", "id = ANY (:rows_id)\n  RETURNING")],
    ),
    "a claim that begins with a lock that it may not get": Written(
        "mail", [("claim: |\n", "claim: |\n  SELECT pg_try_advisory_xact_lock(1) AS got;\n")]
    ),
    "a count of none on the way": Written(
        "mail", [("complete: |\n", "complete: |\n  SELECT count(*) FROM mail_jobs WHERE status = 'none';\n")]
    ),
    "a NULL of the row that was changed": Written(
        "mail", [(SETTLED, SETTLED.replace("\n\n", " RETURNING last_error\n\n"))]
    ),
}
"""Each was told as an anomaly, or is a way that must stay open."""


@pytest.mark.long
@pytest.mark.parametrize("name", WRITTEN)
def test_a_queue_that_holds_may_be_written_in_many_ways(name: str, tmp_path: Path, opened: Open) -> None:
    example, changes = WRITTEN[name]
    (tmp_path / "mail.sql").write_text((EXAMPLES / "mail.sql").read_text(encoding="utf-8"))
    text = (EXAMPLES / f"{example}.yaml").read_text(encoding="utf-8")
    for was, now in changes:
        assert text.count(was) == 1
        text = text.replace(was, now)
    (tmp_path / "queue.yaml").write_text(text)
    for sessions in (False, True):
        engine = opened(tmp_path / "queue.yaml", sessions=sessions)
        runs = [Sampler(engine, engine.info.settings or SCOPE_SETTINGS).sample(seed) for seed in range(6)]
        assert [(seed, run.found, run.failures) for seed, run in enumerate(runs) if run.found or run.failures] == []


def in_two_queues(folder: Path, claimed: str = ":queue") -> Path:
    """Write the repaired queue with a column for the name of the queue that a job is in."""
    table = (EXAMPLES / "mail.sql").read_text(encoding="utf-8")
    (folder / "mail.sql").write_text(table.replace("  payload ", "  queue text NOT NULL,\n  payload "))
    text = (EXAMPLES / "mail.yaml").read_text(encoding="utf-8")
    for was, now in (
        ("queue: mail", "queue: mail\nqueues: [mail, reports]"),
        ("(name, payload, max_attempts) VALUES (:job, ", "(name, queue, payload, max_attempts) VALUES (:job, :queue, "),
        ("WHERE status = 'queued' AND run_at", f"WHERE queue = {claimed} AND status = 'queued' AND run_at"),
    ):
        assert text.count(was) == 1
        text = text.replace(was, now)
    (folder / "queue.yaml").write_text(text)
    return folder / "queue.yaml"


TWO_TOOLS = """\
format: 1
title: Two tools, each of which has its queue
jobs:
  a: {tool: send}
  b: {tool: print}
  c: {tool: send}
steps: [run until idle]
expect:
  a: {status: COMPLETED}
  b: {status: COMPLETED}
  c: {status: COMPLETED}
"""


@pytest.mark.parametrize("sessions", [False, True])
def test_each_queue_of_a_table_is_sent_to_and_worked(tmp_path: Path, opened: Open, sessions: bool) -> None:
    scenario = read_scenario_text(TWO_TOOLS)
    engine = opened(in_two_queues(tmp_path), sessions=sessions)
    assert play(scenario, engine=engine).verdict is Verdict.PASS
    assert [seed for seed in range(6) if Sampler(engine).sample(seed).found] == []
    one_is_forgotten = opened(in_two_queues(tmp_path, "coalesce('mail', :queue)"), sessions=sessions)
    assert {anomaly.job for anomaly in play(scenario, engine=one_is_forgotten).anomalies} == {"b"}


LOCKS: Final = Path(__file__).parents[1] / "detection" / "incidents" / "locks"


@pytest.mark.parametrize("sessions", [False, True])
@pytest.mark.parametrize(
    ("file", "when", "told"),
    [
        ("queue.yaml", "always", "after fail of w1: digest k"),
        ("queue.yaml", "at rest", "at rest: digest k"),
        ("repaired.yaml", "always", ""),
    ],
)
def test_a_select_that_must_return_no_row_is_asked(
    file: str, when: str, told: str, sessions: bool, tmp_path: Path, opened: Open
) -> None:
    select = "SELECT digest FROM unique_lock JOIN job ON job.id = unique_lock.job WHERE state IN ('done', 'dead')"
    promise = f'no_row:\n  lock_of_the_dead: {{sql: "{select}", when: {when}}}\n'
    (tmp_path / "schema.sql").write_text((LOCKS / "schema.sql").read_text())
    (tmp_path / file).write_text((LOCKS / file).read_text() + promise)
    engine = opened(str(tmp_path / file), sessions=sessions)
    scenario = read_scenario_text(
        "format: 1\ntitle: one dies\njobs: {a: {unique_key: k, outcomes: [fail]}}\n", path="one.yaml"
    )
    assert engine.info.settings is not None
    run = play(replace(scenario, settings=engine.info.settings), engine=engine)

    assert run.failures == ()
    assert [each.message for each in run.anomalies if each.name == "lock_of_the_dead"] == ([told] if told else [])
    assert run.found <= {"lock_of_the_dead"}


def test_a_no_row_that_postgresql_refuses_is_told_with_its_line(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "schema.sql").write_text((LOCKS / "schema.sql").read_text())
    text = (LOCKS / "queue.yaml").read_text()
    (tmp_path / "queue.yaml").write_text(text + 'no_row:\n  odd: {sql: "SELECT nothing FROM nowhere"}\n')
    line = len(text.splitlines()) + 2
    with pytest.raises(HarnessError, match=rf"queue.yaml:{line}: no_row.odd: PostgreSQL refuses it: .*nowhere"):
        opened(str(tmp_path / "queue.yaml")).info.prepare()


def test_a_wrong_queue_is_no_control_of_a_queue_file() -> None:
    with pytest.raises(NotApplicable, match="is a queue in a file"):
        checked("queue.yaml+expire-never")


def test_a_lock_that_nobody_frees_ends_the_run_by_name(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "queue.yaml"
    path.write_text(SMALL.replace(COMPLETE, f"complete: SELECT pg_advisory_lock(1); {COMPLETE[10:]}"))
    run = Sampler(opened(path, sessions=True)).sample(1)
    assert any("advisory lock" in failure for failure in run.failures)


FOR_EVER = """\
format: 1
queue: for ever
schema: |
  CREATE TABLE jobs (
    id text PRIMARY KEY, n bigserial, attempts int DEFAULT 0, status text DEFAULT 'PENDING', until timestamptz,
    due timestamptz DEFAULT now());
settings: {max_attempts: 3, lease: 90s, job_timeout: 60s, retry_delay: 1m, retry_backoff: false}
enqueue: INSERT INTO jobs (id) VALUES (:job) ON CONFLICT DO NOTHING
claim: |
  SELECT id FROM jobs WHERE status = 'PENDING' AND due <= now() OR until <= now() ORDER BY n LIMIT 1
  FOR UPDATE SKIP LOCKED;
  UPDATE jobs SET until = now() + interval '90 seconds', status = 'PROCESSING', attempts = attempts + 1
  WHERE id = :row_id RETURNING id
takes_back: inside claim
complete: DELETE FROM jobs WHERE id = :job AND attempts = :attempt
fail: |
  UPDATE jobs SET until = NULL, status = 'PENDING', due = now() + interval '1 minute'
  WHERE id = :job AND attempts = :attempt
jobs: SELECT id, attempts, status, until AS lease_until, due AS start_after FROM jobs
design: [called in process, retries forever, keeps no error]
final_errors: false
"""


@pytest.mark.long
def test_what_goes_on_by_design_may_be_stopped_within_a_transaction(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "queue.yaml"
    path.write_text(FOR_EVER)
    engine = opened(path, sessions=True)
    assert engine.info.settings is not None
    campaign = Sampler(engine, settings=engine.info.settings).explore(seed=0, runs=60)
    assert (campaign.trouble, campaign.findings) == (None, ())


# a database that is alive ---------------------------------------------------------------------------------------------


OF_MANY_KINDS = """
CREATE FUNCTION uid() RETURNS text LANGUAGE sql AS $$ SELECT gen_random_uuid()::text $$;
CREATE FUNCTION is_named(text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT $1 <> '' $$;
CREATE TYPE size AS ENUM ('small', 'large');
CREATE DOMAIN named AS text NOT NULL DEFAULT 'nobody' CHECK (is_named(value));
CREATE TYPE meta AS (size size, who named);
ALTER TABLE mail_jobs ADD uid text NOT NULL DEFAULT uid(), ADD who named, ADD meta meta DEFAULT ('small', 'a');
CREATE TABLE other (id int);
CREATE FUNCTION of_other(other) RETURNS int LANGUAGE sql AS $$ SELECT $1.id $$;
CREATE FUNCTION ids(mail_jobs) RETURNS bigint LANGUAGE sql AS $$ SELECT $1.id $$;
CREATE VIEW others AS SELECT * FROM other;
CREATE VIEW mails AS SELECT id, name, ids(mail_jobs) FROM mail_jobs GROUP BY id;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM mails;
CREATE UNIQUE INDEX ON counted (n);
CREATE SEQUENCE tens AS int INCREMENT 10 START 7 CYCLE;
CREATE COLLATION bytewise (PROVIDER = libc, LC_COLLATE = 'C', LC_CTYPE = 'POSIX');
CREATE TABLE numbered (id int GENERATED BY DEFAULT AS IDENTITY (START 100 INCREMENT 5), code varchar(9) COLLATE "C",
  name text COLLATE bytewise UNIQUE);
"""


def test_a_live_database_is_copied_and_never_written_to(tmp_path: Path, opened: Open, server: Cluster) -> None:
    live = server.create_database()
    with psycopg.connect(live, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA app; ALTER DATABASE {connection.info.dbname} SET search_path = app".encode())
    with psycopg.connect(live, autocommit=True) as connection:
        connection.execute((EXAMPLES / "mail.sql").read_bytes())
        connection.execute(OF_MANY_KINDS.encode())
        kept = "" if connection.info.server_version >= 180_000 else " STORED"
        connection.execute(f"ALTER TABLE other ADD twice int GENERATED ALWAYS AS (id * 2){kept}".encode())
        connection.execute("INSERT INTO mail_jobs (name, payload) VALUES ('precious', '{}')")
        connection.execute("CREATE TABLE mail_log (job bigint REFERENCES mail_jobs, said text DEFAULT 'x' || 'y')")
        counted = "SELECT xact_commit, tup_inserted, tup_updated, tup_deleted FROM pg_stat_database WHERE datname = %s"
        connection.execute("SELECT pg_stat_force_next_flush()")
        before = connection.execute(counted, [connection.info.dbname]).fetchone()
        path = tmp_path / "queue.yaml"
        path.write_text((EXAMPLES / "mail.yaml").read_text().replace("schema: mail.sql", f"connection: {live}"))
        assert conform(opened(path), levels=[Level.CORE]).badge.startswith("core 9/9")
        connection.execute("SELECT pg_stat_force_next_flush()")
        after = connection.execute(counted, [connection.info.dbname]).fetchone()
        assert before is not None
        assert after is not None
        assert after[1:] == before[1:]
        assert connection.execute("SELECT name FROM mail_jobs").fetchall() == [("precious",)]
    whole = read_live_schema(live).text()
    assert copied(whole, server) == whole
    assert "CREATE MATERIALIZED VIEW app.counted" in whole
    assert "INCREMENT 10 MINVALUE 1 MAXVALUE 2147483647 START 7 CYCLE" in whole
    assert "IDENTITY (INCREMENT 5 MINVALUE 1 MAXVALUE 2147483647 START 100 NO CYCLE)" in whole
    assert "ALTER COLUMN name TYPE text COLLATE app.bytewise" in whole
    assert 'ALTER COLUMN code TYPE character varying(9) COLLATE pg_catalog."C"' in whole
    alone = copied(read_live_schema(live, only=["app.mail_jobs"]).text(), server)
    assert "CREATE VIEW app.mails" in alone
    assert "other" not in alone, "what needs a table that is left out is left out"


def copied(schema: str, server: Cluster) -> str:
    url = server.create_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(schema.encode())
    return read_live_schema(url).text()


def test_a_live_database_that_does_not_answer_is_named_with_the_line(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "queue.yaml"
    path.write_text((EXAMPLES / "mail.yaml").read_text().replace("schema: mail.sql", "connection: host=/nowhere"))
    with pytest.raises(EnvironmentUnavailable, match=r"queue.yaml:6: connection: "):
        opened(path).info.prepare()


# the examples ---------------------------------------------------------------------------------------------------------


PLANTED = {
    "unfenced_complete": (6, "stale_complete"),
    "reaper_by_updated_at": (4, "taken_back_early"),
    "attempts_on_failure": (1, "attempt_overrun"),
    "token_not_cleared": (6, "stale_complete"),
}
"""By example, the run that shows its mistake, and as what."""


@pytest.mark.parametrize("name", PLANTED)
def test_each_planted_mistake_is_found_and_not_in_the_repaired_queue(name: str, opened: Open) -> None:
    number, anomaly = PLANTED[name]
    engine = opened(EXAMPLES / f"{name}.yaml", sessions=True)
    assert anomaly in Sampler(engine, engine.info.settings or SCOPE_SETTINGS).sample(number - 1).found


def test_the_repaired_queue_holds_and_gives_the_same_history_again(opened: Open) -> None:
    engine = opened(EXAMPLES / "mail.yaml", sessions=True)
    runs = [Sampler(engine).sample(seed) for seed in (*range(8), 0)]
    assert [sorted(run.found) for run in runs if run.found or run.failures] == []
    assert dump_history(runs[-1].history) == dump_history(runs[0].history)


def test_the_repaired_queue_conforms(opened: Open) -> None:
    result = conform(opened(EXAMPLES / "mail.yaml"), levels=[Level.CORE, Level.SCHEDULED])
    assert result.badge == "core 9/9, scheduled 2/2"


DELETED = "complete: DELETE FROM messages WHERE id = :job AND receipt = :token"


@pytest.mark.long
def test_a_queue_that_takes_back_inside_claim_conforms(opened: Open) -> None:
    levels = [Level.CORE, Level.RELIABLE, Level.SCHEDULED, Level.BATCHES]
    result = conform(opened(EXAMPLES / "visibility.yaml"), levels=levels)
    assert result.badge == "core 5/5, reliable 15/15, scheduled 2/2, batches 2/2"
    assert {r.case.name for r in result.results if r.mark is Mark.DIFFERENT} == {
        "crashes/before_starting",
        "crashes/while_running",
    }


@pytest.mark.long
def test_a_claim_may_take_back_what_is_overdue_and_fail_what_was_received_too_often(
    opened: Open, tmp_path: Path
) -> None:
    right = (EXAMPLES / "visibility.yaml").read_text(encoding="utf-8")
    assert right.count(DELETED) == 1
    path = tmp_path / "queue.yaml"
    path.write_text(right)
    assert [seed for seed in (*range(8), 33) if Sampler(opened(path)).sample(seed).found] == []
    path.write_text(right.replace(DELETED, DELETED.removesuffix(" AND receipt = :token")))
    assert Sampler(opened(path)).sample(33).found == {"stale_complete"}


def test_the_screen_shows_the_statement(
    server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOB_HARNESS_DSN", server.url())
    path = EXAMPLES / "unfenced_complete.yaml"
    search = ["explore", str(path), "--runs", "6", "--no-sessions", "--seed", "2", "--annotations", "--junit", "j.xml"]
    search += ["--looking-for", "stale_complete"]
    assert main(search) == ExitCode.FAIL
    shown = capsys.readouterr().out
    assert f"::error file={path},line=26," in shown
    report = (tmp_path / "j.xml").read_text()
    assert f'file="{path}" line="26"' in report
    assert "Source: " in report
    assert "unfenced_complete.yaml:26: complete" in shown
    assert "  WHERE id = :job\n" in shown
    assert 'unfenced_complete.yaml: without: {stale_complete: "why"}' in " ".join(shown.split())
    written = next((tmp_path / ".job-harness" / "found").iterdir())
    assert main(["run", str(written)]) == ExitCode.FAIL


@pytest.mark.long
def test_a_verb_of_the_file_that_no_run_called_is_no_pass(
    server: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOB_HARNESS_DSN", server.url())
    search = ["explore", str(EXAMPLES / "mail.yaml"), "--no-sessions", "--seed", "5", "--runs"]
    assert main([*search, "1"]) == ExitCode.INCONCLUSIVE
    assert "heartbeat: no run reached it, so it was not judged" in capsys.readouterr().out
    assert main([*search, "12"]) == ExitCode.PASS


@pytest.mark.long
def test_a_retention_by_which_no_verb_deletes_is_no_pass(
    server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOB_HARNESS_DSN", server.url())
    (tmp_path / "mail.sql").write_text((EXAMPLES / "mail.sql").read_text())
    text = (EXAMPLES / "mail.yaml").read_text()
    (tmp_path / "queue.yaml").write_text(f"{text}\nsettings: {{retention: 1d}}\n")
    assert main(["explore", str(tmp_path / "queue.yaml"), "--no-sessions", "--runs", "40"]) == ExitCode.INCONCLUSIVE
    told = "settings: retention: no run reached it, so it was not judged (write a `purge`, or leave it out)"
    assert told in " ".join(capsys.readouterr().out.split())


def test_where_two_workers_run_a_job_the_statement_is_shown_that_took_it_from_the_first(opened: Open) -> None:
    path = EXAMPLES / "reaper_by_updated_at.yaml"
    engine = opened(path)
    run = next(run for run in map(Sampler(engine).sample, range(20)) if "concurrent_execution" in run.found)
    found = ScenarioFinding("concurrent_execution", run, 1, 0, scenario=run.scenario)
    source = with_source(found.run, engine.info, anomaly=found.anomaly).source
    assert source is not None
    assert source.title.endswith("reaper_by_updated_at.yaml:39: expire")


def test_where_a_job_is_delivered_too_often_the_statement_is_shown_that_let_it_wait_again(
    tmp_path: Path, opened: Open
) -> None:
    told = (EXAMPLES / "mail.yaml").read_text().replace("schema: ", f"schema: {EXAMPLES}/")
    path = tmp_path / "overrun.yaml"
    path.write_text(told.replace("attempts < max_attempts AND NOT :final", "attempts <= max_attempts AND NOT :final"))
    engine = opened(path)
    run = next(run for run in map(Sampler(engine).sample, range(20)) if "attempt_overrun" in run.found)
    found = ScenarioFinding("attempt_overrun", run, 1, 0, scenario=run.scenario)
    source = with_source(found.run, engine.info, anomaly=found.anomaly).source
    assert source is not None
    assert source.title.endswith("overrun.yaml:32: fail")


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param("mail", marks=pytest.mark.campaign), "visibility"])
def test_a_complete_search_by_snapshots_comes_to_what_running_again_comes_to(name: str, opened: Open) -> None:
    scope = Scope(workers=1, jobs=1, faults=FaultPlan(crash=1))
    seen = []
    for by_snapshots in (True, False):
        explorer = Explorer(opened(EXAMPLES / f"{name}.yaml"), scope)
        explorer.reexecuted = not by_snapshots
        explorer.run()
        assert explorer.complete
        assert not explorer.sightings
        seen.append((explorer.progress.states, explorer.progress.transitions, explorer.outcomes))
    assert seen[0] == seen[1]


def test_a_token_in_a_state_is_not_given_again_by_a_queue_that_is_opened_anew(opened: Open) -> None:
    engine = opened(EXAMPLES / "mail.yaml")
    settings = Settings(retry_delay=0)
    queue: Any = engine.open(settings, Clocks(), lambda: 0.0)
    queue.enqueue(JobRequest("a"))
    (first,) = queue.claim("w1", 1).value
    queue.fail(first, "again", False)
    state = queue.snapshot()
    anew: Any = engine.open(settings, Clocks(), lambda: 0.0)
    anew.restore(state)
    (second,) = anew.claim("w1", 1).value
    assert (first.token, second.token) == (1, 2)


CANCELS = "\n\ncancel: UPDATE mail_jobs SET {}, lock_token = NULL, locked_until = NULL WHERE id = :job"


def with_cancel(folder: Path, sets: str) -> Path:
    """Write the repaired queue with a cancel of its own; it cancels whatever the job's status is."""
    text = (
        (EXAMPLES / "mail.yaml").read_text(encoding="utf-8").replace("failed: FAILED}", "failed: FAILED, c: CANCELLED}")
    )
    text = text.replace("schema: mail.sql", f"schema: {EXAMPLES / 'mail.sql'}")
    path = folder / "cancels.yaml"
    path.write_text(text + CANCELS.format(sets) + "\n", encoding="utf-8")
    return path


CANCELS_ONE: Final = Scope(workers=1, jobs=1, cancels=1)


def test_a_complete_search_reaches_the_sql_of_cancel(tmp_path: Path, opened: Open) -> None:
    explorer = Explorer(opened(with_cancel(tmp_path, "status = 'c'")), CANCELS_ONE)
    explorer.run()
    assert explorer.sightings


@pytest.mark.campaign
def test_the_repaired_queue_holds_for_two_thousand_runs(opened: Open) -> None:
    engine = opened(EXAMPLES / "mail.yaml", sessions=True)
    campaign = Sampler(engine, engine.info.settings or SCOPE_SETTINGS).explore(seed=1, runs=2000)
    assert campaign.runs == 2000
    assert campaign.verdict is Verdict.PASS


@pytest.mark.campaign
def test_the_repaired_queue_is_searched_completely(opened: Open) -> None:
    explorer = Explorer(opened(EXAMPLES / "mail.yaml"), Scope(workers=2, jobs=2, faults=FaultPlan(crash=1)))
    started = Deadline(600)
    explorer.run(lambda progress: not started.passed)
    print(f"{explorer.progress.states} states, {explorer.progress.transitions} transitions, {600 - started.left:.0f} s")
    assert explorer.complete
    assert not explorer.sightings
