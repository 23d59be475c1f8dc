"""Runs every benchmark in a process of its own and writes `docs/performance.md`.

Each has a limit; one that fails or reaches it is named in the page with the reason. Usage: .venv/bin/python
benchmarks/all.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
SECONDS = 240
TAIL = 1000
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "kernel.py": ("5",),
    "virtual_week.py": ("2",),
    "explorer.py": ("3",),
    "run_profile.py": ("10",),
    "exhaustive.py": ("1",),
    "gating.py": ("3",),
    "engines.py": ("3",),
    "pgboss_work.py": ("5",),
    "throughput.py": (),
    "processors.py": ("3",),
    "typescript.py": ("20",),
    "exploring.py": ("20",),
    "check.py": ("20",),
    "plugin_startup.py": (),
    "postgres_first_test.py": ("3",),
    "postgres_reset.py": ("2",),
}
"""In the order of the page, with the arguments that keep all of them together within minutes."""
HEAD = """# Performance

Written by `make bench`. Every number is the median of interleaved rounds; what counts is the ratio, taken within one
round, so that neither the machine nor what else runs on it decides. No test asserts a time.
"""


def section(name: str, arguments: tuple[str, ...]) -> str:
    """Run one benchmark; answer its part of the page."""
    command = " ".join((".venv/bin/python", f"benchmarks/{name}", *arguments))
    head = f"\n## {name.removesuffix('.py').replace('_', ' ')}\n\n`{command}`\n"
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / name), *arguments],
            cwd=HERE.parent,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{head}\nNot measured: it was not done after {SECONDS} s.\n"
    if done.returncode != 0:
        told = (done.stderr or done.stdout).strip()[-TAIL:]
        return f"{head}\nNot measured: it ended with code {done.returncode}.\n\n```text\n{told}\n```\n"
    output = done.stdout.strip()
    return f"{head}\n{output}\n" if "| ---" in output else f"{head}\n```text\n{output}\n```\n"


def main() -> None:
    parts = [HEAD]
    for name, arguments in BENCHMARKS.items():
        if (HERE / name).exists():
            print(f"{name} ...", flush=True)
            parts.append(section(name, arguments))
    PAGE.write_text("".join(parts), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
