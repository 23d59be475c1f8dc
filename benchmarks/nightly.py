"""Runs what is too long for CI, step by step, and keeps each result in `results/nightly.md`: `make nightly`.

Every step is a command of its own with a limit. One that fails or reaches its limit does not stop the next; the end
says which, and exits with 1. A row of the page keeps the date and the commit of the run that it is from, so steps can
be run apart: `make nightly ARGS="--only wrong"`. A step that was never run says so.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # a script runs from a checkout

from benchmarks import resuming  # noqa: E402 - the path comes first

PAGE: Final = ROOT / "benchmarks/results/nightly.md"
HOURS: Final = 6
NEVER: Final = "never run"
HEAD: Final = f"""# The nightly run

Written by `make nightly`: what takes longer than CI may. Each row has the date and the commit of its own last run, on
two cores. All limits together are at most {HOURS} hours.

| step | command | limit | result | minutes | date | commit |
| --- | --- | --- | --- | --- | --- | --- |
"""
ROW: Final = re.compile(r"^\| (?P<step>[a-z-]+) \| `[^`]+` \| \d+ min \| (?P<rest>.*) \|$", re.MULTILINE)


class Step(NamedTuple):
    """One part of the night."""

    name: str
    command: str
    minutes: int
    """After that many it is ended, with everything that it started."""


STEPS: Final = (
    Step("campaigns", "make campaign ARGS='tests/detection tests/determinism tests/contract -q'", 53),
    Step("runners", "make client ARGS='-m nightly'", 10),
    Step("wrong", "make wrong", 20),
    Step("right", "make right ARGS='--minutes 55'", 60),
    Step("planted", "make planted ARGS='--resume --minutes 25'", 30),
    Step("public-bugs", "make public-bugs", 35),
    Step("rules", "make rules", 10),
    Step("systems", "make systems ARGS='--runs 300'", 12),
    Step("programs", "make programs ARGS='--replays 5'", 8),
    Step("clock", "python benchmarks/clock/gate.py --runs 3 && make clock", 20),
    Step("queues", "make queues ARGS=--check", 40),
    Step("brokers", "make brokers ARGS='bullmq rq arq boto3 sqs-consumer --runs 20'", 20),
    Step("releases", "make campaign ARGS=tests/contract/test_releases.py", 30),
    Step("fuzz", "make fuzz ARGS='--seconds 600'", 12),
)


class Ended(NamedTuple):
    """What a step came to, as its row shows it."""

    result: str
    minutes: float
    date: str
    commit: str

    def __str__(self) -> str:
        return f"{self.result} | {self.minutes:.1f} | {self.date} | `{self.commit}`"


def main() -> int:
    """Run the steps that are asked for; 0 if all of them passed."""
    parser = argparse.ArgumentParser(prog="make nightly", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=[step.name for step in STEPS], help="run only this step")
    only = parser.parse_args().only
    rows = kept_rows(PAGE.read_text(encoding="utf-8") if PAGE.exists() else "")
    failed = []
    for step in [step for step in STEPS if only is None or step.name in only]:
        ended = run(step)
        rows[step.name] = str(ended)
        PAGE.write_text(page(rows), encoding="utf-8")  # after each step: an interrupted night keeps what it has
        failed += [step.name] if ended.result != "pass" else []
    print(f"nightly: {', '.join(failed) or 'nothing'} failed; see {PAGE.relative_to(ROOT)}")
    return 1 if failed else 0


def run(step: Step) -> Ended:
    """Run one step in a process group of its own, and end all of it at the limit."""
    print(f"== {step.name}: {step.command}", flush=True)
    began = time.monotonic()
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}
    with subprocess.Popen(step.command, shell=True, cwd=ROOT, env=environ, start_new_session=True) as process:
        try:
            code = process.wait(step.minutes * 60)
            result = "pass" if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            result = f"not done in {step.minutes} minutes"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    minutes = (time.monotonic() - began) / 60
    return Ended(result, minutes, f"{datetime.now(UTC):%Y-%m-%d}", resuming.current_commit())


def kept_rows(text: str) -> dict[str, str]:
    """Read the last result of each step from the page."""
    return {row["step"]: row["rest"] for row in ROW.finditer(text)}


def page(rows: dict[str, str]) -> str:
    """Write the page."""
    blank = f"{NEVER} | - | - | -"
    return HEAD + "".join(
        f"| {step.name} | `{step.command}` | {step.minutes} min | {rows.get(step.name, blank)} |\n" for step in STEPS
    )


if __name__ == "__main__":
    sys.exit(main())
