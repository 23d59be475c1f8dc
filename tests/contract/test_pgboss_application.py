"""The guide's application on real pg-boss: the code that runs in memory, the same failures, and its repairs hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from job_harness.core.model.duration import SECOND
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.core.sim.clock import Clocks
from job_harness.core.target import Target
from job_harness.engines.pgboss import open_store
from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.search.cases import MEMORY, CaseRunner, tasks
from job_harness.search.counterfactual import Safeguard, with_fixes
from job_harness.search.sampling import Sampler, run_seed
from job_harness.search.targets import Engines, open_engine, open_own
from job_harness.subjects.applications import ApplicationEngine, Settings, Tables, TableStore, TwoTables, minutes

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

FOLDER = Path(__file__).parents[2] / "scenarios/applications"
FILE = FOLDER / "my_app.py"
SETTINGS = Settings(batch_size=5, job_timeout=minutes(10), lease=minutes(10))


class At:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def opened(version: str) -> Iterator[TableStore]:
    store = open_store(version)
    try:
        store.open(SETTINGS, At(), lambda: 0.0)
    except EnvironmentUnavailable as error:
        pytest.skip(str(error))
    yield store
    store.close()


@pytest.fixture(scope="module")
def store() -> Iterator[TableStore]:
    yield from opened("10.4.2")


@pytest.fixture(scope="module", params=["10.4.2", "12.38.0", pytest.param("11.1.2", marks=pytest.mark.campaign)])
def every_store(request: pytest.FixtureRequest) -> Iterator[TableStore]:
    """The statements of 10; 12, where the library touches and fences; 11, where an application does."""
    yield from opened(request.param)


@pytest.fixture
def clock() -> At:
    return At()


@pytest.fixture
def tables(every_store: TableStore, clock: At) -> Tables:
    return every_store.open(SETTINGS, clock, lambda: 0.0)


def application(name: str, store: TableStore) -> ApplicationEngine:
    engine = open_own(Target.parse(f"{FOLDER}/{name}@{store.name}"), store=store)
    assert isinstance(engine, ApplicationEngine)
    return engine


# What the generic workload finds -------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "anomaly", "stopped_by"),
    [
        ("my_app.py:MyApp", "silent_success", {"settle-by-result"}),
        ("guide.py:Guide", "attempt_overrun", {"derived-retry-limit"}),
    ],
)
def test_it_is_found_and_the_safeguard_that_stops_it_is_named(
    store: TableStore, name: str, anomaly: str, stopped_by: set[str]
) -> None:
    engine = application(name, store)
    finding = Sampler(engine, engine.info.settings, frozenset({anomaly})).explore(seed=0, runs=20).finding
    assert finding is not None

    guarded = [Safeguard(name, engine.guarded(name)) for name in engine.info.safeguards]
    run = with_fixes(finding.run, engine=engine, safeguards=guarded, anomaly=anomaly, runs=5)

    assert {trial.name for trial in run.trials if trial.stops} == stopped_by


@pytest.mark.long
def test_the_workload_meets_the_orphan_and_the_batch_that_outlives_its_lease(store: TableStore) -> None:
    engine = application("guide.py:Guide", store)
    sampler = Sampler(engine, engine.info.settings)
    wanted, found = {"orphan_row", "job_never_run", "concurrent_execution"}, set[str]()

    for number in range(24):
        found |= sampler.sample(run_seed(21, number)).found
        if wanted <= found:
            break

    assert wanted <= found


@pytest.mark.long
def test_a_careful_application_holds(store: TableStore) -> None:
    engine = application("guide.py:repaired", store)

    campaign = Sampler(engine, engine.info.settings).explore(seed=1, runs=12)

    assert campaign.runs == 12
    assert campaign.finding is None


@pytest.mark.long
def test_on_every_version_the_workload_meets_what_the_application_does_wrong(every_store: TableStore) -> None:
    engine = application("my_app.py:MyApp", every_store)

    finding = Sampler(engine, engine.info.settings, frozenset({"silent_success"})).explore(seed=0, runs=12).finding

    assert finding is not None
    assert finding.run.engine == f"{FOLDER}/my_app.py:MyApp@{every_store.name}"


# What a statement does, in memory and on pg-boss ---------------------------------------------------------------------


def delivered(tables: Tables, *, retry_limit: int | None) -> int:
    """Send a job, let every lease of it run out, and count how often it was delivered."""
    clock = tables.now
    assert isinstance(clock, At)
    tables.insert_tool_job("a")
    tables.send("a", retry_limit=retry_limit)
    count = 0
    for _ in range(8):
        count += len(tables.fetch("w1"))
        clock.now += SETTINGS.lease + SECOND
        tables.expire()
        clock.now += 20 * SETTINGS.retry_delay
    return count


@pytest.mark.parametrize(("retry_limit", "deliveries"), [(None, 3), (3, 4), (0, 1)])
def test_a_retry_limit_counts_what_follows_the_first(tables: Tables, retry_limit: int | None, deliveries: int) -> None:
    in_memory = TwoTables(SETTINGS, At(), lambda: 0.0)

    assert delivered(tables, retry_limit=retry_limit) == delivered(in_memory, retry_limit=retry_limit) == deliveries


def test_a_fenced_settlement_takes_only_its_own_delivery(tables: Tables, clock: At) -> None:
    tables.insert_tool_job("a")
    tables.send("a")
    old = tables.fetch("w1")[0]
    clock.now += SETTINGS.lease + SECOND
    assert tables.expire() == ["a"]
    clock.now += 20 * SETTINGS.retry_delay
    new = tables.fetch("w2")[0]

    assert (old.attempt, new.attempt, new.worker) == (1, 2, "w2")
    assert not tables.touch(old, fenced=True)
    assert not tables.complete(old, fenced=True)
    assert tables.touch(new, fenced=True)
    assert tables.complete(old)  # as the library does: whichever worker has it
    assert not tables.fail(new, fenced=True)


def test_a_job_may_have_several_rows_and_the_one_at_work_is_shown(tables: Tables) -> None:
    in_memory = TwoTables(SETTINGS, At(), lambda: 0.0)

    assert shown(tables) == shown(in_memory) == ["created", "active", "active", "created", "active", "completed"]


def shown(tables: Tables) -> list[str]:
    """Send a job twice, and list what is seen of it while both rows are fetched and settled."""
    seen: list[str] = []

    def look() -> None:
        seen.append(str(tables.jobs()["a"].queue_state))

    tables.insert_tool_job("a")
    assert tables.send("a")
    assert not tables.send("a")
    assert tables.send("a", another=True)
    look()
    (first,) = tables.fetch("w1")
    look()
    assert (first.number, tables.queue["a"].worker) == (0, "w1")
    with tables.transaction():
        assert tables.touch(first, fenced=True)
    look()
    assert tables.complete(first, fenced=True)
    look()
    (second,) = tables.fetch("w2")
    look()
    assert (second.number, second.attempt) == (1, 1)
    assert second.token != first.token
    assert not tables.complete(first)
    assert tables.complete(second)
    look()
    assert tables.fetch("w1") == []
    return seen


def test_a_queue_gives_its_own_rows_and_a_job_may_have_one_in_each(tables: Tables) -> None:
    in_memory = TwoTables(SETTINGS, At(), lambda: 0.0)

    assert in_two_queues(tables) == in_two_queues(in_memory) == [[], [("a", "mail", 0)], [("a", "tool", 1)], []]


def in_two_queues(tables: Tables) -> list[list[tuple[str, str, int]]]:
    """Send a job to two queues, fetch from each, and cancel both rows."""
    tables.insert_tool_job("a")
    assert tables.send("a", queue="mail")
    assert tables.send("a", another=True)
    fetched = [tables.fetch("w1", 5, queue=queue) for queue in ("other", "mail", "tool")]
    assert tables.complete(fetched[1][0])
    assert tables.cancel("a")
    assert tables.queue["a"].state == "cancelled"
    fetched.append(tables.fetch("w1", 5))
    return [[(row.job, row.queue, row.number) for row in rows] for rows in fetched]


def test_a_touch_lets_the_lease_begin_anew(tables: Tables, clock: At) -> None:
    tables.insert_tool_job("a")
    tables.send("a")
    row = tables.fetch("w1")[0]
    clock.now += SETTINGS.lease - SECOND

    assert tables.touch(row)

    clock.now += SETTINGS.lease - SECOND
    assert tables.expire() == []
    assert tables.queue["a"].attempt == 1


def test_a_final_failure_has_no_retry(tables: Tables) -> None:
    tables.insert_tool_job("a")
    tables.send("a")

    assert tables.fail(tables.fetch("w1")[0], final=True)

    assert tables.queue["a"].state == "failed"


def test_a_transaction_that_raises_leaves_nothing_behind(tables: Tables) -> None:
    def enqueue() -> None:
        with tables.transaction():
            tables.insert_tool_job("a")
            tables.send("a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        enqueue()

    assert not tables.jobs()
    assert not tables.changed()


def test_after_a_refusal_a_transaction_takes_no_more(tables: Tables) -> None:
    tables.insert_tool_job("a")

    def twice() -> None:
        with tables.transaction():
            with pytest.raises(psycopg.errors.UniqueViolation):
                tables.insert_tool_job("a")
            tables.send("a")

    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        twice()

    assert tables.jobs()["a"].queue_state is None


@pytest.mark.parametrize("column", [{"error": "a\x00b"}, {"output": {"a": "\x00"}}, {"output": float("nan")}])
def test_what_postgresql_refuses_raises_and_changes_nothing(tables: Tables, column: dict[str, object]) -> None:
    tables.insert_tool_job("a")

    with pytest.raises((psycopg.DataError, ValueError)):
        tables.update_tool_job("a", status="FAILED", **column)

    assert tables.tool_jobs["a"].status == "PENDING"


def test_an_update_tells_whether_its_where_was_met_and_stamps_its_times(tables: Tables, clock: At) -> None:
    tables.insert_tool_job("a", input={"n": 1})
    clock.now = SECOND

    assert not tables.update_tool_job("a", {"status": "PROCESSING"}, status="COMPLETED")
    assert tables.update_tool_job("a", {"error": None}, status="COMPLETED", output=[1])

    row = tables.tool_jobs["a"]
    assert (row.output, row.completed_at, row.expires_at) == ([1], SECOND, SECOND + SETTINGS.retention)
    with pytest.raises(TypeError, match="did you mean 'status'"):
        tables.update_tool_job("a", statsu="FAILED")


def test_what_is_deleted_is_seen_no_more(tables: Tables) -> None:
    tables.insert_tool_job("a")
    tables.send("a")
    assert not tables.send("a")
    assert tables.jobs()["a"].agrees

    assert tables.delete_row("a")
    assert tables.jobs()["a"].queue_state is None
    assert tables.delete_tool_job("a")

    assert not tables.jobs()
    assert tables.changed() == ["a"]


# The name of such a target -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("MyApp@pgbos", "no application's tables can be on 'pgbos' (did you mean 'pgboss'?)"),
        ("MyApp@pgboss@", "with a version as in pgboss@12.38.0"),
        ("MyApp@pgboss-node@12", "They are in memory, or on pgboss"),
        ("MyApp@pgboss@9.0.0", "runs the SQL of pg-boss 10"),
        ("MyApp@pgboss@12/stately", "'12/stately' is not a version of pg-boss"),
    ],
)
def test_a_store_that_there_is_not_is_named(name: str, told: str) -> None:
    with Engines() as engines, pytest.raises(UsageError) as refused:
        engines.get(Target.parse(f"{FILE}:{name}")).open(SETTINGS, Clocks(), lambda: 0.0)

    assert told in f"{refused.value.message}\n{refused.value.hint}"


def test_the_safeguards_stand_on_the_store_of_the_bare_application() -> None:
    with Engines() as engines:
        bare = engines.get(Target.parse(f"{FILE}:MyApp@pgboss@10.4.2"))
        guarded = engines.get(Target.parse(f"{FILE}:MyApp@pgboss@10.4.2+fencing+heartbeats"))

        assert isinstance(bare, ApplicationEngine)
        assert isinstance(guarded, ApplicationEngine)
        assert guarded._store is bare._store
        assert guarded.info.name.endswith("MyApp@pgboss@10.4.2+fencing+heartbeats")
        assert "fencing" not in guarded.info.safeguards
        assert (bare.owns_store, guarded.owns_store) == (True, False)


def test_whoever_opens_a_target_with_its_safeguards_closes_its_store_with_it() -> None:
    engine = open_engine(f"{FILE}:MyApp@pgboss@10.4.2+fencing")

    assert isinstance(engine, ApplicationEngine)
    assert engine.owns_store


def test_what_was_found_is_replayed_from_its_scenario(store: TableStore) -> None:
    scenario = read_scenario_text(
        f"""
format: 1
title: the API dies between its two inserts
settings: {{batch_size: 5, lease: 10m}}
application: {FOLDER}/guide.py:Guide@pgboss@10.4.2+reconcile-both-ways
jobs: {{a: {{takes: 30s}}}}
steps:
  - crash client-a before "insert queue row"
  - run until idle
expect:
  a: {{status: COMPLETED, runs: 1}}
""",
        path="orphan.yaml",
    )

    run = play(scenario, engine=application("guide.py:Guide", store).guarded("reconcile-both-ways"))

    assert scenario.application is not None
    assert scenario.application.endswith("Guide@pgboss@10.4.2+reconcile-both-ways")
    assert run.verdict is Verdict.PASS


@pytest.mark.long
def test_a_machine_without_the_store_still_runs_the_other_applications(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(version: str) -> None:
        raise EnvironmentUnavailable("there is no npm", hint="Install it.")

    monkeypatch.setattr("job_harness.engines.pgboss.package.load", refuse)
    text = "format: 1\ntitle: one job\napplication: {name}\njobs: {{a: {{takes: 30s}}}}\n"
    scenarios = [
        read_scenario_text(text.format(name=f"{FILE}:{name}"), path=str(tmp_path / "app.yaml"))
        for name in ("safest@pgboss@10.4.2", "safest@pgboss@10.4.2+fencing", "safest")
    ]

    with Engines() as engines:
        campaign = CaseRunner(engines)
        campaign.run(tasks(scenarios, [MEMORY], controls=True))

    assert [case.error is not None for case in campaign.cases] == [True, True, False]
