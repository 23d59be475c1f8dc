"""Which scenario files a command means."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from harness.errors import UsageError, did_you_mean
from harness.scenario.document import ScenarioError
from harness.scenario.reader import read_scenario
from harness.scenario.scenario import Scenario

DEFAULT = "scenarios"
SUFFIXES = (".yaml", ".yml")
APART = "findings"
"""Scenarios about other people's queues, which install them: they are run where they, or their folder, are named."""


def scenario_files(paths: Sequence[str]) -> list[Path]:
    """Answer the files that the paths name: a file as it is, a folder with everything below it, in order, each once.

    Raises UsageError for what does not exist and for a folder without scenarios.
    """
    found: dict[Path, None] = {}
    for name in paths or [DEFAULT]:
        for path in _below(Path(name), named=bool(paths)):
            found.setdefault(path)
    return list(found)


def _below(path: Path, *, named: bool) -> list[Path]:
    if path.is_dir():
        below = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        below = [file for file in below if APART not in file.relative_to(path).parts[:-1]] or below
        if not below:
            raise UsageError(f"{path}: no scenarios in this folder", hint="Scenarios are files that end in .yaml.")
        return below
    if path.exists():
        return [path]
    if not named:
        raise UsageError("there is no folder scenarios/ here", hint="Name the scenario files or folders to run.")
    if path.is_symlink():
        raise UsageError(
            f"{path}: this link leads nowhere, or to itself", hint="Name scenario files, or folders of them."
        )
    near = did_you_mean(path.name, [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else [])
    raise UsageError(f"{path}: no such file or folder{near}", hint="Name scenario files, or folders of them.")


def read_all(files: Iterable[Path], *, queues: Collection[str] | None) -> tuple[list[Scenario], list[ScenarioError]]:
    """Read every file; answer the scenarios, and what is wrong with the others."""
    scenarios: list[Scenario] = []
    errors: list[ScenarioError] = []
    for file in files:
        try:
            scenarios.append(read_scenario(file, queues=queues))
        except ScenarioError as error:
            errors.append(error)
    return scenarios, errors
