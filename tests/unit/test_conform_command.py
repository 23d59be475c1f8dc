"""`job-harness conform`: engines and a user's own queue, the table of all cases, and adapters that lie."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from tests.docs import pages

from job_harness.doors.cli import main
from job_harness.report.json_report import schema

PAGE = pages.ROOT / "docs/write_an_adapter.md"
QUEUE = next(block.text for block in pages.blocks(PAGE) if block.file == "my_queue.py")
DECLARED = "Capabilities(release=True, start_after=True, fencing=True, virtual_time=True)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_queue.py").write_text(QUEUE, encoding="utf-8")
    return tmp_path


def lying(folder: Path, capability: str) -> str:
    """Write the adapter of the page, saying that it can do one thing more."""
    assert DECLARED in QUEUE
    text = QUEUE.replace(DECLARED, f"{DECLARED[:-1]}, {capability}=True)")
    (folder / f"liar_{capability}.py").write_text(text, encoding="utf-8")
    return f"liar_{capability}.py"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["my_queue.py:MyQueue", "my_queue:MyQueue", "my_queue:MyEngine"])
def test_the_adapter_on_the_page_conforms_however_it_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    assert main(["conform", "--quiet", target]) == 0
    assert ": core 9/9, reliable " in capsys.readouterr().out


def test_what_a_verb_raises_is_shown_whole_with_its_file_and_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"the row of {' and '.join(f'job number {number}' for number in range(12))} is gone"
    head, body = "    def complete(self, claim, output):\n", f"        raise KeyError({said!r})\n"
    assert head in QUEUE
    text = QUEUE.replace(head, head + body)
    (folder / "raises.py").write_text(text, encoding="utf-8")
    line = text.splitlines().index(body.rstrip()) + 1

    assert main(["conform", "--quiet", "raises.py:MyQueue", "--level", "scheduled"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert f": outcome_lost: complete raised: KeyError: {said!r} (at " in shown
    assert f"raises.py:{line})" in shown


@pytest.mark.parametrize("name", ["status", "queue_state", "attempts", "max_attempts", "token", "start_after"])
def test_a_view_that_lacks_what_must_be_set_is_refused_with_the_name_of_the_field(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / "bare.py").write_text(shown_without(name), encoding="utf-8")

    for command in (["conform", "--level", "core"], ["explore", "--runs", "2"]):
        assert main([command[0], "bare.py:MyQueue", *command[1:]]) == 2
        said = "".join(capsys.readouterr())
        assert f"jobs() shows the job 'a' without {name}" in said
        assert "Every JobView needs tool, status, queue_state, priority, attempts, max_attempts, token, " in said


def shown_without(name: str) -> str:
    """Return the adapter of the page, whose views lack a field."""
    shown = "        return self.rows\n"
    assert QUEUE.count(shown) == 1
    return QUEUE.replace(shown, f"        return {{j: row._replace({name}=None) for j, row in self.rows.items()}}\n")


def test_a_view_that_cannot_be_made_is_told_without_promises(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    view = "        return {j: JobView(**{**row._asdict(), 'nope': 1}) for j, row in self.rows.items()}\n"
    (folder / "bare.py").write_text(QUEUE.replace("        return self.rows\n", view), encoding="utf-8")
    assert main(["explore", "bare.py:MyQueue", "--runs", "2"]) == 4
    told = "".join(capsys.readouterr())
    assert "unexpected keyword argument 'nope'" in told
    assert "Guarantees: not known, for no run was judged." in told


def test_a_capability_that_there_is_not_is_told_with_the_nearest_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bare.py").write_text(QUEUE.replace("release=True", "unique_keys=True"), encoding="utf-8")
    assert main(["conform", "bare.py:MyQueue"]) == 2
    assert "No such capability: 'unique_keys' (did you mean 'unique'?); docs/engines.md" in capsys.readouterr().err


def test_skipped_cases_are_counted_and_named_where_that_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for more in ([], ["--cases"]):
        assert main(["conform", "my_queue.py:MyQueue", "--level", "scheduled", *more]) == 0
        told.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped")])
    assert told[0] == ["skipped   2 cases need what it does not declare: --cases names each, and what it lacks"]
    assert [line.split()[2] for line in told[1]] == [
        "scheduling/highest_priority_first:",
        "scheduling/options_are_kept:",
    ]


def test_a_field_that_no_running_job_shows_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bare.py").write_text(shown_without("lease_until"), encoding="utf-8")

    assert main(["conform", "bare.py:MyQueue,my_queue.py:MyQueue", "--level", "scheduled"]) == 0
    told = capsys.readouterr().out
    assert told.count("unseen    jobs() shows lease_until of no job that runs: set it, or what depends on it") == 1


@pytest.mark.parametrize(
    ("capability", "level"),
    [
        ("priorities", "scheduled"),
        ("unique", "unique"),
        ("serial_keys", "unique"),
        ("concurrency_limits", "unique"),
        ("dead_letters", "reliable"),
        ("inputs", "reliable"),
        ("maintenance", "cron"),
    ],
)
def test_an_adapter_that_declares_what_it_cannot_do_fails(
    folder: Path, capsys: pytest.CaptureFixture[str], capability: str, level: str
) -> None:
    assert main(["conform", "--quiet", f"{lying(folder, capability)}:MyQueue", "--level", level]) == 1
    assert "fail      " in capsys.readouterr().out


@pytest.mark.parametrize("capability", ["priorities", "unique", "serial_keys"])
def test_a_capability_that_no_case_shows_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], capability: str
) -> None:
    assert main(["conform", "--quiet", f"{lying(folder, capability)}:MyQueue"]) == 1
    assert f"lie       declares {capability}, and none of the cases that need it passes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("capability", "verb"),
    [
        ("heartbeat", "heartbeat"),
        ("cancel", "cancel"),
        ("retry", "retry"),
        ("transactions", "begin"),
        ("schedules", "schedule"),
        ("sessions", "on_behalf"),
    ],
)
def test_a_capability_whose_verb_is_missing_is_refused_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str], capability: str, verb: str
) -> None:
    assert main(["conform", f"{lying(folder, capability)}:MyQueue"]) == 2
    assert f"lacks {verb}, which its capability {capability} needs" in capsys.readouterr().err


def test_an_engine_that_breaks_is_told_with_its_place_and_the_others_are_judged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.py").write_text(f"{QUEUE}\n\nMyEngine.open = lambda *given: given.pool\n", encoding="utf-8")
    broken = "broken.py:MyEngine"
    opened = f"{lying(folder, 'sessions')}:MyEngine"
    lacking = f"{lying(folder, 'schedules')}:MyQueue"
    targets = f"{broken},{opened},{lacking},memory"
    assert main(["conform", "--level", "scheduled", targets, "--json", str(folder / "all.json")]) == 4
    out, err = capsys.readouterr()
    report = json.loads((folder / "all.json").read_text())
    jsonschema.validate(report, schema())
    assert report["exit_code"] == 4
    told = [(each["engine"], each.get("exit_code")) for each in report["engines"]]
    assert told == [("memory", None), (broken, 4), (opened, 2), (lacking, 2)]
    assert f"{opened}: not judged: open() of mine returned MyQueue, which lacks on_behalf" in err
    assert f"{lacking}: not judged: {lacking} returned MyQueue, which lacks schedule" in err
    assert f"{broken}: not judged: the engine {broken} broke: AttributeError" in out
    assert "memory: scheduled 5/5" in out


def test_an_application_is_no_queue(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    application = pages.ROOT / "scenarios/applications/my_app.py"
    assert main(["conform", f"{application}:MyApp"]) == 2
    assert "is an application: the suite calls the verbs of a queue" in capsys.readouterr().err


def test_cases_has_a_row_for_each_case_and_a_column_for_each_engine(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conform", "--cases", "--quiet", "--level", "scheduled", "memory,my_queue.py:MyQueue"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("scheduling/")}
    assert rows["scheduling/oldest_first"] == ["pass", "pass"]
    assert rows["scheduling/highest_priority_first"] == ["pass", "-"]
    assert lines[-1] == "8 pass, 2 -: nothing unexplained"


def test_what_fails_without_an_explanation_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "--cases", "--quiet", "--level", "scheduled", "memory+newest-first"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "scheduling/oldest_first                      FAIL" in lines
    assert lines[-1].endswith("FAIL: 1 unexplained")


@pytest.mark.usefixtures("few_fresh_runs")
def test_what_is_meant_is_left_out_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = ["explore", "memory", "--set", "stuck_timeout=5m", "--runs", "20", "--looking-for"]
    assert main([*search, "concurrent_execution"]) == 1
    found = ["concurrent_execution", "taken_back_early"]
    without = [word for name in found for word in ("--without", name)]
    assert main([*search[:-1], *without]) == 0
    assert "Not reported: concurrent_execution, taken_back_early (--without)." in capsys.readouterr().out
    assert main(["run", ".job-harness/found/concurrent_execution-memory.yaml", "--quiet"]) == 1
    assert main(["run", ".job-harness/found/concurrent_execution-memory.yaml", "--quiet", *without]) == 0
    assert main(["conform", "memory", "--level", "core", "--quiet", "--without", "late"]) == 2
    assert "no such anomaly: 'late'" in capsys.readouterr().err
