"""`job-harness check` as its user types it: exit codes, reports, services by name, a baseline that only shrinks."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.unit.guide_repository import GUIDE, REPAIRED, write
from tests.unit.sarif_schema import SARIF

from job_harness.doors.cli import main
from job_harness.report.json_report import schema
from job_harness.review.check.catalogue import CATALOGUE


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write(tmp_path, GUIDE))
    return tmp_path


def report(folder: Path, *arguments: str) -> Any:
    main(["check", str(folder), "--json", str(folder / "report.json"), *arguments])
    told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(told, schema())
    return told


def test_contradictions_fail_and_a_repaired_copy_passes(
    guide: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    repaired = write(tmp_path_factory.mktemp("repaired"), REPAIRED)

    assert main(["check"]) == 1
    assert "FAIL: 2 errors; 8 files read" in capsys.readouterr().out
    assert main(["check", str(repaired)]) == 0
    assert capsys.readouterr().out.endswith("pass: no contradiction among 8 settings and 0 calls; 8 files read\n")


def test_a_pass_says_what_was_compared_and_a_pass_of_nothing_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = {"package.json": '{"dependencies": {"pg-boss": "12.38.0"}}'}
    create = 'await boss.createQueue("a"{});\nawait boss.work("a", async ([job]) => {{ await run(job{}); }});\n'
    create += 'process.on("SIGTERM", () => boss.stop({{ timeout: 9_000 }}));'
    settings = ', { expireInSeconds: 660 });\nawait boss.updateQueue("a", { expireInSeconds: 660 }'

    full = create.format(settings, ", { timeout: 60_000 }")
    assert main(["check", str(write(tmp_path / "full", {**package, "boss.ts": full}))]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Settings read: expireInSeconds = 660 of 'a'",
        "Waits of handlers: 'a' 1m (timeout)",
        "pass: no contradiction among 2 settings and 3 calls; 2 files read",
    ]
    assert main(["check", str(write(tmp_path / "bare", {**package, "boss.ts": create.format("", "")}))]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Waits of handlers: 'a' none found",
        "pass: no contradiction among 0 settings and 2 calls; 2 files read",
    ]
    read = report(tmp_path / "full")["read"]
    assert read["calls"] == {"pg-boss": 3}
    assert [(one["name"], one["value"], one["queue"], one["line"]) for one in read["settings"]] == [
        ("expireInSeconds", 660, "a", 1),
        ("expireInSeconds", 660, "a", 2),
    ]


def test_a_number_that_json_cannot_hold_is_reported_as_text(tmp_path: Path) -> None:
    write(tmp_path, {"celeryconfig.py": "task_acks_late = False\ntask_time_limit = 1e999\n"})

    assert {one["name"]: one["value"] for one in report(tmp_path)["read"]["settings"]} == {
        "task_acks_late": False,
        "task_time_limit": "inf",
    }


def test_the_screen_names_the_place_the_other_places_and_the_repair(
    guide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", "--quiet", "--fail-on", "error"])

    told = capsys.readouterr().out
    assert "error attempts_disagree packages/database/pgboss.sql:7" in told
    assert "see packages/database/tool_job.sql:13: maxAttempts = 3" in told
    assert "repair: Set retry_limit to 2" in told
    assert "Not to be told" not in told
    assert all(len(line) <= 80 for line in told.splitlines())


def test_of_a_mistake_that_is_made_everywhere_three_are_told_and_the_others_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = "@shared_task(acks_late=True)\ndef t{}(): ...\n"
    files = {name: "from celery import shared_task\n" + task.format(1) * 4 for name in ("a.py", "b.py")}

    assert main(["check", str(write(tmp_path, files))]) == 1
    told = capsys.readouterr().out
    assert told.count("repair:") == 3
    assert "warning acks_late_loses_killed at 5 more places\n  a.py:8; b.py:2, 4, 6, 8\n" in told
    assert "FAIL: 8 warnings" in told
    assert len(report(tmp_path)["findings"]) == 8


@pytest.mark.parametrize(("level", "code"), [("error", 1), ("warning", 1), ("note", 1), ("never", 0)])
def test_fail_on_decides_what_fails(level: str, code: int, guide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--fail-on", level, "--junit", "check.xml"]) == code
    told = "FAIL: 2 errors;" if code else "pass: 2 errors among 8 settings and 0 calls;"
    assert f"{told} 8 files read" in capsys.readouterr().out
    assert ElementTree.parse(guide / "check.xml").getroot().get("failures") == ("2" if code else "0")


def test_a_repository_of_which_nothing_can_be_read_is_no_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "celeryconfig.py").write_text("CELERY_ACKS_LATE = True\nx = (\n")

    assert main(["check", str(tmp_path)]) == 3
    told = capsys.readouterr().out
    assert "note unreadable_file celeryconfig.py:2" in told
    assert "inconclusive: 1 file read, and no settings of a job queue were found" in told
    assert main(["check", str(tmp_path), "--fail-on", "note"]) == 1
    assert "FAIL: 1 note; 1 file read" in capsys.readouterr().out


def test_a_warning_does_not_fail_where_only_errors_do(tmp_path: Path) -> None:
    write(tmp_path, {".env": "CRON_SECRET=hunter2\n"})

    assert main(["check", str(tmp_path)]) == 1
    assert main(["check", str(tmp_path), "--fail-on", "error"]) == 0


@pytest.mark.parametrize("files", [{}, {".env": "TZ=UTC\nDATABASE_URL=postgresql://u@db.example.org/jobs\n"}])
def test_a_folder_that_sets_nothing_of_a_queue_is_inconclusive(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junit = tmp_path / "check.xml"
    assert main(["check", str(write(tmp_path, files)), "--junit", str(junit)]) == 3
    told = capsys.readouterr().out
    assert "inconclusive" in told
    assert "docs/queue_files.md" in told
    root = ElementTree.parse(junit).getroot()
    assert root.get("skipped") == root.get("tests") == str(len(CATALOGUE)), (
        "a rule that had nothing to judge passes not"
    )


@pytest.mark.parametrize(
    ("file", "source", "told"),
    [
        ("agent.py", "import os\nfrom langgraph.graph import StateGraph\n", "langgraph is used (agent.py:2)"),
        ("app.ts", 'import { DBOS } from "@dbos-inc/dbos-sdk";\n', "job-harness docs dbos_typescript"),
    ],
)
def test_a_folder_with_an_agent_or_a_workflow_is_shown_the_page_of_its_library(
    file: str, source: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(write(tmp_path, {file: source}))]) == 3
    said = capsys.readouterr().out
    assert told in said
    assert "queue_files.md" not in said


def test_a_queue_of_which_nothing_is_understood_is_skipped_in_junit(tmp_path: Path) -> None:
    junit = tmp_path / "check.xml"
    assert main(["check", str(write(tmp_path, {"Procfile": "w: celery -A shop worker\n"})), "--junit", str(junit)]) == 3
    [case] = ElementTree.parse(junit).getroot().findall(".//testcase[@name='understood']")
    assert "celery is used (Procfile:1)" in case[0].attrib["message"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "there is no such folder"),
        (["--env", "worker"], "is not SERVICE=FILE"),
        (["--env", "worker=nowhere.env"], "No such file"),
        (["--without", "attempts_disagre"], "did you mean 'attempts_disagree'?"),
        (["--baseline", "nowhere.json"], "No such file"),
        (["--baseline", "apps/web/vercel.json"], "is not a baseline"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    arguments: list[str], told: str, guide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_rule_can_be_left_out(guide: Path) -> None:
    rules = {one["rule"] for one in report(guide, "--without", "attempts_disagree")["findings"]}

    assert rules == {"expiry_within_timeout"}


def test_the_json_report_has_every_finding_with_its_related_places(guide: Path) -> None:
    document = report(guide)
    finding = next(one for one in document["findings"] if one["rule"] == "attempts_disagree")

    assert (document["format"], document["exit_code"], document["files"]) == ("job-harness-check", 1, 8)
    assert set(finding) == {"rule", "severity", "file", "line", "message", "repair", "related"}
    assert finding["related"] == [
        {
            "file": "packages/database/tool_job.sql",
            "line": 13,
            "message": "maxAttempts = 3 (a column default)",
        }
    ]


def test_json_on_standard_output_is_nothing_but_json(guide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "--json", "-"])

    assert len(json.loads(capsys.readouterr().out)["findings"]) == 2


def test_the_sarif_report_is_valid(guide: Path) -> None:
    main(["check", "--write-baseline", "baseline.json"])
    (guide / "packages/database/with space.sql").write_text(
        "CREATE TABLE tool_job (c timestamptz DEFAULT CURRENT_TIMESTAMP);", encoding="utf-8"
    )
    main(["check", "--baseline", "baseline.json", "--sarif", "check.sarif"])

    document = json.loads((guide / "check.sarif").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(SARIF).validate(document)
    run = document["runs"][0]
    assert [result["ruleId"] for result in run["results"] if "suppressions" not in result] == [
        "column_ignores_virtual_time"
    ]
    assert len(run["results"]) == 3
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_a_misspelt_property_would_not_pass_as_sarif() -> None:
    document = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}, "result": []}]}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SARIF).validate(document)


def test_the_junit_report_has_a_case_for_every_rule(guide: Path) -> None:
    write(guide, {"apps/web/.env": "CRON_SECRET=hunter2\n"})
    main(["check", "--junit", "check.xml", "--fail-on", "error"])

    suite = ElementTree.parse(guide / "check.xml").getroot()[0]
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert len(suite) == len(CATALOGUE)
    assert failed == ["expiry_within_timeout", "attempts_disagree"]
    assert [case.get("name") for case in suite if case.find("system-out") is not None] == ["cron_secret_weak"]


def test_annotations_stand_at_the_line(guide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(guide, {"apps/web/.env": "\nCRON_SECRET=hunter2\n"})
    main(["check", "--annotations", "--quiet"])

    told = capsys.readouterr().out
    assert "::error file=packages/database/pgboss.sql,line=10,title=expiry_within_timeout::the queue takes" in told
    assert "::warning file=apps/web/.env,line=2,title=cron_secret_weak::" in told


def test_what_the_baseline_holds_does_not_fail(guide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--write-baseline", "baseline.json"]) == 0
    assert main(["check", "--baseline", "baseline.json"]) == 0
    assert "2 accepted by the baseline" in capsys.readouterr().out


def test_lines_that_move_keep_their_place_in_the_baseline(guide: Path) -> None:
    main(["check", "--write-baseline", "baseline.json"])
    path = guide / "packages/database/pgboss.sql"
    path.write_text("-- one more line\n" + path.read_text(encoding="utf-8"), encoding="utf-8")

    assert main(["check", "--baseline", "baseline.json"]) == 0


def test_a_repair_beside_it_makes_no_other_finding_new(tmp_path: Path) -> None:
    boss = 'boss.createQueue("a", { retryLimit: 2 });\nboss.createQueue("b", { retryLimit: 2, retryDelay: 5 });\n'
    write(tmp_path, {"package.json": '{"dependencies": {"pg-boss": "12.38.0"}}', "boss.ts": boss})
    baseline = str(tmp_path / "baseline.json")

    assert main(["check", str(tmp_path), "--write-baseline", baseline]) == 0
    (tmp_path / "boss.ts").write_text("\n" + boss.replace(", retryDelay: 5", ""), encoding="utf-8")
    assert main(["check", str(tmp_path), "--baseline", baseline]) == 0


def test_what_the_baseline_does_not_hold_fails_and_may_not_be_added(
    guide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", "--write-baseline", "baseline.json"])
    write(guide, {"apps/api-server/.env": GUIDE["apps/api-server/.env"] + "JOB_TIMEOUT_MS=soon\n"})

    assert main(["check", "--baseline", "baseline.json"]) == 1
    assert main(["check", "--baseline", "baseline.json", "--write-baseline", "baseline.json"]) == 2
    assert "would grow by 1" in capsys.readouterr().err


def test_what_is_repaired_must_leave_the_baseline(guide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "--write-baseline", "baseline.json"])
    write(guide, {path: REPAIRED[path] for path in ("apps/api-server/.env", "packages/database/pgboss.sql")})

    assert main(["check", "--baseline", "baseline.json", "--junit", "check.xml"]) == 1
    told = capsys.readouterr().out
    assert "FAIL: 2 of the baseline are not found any more; 8 files read\nSuch as attempts_disagree in" in told
    assert "pass" not in told
    suite = ElementTree.parse(guide / "check.xml").getroot()[0]
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["baseline"]
    assert suite.get("failures") == "1"
    assert main(["check", "--baseline", "baseline.json", "--write-baseline", "baseline.json"]) == 0
    assert main(["check", "--baseline", "baseline.json"]) == 0


def test_services_are_named_with_env(
    guide: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(guide, {"prod.env": "DATABASE_URL=postgres://h/d\nCRON_SECRET=x\n"})
    monkeypatch.setenv("USE_PGBOSS_WORKERS", "TRUE")

    main(["check", "--env", "worker=prod.env", "--env", "other=-"])

    told = capsys.readouterr().out
    assert "USE_PGBOSS_WORKERS is not set in worker" in told
    assert "USE_PGBOSS_WORKERS is 'TRUE'" in told


GUARD = "export async function GET() { check(process.env.CRON_SECRET); }\n"


@pytest.mark.parametrize(
    ("uses", "told"),
    [
        ({"requirements.txt": "celery==5.4.0\n"}, []),
        ({"package.json": '{"dependencies": {"bullmq": "5.79.0"}}'}, []),
        ({"package.json": '{"dependencies": {"pg-boss": "12.38.0"}}'}, ["database_url"]),
        ({"w.ts": "start(process.env.USE_PGBOSS_WORKERS);"}, ["database_url", "workers_disabled"]),
        (
            {
                "vercel.json": '{"crons": [{"path": "/api/cron/x", "schedule": "* * * * *"}]}',
                "app/api/cron/x/route.ts": GUARD,
            },
            ["cron_secret_missing"],
        ),
        ({"prod.env": "USE_PGBOSS_WORKERS=$RUN\nDATABASE_URL=$URL\nPGBOSS_BATCH_SIZE=$SIZE\n"}, []),
    ],
)
def test_a_named_service_is_asked_only_for_what_its_queue_reads(
    uses: dict[str, str], told: list[str], tmp_path: Path
) -> None:
    write(tmp_path, {"prod.env": "A=1\n", **uses, "other.env": "POSTGRES_URL=postgres://h/d\n"})
    named = [f"--env={name}={tmp_path}/{file}.env" for name, file in (("worker", "prod"), ("web", "other"))]
    found = report(tmp_path, *named)["findings"]

    assert sorted(one["rule"] for one in found) == told


def test_a_file_whose_name_is_no_text_is_reported_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = b"m\xff\n,x.sql"
    try:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_text(
            "CREATE TABLE tool_job (c timestamptz DEFAULT CURRENT_TIMESTAMP);", encoding="utf-8"
        )
    except OSError:
        pytest.skip("this file system refuses such a name")
    outputs = [part for kind in ("json", "sarif", "junit") for part in (f"--{kind}", str(tmp_path / kind))]

    assert main(["check", str(tmp_path), "--annotations", "--fail-on", "note", *outputs]) == 1
    assert "m%FF%0A%2Cx.sql" in (tmp_path / "sarif").read_text(encoding="utf-8")
    assert len(capsys.readouterr().out.splitlines()) < 12
