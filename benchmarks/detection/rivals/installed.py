"""Installs the rivals by name into an environment of their own, and runs their campaigns in child processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = {"simloop": "simloop==0.2.2", "simloom": "simloom==0.5.0", "frontrun": "frontrun==0.7.0"}
OLDEST = (3, 12)
"""The oldest Python that all of them install on."""
SECONDS = 120
"""How long one campaign may take."""


class NotInstalled(Exception):
    """A rival cannot be measured here; its text says why."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a rival's campaign came to."""

    runs: int
    seconds: float
    """Of CPU."""
    found: str | None


def environment() -> Path:
    """Return the interpreter of the rivals' environment, making it where it is missing. Raises `NotInstalled`."""
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "job-harness" / "rivals"
    python = base / "bin" / "python"
    stamp = base / "installed.json"
    if stamp.exists() and json.loads(stamp.read_text()) == PACKAGES:
        return python
    subprocess.run([_newer_python(), "-m", "venv", "--clear", str(base)], check=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES.values()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(f"pip could not install {', '.join(PACKAGES.values())}: {done.stderr.strip()[-300:]}")
    stamp.write_text(json.dumps(PACKAGES))
    return python


def _newer_python() -> str:
    if sys.version_info >= OLDEST:
        return sys.executable
    for name in ("python3.14", "python3.13", "python3.12"):
        if (found := shutil.which(name)) is not None:
            return found
    wanted = ".".join(map(str, OLDEST))
    raise NotInstalled(f"the rivals need Python {wanted} or newer, and only {sys.version.split()[0]} is here")


def campaign(tool: str, mistake: str, *, seed: int, runs: int, drawn: bool) -> Campaign:
    """Run one campaign. Raises `NotInstalled` where the rival is missing, `RuntimeError` where it breaks."""
    command = [str(environment()), f"{tool}_runner.py", mistake, str(seed), str(runs), "drawn" if drawn else "fixed"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=SECONDS, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise RuntimeError(f"{' '.join(command[1:])} broke: {done.stderr.strip()[-500:]}")
    told = json.loads(lines[-1])
    return Campaign(told["runs"], told["seconds"], told["found"])
