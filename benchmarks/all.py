"""Runs every benchmark in a process of its own and writes `results/performance.md`; of those named only their sections.

A section that was measured apart from the others says when.

Each has a limit; one that fails or reaches it is named in the page with the reason. Usage: .venv/bin/python
benchmarks/all.py [audit.py ...]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE / "results" / "performance.md"
SECONDS = 600
LONGER = {"audit.py": 2400, "ray_cluster.py": 900}
"""Seconds that these may take: one judges ten million events, the other does three campaigns."""
ELSEWHERE = {"ray_cluster.py": ".venv-ray"}
"""Where one is run that needs what no other does; it is only run where it is named."""
TAIL = 1000
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "kernel.py": ("5",),
    "virtual_week.py": ("2",),
    "explorer.py": ("3",),
    "run_profile.py": ("10",),
    "exhaustive.py": ("1",),
    "reduction.py": (),
    "ray_cluster.py": ("100000",),
    "gating.py": ("3",),
    "engines.py": ("3",),
    "pgboss_work.py": ("5",),
    "throughput.py": (),
    "processors.py": ("3",),
    "typescript.py": ("20",),
    "exploring.py": ("20",),
    "check.py": ("20",),
    "audit.py": (),
    "plugin_startup.py": (),
    "postgres_first_test.py": ("3",),
    "postgres_reset.py": ("2",),
}
"""In the order of the page, with the arguments that keep all of them together within minutes."""
HEAD = """# Performance

Written by `make bench`. Every number is the median of interleaved rounds. Compare the ratios: they are taken within one
round, so they do not depend on the machine or on what else runs on it. No test asserts a time.
"""


def title(name: str) -> str:
    """Return the heading of a benchmark's section."""
    return name.removesuffix(".py").replace("_", " ")


def kept() -> dict[str, str]:
    """Return the sections that the page has, by their headings."""
    parts = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.partition("\n")[0]: f"\n## {part.rstrip()}\n" for part in parts}


def when() -> str:
    """Return what the page says of when it was measured as a whole."""
    found = re.search(r"\nMeasured on .*\n", PAGE.read_text(encoding="utf-8"))
    return "" if found is None else found[0]


def now() -> str:
    """Return the same of a measurement that begins; the load is how many processes wanted a core in the last minute."""
    day, load = time.strftime("%Y-%m-%d"), os.getloadavg()[0]
    return f"\nMeasured on {day}, {os.cpu_count()} cores, load before: {load:.1f}.\n"


def section(name: str, arguments: tuple[str, ...], *, measured: str = "") -> str:
    """Run one benchmark; answer its part of the page, which says when it was `measured` apart from the others."""
    command = " ".join((f"{ELSEWHERE.get(name, '.venv')}/bin/python", f"benchmarks/{name}", *arguments))
    head = f"\n## {title(name)}\n\n`{command}`\n{measured}"
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / name), *arguments],
            cwd=HERE.parent,
            capture_output=True,
            text=True,
            timeout=LONGER.get(name, SECONDS),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{head}\nNot measured: it was not done after {LONGER.get(name, SECONDS)} s.\n"
    if done.returncode != 0:
        told = (done.stderr or done.stdout).strip()[-TAIL:]
        return f"{head}\nNot measured: it ended with code {done.returncode}.\n\n```text\n{told}\n```\n"
    output = done.stdout.strip()
    return f"{head}\n{output}\n" if "| ---" in output else f"{head}\n```text\n{output}\n```\n"


def main() -> None:
    named = sys.argv[1:]
    if unknown := [name for name in named if name not in BENCHMARKS]:
        sys.exit(f"no such benchmark: {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    measured = when() if named else now()
    sections = kept() if named else {title(name): text for name in ELSEWHERE if (text := kept().get(title(name)))}
    for name, arguments in BENCHMARKS.items():
        if name in (named or BENCHMARKS.keys() - ELSEWHERE):
            print(f"{name} ...", flush=True)
            sections[title(name)] = section(name, arguments, measured=now() if named else "")
    ordered = [sections[title(name)] for name in BENCHMARKS if title(name) in sections]
    PAGE.write_text(HEAD + measured + "".join(ordered), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
