"""`check` on the guide's own settings: exactly the contradictions that they hold, by file and line; repaired, none."""

from __future__ import annotations

from pathlib import Path

from tests.unit.guide_repository import GUIDE, REPAIRED, write

from job_harness.review.check.examination import examine
from job_harness.review.check.finding import CheckFinding
from job_harness.review.check.repository import NamedEnvironment, read_repository

CONFIG = "packages/api/modules/jobs/lib/job-config.ts"


def found_in(root: Path) -> tuple[CheckFinding, ...]:
    return examine(read_repository(root)).findings


def test_the_guides_settings_hold_two_contradictions_each_at_its_line(tmp_path: Path) -> None:
    found = found_in(write(tmp_path, GUIDE))

    assert [(finding.rule, str(finding.place)) for finding in found] == [
        ("attempts_disagree", "packages/database/pgboss.sql:7"),
        ("expiry_within_timeout", "packages/database/pgboss.sql:10"),
    ]


def test_one_expiry_that_is_too_short_is_one_finding_with_what_to_set(tmp_path: Path) -> None:
    files = {**GUIDE, CONFIG: GUIDE[CONFIG].replace("MINUTES = 30", "MINUTES = 5")}
    found = {finding.rule: finding.repair for finding in found_in(write(tmp_path, files))}

    assert found.keys() == {"attempts_disagree", "expiry_within_timeout", "stuck_within_timeout"}
    assert found["expiry_within_timeout"] == (
        "Take one job at a time, and set the queue's expiry to 11m or more: it needs 10m10s and some room. "
        "Or set it to 51m for 5 jobs at a time."
    )
    assert found["stuck_within_timeout"] == "Set STUCK_JOB_TIMEOUT_MINUTES to 12 minutes or more: it needs 11m10s."


def test_each_contradiction_names_the_other_places_that_have_to_do_with_it(tmp_path: Path) -> None:
    related = {
        finding.rule: [str(other.place) for other in finding.related] for finding in found_in(write(tmp_path, GUIDE))
    }

    assert related == {
        "attempts_disagree": ["packages/database/tool_job.sql:13"],
        "expiry_within_timeout": [f"{CONFIG}:1", f"{CONFIG}:2", "apps/api-server/.env:8"],
    }


def test_what_the_guide_leaves_to_be_filled_in_is_unknown_and_not_wrong(tmp_path: Path) -> None:
    examination = examine(read_repository(write(tmp_path, GUIDE)))

    assert [str(value.place) for value in examination.unknown] == ["apps/api-server/.env:5", "apps/web/.env:2"]


def test_a_placeholder_is_weak_where_it_is_said_to_be_what_runs(tmp_path: Path) -> None:
    write(tmp_path, GUIDE)
    facts = read_repository(tmp_path, environments=[NamedEnvironment("web", "apps/web/.env")])
    weak = [finding for finding in examine(facts).findings if finding.rule == "cron_secret_weak"]

    assert [str(finding.place) for finding in weak] == ["apps/web/.env:2"]
    assert "your-secret" not in weak[0].message


def test_the_repaired_copy_has_nothing_to_find(tmp_path: Path) -> None:
    assert found_in(write(tmp_path, REPAIRED)) == ()


def test_a_repaired_copy_that_keeps_its_batches_has_nothing_to_find_either(tmp_path: Path) -> None:
    files = {
        **REPAIRED,
        "apps/api-server/.env": GUIDE["apps/api-server/.env"],
        "packages/database/pgboss.sql": REPAIRED["packages/database/pgboss.sql"].replace("'00:11:00'", "'00:51:00'"),
        CONFIG: REPAIRED[CONFIG].replace("MINUTES = 30", "MINUTES = 60"),
    }

    assert found_in(write(tmp_path, files)) == ()
