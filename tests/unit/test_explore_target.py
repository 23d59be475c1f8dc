"""What a search may be pointed at, and what is told where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_harness.core.model.duration import HOUR, MINUTE
from job_harness.core.model.settings import Settings
from job_harness.core.run.play import play, uncovered_capabilities
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.target import Target
from job_harness.doors.cli import explore_command, main
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import ExitCode, UsageError
from job_harness.search.sampling import Sampler
from job_harness.search.targets import open_engine
from job_harness.subjects.applications import ApplicationEngine

TEXT = """
from job_harness.engines.memory import MemoryEngine as memory

class Application:
    safeguards = {"fencing": lambda: Application()}
    def actors(self, stage): return {}
    def send(self, stage, job): return iter(())

number = 5
def broken(): raise LookupError("no settings")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_factory_in_a_file_answers_an_engine_or_an_application(file: Path) -> None:
    assert isinstance(open_engine(f"{file}:memory"), MemoryEngine)
    assert isinstance(open_engine(f"{file}:Application"), ApplicationEngine)
    assert open_engine(f"{file}:Application+fencing").info.name == f"{file}:Application+fencing"


def test_a_factory_in_a_module_is_found_by_its_name() -> None:
    assert isinstance(open_engine("job_harness.engines.memory:MemoryEngine"), MemoryEngine)


def test_a_file_is_read_anew_each_time(file: Path) -> None:
    open_engine(f"{file}:Application")
    file.write_text(TEXT.replace('"fencing"', '"heartbeats"'), encoding="utf-8")

    engine = open_engine(f"{file}:Application")

    assert isinstance(engine, ApplicationEngine)
    assert list(engine.info.safeguards) == ["heartbeats"]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("mine.py:Aplication", r"has no 'Aplication' \(did you mean 'Application'\?\)"),
        ("mine.py:number", "is of type int, which cannot be called"),
        ("mine.py:broken", r"\(\) raised LookupError: no settings \(.*mine.py:10\)"),
        ("min.py:Application", r"there is no such file \(did you mean 'mine.py'\?\)"),
        ("mine.py:", "is not a target"),
        ("mine.py:Application+fence", "declares no safeguard 'fence'"),
        ("mine.py:Application.safeguards", "cannot be called"),
    ],
)
def test_what_is_wrong_is_told(file: Path, target: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        open_engine(f"{file.parent}/{target}")


def test_a_broken_import_is_told_where_it_stands_and_a_missing_module_without_a_place(file: Path) -> None:
    file.write_text("import no_such_module\n", encoding="utf-8")
    told = r"importing .*mine.py failed: .*No module named 'no_such_module' \(.*mine.py:1\)\n  Install it, or fix"
    with pytest.raises(UsageError, match=told):
        open_engine(f"{file}:make")
    with pytest.raises(UsageError, match=r"No module named 'no_such_module'\n  Write module:factory"):
        open_engine("no_such_module:make")


def test_a_file_that_cannot_be_read_is_told_with_its_line(file: Path) -> None:
    file.write_text("import json\n\ndef make(:\n", encoding="utf-8")

    with pytest.raises(UsageError, match=r"importing .* failed: SyntaxError: .*mine.py:3"):
        open_engine(f"{file}:make")


def test_a_path_in_a_scenario_is_found_beside_it_or_above_it(file: Path) -> None:
    folder = file.parent / "tests" / "scenarios"
    folder.mkdir(parents=True)

    assert Path(Target.parse("mine.py:Application").located(folder).file).resolve() == file.resolve()
    assert str(Target.parse("package.module:make").located(folder)) == "package.module:make"
    with pytest.raises(UsageError, match=r"there is no file gone.py in .*scenarios, nor in any folder above it"):
        Target.parse("gone.py:make").located(folder)


SLOW_TO_INSTALL = """
from dataclasses import replace
from job_harness.engines.memory import MemoryEngine

class Mine(MemoryEngine):
    installed = False
    def __init__(self):
        super().__init__()
        self.info = replace(self.info, prepare=self.install)
    def install(self):
        self.installed = True
    def open(self, settings, clocks, jitter):
        assert self.installed, "installed within the patience for a step"
        return super().open(settings, clocks, jitter)
"""


@pytest.mark.parametrize("options", [["explore", "--runs", "2"], ["exhaust", "--jobs", "1", "--workers", "1"]])
def test_an_engine_installs_what_it_needs_before_anybody_waits_for_a_step(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "mine.py").write_text(SLOW_TO_INSTALL, encoding="utf-8")
    assert main([options[0], f"{tmp_path / 'mine.py'}:Mine", *options[1:]]) == ExitCode.PASS


FEWER = """
from dataclasses import replace
from job_harness.engines.memory import MemoryEngine
from job_harness.core.port import Contract

def fewer():
    engine = MemoryEngine()
    can = replace(engine.info.capabilities, heartbeat=False, maintenance=False, concurrency_limits=False)
    engine.info = replace(engine.info, capabilities=can, contract=Contract(ignored={"retry_delay": "it waits a day"}))
    return engine
"""


@pytest.mark.parametrize(
    ("command", "given", "told"),
    [
        ("explore", "retry_delay=5m", "--set retry_delay: it changes nothing on this engine: it waits a day"),
        ("explore", "heartbeat_interval=1m", "--set: memory has no heartbeat, which settings.heartbeat_interval needs"),
        ("explore", "tool_concurrency=1", "memory has no concurrency_limits, which settings.tool_concurrency needs"),
        ("exhaust", "stuck_timeout=5m", "memory has no maintenance, which a stuck_timeout that is shorter than the"),
        ("exhaust", "retry_delay=5m", "--set retry_delay: it changes nothing on this engine"),
    ],
)
def test_what_would_change_nothing_there_or_needs_what_it_has_not_is_refused(
    tmp_path: Path, command: str, given: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(FEWER, encoding="utf-8")
    assert main([command, f"{tmp_path}/mine.py:fewer", "--set", given]) == ExitCode.USAGE
    assert told in capsys.readouterr().err


def test_a_scenario_that_sets_what_is_ignored_there_passes_with_a_remark(file: Path) -> None:
    file.write_text(FEWER, encoding="utf-8")
    scenario = Scenario(settings=Settings(retry_delay=HOUR, lease=2 * MINUTE), jobs=(JobPlan("a"),))
    run = play(scenario, engine=open_engine(f"{file}:fewer"))
    assert (run.verdict, run.remarks) == (Verdict.PASS, ("retry_delay 1h changes nothing on memory: it waits a day",))


def test_a_longer_lease_is_drawn_so_that_it_replays_without_maintenance(file: Path) -> None:
    file.write_text(FEWER, encoding="utf-8")
    sampler = Sampler(open_engine(f"{file}:fewer"), Settings(lease=2 * HOUR))
    drawn = [sampler.session(seed).scenario for seed in range(5)]
    assert [uncovered_capabilities(scenario, sampler.engine) for scenario in drawn] == [()] * 5


@pytest.mark.parametrize(
    ("target", "processes"),
    [
        ("memory", 8),
        ("postgres+stale-complete", 8),
        ("pgboss@10.4.2", 8),
        ("examples/queues/mail.yaml", 8),
        ("examples/python-app/system.yaml", 1),
        ("mine.py:memory", 1),
        ("of-another-package", 1),
    ],
)
def test_only_what_shares_nothing_is_searched_by_several_processes_unasked(
    target: str, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore_command, "_processors", lambda: 16)
    assert explore_command.usual_processes(Target.parse(target)) == processes
