"""What `check` says of a queue file by reading it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from job_harness.doors.cli import main
from job_harness.engines.queue_file.document import read_queue_file
from job_harness.engines.queue_file.facts import add_queue_files, facts_of, sweeps_by_lease
from job_harness.review.check.examination import Examination, examine
from job_harness.review.check.repository import read_repository

EXAMPLES = Path(__file__).parents[2] / "examples" / "queues"
MAIL = (EXAMPLES / "mail.yaml").read_text(encoding="utf-8")
SEEN = {
    "unfenced_complete": ["table_settles_unfenced 26"],
    "reaper_by_updated_at": ["table_reaper_by_age 39"],
    "attempts_on_failure": ["table_attempts_uncounted 13"],
    "token_not_cleared": ["table_token_left 26"],
    "mail": [],
}


@pytest.mark.parametrize("name", SEEN)
def test_each_planted_mistake_is_seen_at_its_line(name: str) -> None:
    assert found(EXAMPLES / f"{name}.yaml") == SEEN[name]


CHANGED = {
    "a worker instead of a token": (
        "id = :job AND status = 'running' AND lock_token = :token\n\nfail",
        "id = :job AND locked_by = :worker\n\nfail",
        ["table_settles_unfenced 26"],
    ),
    "a function of one's own": (
        MAIL[MAIL.index("  UPDATE mail_jobs\n  SET status = 'done'") : MAIL.index("fail: |")],
        "  SELECT complete_job(:job)\n",
        [],
    ),
    "a late worker by design": ("queue: mail", "queue: mail\nfencing: false", []),
    "an order that no index follows": (
        "ORDER BY created_at, id",
        "ORDER BY run_at DESC, id",
        ["table_order_without_index 18"],
    ),
    "an order whose nulls come elsewhere than in the index": (
        "ORDER BY created_at, id",
        "ORDER BY created_at NULLS FIRST, id",
        ["table_order_without_index 18"],
    ),
    "an order that is an index read backwards": ("ORDER BY created_at, id", "ORDER BY created_at DESC, id DESC", []),
    "an order by the primary key": ("ORDER BY created_at, id", "ORDER BY id", []),
    "an order that is more than columns": ("ORDER BY created_at, id", "ORDER BY attempts * 2", []),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_written_otherwise_is_seen_or_left_alone(name: str, tmp_path: Path) -> None:
    was, now, seen = CHANGED[name]
    assert MAIL.count(was) == 1
    (tmp_path / "mail.sql").write_text((EXAMPLES / "mail.sql").read_text(encoding="utf-8"))
    path = tmp_path / "queue.yaml"
    path.write_text(MAIL.replace(was, now))
    assert found(path) == seen


def test_a_repair_names_the_column_that_holds_the_token(tmp_path: Path) -> None:
    renamed = {name: (EXAMPLES / name).read_text("utf-8") for name in ("mail.sql", "unfenced_complete.yaml")}
    for name, text in renamed.items():
        (tmp_path / name).write_text(text.replace("lock_token", "claim"))
    (finding,) = examine(facts_of(str(tmp_path / "unfenced_complete.yaml"))).findings
    assert finding.repair.startswith("Add AND claim = :token, or ")


def test_a_repair_keeps_the_directions_of_the_order(tmp_path: Path) -> None:
    (tmp_path / "mail.sql").write_text((EXAMPLES / "mail.sql").read_text(encoding="utf-8"))
    (tmp_path / "queue.yaml").write_text(
        MAIL.replace("ORDER BY created_at, id", "ORDER BY run_at NULLS FIRST, id DESC")
    )
    (finding,) = examine(facts_of(str(tmp_path / "queue.yaml"))).findings
    assert finding.repair.startswith("CREATE INDEX ON mail_jobs (run_at NULLS FIRST, id DESC); ")


def test_a_pass_says_of_what_it_is_one_and_functions_are_not_judged(tmp_path: Path) -> None:
    (tmp_path / "mail.sql").write_text((EXAMPLES / "mail.sql").read_text(encoding="utf-8"))
    path = tmp_path / "queue.yaml"
    path.write_text(MAIL)
    whole = examine(facts_of(str(path)))
    assert (str(whole.inventory), whole.skipped, whole.uncovered) == ("the conditions of 5 verbs", (), ())
    path.write_text(re.sub(r"(?m)^(complete|fail): \|\n(  .*\n)+", r"\1: SELECT settle(:job)\n", MAIL))
    partly = examine(facts_of(str(path)))
    assert str(partly.inventory) == "the conditions of 3 of 5 verbs"
    assert "complete, fail of" in partly.skipped[0]
    verbs = "claim|heartbeat|complete|fail|expire"
    path.write_text(re.sub(rf"(?m)^({verbs}): \|\n(  .*\n)+", r"\1: SELECT settle()\n", MAIL))
    (told,) = examine(facts_of(str(path))).uncovered
    assert "none of its SQL was understood" in told


def test_a_sweep_that_goes_by_something_else_than_leases_is_asked_all_the_time() -> None:
    by_lease = {path.stem: sweeps_by_lease(read_queue_file(str(path))) for path in EXAMPLES.glob("*.yaml")}
    assert [name for name, does in sorted(by_lease.items()) if not does] == ["reaper_by_updated_at", "visibility"]


SET = "settings: {job_timeout: 10m, lease: 12m, expire_interval: 1m}"
GRACE = "services: {worker: {build: ., stop_grace_period: 30s}}\n"
SWEEP = "%s * * * * python manage.py expire_jobs\n"
RELEASES = "release: UPDATE mail_jobs SET status = 'queued' WHERE id = :job AND lock_token = :token\n"
NO_HEARTBEAT = re.compile(r"(?m)^heartbeat: \|\n(  .*\n)+\n?")
BESIDE = {
    "nothing else": (SET, {}, []),
    "all that agrees": (SET, {"compose.yaml": GRACE.replace("30s", "10m"), ".env": "JOB_TIMEOUT_MS=600000\n"}, []),
    "a short grace": (SET, {"compose.yaml": GRACE}, ["warning table_job_outlives_grace db/queue.yaml:5"]),
    "the usual grace": (
        SET,
        {"compose.yaml": "services: {worker: {build: .}}\n"},
        ["note table_job_outlives_grace db/queue.yaml:5"],
    ),
    "a kill timeout": (
        SET,
        {"ecosystem.config.js": "module.exports = { apps: [{ script: 'w.js', kill_timeout: 60000 }] };\n"},
        ["warning table_job_outlives_grace db/queue.yaml:5"],
    ),
    "a worker that releases": (f"{SET}\n{RELEASES}", {"compose.yaml": GRACE}, []),
    "a cron that comes less often": (
        SET,
        {"crontab": SWEEP % "*/5"},
        ["warning table_settings_differ db/queue.yaml:5"],
    ),
    "a cron that comes as often": (SET, {"crontab": SWEEP % "*"}, []),
    "another timeout in the environment": (
        SET,
        {".env": "JOB_TIMEOUT_MS=900000\n"},
        ["warning table_settings_differ db/queue.yaml:5"],
    ),
    "a lease that ends within the timeout of the environment": (
        "settings: {lease: 12m}\nwithout: {attempt_overrun: known}",
        {".env": "JOB_TIMEOUT_MS=900000\n"},
        ["error table_lease_within_job db/queue.yaml:5"],
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_queue_file_of_a_folder_is_checked_and_compared_with_what_lies_beside_it(name: str, tmp_path: Path) -> None:
    given, files, seen = BESIDE[name]
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "mail.sql").write_text((EXAMPLES / "mail.sql").read_text(encoding="utf-8"))
    text = MAIL if "{lease" not in given else NO_HEARTBEAT.sub("", MAIL)
    (tmp_path / "db" / "queue.yaml").write_text(text.replace("queue: mail", f"queue: mail\n{given}"))
    for file, told in files.items():
        (tmp_path / file).write_text(told)
    examination = in_folder(tmp_path)
    assert [f"{one.severity} {one.rule} {one.place}" for one in examination.findings] == seen
    verbs = "4 verbs" if text != MAIL else "6 verbs" if RELEASES in given else "5 verbs"
    assert str(examination.inventory).endswith(f"the conditions of {verbs}")


def test_a_queue_file_of_a_folder_that_cannot_be_read_is_an_error_at_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "queue.yaml").write_text(MAIL)
    assert main(["check", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "error unreadable_file queue.yaml:6\n  queue.yaml is a queue file, and was not checked: schema:" in told


def in_folder(folder: Path) -> Examination:
    facts = read_repository(folder)
    add_queue_files(facts, folder)
    return examine(facts)


def found(path: Path) -> list[str]:
    return [f"{finding.rule} {finding.place.line}" for finding in examine(facts_of(str(path))).findings]
