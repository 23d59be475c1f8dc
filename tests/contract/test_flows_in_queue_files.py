"""A queue file whose jobs depend on others is judged by that: the right one holds, and each mistake is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from job_harness.core.run.play import play
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.engines.queue_file import QueueFileEngine
from job_harness.engines.queue_file.statement import QueueFileError
from job_harness.errors import EnvironmentUnavailable

pytestmark = pytest.mark.postgres
SCHEMA = """
CREATE TABLE step (id text PRIMARY KEY, state text NOT NULL DEFAULT 'waiting', needs text[] NOT NULL DEFAULT '{}',
  attempts int NOT NULL DEFAULT 0, max_attempts int, error text, output text, held_until timestamptz, made timestamptz,
  due timestamptz, begun timestamptz, ended timestamptz);
"""
READY = "NOT EXISTS (SELECT FROM unnest(needs) AS n LEFT JOIN step d ON d.id = n WHERE d.state IS DISTINCT FROM 'done')"
PASS_ON = """
  WITH RECURSIVE lost AS (
    SELECT id FROM step WHERE state = 'failed'
    UNION SELECT step.id FROM step JOIN lost ON lost.id = ANY (step.needs) WHERE step.state = 'waiting'
  ) UPDATE step SET state = 'cancelled', ended = :now WHERE state = 'waiting' AND id IN (SELECT id FROM lost)"""
FILE = f"""
format: 1
queue: steps
schema: steps.sql
enqueue: |
  INSERT INTO step (id, needs, max_attempts, made, due) VALUES (:job, :depends_on, :max_attempts, :now, :now)
  ON CONFLICT DO NOTHING
claim: |
  UPDATE step SET state = 'running', attempts = attempts + 1, held_until = :now + :lease, begun = :now
  WHERE id IN (SELECT id FROM step WHERE state = 'waiting' AND due <= :now AND {READY}
    ORDER BY made, id LIMIT :limit FOR UPDATE SKIP LOCKED)
  RETURNING id, attempts AS token
complete: |
  UPDATE step SET state = 'done', error = NULL, output = :output, ended = :now, held_until = NULL
  WHERE id = :job AND state = 'running' AND attempts = :token
fail: |
  UPDATE step SET state = CASE WHEN attempts < max_attempts AND NOT :final THEN 'waiting' ELSE 'failed' END,
    error = :error, due = :now + :delay, ended = :now, held_until = NULL
  WHERE id = :job AND state = 'running' AND attempts = :token;
{PASS_ON}
expire: |
  UPDATE step SET state = CASE WHEN attempts < max_attempts THEN 'waiting' ELSE 'failed' END, error = 'lost',
    due = :now + :retry_delay, ended = :now, held_until = NULL
  WHERE state = 'running' AND held_until <= :now;
{PASS_ON}
jobs: |
  SELECT id, state AS status, needs AS depends_on, attempts, max_attempts, attempts AS token, error, output,
    made AS created_at, due AS start_after, begun AS started_at, held_until AS lease_until,
    CASE WHEN state IN ('done', 'failed', 'cancelled') THEN ended END AS completed_at
  FROM step
status: {{waiting: PENDING, running: PROCESSING, done: COMPLETED, failed: FAILED, cancelled: CANCELLED}}
"""
JOBS = """
format: 1
workers: [w1, w2]
settings: {max_attempts: 1}
jobs: {a: {takes: 1m}, b: {outcomes: [fail]}, c: {depends_on: [a]}, d: {depends_on: [a, b]}, e: {depends_on: [d]}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "finds"),
    [
        ("", "", set()),
        (READY, "true", {"dependency_not_awaited"}),
        (PASS_ON, "\n  SELECT 1", {"failure_not_passed_on", "job_never_run"}),
    ],
    ids=["right", "does not wait", "does not pass on"],
)
def test_a_flow_is_judged_in_a_queue_file(old: str, new: str, finds: set[str], tmp_path: Path) -> None:
    with opened(tmp_path, SCHEMA, FILE.replace(old, new) if old else FILE) as engine:
        run = play(read_scenario_text(JOBS, path="flow.yaml"), engine=engine)
    assert (run.found, run.uncovered) == (finds, ())


@contextmanager
def opened(folder: Path, schema: str, file: str) -> Iterator[QueueFileEngine]:
    (folder / "steps.sql").write_text(schema)
    (folder / "steps.yaml").write_text(file)
    engine = QueueFileEngine(str(folder / "steps.yaml"))
    try:
        engine.info.prepare()
        yield engine
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "shown",
    ["needs", "needs::text[]", "CASE cardinality(needs) WHEN 1 THEN to_jsonb(needs[1]) ELSE to_jsonb(needs) END"],
)
def test_the_jobs_that_one_waits_for_are_known_by_the_ids_of_the_table(shown: str, tmp_path: Path) -> None:
    schema = SCHEMA.replace("id text", "id uuid").replace("needs text[]", "needs uuid[]")
    file = FILE.replace("queue: steps", "queue: steps\nids: uuid").replace("needs AS dep", f"{shown} AS dep")
    with opened(tmp_path, schema, file) as engine:
        run = play(read_scenario_text(JOBS, path="flow.yaml"), engine=engine)
    assert (run.found, run.uncovered) == (set(), ())


@pytest.mark.slow
def test_a_job_that_waits_for_what_was_never_sent_is_an_error_of_the_file(tmp_path: Path) -> None:
    file = FILE.replace("needs AS dep", "array_append(needs, 'the ' || needs[1]) AS dep")
    told = "steps.yaml:35: jobs: depends_on of the job 'c' has 'the a', which is the id of no job that was sent"
    with opened(tmp_path, SCHEMA, file) as engine, pytest.raises(QueueFileError, match=told):
        play(read_scenario_text(JOBS, path="flow.yaml"), engine=engine)
