"""What campaigns share that take longer than one sitting: their options, the commit, and the time that is left."""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path


def add_options(parser: argparse.ArgumentParser, *, thing: str) -> None:
    """Add `--resume` and `--minutes`."""
    parser.add_argument("--resume", action="store_true", help=f"leave out each {thing} that was done before")
    parser.add_argument("--minutes", type=float, default=180.0, help=f"begin no other {thing} after that many")


def deadline(asked: argparse.Namespace) -> float:
    """Return when, on the monotonic clock, nothing else is begun."""
    return time.monotonic() + 60 * float(asked.minutes)


def current_commit() -> str:
    """Return the commit of this checkout, short."""
    command = ["git", "rev-parse", "--short=10", "HEAD"]
    run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"
