"""A search that is stopped anywhere goes on from its file, and comes to what it comes to uninterrupted."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from job_harness.core.faults import FaultPlan
from job_harness.core.interruption import Interruptions
from job_harness.core.port import Engine
from job_harness.doors.cli import main
from job_harness.engines.memory import MemoryEngine, MemoryQueue, UpkeepRules
from job_harness.errors import UsageError
from job_harness.search.scope import search
from job_harness.search.scope.bounds import JobKind, Scope
from job_harness.search.scope.checkpoint import Checkpoint, read_checkpoint
from job_harness.search.scope.rig import Rig
from job_harness.search.scope.search import Explorer
from job_harness.search.targets import open_engine

CRASH = Scope(workers=1, jobs=1, faults=FaultPlan(crash=1))


def slow() -> Engine:
    engine = MemoryEngine()
    engine.info = replace(engine.info, capabilities=replace(engine.info.capabilities, snapshot=False))
    return engine


def explorer(engine: Engine, scope: Scope, **options: Any) -> Explorer:
    return Explorer(engine, scope, first_only=False, **options)


def told(done: Explorer) -> Any:
    paths = {name: (done.path(seen.node), seen.at_rest) for name, seen in done.sightings.items()}
    return done.complete, done.progress, paths, done.outcomes, done.graph.boring


def again(kept: Checkpoint, engine: Engine, scope: Scope, **options: Any) -> Explorer:
    resumed = explorer(engine, scope, **options)
    resumed.resume(read_checkpoint(kept.text(), "it"))
    resumed.run()
    return resumed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("open_it", "scope"),
    [
        (MemoryEngine, CRASH),
        (lambda: open_engine("memory+claims-running-job"), CRASH),
        (lambda: open_engine("memory+retry-put-off"), Scope(workers=1, jobs=1, stalls=0, faults=FaultPlan(crash=1))),
        (lambda: open_engine("memory+priority-ignored"), Scope(workers=1, stalls=0, priorities=(0, 1))),
        (MemoryEngine, Scope(workers=1, stalls=0, kinds=(JobKind(), JobKind("fails once")))),
        (lambda: open_engine("memory+completes-in-two-steps"), Scope(workers=1, jobs=1)),
        (slow, Scope(workers=1, jobs=1, cancels=1)),
    ],
)
def test_a_search_that_is_stopped_again_and_again_ends_as_one_that_is_not(
    open_it: Callable[[], Engine], scope: Scope
) -> None:
    whole = explorer(open_it(), scope)
    whole.run()
    assert whole.complete
    step = whole.progress.states // 4
    part = explorer(open_it(), scope, state_limit=step)
    part.run()
    for limit in (2 * step, 3 * step, 2 * whole.progress.states):
        assert not part.complete
        part = again(part.checkpoint(), open_it(), scope, state_limit=limit)
    assert told(part) == told(whole)


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 1, 40, 170, 171, 172, 173, 174, 400])
def test_a_search_that_is_cut_short_within_a_step_goes_on_before_that_step(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine("memory+claims-running-job")
    whole = explorer(engine, CRASH)
    whole.run()
    made, moves = search.SnapshotRig.make, count()

    def cut(self: Rig, *given: Any) -> Any:
        if next(moves) == at:
            raise KeyboardInterrupt
        return made(self, *given)  # type: ignore[arg-type]

    part = explorer(engine, CRASH)
    with monkeypatch.context() as patch:
        patch.setattr(search.SnapshotRig, "make", cut)
        with pytest.raises(KeyboardInterrupt):
            part.run()
    assert told(again(part.checkpoint(), engine, CRASH)) == told(whole)


def test_a_search_that_is_cut_short_while_it_is_made_again_is_kept_as_it_was() -> None:
    part = explorer(MemoryEngine(), CRASH, state_limit=100)
    part.run()
    kept, asked = part.checkpoint(), count()
    resumed = explorer(MemoryEngine(), CRASH)
    resumed.resume(kept)
    resumed.run(lambda progress: next(asked) < 50)
    assert resumed.stopped_by == "the limit of time"
    assert resumed.checkpoint() == kept


class OtherwiseRules(UpkeepRules):
    """Counts no crash as an attempt."""

    def taken_back(self, row: Any, why: str, nth: int) -> Any:
        return super().taken_back(row._replace(attempts=row.attempts - 1), why, nth)


class Otherwise(MemoryQueue):
    rules = (OtherwiseRules,)


def test_a_queue_that_has_changed_since_is_told() -> None:
    scope = replace(CRASH, settings=CRASH.settings.changed(max_attempts=3))
    part = explorer(MemoryEngine(name="mine"), scope, looking_for=frozenset({"job_lost"}), state_limit=300)
    part.run()
    with pytest.raises(UsageError, match="mine does not reach the saved states"):
        again(part.checkpoint(), MemoryEngine(Otherwise, name="mine"), scope, looking_for=frozenset({"job_lost"}))


SEARCH = ("exhaust", "memory", "--jobs", "1", "--workers", "1", "--crashes", "1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_command_that_a_signal_ends_is_gone_on_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SEARCH, "--json", "whole.json"]) == 0
    made, moves = search.SnapshotRig.make, count()

    def stopped(self: Rig, *given: Any) -> Any:
        if next(moves) == 200:
            signal.raise_signal(signal.SIGTERM)
        return made(self, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, Interruptions():
        patch.setattr(search.SnapshotRig, "make", stopped)
        assert main([*SEARCH, "--checkpoint", "kept"]) == 143
    assert "Saved in kept. To continue, run the same command with --resume kept." in capsys.readouterr().out
    assert main([*SEARCH, "--resume", "kept", "--json", "again.json"]) == 0
    whole, resumed = (json.loads((folder / name).read_text()) for name in ("whole.json", "again.json"))
    for data in (whole, resumed):
        assert data.pop("seconds") >= 0
        data["statement"][0] = data["statement"][0].rpartition(",")[0]
    assert resumed == whole
    assert main([*SEARCH, "--resume", "kept"]) == 2
    assert "the saved search is already complete" in capsys.readouterr().err


def test_a_file_of_another_search_or_a_damaged_one_is_refused_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SEARCH, "--states", "100", "--checkpoint", "kept"]) == 3
    text = (folder / "kept").read_text()
    data = json.loads(text)
    files = {
        "half": text[: len(text) // 2],
        "empty": "",
        "list": "[]",
        "format": json.dumps({**data, "format": 2}),
        "release": json.dumps({**data, "identity": {**data["identity"], "version": "0.0.1"}}),
        "parents": json.dumps({**data, "parents": data["parents"][:-1]}),
        "look": json.dumps({**data, "looks": [0, *data["looks"][1:]]}),
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    capsys.readouterr()
    other_queue = ("exhaust", "memory+stale-complete", *SEARCH[2:])
    for command, why in [
        ((*SEARCH, "--resume", "half"), "half: this is not a saved search, or it is cut short"),
        ((*SEARCH, "--resume", "empty"), "empty: this is not a saved search, or it is cut short"),
        ((*SEARCH, "--resume", "list"), "list: this is not a saved search, or it is cut short"),
        ((*SEARCH, "--resume", "format"), "format: this search was saved in format 2; this version reads 1"),
        ((*SEARCH, "--resume", "release"), "has another version: 0.0.1, not"),
        ((*SEARCH, "--resume", "parents"), "parents: the saved search is damaged"),
        ((*SEARCH, "--resume", "nowhere"), "--resume nowhere: No such file or directory"),
        ((*SEARCH, "--cancels", "1", "--resume", "kept"), "has another scope"),
        ((*SEARCH, "--set", "max_attempts=3", "--resume", "kept"), "has another scope"),
        ((*SEARCH, "--without", "livelock", "--resume", "kept"), "has another choice of anomalies"),
        ((*other_queue, "--resume", "kept"), "has another engine: memory, not memory+stale-complete"),
    ]:
        assert main(list(command)) == 2, why
        assert why in capsys.readouterr().err
    assert main([*SEARCH, "--resume", "look"]) == 2
    assert "does not reach the saved states" in capsys.readouterr().out
    assert (folder / "kept").read_text() == text


def test_a_search_that_ended_with_a_finding_goes_on_if_asked_to(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = ("exhaust", "memory+claims-running-job", *SEARCH[2:])
    assert main([*search, "--checkpoint", "kept"]) == 1
    assert main([*search, "--resume", "kept"]) == 2
    assert "ended with" in capsys.readouterr().err
    assert main([*search, "--resume", "kept", "--keep-going"]) == 1
    assert "complete: 2 anomalies" in capsys.readouterr().out
