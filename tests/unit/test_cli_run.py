"""`job-harness run`: exit codes, output files, and that nothing bad ends in a traceback."""

from __future__ import annotations

import json
import os
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from job_harness.core.history.jsonl import load_history
from job_harness.core.port import Capabilities
from job_harness.core.target import Target
from job_harness.doors.cli import main
from job_harness.doors.cli.output import OutputFile
from job_harness.doors.cli.run_command import scenario_files
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.report.json_report import schema
from job_harness.report.screen import replay_command
from job_harness.search.targets import Engines, engine_names, open_engine

GOOD = "format: 1\njobs: {a: {}}\nexpect: {a: {status: COMPLETED}}\n"
BAD = "format: 1\njobs: {a: {}}\nexpect: {a: {status: FAILED}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenarios" / "deep").mkdir(parents=True)
    (tmp_path / "scenarios" / "good.yaml").write_text(GOOD)
    return tmp_path


def engine_that(monkeypatch: pytest.MonkeyPatch, opens: Callable[[], Any]) -> None:
    monkeypatch.setattr("job_harness.search.targets._factory", lambda name: opens)


def test_all_scenarios_below_the_default_folder_are_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "scenarios" / "deep" / "b.yml").write_text(GOOD)
    assert main(["run"]) == 0
    assert "2 scenarios on memory: 2 pass" in capsys.readouterr().out


def test_a_failure_is_exit_code_1_with_its_screen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "scenarios" / "bad.yaml").write_text(BAD)
    assert main(["run", "--engine", "memory"]) == 1
    out = capsys.readouterr().out
    assert "scenarios/bad.yaml:3: a: expected status FAILED, got COMPLETED" in out
    assert "1 pass, 1 fail" in out


def test_a_run_that_takes_more_steps_than_it_may_fails_and_says_how_to_let_it_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--steps", "3"]) == 1
    out = capsys.readouterr().out
    assert "still not idle after 3 steps" in out
    assert "It was still at work: --steps 30 lets it continue." in out
    assert "Replay: job-harness run scenarios/good.yaml --engine memory --steps 3" in out
    assert main(["run", "--steps", "300"]) == 0
    assert main(["run", "--steps", "0"]) == 2


def test_a_search_says_how_many_runs_were_cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "memory", "--runs", "4", "--steps", "12", "--json", "told.json"]) == 3
    out = capsys.readouterr().out
    assert "Cut: 4 of 4 runs were still at work after 12 steps" in out
    assert "--steps 120 lets them continue." in out
    assert json.loads(Path("told.json").read_text())["cut"] == 4


def test_a_control_that_finds_nothing_fails_the_scenario(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control = "controls: [{settings: {lease: 9m}, finds: concurrent_execution}]\n"
    (folder / "scenarios" / "good.yaml").write_text(GOOD + control)
    assert main(["run"]) == 1
    assert "it found nothing: this scenario cannot fail" in " ".join(capsys.readouterr().out.split())
    assert main(["run", "--no-controls"]) == 0
    assert main(["run", "--set", "lease=20m"]) == 0
    assert main(["run", "--set", "lease=20m", "--controls"]) == 1


@pytest.mark.usefixtures("few_fresh_runs")
def test_a_setting_can_repair_a_scenario(folder: Path) -> None:
    (folder / "scenarios" / "good.yaml").write_text(
        "format: 1\nworkers: [w1, w2]\njobs: {a: {takes: 9m}}\nsettings: {stuck_timeout: 5m}\n"
    )
    assert main(["run"]) == 1
    assert main(["run", "--set", "stuck_timeout=30m"]) == 0


def test_what_an_engine_cannot_do_is_inconclusive(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Plain(MemoryEngine):
        def __init__(self) -> None:
            super().__init__(name="plain")
            self.info = replace(self.info, capabilities=Capabilities())

    engine_that(monkeypatch, Plain)
    (folder / "scenarios" / "good.yaml").write_text("format: 1\njobs: {a: {priority: 3}}\n")
    assert main(["run"]) == 3
    assert "plain has no priorities, which job a needs" in capsys.readouterr().out


def test_a_machine_without_the_engine_is_exit_code_4_and_the_others_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def opens() -> MemoryEngine:
        raise EnvironmentUnavailable("no PostgreSQL here", hint="Give a DSN.")

    monkeypatch.setattr(
        "job_harness.search.targets._factory", lambda target: MemoryEngine if target.place == "memory" else opens
    )
    assert main(["run", "--engine", "memory,postgres", "--json", "out.json"]) == 4
    assert "no PostgreSQL here" in capsys.readouterr().out
    report = json.loads((folder / "out.json").read_text())
    assert [case["verdict"] for case in report["cases"]] == ["pass", "inconclusive"]


def test_an_engine_that_breaks_costs_only_its_own_case(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(MemoryEngine):
        def open(self, *given: Any) -> Any:
            raise ZeroDivisionError("inside")

    engine_that(monkeypatch, Broken)
    assert main(["run"]) == 4
    assert "the engine memory broke: ZeroDivisionError: inside" in capsys.readouterr().out


def test_ctrl_c_prints_what_was_found_and_closes_the_engines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed: list[str] = []

    class Interrupted(MemoryEngine):
        opened = 0

        def open(self, *given: Any) -> Any:
            Interrupted.opened += 1
            if Interrupted.opened > 1:
                raise KeyboardInterrupt
            return super().open(*given)

        def close(self) -> None:
            closed.append(self.info.name)

    engine_that(monkeypatch, Interrupted)
    (folder / "scenarios" / "a_bad.yaml").write_text(BAD)
    assert main(["run"]) == 130
    said = capsys.readouterr()
    assert "expected status FAILED" in said.out
    assert "Stopped after 1 of 2" in said.out
    assert "interrupted" in said.err
    assert closed == ["memory"]


def test_a_run_that_was_not_whole_is_no_pass_in_any_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(MemoryEngine):
        def open(self, *given: Any) -> Any:
            if (folder / "j.json").exists():
                raise KeyboardInterrupt
            return super().open(*given)

    engine_that(monkeypatch, Interrupted)
    written = ["-q", "--json", "j.json", "--junit", "j.xml", "--html", "j.html"]

    def reported() -> tuple[Any, ...]:
        report = json.loads((folder / "j.json").read_text())
        jsonschema.validate(report, schema())
        errors = ElementTree.fromstring((folder / "j.xml").read_text()).findall("./testsuite/testcase/error")
        told = [error.get("message", "") for error in errors]
        assert "<title>INCONCLUSIVE: " in (html := (folder / "j.html").read_text())
        assert all(text in html for text in told)
        return report["verdict"], report["exit_code"], report["planned"], len(report["cases"]), told

    (folder / "scenarios" / "pipe.yaml").symlink_to("/dev/null")
    assert main(["run", "scenarios/good.yaml", "scenarios/pipe.yaml", *written]) == 2
    told = "scenarios/pipe.yaml: is not a regular file"
    assert reported() == ("inconclusive", 2, 1, 1, [told])
    assert main(["run", "scenarios/pipe.yaml", *written]) == 2
    assert reported() == ("inconclusive", 2, 0, 0, [told])
    assert main(["run", "scenarios/good.yaml", *written, "--annotations"]) == 130
    assert reported() == ("inconclusive", 130, 1, 0, ["1 of 1 cases were not run"])
    assert "::error title=scenarios%3A not run::1 of 1 cases were not run" in capsys.readouterr().out


def test_reports_are_written_whole(folder: Path) -> None:
    assert main(["run", "--junit", "j.xml", "--json", "j.json", "--history", "h.jsonl", "-q"]) == 0
    assert json.loads((folder / "j.json").read_text())["verdict"] == "pass"
    assert (folder / "j.xml").read_text().startswith("<?xml")
    assert len(load_history((folder / "h.jsonl").read_text().splitlines())) > 5
    assert sorted(path.name for path in folder.iterdir()) == ["h.jsonl", "j.json", "j.xml", "scenarios"]


USAGE: dict[str, tuple[list[str], str]] = {
    "no such file": (["run", "scenarios/god.yaml"], "did you mean 'good.yaml'?"),
    "no such engine": (["run", "--engine", "memry"], "did you mean 'memory'?"),
    "no engine": (["run", "--engine", ","], "names no engine"),
    "no such wrong queue": (["run", "--engine", "memory+nope"], "no such wrong queue: 'nope'"),
    "no such setting": (["run", "--set", "leese=3m"], "did you mean 'lease'?"),
    "setting without value": (["run", "--set", "lease"], "SETTING=VALUE"),
    "setting without unit": (["run", "--set", "lease=3"], "the number 3 has no unit"),
    "no folder": (["run", "--junit", "none/j.xml"], "there is no folder"),
    "no name": (["explore", "--json", ""], "--json: no file is named"),
    "one file for two": (["run", "--json", "o", "--junit", "./o"], "--json o: this file is also written by --junit"),
    "over what is run": (["run", "--json", "scenarios/good.yaml"], "--json scenarios/good.yaml: this file is read"),
    "over what is merged": (["merge", "m.json", "--html", "m.json"], "--html m.json: this file is read"),
    "over what is audited": (["audit", "h.jsonl", "--json", "h.jsonl"], "--json h.jsonl: this file is read"),
    "over a baseline": (
        ["check", "--baseline", "b.json", "--json", "b.json"],
        "--json b.json: this file is read",
    ),
    "over an environment": (
        ["check", "--env", "worker=a.env", "--write-baseline", "a.env"],
        "--write-baseline a.env: this file is read",
    ),
    "over what goes on": (
        ["exhaust", "--resume", "k", "--json", "k"],
        "--resume k: this file is also written by --json",
    ),
    "a file for a folder": (["merge", "m", "--issues", "scenarios/good.yaml"], "good.yaml is not a folder"),
    "a folder in a file": (["audit", "h", "--scenarios", "scenarios/good.yaml/in"], "good.yaml is not a folder"),
    "endless patience": (["explore", "--patience", "inf"], "--patience must be a day at most, not inf s"),
    "no patience": (["explore", "--patience", "0"], "--patience must be above 0, not 0"),
    "no steps": (["run", "--steps", "0"], "--steps must be at least 1, not 0"),
    "no time for a processor": (["run", "--blocked-after", "0"], "--blocked-after must be above 0, not 0"),
    "half a stall": (["exhaust", "memory", "--stalls", "half"], "--stalls must be a whole number or any, not 'half'"),
    "no priority": (["exhaust", "memory", "--priorities", "a"], "--priorities must be whole numbers with commas"),
    "endless time": (["explore", "test_it.py::test_a", "--time", "inf"], "expected seconds (90) or a duration"),
    "a folder": (["run", "--json", "scenarios"], "this is a folder"),
    "another file": (["explore", "scenarios"], "is not a target: expected an engine, a queue or system file (.yaml)"),
    "two engines": (["explore", "memory,reference"], "explore takes one engine, and 2 are named"),
    "no such attribute": (["explore", "os:factory"], "os has no 'factory'\n  Write module:factory"),
    "no such anomaly": (["explore", "--looking-for", "duble_claim"], "more (`job-harness explain` lists them)"),
    "no such option": (["explore", "--lookingfor", "x"], "(did you mean '--looking-for'?)"),
    "an option too early": (["--quiet", "run"], "unrecognized arguments: --quiet (options stand after the command)"),
    "no such command": (["explor"], "(did you mean 'explore'?)"),
    "no such strategy": (["explore", "--strategy", "poss"], "uniform"),
    "no time": (["explore", "--time", "5x"], "expected seconds (90) or a duration (30s, 5m), not '5x'"),
    "two things to write": (["init", "--agent", "--nightly", "memory"], "not allowed with argument --agent"),
    "a platform for nothing": (["init", "--on", "gitlab", "--agent"], "--agent and --on cannot both be given"),
    "a language for nothing": (["init", "--agent", "--lang", "python"], "--agent and --lang cannot both be given"),
    "a page of a list": (["docs", "pytest", "--list"], "not allowed with argument"),
    "no words": (["docs", "--find", " "], "--find names no words"),
    "on and off": (["audit", "--install", "a", "--uninstall", "b"], "not allowed with argument --install"),
    "a yes to nothing": (["audit", "log", "--yes"], "--yes needs --install or --uninstall TABLE"),
    "no pause": (["audit", "log", "--follow", "--every", "0s"], "--every must be above 0"),
    "two histories": (["run", "--history", "h", "--engine", "memory,reference"], "holds only one history"),
}


@pytest.mark.parametrize("name", USAGE)
def test_a_wrong_command_is_exit_code_2_and_says_what_to_do(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, said = USAGE[name]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""


def test_wrong_scenarios_are_all_told_before_anything_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "scenarios" / "x.yaml").write_text("format: 1\njobs: {a: {tol: 1}}\n")
    (folder / "scenarios" / "y.yaml").write_text("")
    assert main(["run", "--annotations"]) == 2
    out, err = capsys.readouterr()
    assert "scenarios/x.yaml:2: unknown key 'tol'" in err
    assert "scenarios/y.yaml:1: the file is empty" in err
    assert out.count("::error file=") == 2


def test_output_goes_to_what_is_no_regular_file_without_replacing_it(tmp_path: Path) -> None:
    OutputFile.checked("/dev/null", "--json").write("x")
    assert Path("/dev/null").is_char_device()
    target = tmp_path / "real.json"
    (tmp_path / "link.json").symlink_to(target)
    OutputFile.checked(str(tmp_path / "link.json"), "--json").write("x\ud800")
    assert target.read_text() == "x\\ud800"
    assert (tmp_path / "link.json").is_symlink()


def test_output_goes_into_a_file_whose_folder_takes_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**how: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("tempfile.mkstemp", refused)
    (tmp_path / "there.json").write_text("what was longer before")
    OutputFile.checked(str(tmp_path / "there.json"), "--json").write("x")
    assert (tmp_path / "there.json").read_text() == "x"
    with pytest.raises(EnvironmentUnavailable, match="cannot be written: Permission denied"):
        OutputFile.checked(str(tmp_path / "new.json"), "--json").write("x")


def test_output_goes_to_the_pipe_of_a_shell() -> None:
    reading, writing = os.pipe()
    OutputFile.checked(f"/dev/fd/{writing}", "--json").write("x")
    assert os.read(reading, 9) == b"x"
    os.close(reading)
    os.close(writing)


def test_a_folder_without_scenarios_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no scenarios in this folder"):
        scenario_files([str(tmp_path)])


def test_a_subfolder_that_may_not_be_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> Any:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    scandir = os.scandir
    monkeypatch.setattr("os.scandir", refused)
    with pytest.raises(UsageError, match="scenarios/deep: this folder cannot be read: Permission denied"):
        scenario_files([])


def test_a_file_that_is_named_twice_is_run_once(folder: Path) -> None:
    assert scenario_files(["scenarios/good.yaml", "./scenarios/../scenarios/good.yaml", str(folder)]) == [
        Path("scenarios/good.yaml")
    ]


def test_every_engine_is_opened_once_and_closed() -> None:
    with Engines() as engines:
        assert engines.get(Target.parse("memory")) is engines.get(Target.parse("memory"))
    assert {"memory", "reference", "postgres"} <= set(engine_names())
    assert open_engine("memory+stale-complete").info.name == "memory+stale-complete"


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("postgres --sessions", "postgres-gated"),
        ("pgqueuer-gated@1.3.2", "pgqueuer-gated@1.3.2"),
        (" pgqueuer@1.3.2 --sessions", "pgqueuer-gated@1.3.2"),
        ("postgres+expire-reads-first --sessions", "postgres-gated+expire-reads-first"),
        ("my files/a.py:App@pgboss@10.4.2+f --sessions", "my files/a.py:App-gated@pgboss@10.4.2+f"),
    ],
)
def test_sessions_are_an_option_of_an_engine_and_reports_print_a_name_that_says_the_same(asked: str, kept: str) -> None:
    target = Target.parse(asked)
    assert str(target) == kept
    assert target == Target.parse(kept) == Target.parse(asked.removesuffix(" --sessions"), sessions=True)
    again = shlex.split(replay_command("x.yaml", engine=target))
    assert again[3:] == ["--engine", asked.strip().removesuffix(" --sessions").replace("-gated", ""), "--sessions"]


def test_an_engine_with_sessions_is_opened_by_either_name_and_one_without_any_refuses(folder: Path) -> None:
    for name in ("postgres --sessions", "postgres-gated"):
        assert open_engine(name).info.capabilities.sessions
    with pytest.raises(UsageError, match="memory gives its actors no sessions of their own"):
        open_engine("memory --sessions")
    with pytest.raises(UsageError, match=r"postgres has no option '--session' \(did you mean '--sessions'\?\)"):
        open_engine("postgres --session")
    assert main(["run", "--engine", "memory", "--sessions"]) == 2
    with Engines() as engines:
        engine = engines.get(Target.parse("postgres-gated"))
        assert engines.get(Target.parse("postgres --sessions")) is engine
        engines.drop(Target.parse("postgres --sessions"))
        assert engines.get(Target.parse("postgres-gated")) is not engine


def test_version_and_help_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert "job-harness 0." in capsys.readouterr().out
    assert main(["run", "--help"]) == 0
    assert main([]) == 2
    assert main(["schema"]) == 0


def test_a_control_that_does_not_fit_an_engine_says_where_it_does_and_offers_no_replay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        "format: 1\njobs: {a: {}}\ncontrols:\n  - {queue: stale-complete, finds: stale_complete}\n", encoding="utf-8"
    )

    assert main(["run", str(scenario), "--engine", "reference"]) == 3

    shown = " ".join(capsys.readouterr().out.split())
    assert "cannot be planted on the engine 'reference'; it can on: memory, " in shown
    assert "Replay:" not in shown


class Released(MemoryEngine):
    """Somebody else's queue, asked for without its whole version."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)


def test_a_release_that_was_not_asked_for_by_its_whole_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"pgqueuer@1": "pgqueuer@1.6.0", "pgqueuer@1.5.0": "pgqueuer@1.5.0", "memory": "memory"}
    monkeypatch.setattr("job_harness.search.targets.open_target", lambda target, beside: Released(names[str(target)]))
    with Engines() as engines:
        for name in names:
            engines.get(Target.parse(name))
        assert engines.releases() == ["pgqueuer@1 is pgqueuer@1.6.0"]
