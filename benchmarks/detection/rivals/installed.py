"""Installs the rivals by name into an environment of their own, and runs their campaigns in child processes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PACKAGES = ("simloop==0.2.2", "simloom==0.5.0", "frontrun==0.7.0", "detangle==0.1.0")
TOOLS = {
    "job-harness": ("ours_runner.py",),
    "detangle": ("detangle_runner.py",),
    "frontrun, random": ("frontrun_runner.py", "random"),
    "frontrun, DPOR": ("frontrun_runner.py", "dpor"),
    "simloop": ("simloop_runner.py",),
    "simloom": ("simloom_runner.py",),
}
"""What runs a campaign of each, and what it is told besides."""
OLDEST = (3, 12)
"""The oldest Python that all of them install on."""
SECONDS = 120
"""How much CPU one campaign may take: its wall-clock time is the machine's load."""
HUNG = 1800
"""For how many real seconds one that takes no CPU is waited for."""


class NotInstalled(Exception):
    """A rival cannot be measured here; its text says why."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a rival's campaign came to."""

    runs: int
    seconds: float
    """Of CPU."""
    found: str | None
    why: str = ""
    """Why it came to nothing, if it did."""


def environment() -> Path:
    """Return the interpreter of the rivals' environment, making it where it is missing. Raises `NotInstalled`."""
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "job-harness" / "rivals"
    python = base / "bin" / "python"
    stamp = base / "installed.json"
    wanted = [*PACKAGES, str(ROOT)]
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return python
    subprocess.run([_newer_python(), "-m", "venv", "--clear", str(base)], check=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    done = subprocess.run([*command, "--editable", str(ROOT)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(f"pip could not install {', '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")
    stamp.write_text(json.dumps(wanted))
    return python


def version_of(python: Path) -> str:
    """Return what an interpreter calls itself."""
    return subprocess.run([str(python), "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _newer_python() -> str:
    if sys.version_info >= OLDEST:
        return sys.executable
    for name in ("python3.14", "python3.13", "python3.12"):
        if (found := shutil.which(name)) is not None:
            return found
    wanted = ".".join(map(str, OLDEST))
    raise NotInstalled(f"the rivals need Python {wanted} or newer, and only {sys.version.split()[0]} is here")


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))


def campaign(tool: str, mistake: str, *, seed: int, runs: int, drawn: bool) -> Campaign:
    """Run one campaign. Raises `NotInstalled` where the rival is missing."""
    script, *more = TOOLS[tool]
    command = [str(environment()), script, mistake, str(seed), str(runs), "drawn" if drawn else "fixed", *more]
    try:
        done = subprocess.run(
            command, cwd=HERE, capture_output=True, text=True, timeout=HUNG, check=False, preexec_fn=_bounded
        )
    except subprocess.TimeoutExpired:
        return Campaign(0, 0.0, None, why=f"{' '.join(command[1:])} did not end within {HUNG} s")
    if done.returncode == -signal.SIGXCPU:
        return Campaign(0, 0.0, None, why=f"{' '.join(command[1:])} took more than {SECONDS} s of CPU")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        error = (done.stderr.strip() or "no output").splitlines()[-1]
        return Campaign(0, 0.0, None, why=f"{' '.join(command[1:])} broke: {error}")
    told = json.loads(lines[-1])
    return Campaign(told["runs"], told["seconds"], told["found"])
