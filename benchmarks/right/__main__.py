"""Explores programs that are right at default settings, with several seeds, and prints what became of each.

None of them may alarm, and none may be inconclusive.

Usage: python benchmarks/right [--only WORD]... [--seeds N] [--runs N]
       python benchmarks/right --repositories FOLDER

Each test below `programs` is one right program: a design, or a processor on a library. One whose library is not
installed is left out, with the reason: `make right` has them all, in the environment of `make libraries`. It ends with
1 where a program alarmed or was not judged.

With a FOLDER of checkouts, `check` runs on the public repositories of `repositories.yaml` instead: it ends with 1 where
it alarms and no reader of the code has found that to be true.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

PROGRAMS: Final = Path(__file__).resolve().parent / "programs"
ROOT: Final = PROGRAMS.parents[2]
RIGHT, LEFT_OUT, OPEN, ALARM = "right", "left out", "inconclusive", "ALARM"
_OF_OUTCOMES: Final = {"passed": RIGHT, "failed": ALARM}
_GRAVITY: Final = (RIGHT, LEFT_OUT, OPEN, ALARM)


class Verdicts:
    """Hears from pytest what became of each program, and keeps the gravest."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep it."""
        name = report.nodeid.partition("programs/")[2].replace("::test_", ": ").replace("_", " ")
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr or "")
        verdict = _OF_OUTCOMES.get(report.outcome, OPEN if "inconclusive" in why else LEFT_OUT)
        known, _ = self.of.get(name, (RIGHT, ""))
        if name not in self.of or _GRAVITY.index(verdict) > _GRAVITY.index(known):
            self.of[name] = verdict, why.removeprefix("Skipped: ")


def main() -> int:
    """Run them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="programs with this in their name")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repositories", type=Path, metavar="FOLDER", help="check the public ones there, not these")
    asked = parser.parse_args()
    if asked.repositories is not None:
        listed = Path(__file__).with_name("repositories.yaml")
        wild = [sys.executable, str(ROOT / "benchmarks/wild/__main__.py"), str(asked.repositories)]
        return subprocess.run([*wild, "--list", str(listed)], check=False).returncode
    os.environ["CI"] = "1"
    heard = Verdicts()
    words = ["-k", " or ".join(asked.only)] if asked.only else []
    for seed in range(asked.seeds):
        options = ["-p", "no:cacheprovider", "-q", "--no-header", "--tb=no", "-W", "ignore", f"--rootdir={ROOT}"]
        options += ["-o", "asyncio_default_fixture_loop_scope=function", "-o", "addopts=", "-r", "N", *words]
        pytest.main([*options, f"--job-explore={asked.runs}", f"--job-seed={seed}", str(PROGRAMS)], plugins=[heard])
    for name, (verdict, why) in sorted(heard.of.items()):
        print(f"{verdict:<13}{name}" + (f"\n  {why}" if why else ""))
    bad = sum(verdict in (OPEN, ALARM) for verdict, _ in heard.of.values())
    left_out = sum(verdict == LEFT_OUT for verdict, _ in heard.of.values())
    print(f"{len(heard.of) - left_out} right programs with {asked.seeds} seeds, {bad} of them not seen to be right")
    return int(bool(bad) or len(heard.of) == left_out)


if __name__ == "__main__":
    sys.exit(main())
