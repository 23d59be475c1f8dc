"""`job-harness exhaust` on the command line: no option is ignored, and whatever ends it is said."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.model.settings import Settings
from job_harness.doors.cli import Terminated, main
from job_harness.engines.memory import MemoryEngine
from job_harness.report.json_report import schema
from job_harness.search.scope.search import Explorer

ODD = """
from job_harness.engines.memory import MemoryQueue

class Restores(MemoryQueue):
    def restore(self, state):
        raise RuntimeError("odd")

class Snapshots(MemoryQueue):
    def snapshot(self):
        raise RuntimeError("odd")

class Hangs(MemoryQueue):
    def expire(self):
        while True:
            pass
"""
APPLICATION = Path(__file__).parents[2] / "scenarios" / "applications" / "my_app.py"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.py").write_text(ODD)
    return tmp_path


def exhaust(target: str, *options: str) -> int:
    return main(["exhaust", target, *options])


def test_json_holds_the_verdict_the_scope_and_what_was_found(folder: Path) -> None:
    assert exhaust("memory", "--jobs", "1", "--json", "right.json") == 0
    right = json.loads((folder / "right.json").read_text())
    jsonschema.validate(right, schema())
    assert (right["format"], right["version"]) == ("job-harness-exhaustion", 1)
    assert (right["verdict"], right["complete"], right["scope"]) == ("pass", True, "2 workers, 1 job")
    assert sum(right["new_states_by_depth"]) == right["states"]
    assert exhaust("memory+stale-complete", "--jobs", "1", "--save", "it.yaml", "--json", "wrong.json") == 1
    wrong = json.loads((folder / "wrong.json").read_text())
    jsonschema.validate(wrong, schema())
    assert wrong["verdict"] == "fail"
    assert wrong["findings"][0]["written"] == "it.yaml"


def test_every_anomaly_is_reported_where_the_search_goes_on(folder: Path) -> None:
    written = ("--json", "all.json", "--junit", "all.xml", "--save", "it.yaml", "--quiet")
    assert exhaust("memory+result-overwritten", "--jobs", "1", "--keep-going", *written) == 1
    told = json.loads((folder / "all.json").read_text())
    found = [finding["anomaly"] for finding in told["findings"]]
    assert sorted(found) == told["anomalies"] == ["stale_complete", "terminal_job_rewritten"]
    cases = ElementTree.fromstring((folder / "all.xml").read_text()).findall("./testsuite/testcase")
    assert [case.get("name") for case in cases] == found
    assert [finding["written"] for finding in told["findings"]] == ["it.yaml", f"it-{found[1]}.yaml"]
    assert (folder / f"it-{found[1]}.yaml").exists()


def test_a_target_that_brings_its_settings_is_searched_under_them(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that only heartbeats keep is taken back early without them, on a correct queue."""
    plain = MemoryEngine.__init__

    def with_settings(engine: MemoryEngine, *arguments: Any) -> None:
        plain(engine, *arguments)
        own = Settings().changed(
            lease=MINUTE, job_timeout=4 * MINUTE, heartbeat_interval=20 * SECOND, retry_delay=SECOND
        )
        engine.info = replace(engine.info, settings=own)

    monkeypatch.setattr(MemoryEngine, "__init__", with_settings)
    assert exhaust("memory", "--jobs", "1", "--crashes", "1", "--set", "retry_delay=2s") == 0
    told = " ".join(capsys.readouterr().out.split("Settings:")[1].split())
    assert told.startswith(
        "max_attempts 2, job_timeout 4m, lease 1m, retry_delay 2s, retry_backoff false, poll_interval 1s, "
    )
    assert "heartbeat_interval 20s; " in told


def test_settings_of_a_repository_are_the_settings_of_the_search(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".env").write_text("PGBOSS_POLLING_INTERVAL=7\n")
    assert exhaust("memory", "--jobs", "1", "--workers", "1", "--states", "50", "--settings-from", ".") in (0, 3)
    assert "poll_interval 7s" in capsys.readouterr().out.split("Scope:")[1]


@pytest.mark.parametrize("option", [("--seed", "3"), ("--runs", "7"), ("--strategy", "pos")])
def test_an_option_of_the_sampled_search_is_refused(
    option: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exhaust("memory", *option) == 2
    assert f"unrecognized arguments: {option[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--crashes", "1"), ("--kind", "fails"), ("--states", "5"), ("--unique",)])
def test_a_bound_without_an_exhaustive_search_is_refused(
    option: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", "memory", *option]) == 2
    assert f"{option[0]} is an option of job-harness exhaust" in capsys.readouterr().err


def test_an_application_is_refused_with_the_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exhaust(f"{APPLICATION}:MyApp", "--jobs", "1") == 2
    assert "brings its own processes" in capsys.readouterr().err


def test_a_target_that_raises_in_odd_places_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exhaust("odd.py:Snapshots", "--jobs", "1") == 4
    assert "broke: RuntimeError: odd in snapshot at" in capsys.readouterr().err
    assert exhaust("odd.py:Restores", "--jobs", "1") == 4
    told = capsys.readouterr().out
    assert told.startswith("inconclusive: stopped by what is named below")
    assert "broke: RuntimeError: odd in restore at" in told


@pytest.mark.slow
def test_a_step_that_hangs_is_named_after_patience(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exhaust("odd.py:Hangs", "--jobs", "1", "--crashes", "1", "--patience", "0.2") == 1
    told = capsys.readouterr().out
    assert "no anomaly on odd.py:Hangs so far" in told
    assert "the verb expire, called by queue" in told


def test_a_larger_scope_is_estimated_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert exhaust("memory", "--workers", "1", "--jobs", "2", "--cancels", "1", "--stalls", "0") == 0
    told = capsys.readouterr()
    assert "estimated from 2 smaller scopes" in told.err
    assert "estimated" not in told.out


def test_a_clock_that_drifts_is_within_reach_of_a_complete_search(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ("--clock-drifts", "1", "--looking-for", "foreign_clock")
    assert exhaust("memory+worker-clock-lease", "--jobs", "1", "--workers", "1", "--set", "max_skew=5s", *wanted) == 1
    assert "1 clock drift" in capsys.readouterr().out


@pytest.mark.parametrize(("stop", "code", "word"), [(KeyboardInterrupt, 130, "Ctrl-C"), (Terminated, 143, "SIGTERM")])
def test_a_search_that_is_stopped_says_by_whom(
    stop: type[BaseException],
    code: int,
    word: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(*arguments: object) -> None:
        raise stop

    monkeypatch.setattr(Explorer, "run", stopped)
    assert exhaust("memory", "--jobs", "1") == code
    assert f"inconclusive: stopped by {word}, no anomaly on memory so far" in capsys.readouterr().out
