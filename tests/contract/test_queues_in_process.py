"""Queues of libraries, on a real PostgreSQL: called in process, with a row for each attempt or none once taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job_harness.core.history.event import Observed
from job_harness.core.model.settings import Settings
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.doors.cli import main
from job_harness.engines.queue_file import QueueFileEngine
from job_harness.errors import EnvironmentUnavailable, ExitCode, UsageError
from job_harness.report.blame import with_source
from job_harness.report.screen import first_screen
from job_harness.search.sampling import Sampler
from job_harness.worlds.postgres import Cluster, provision

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

ROW_PER_ATTEMPT = """\
format: 1
queue: a row for each attempt
schema: |
  CREATE TABLE work (
    id bigserial PRIMARY KEY, name text, retried int NOT NULL DEFAULT 0, due timestamptz NOT NULL, taken timestamptz);
settings: {max_attempts: 3, retry_delay: 30s, retry_backoff: false}
enqueue: INSERT INTO work (name, due) VALUES (:job, :start_after)
claim: |
  UPDATE work SET taken = now()
  WHERE id = (SELECT id FROM work WHERE taken IS NULL AND due <= now() ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
  RETURNING id
complete: SELECT 1
fail: |
  INSERT INTO work (name, retried, due) SELECT name, retried + 1, now() + interval '30s' FROM work
  WHERE id = :job AND retried < 2
takes_back: never
fencing: false
design: [called in process, records no end]
without: {job_stuck: "a job whose worker dies is lost"}
jobs: |
  SELECT DISTINCT ON (name) name AS id, id AS key, retried + (taken IS NOT NULL)::int AS attempts,
         CASE WHEN taken IS NULL THEN 'waits' ELSE 'taken' END AS status, due AS start_after, taken AS started_at
  FROM work AS w ORDER BY name, w.id DESC
status: {waits: PENDING, taken: PROCESSING}
"""
GONE_ONCE_TAKEN = """\
format: 1
queue: a claim deletes the row
schema: CREATE TABLE work (id bigserial PRIMARY KEY, name text, due timestamptz NOT NULL);
settings: {max_attempts: 1}
enqueue: INSERT INTO work (name, due) VALUES (:job, :start_after)
claim: |
  DELETE FROM work
  WHERE id = (SELECT id FROM work WHERE due <= now() ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
  RETURNING id
complete: SELECT 1
fail: SELECT 1
takes_back: never
fencing: false
design: [called in process, records no end]
without: {job_stuck: "a job whose worker dies is lost"}
jobs: SELECT name AS id, id AS key, 0 AS attempts, 'waits' AS status, due AS start_after FROM work
status: {waits: PENDING}
"""
WORKER_AS_TOKEN = """\
format: 1
queue: a worker is the token of its claims
schema: |
  CREATE TABLE work (
    id bigserial PRIMARY KEY, name text, state text NOT NULL DEFAULT 'waits', taken_by text,
    tries int NOT NULL DEFAULT 0, due timestamptz NOT NULL, ended timestamptz);
settings: {max_attempts: 3, retry_delay: 30s, retry_backoff: false}
enqueue: INSERT INTO work (name, due) VALUES (:job, :start_after)
claim: |
  UPDATE work SET state = 'taken', taken_by = :worker, tries = tries + 1
  WHERE id = (SELECT id FROM work WHERE state = 'waits' AND due <= now() ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
  RETURNING id
complete: UPDATE work SET state = 'done', ended = now() WHERE id = :job AND taken_by = :worker
fail: |
  UPDATE work SET state = CASE WHEN tries < 3 THEN 'waits' ELSE 'dead' END, due = now() + interval '30s'
  WHERE id = :job AND taken_by = :worker
takes_back: never
design: [called in process]
without: {job_stuck: "a job whose worker dies is lost", token_reused: "a worker has one", error_lost: "none is kept"}
jobs: |
  SELECT name AS id, id AS key, tries AS attempts, state AS status, due AS start_after, taken_by AS token,
         ended AS completed_at FROM work
status: {waits: PENDING, taken: PROCESSING, done: COMPLETED, dead: FAILED}
"""
WAITS_OUT_ITS_CLAIM = """\
format: 1
queue: a failed attempt waits for the end of its claim, which chance decides; the last makes a row elsewhere
schema: |
  CREATE TABLE work (id text PRIMARY KEY, tries int NOT NULL DEFAULT 0, due timestamptz NOT NULL, receipt uuid);
  CREATE TABLE dead (id text PRIMARY KEY, tries int NOT NULL DEFAULT 0);
  CREATE FUNCTION deadline() RETURNS timestamptz LANGUAGE sql AS $$
    SELECT now() + (9.5 + random()) * interval '1 second' $$;
settings: {max_attempts: 3, lease: 9500ms..10500ms, job_timeout: 9s, poll_interval: 1s}
enqueue: INSERT INTO work (id, due) VALUES (:job, :start_after)
claim: |
  WITH over AS (DELETE FROM work WHERE due < now() AND tries >= 3 RETURNING id) INSERT INTO dead SELECT id FROM over;
  UPDATE work SET tries = tries + 1, due = deadline(), receipt = gen_random_uuid()
  WHERE id = (SELECT id FROM work WHERE due < now() AND tries < 3 ORDER BY due, id LIMIT 1 FOR UPDATE SKIP LOCKED)
  RETURNING id, receipt AS token
complete: DELETE FROM work WHERE id = :job AND receipt = :token
fail: |
  WITH mine AS (SELECT id FROM work WHERE id = :job AND receipt = :token FOR UPDATE),
       over AS (DELETE FROM work USING mine WHERE work.id = mine.id AND tries >= 3 RETURNING work.id),
       put AS (INSERT INTO dead SELECT id FROM over)
  SELECT id FROM mine
takes_back: inside claim
design: [called in process, waits out its claim]
jobs: |
  SELECT id, tries AS attempts, receipt AS token, CASE WHEN receipt IS NULL THEN 'waits' ELSE 'taken' END AS status,
         CASE WHEN receipt IS NULL THEN due END AS start_after,
         CASE WHEN receipt IS NOT NULL THEN due END AS lease_until
  FROM work UNION ALL SELECT id, NULL, NULL, 'dead', NULL, NULL FROM dead
status: {waits: PENDING, taken: PROCESSING, dead: FAILED}
"""
UNIQUE_BY_KEY_ALONE = """\
format: 1
queue: nothing is unique but a key, for all tools, and a sweep comes once an instant is over
schema: |
  CREATE TABLE work (
    id bigserial PRIMARY KEY, name text, key text, state text NOT NULL DEFAULT 'waits', tries int NOT NULL DEFAULT 0,
    due timestamptz NOT NULL, taken timestamptz);
  CREATE UNIQUE INDEX ON work (key) WHERE state IN ('waits', 'taken');
settings: {max_attempts: 3, lease: 5m, retry_delay: 30s, retry_backoff: false}
enqueue: |
  INSERT INTO work (name, key, due) VALUES (:job, :unique_key, :start_after)
  ON CONFLICT (key) WHERE state IN ('waits', 'taken') DO NOTHING
claim: |
  UPDATE work SET state = 'taken', tries = tries + 1, taken = now()
  WHERE id = (SELECT id FROM work WHERE state = 'waits' AND due <= now() ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
  RETURNING id
complete: UPDATE work SET state = 'done' WHERE id = :job AND state = 'taken' AND tries = :attempt
fail: |
  UPDATE work SET state = CASE WHEN tries < 3 THEN 'waits' ELSE 'dead' END, due = now() + interval '30s'
  WHERE id = :job AND state = 'taken' AND tries = :attempt
expire: |
  UPDATE work SET state = CASE WHEN tries < 3 THEN 'waits' ELSE 'dead' END, due = now() + interval '30s'
  WHERE state = 'taken' AND taken < now() - interval '5m'
jobs: |
  SELECT name AS id, id AS key, tries AS attempts, state AS status, due AS start_after, key AS unique_key,
         taken AS started_at, CASE WHEN state = 'taken' THEN taken + interval '5m' END AS lease_until FROM work
status: {waits: PENDING, taken: PROCESSING, done: COMPLETED, dead: FAILED}
"""
FAILS_THEN_SUCCEEDS = """\
format: 1
title: Two jobs
settings: {max_attempts: 3, retry_delay: 30s, retry_backoff: false}
jobs:
  a: {outcomes: [fail, succeed]}
  b: {}
steps: [run until idle]
expect:
  a: {status: COMPLETED, attempts: 2, path: [PENDING, PROCESSING, PENDING, PROCESSING, COMPLETED]}
  b: {status: COMPLETED, attempts: 1}
"""
ENDS_EITHER_WAY = """\
format: 1
title: Two jobs
settings: {max_attempts: 1}
jobs:
  a: {outcomes: [fail]}
  b: {}
steps: [run until idle]
expect:
  a: {status: FAILED, attempts: 1, path: [PENDING, PROCESSING, FAILED]}
  b: {status: COMPLETED, attempts: 1}
"""
FILES = {"a row for each attempt": (ROW_PER_ATTEMPT, FAILS_THEN_SUCCEEDS), "gone": (GONE_ONCE_TAKEN, ENDS_EITHER_WAY)}


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
def opened(server: Cluster, tmp_path: Path) -> Iterator[Open]:
    engines: list[QueueFileEngine] = []

    def open_it(text: str, **options: object) -> QueueFileEngine:
        path = tmp_path / f"queue{len(engines)}.yaml"
        path.write_text(text)
        engines.append(QueueFileEngine(str(path), dsn=server.url(), **options))  # type: ignore[arg-type]
        return engines[-1]

    yield open_it
    for engine in engines:
        engine.close()


@pytest.mark.long
def test_a_queue_with_a_lease_of_chance_and_dead_letters_elsewhere_is_right(opened: Open) -> None:
    engine = opened(WAITS_OUT_ITS_CLAIM, sessions=True)
    runs = [Sampler(engine, engine.info.settings or Settings()).sample(seed) for seed in range(8)]
    assert {name for run in runs for name in run.found} == set()
    claims = [event for run in runs for event in run.history if isinstance(event, Observed) and event.verb == "claim"]
    ends = [event.after.lease_until for event in claims if event.after is not None]
    leases = {end - event.clock for event, end in zip(claims, ends, strict=True) if end is not None}
    assert len(leases) > 1, "what random() answers in a function of the schema is drawn, too"


@pytest.mark.long
@pytest.mark.parametrize(
    ("word", "instead", "finds"),
    [
        (", waits out its claim", "", "outcome_lost"),
        ("NULL, NULL, 'dead'", "tries, NULL, 'dead'", "attempts_changed"),
        ("(9.5 + random())", "(9.5 + 2 * random())", "foreign_clock"),
    ],
)
def test_without_one_of_its_words_it_is_not(word: str, instead: str, finds: str, opened: Open) -> None:
    assert WAITS_OUT_ITS_CLAIM.count(word) == 1
    assert finds in found(opened(WAITS_OUT_ITS_CLAIM.replace(word, instead)), range(12))


@pytest.mark.long
def test_a_key_that_no_two_tools_share_is_all_that_need_be_unique(opened: Open) -> None:
    engine = opened(UNIQUE_BY_KEY_ALONE)
    runs = [Sampler(engine, engine.info.settings or Settings()).sample(seed) for seed in range(40)]
    assert {name for run in runs for name in run.found} == set()


def test_a_lease_of_another_length_is_an_error_of_the_file(opened: Open) -> None:
    engine = opened(WAITS_OUT_ITS_CLAIM.replace("9500ms..10500ms", "10s"))
    with pytest.raises(UsageError, match=r"yaml:8: the first claim of a job lasts 9.5s, and `lease` is 10s") as error:
        engine.info.prepare()
    assert "9500ms..10500ms" in (error.value.hint or "")


@pytest.mark.parametrize("finds", ["outcome_lost", "attempt_overrun"])
def test_a_verb_that_raises_is_the_source_at_the_line_that_raised(finds: str, opened: Open) -> None:
    text = (
        WAITS_OUT_ITS_CLAIM if finds == "outcome_lost" else f"without: {{outcome_lost: known}}\n{WAITS_OUT_ITS_CLAIM}"
    )
    for was, now in (
        ("INSERT INTO dead SELECT id FROM over)", "INSERT INTO dead (id, tries) SELECT id, NULL FROM over)"),
        ("AND tries < 3 ORDER", "ORDER"),
        ("WHERE due < now() AND tries >= 3", "WHERE due < now() AND tries > 8"),
    ):
        assert text.count(was) == 1
        text = text.replace(was, now)
    engine = opened(text)
    scenario = read_scenario_text(
        ENDS_EITHER_WAY.replace("{max_attempts: 1}", "{}").replace("[fail]", "[fail, fail, fail]")
    )
    run = with_source(play(scenario, engine=engine), engine.info)
    assert run.anomalies[0].name == finds
    assert run.source is not None
    assert run.source.title.endswith(": fail raises here")
    assert "put AS (INSERT INTO dead (id, tries)" in run.source.lines[run.source.matters]
    shown = [line.text for line in first_screen(run)]
    assert any(line.startswith("Raised by fail") for line in shown)
    assert any("put AS (INSERT INTO dead" in line for line in shown)


def found(engine: QueueFileEngine, seeds: range) -> set[str]:
    assert engine.info.settings is not None
    return {name for seed in seeds for name in Sampler(engine, engine.info.settings).sample(seed).found}


@pytest.mark.long
@pytest.mark.parametrize("sessions", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_a_job_ends_once_its_worker_has_reported(name: str, sessions: bool, opened: Open) -> None:
    text, scenario = FILES[name]
    engine = opened(text, sessions=sessions)
    run = play(read_scenario_text(scenario), engine=engine)
    assert (run.verdict, run.failures, run.uncovered) == (Verdict.PASS, (), ())
    assert found(engine, range(12)) == set()


def test_a_claim_of_the_same_worker_is_another_one_where_rows_do_not_say_when_it_began(opened: Open) -> None:
    scenario = FAILS_THEN_SUCCEEDS.replace("settings:", "workers: [w1]\nsettings:")
    run = play(read_scenario_text(scenario), engine=opened(WORKER_AS_TOKEN))
    assert (run.verdict, run.anomalies, run.failures) == (Verdict.PASS, (), ())
    claims = [event for event in run.history if type(event) is Observed and event.job == "a" and event.verb == "claim"]
    assert [event.after.started_at for event in claims if event.after is not None] == [event.clock for event in claims]


def test_a_worker_that_is_shown_as_the_token_is_a_mistake_of_the_file_unless_it_is_meant(opened: Open) -> None:
    with pytest.raises(UsageError, match="its token names the worker: two claims of a job by w1 have the same one"):
        opened(WORKER_AS_TOKEN.replace(', token_reused: "a worker has one"', "")).info.prepare()


@pytest.mark.long
def test_a_job_that_no_worker_reported_has_not_ended(opened: Open) -> None:
    for text, _ in FILES.values():
        assert "job_stuck" in found(opened(text.replace("job_stuck", "priority_inversion")), range(12))


def test_a_retry_that_is_forgotten_is_found(opened: Open) -> None:
    assert "failed_early" in found(opened(ROW_PER_ATTEMPT.replace("retried < 2", "retried < 1")), range(12))


@pytest.mark.long
def test_a_verb_that_a_network_repeats_is_found_and_the_screen_says_what_rules_it_out(
    server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOB_HARNESS_DSN", server.url())
    Path("queue.yaml").write_text(ROW_PER_ATTEMPT.replace("called in process, ", ""))
    search = ["explore", "queue.yaml", "--no-sessions", "--seed", "69", "--runs"]
    assert main([*search, "1"]) == ExitCode.FAIL
    shown = capsys.readouterr().out
    assert "DELIVERED TWICE" in shown
    assert "  design: [called in process]" in shown
    Path("queue.yaml").write_text(ROW_PER_ATTEMPT)
    assert main([*search, "6"]) == ExitCode.PASS


def test_the_guarantees_that_a_file_gives_up_are_not_promised(
    server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOB_HARNESS_DSN", server.url())
    Path("queue.yaml").write_text(ROW_PER_ATTEMPT)
    assert main(["explore", "queue.yaml", "--no-sessions", "--runs", "6"]) == ExitCode.PASS
    assert "Guarantees: jobs may be lost or never end." in capsys.readouterr().out
    Path("queue.yaml").write_text(ROW_PER_ATTEMPT.replace("job_stuck:", "priority_inversion:"))
    assert main(["explore", "queue.yaml", "--no-sessions", "--runs", "1", "--seed", "100"]) == ExitCode.PASS
    assert "Guarantees: at least once and one at a time, but not fenced." in capsys.readouterr().out
