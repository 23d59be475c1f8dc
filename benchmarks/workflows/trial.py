"""Explores a test of ours on libraries and programs of others, in an environment of their own."""

from __future__ import annotations

import os
import re
import subprocess
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]


class Explored(NamedTuple):
    """What exploring a test came to."""

    code: int
    anomalies: tuple[str, ...]
    runs: str
    """Up to the finding, or all of them; `-` where none was told."""
    said: str

    @property
    def words(self) -> str:
        """What was found, for a table."""
        return ", ".join(self.anomalies) or ("nothing" if self.code == 0 else "NOT JUDGED")

    def is_as(self, finds: str, *, runs: int) -> bool:
        """Whether it found this; without an anomaly, whether it found nothing in as many runs."""
        return finds in self.anomalies if finds else self.code == 0 and self.runs == str(runs)


def environment_of(home: Path, packages: Sequence[str]) -> Path:
    """Make an environment with these packages and this project, unless it is there; return its interpreter."""
    python, done = home / "bin/python", home / "installed"
    if not done.exists():
        venv.create(home, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages, "pytest", "--editable", str(ROOT)], check=True)
        done.touch()
    return python


def explore(
    python: Path, test: Path, *options: str, runs: int, seed: int, environment: Mapping[str, str] | None = None
) -> Explored:
    """Explore a test, without what a CI or this machine sets."""
    command = [str(python), "-m", "pytest", test.name, "-q", "-rA", "-W", "ignore", "-p", "no:cacheprovider", *options]
    own = {key: value for key, value in os.environ.items() if key not in ("CI", "PYTHONDONTWRITEBYTECODE")}
    ended = subprocess.run(
        [*command, f"--job-explore={runs}", f"--job-seed={seed}"],
        cwd=test.parent,
        env={**own, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    anomalies = sorted(set(re.findall(r"^FAIL  (\w+) in ", ended.stdout, re.MULTILINE)))
    told = re.search(r"^Found in (\d+|the undisturbed) run|^(\d+) disturbed runs? in ", ended.stdout, re.MULTILINE)
    count = "-" if told is None else told[1] or told[2]
    return Explored(ended.returncode, tuple(anomalies), count, ended.stdout[-3000:] + ended.stderr[-1000:])
