"""The line `Source:` of a finding of a system is the same wherever it is shown."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.contract.test_systems import EXAMPLES, guide_app

from job_harness.doors.cli import main
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.shrink import Shrinker
from job_harness.worlds.clock import ClockedTree

pytestmark = [pytest.mark.postgres, pytest.mark.long]


def mail_in_python(folder: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES / "python-app", folder / "app")) / "system.yaml"


def mail_in_php(folder: Path) -> Path:
    if shutil.which("php") is None:
        pytest.skip("php is not installed")
    try:
        ClockedTree(options=("--own-net",)).close()
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    file = Path(shutil.copytree(Path(__file__).parent / "supervised", folder / "app")) / "system.yaml"
    file.write_text(file.read_text().replace("COMMAND", "php worker.php"))
    return file


class Found(NamedTuple):
    """A system, and an anomaly of it with its source."""

    system: Callable[[Path], Path]
    anomaly: str
    source: str


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(
            Found(mail_in_python, "concurrent_execution", r"update mail, sent at app\.py:\d+"), id="python-app"
        ),
        pytest.param(Found(guide_app, "attempt_overrun", r".* sent (by \S+ )?at \S+:\d+"), id="guide-app"),
        pytest.param(Found(mail_in_php, "concurrent_execution", r"update mail.*"), id="supervised"),
    ],
)
def test_the_source_of_a_finding_is_one_line_in_every_door(
    found: Found, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = found.system(tmp_path)
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(Shrinker, "most_steps", 1)  # How small it gets is of no account here.
    asked = ["system.yaml", "--looking-for", found.anomaly, "--runs", "40", "--save", "found.yaml"]
    shown = {"explore": _printed(["explore", *asked, *_files("explore")], capsys)}
    shown["run"] = _printed(["run", "found.yaml", *_files("run")], capsys)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "found.yaml"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    shown["pytest"] = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
    for door in ("explore", "run"):
        shown[f"HTML of {door}"] = re.sub("<[^>]*>", "\n", Path(f"{door}.html").read_text())
        shown[f"JSON of {door}"] = "\n".join(f"Source: {each}" for each in _sources(Path(f"{door}.json")))
    told = {door: sorted(set(re.findall(r"^\s*Source: (.*?)\s*$", text, re.MULTILINE))) for door, text in shown.items()}
    (line,) = told["explore"]
    assert re.fullmatch(found.source, line)
    assert told == {door: [line] for door in shown}


def _files(door: str) -> list[str]:
    return ["--json", f"{door}.json", "--html", f"{door}.html"]


def _printed(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(command) == 1
    return capsys.readouterr().out


def _sources(file: Path) -> set[str]:
    """Return the source of every failing run in a report."""

    def below(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {str(value["source"][0])} if value.get("source") else set()
            return own.union(*(below(each) for each in value.values()))
        return set().union(*map(below, value)) if isinstance(value, list) else set()

    return below(json.loads(file.read_text()))
