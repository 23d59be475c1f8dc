"""Runs of explored tests as files: `pytest --job-record` writes them, and `job-harness replay` plays them again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from job_harness.core.history import History
from job_harness.core.history.jsonl import load_history
from job_harness.core.scenario.replay_token import ReplayToken, decode
from job_harness.core.sim import Tape
from job_harness.doors.pytest.failure_section import file_name, token_of
from job_harness.errors import UsageError
from job_harness.search.explored.campaign import TestExploration
from job_harness.search.explored.played import PlayedTest
from job_harness.subjects.processors.processor import Replacements

PLUGIN: Final = "job-harness replay"
"""The name of the plug-in by which pytest learns that runs are played again."""
HINT: Final = "Give what `pytest --job-explore N --job-record FOLDER` or `job-harness run --history FILE` wrote."


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run of ours as its file tells it."""

    file: Path
    target: str
    """The test, as pytest names it from here; or the scenario's file."""
    engine: str
    token: ReplayToken
    anomalies: frozenset[str]
    history: History

    @property
    def is_of_test(self) -> bool:
        """Whether a test was run, and not a scenario."""
        return "::" in self.target


def read_recorded(file: Path) -> RecordedRun:
    """Read a run. Raises UsageError for what is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        about = json.loads(lines[0])["about"]
        target, token = about.get("test") or about["scenario"], decode(about["token"])
        anomalies = frozenset(about.get("anomalies", ()))
        return RecordedRun(file, str(target), str(about["engine"]), token, anomalies, load_history(lines))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}", hint=HINT) from None
    except UsageError as error:
        raise UsageError(f"{file}: {error.message}", hint=HINT) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f"{file}: its first line does not say which run this is, so it cannot be replayed", hint=HINT
        ) from None


def test_called(item: pytest.Item) -> str:
    """Name a test as pytest takes it in the folder in which it was started."""
    path = os.path.relpath(item.path, item.config.invocation_params.dir)
    return "::".join([path, *item.nodeid.split("::")[1:]])


def write_recorded(item: pytest.Function, runs: Mapping[Tape, PlayedTest], folder: Path) -> None:
    """Write each run of a test into a folder of its own, in the place of those that are there from before."""
    own = folder / file_name(item)
    own.mkdir(parents=True, exist_ok=True)
    for old in own.glob("run-*.jsonl"):
        old.unlink()
    for number, run in enumerate(run for run in runs.values() if run.history):
        about = {
            "engine": item.config.getoption("--job-engine"),
            "test": test_called(item),
            "token": token_of(item, run.tape),
            "anomalies": sorted(run.found),
            **({"not judged": run.lost} if run.lost else {}),
        }
        header, _, events = run.history.partition("\n")
        header = json.dumps({**json.loads(header), "about": about}, separators=(",", ":"))
        (own / f"run-{number:04}.jsonl").write_text(f"{header}\n{events}", encoding="utf-8")


@dataclass(slots=True)
class Replaying:
    """The plug-in: which runs of which test are played again, against what, and their results."""

    runs: Mapping[str, Sequence[RecordedRun]]
    """By test."""
    replacements: Replacements
    played: dict[str, TestExploration] = field(default_factory=dict)

    @staticmethod
    def of(config: pytest.Config) -> Replaying | None:
        """Return it, where this session plays recorded runs."""
        found: Any = config.pluginmanager.get_plugin(PLUGIN)
        return found if isinstance(found, Replaying) else None

    def tapes_of(self, item: pytest.Item) -> tuple[Tape, ...]:
        """Return the tapes of a test's recorded runs."""
        return tuple(run.token.tape for run in self.runs.get(test_called(item), ()))

    def note(self, item: pytest.Item, campaign: TestExploration) -> None:
        """Keep what came of a test."""
        self.played[test_called(item)] = campaign
