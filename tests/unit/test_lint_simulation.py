"""`explore --settings-from`: a repository's settings drive the search; the failure and its repair are its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.guide_repository import GUIDE, REPAIRED, write

from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.model.settings import Settings
from job_harness.doors.cli import main
from job_harness.review.check.repository import read_repository
from job_harness.review.check.settings import simulation_of


def test_what_the_guide_sets_becomes_settings_with_their_places(tmp_path: Path) -> None:
    simulation = simulation_of(read_repository(write(tmp_path, GUIDE)))

    assert simulation.settings == Settings(lease=10 * MINUTE, batch_size=5)
    assert simulation.origins["lease"] == "expire_in at packages/database/pgboss.sql:10"
    assert simulation.origins["batch_size"] == "PGBOSS_BATCH_SIZE at apps/api-server/.env:8"


def test_pgboss_options_and_the_cron_are_followed_too(tmp_path: Path) -> None:
    files = {
        "package.json": '{"dependencies": {"pg-boss": "10.4.2"}}',
        "boss.ts": "new PgBoss({ retryLimit: 4, retryDelay: 30, retryBackoff: true, expireInHours: 1 });",
        "vercel.json": '{"crons": [{"path": "/api/cron/job-maintenance", "schedule": "*/5 * * * *"}]}',
        ".env": "USE_PGBOSS_WORKERS=false\n",
    }
    settings = simulation_of(read_repository(write(tmp_path, files))).settings

    assert settings == Settings(
        max_attempts=5,
        retry_delay=30 * SECOND,
        lease=60 * MINUTE,
        cron_period=5 * MINUTE,
        expire_interval=2 * MINUTE,
        workers_enabled=False,
    )


TWO = {
    "package.json": '{"dependencies": {"pg-boss": "12.38.0"}}',
    "boss.ts": (
        'await boss.createQueue("slow", { retryLimit: 1, expireInSeconds: 60 * 60 });\n'
        'await boss.createQueue("fast", { retryLimit: 4, expireInSeconds: 90 });\n'
        'await boss.work("fast", run);\n'
    ),
}


def test_each_queue_has_settings_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = read_repository(write(tmp_path, TWO))

    assert simulation_of(facts).origins["lease"] == "expireInSeconds at boss.ts:2"
    assert simulation_of(facts, queue="slow").settings.lease == 60 * MINUTE
    monkeypatch.chdir(tmp_path)
    assert main(["explore", "--settings-from", ".#slow", "--runs", "1"]) == 0
    told = capsys.readouterr().out
    assert "Settings from ., queue 'slow':" in told
    assert "memory stands for its pg-boss 12.38.0 (package.json:1): explore pgboss-node@12 runs that" in told
    assert main(["explore", "--settings-from", ".", "--queue", "slow", "--runs", "1"]) == 0
    assert main(["explore", "--queue", "slow", "--runs", "1"]) == 2
    assert main(["explore", "--settings-from", ".#slwo", "--runs", "1"]) == 2
    assert "did you mean 'slow'?" in capsys.readouterr().err


@pytest.mark.usefixtures("few_fresh_runs")
def test_a_search_takes_each_queue_in_turn_and_keeps_what_it_finds_on_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(write(tmp_path, TWO))
    search = ["explore", "--settings-from", ".", "--set", "stuck_timeout=5m", "--looking-for", "taken_back_early"]

    assert main([*search, "--runs", "40"]) == 1

    told = capsys.readouterr().out
    assert told.index("Queue 1 of 2: fast\nSettings from ., queue 'fast':") < told.index("Queue 2 of 2: slow")
    found = {path.name: path.read_text() for path in (tmp_path / ".job-harness/found").iterdir()}
    assert [name for name in found if "slow" in name] == ["taken_back_early-memory-slow.yaml"]
    assert "lease: 1h" in found["taken_back_early-memory-slow.yaml"]
    assert main([*search, "--junit", "j.xml"]) == 2
    assert "--junit can hold only one search, but . has 2 queues" in capsys.readouterr().err


SETS_LIMIT = {
    "one of two calls": {
        "boss.ts": 'boss.send("mail", {});\nboss.send("mail", {}, { retryLimit: 5 });\nboss.work("mail", run);\n'
    },
    "the second of two services": {
        "apps/api/.env": "JOB_TIMEOUT_MS=60000\n",
        "apps/worker/.env": "JOB_RETRY_LIMIT=5\n",
    },
}


@pytest.mark.parametrize("where", SETS_LIMIT)
def test_a_default_is_never_named_where_a_file_sets_the_value(tmp_path: Path, where: str) -> None:
    boss = {"package.json": '{"dependencies": {"pg-boss": "10.4.2"}}'}
    simulation = simulation_of(read_repository(write(tmp_path, {**boss, **SETS_LIMIT[where]})))

    assert simulation.settings.max_attempts == 6
    assert " + 1 at " in simulation.origins["max_attempts"]


def test_a_default_tells_of_a_value_without_effect_and_gives_way_to_one_that_is_not_understood(tmp_path: Path) -> None:
    files = {
        "package.json": '{"dependencies": {"pg-boss": "10.4.2"}}',
        "boss.ts": 'boss.createQueue("mail", { expireInMinutes: 5 });\nboss.work("mail", run);\n',
        ".env": "JOB_MAX_ATTEMPTS=many\n",
    }
    simulation = simulation_of(read_repository(write(tmp_path, files)))

    ignored = "the library's default; expireInMinutes at boss.ts:1 has no effect there"
    assert simulation.origins["lease"] == ignored
    assert "max_attempts" not in simulation.origins


def test_what_no_simulation_can_run_under_keeps_its_default(tmp_path: Path) -> None:
    files = {"job-config.ts": "export const JOB_TIMEOUT_MS = 0;\nexport const JOB_MAX_ATTEMPTS = -1;\n"}

    assert simulation_of(read_repository(write(tmp_path, files))).settings == Settings()


@pytest.mark.usefixtures("few_fresh_runs")
def test_the_search_fails_on_the_guides_settings_and_names_their_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(write(tmp_path, GUIDE))

    assert main(["explore", "--settings-from", ".", "--runs", "200", "--looking-for", "healthy_claim_taken_back"]) == 1

    told = capsys.readouterr().out
    assert "lease 10m  (expire_in at packages/database/pgboss.sql:10)" in told
    assert "packages/database/pgboss.sql:10 expiry_within_timeout: Take one job at a time, and set the" in told
    assert "FAIL  healthy_claim_taken_back on memory" in told


def test_the_search_passes_on_the_repaired_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(write(tmp_path, REPAIRED))

    assert main(["explore", "--settings-from", ".", "--runs", "50"]) == 0
    assert "pass: no anomaly on memory" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "--settings-from", "nowhere"]) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("search", ["explore", "exhaust"])
def test_a_folder_that_sets_nothing_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], search: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# Nothing here\n")
    assert main([search, "memory", "--settings-from", "."]) == 3
    said = capsys.readouterr()
    assert "inconclusive: . sets nothing that a search could use" in said.err
    assert "pass" not in said.out


OWN = """
from dataclasses import replace
from job_harness.engines.memory import MemoryEngine
from job_harness.core.model.duration import MINUTE
from job_harness.core.port import Contract


class Mine(MemoryEngine):
    def __init__(self):
        super().__init__()
        self.info = replace(self.info, contract=Contract(
            effective=lambda settings: settings.changed(lease=30 * MINUTE),
            fixed=frozenset({"lease"}),
            fixed_where={"lease": "mine.py has it in its SQL"},
        ))


def mine():
    return Mine()
"""


def test_what_the_target_fixes_is_not_taken_from_a_repository_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(write(tmp_path, {**TWO, "mine.py": OWN}))

    assert main(["explore", "mine.py:mine", "--settings-from", ".#slow", "--runs", "3"]) == 0
    assert "  not taken: lease 1h. It stays 30m: mine.py has it in its SQL\n" in capsys.readouterr().out
