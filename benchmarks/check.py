"""How long `check` takes over a repository of 50 000 files, beside listing and reading them.

Usage: .venv/bin/python benchmarks/check.py [SECONDS]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from paired import Aim, interleave, seconds_of, show

FILES = 50_000
A_FOLDER = 200
SUFFIXES = (".ts", ".tsx", ".ts", ".json", ".css", ".md", ".sql", ".py")
SOURCE = """import { client } from "./client";
export interface Thing { id: string; name: string }
export async function load(input: Thing): Promise<string> {
  const response = await client(`/things/${input.id}`);
  if (!response.ok) throw new Error("no");
  return (await response.json()) as string;
}
"""
JOBS = {
    "package.json": '{"dependencies": {"pg-boss": "^10.4.2"}}',
    ".env": "USE_PGBOSS_WORKERS=true\nDATABASE_URL=postgresql://localhost/jobs\nPGBOSS_BATCH_SIZE=5\n",
    "src/job-config.ts": "export const JOB_TIMEOUT_MS = 10 * 60 * 1000;\n",
    "src/boss.ts": 'import PgBoss from "pg-boss";\nexport const boss = new PgBoss({ expireInMinutes: 10 });\n',
}


def fill(folder: Path, files: int) -> None:
    """Write this many sources, 200 a folder, about 2 kB each."""
    for number in range(0, files, A_FOLDER):
        below = folder / f"p{number // 5_000}" / f"m{number}"
        below.mkdir(parents=True)
        for index in range(A_FOLDER):
            (below / f"f{index}{SUFFIXES[index % len(SUFFIXES)]}").write_text(SOURCE * 6, encoding="utf-8")


def checked(root: Path) -> float:
    """Return the seconds of the whole command, the start of Python included."""

    def command() -> None:
        subprocess.run(
            [sys.executable, "-m", "job_harness.doors.cli", "check", str(root), "--fail-on", "never", "-q"],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    return seconds_of(command)


def listed(root: Path) -> None:
    for _ in os.walk(root):
        pass


def read(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            (Path(folder) / name).read_bytes()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "repository"
        fill(root, FILES)
        for name, text in JOBS.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        installed = Path(folder) / "installed"
        shutil.copytree(root, installed, copy_function=os.link)
        shutil.copytree(root / "p0", installed / "node_modules" / "p0", copy_function=os.link)
        small = Path(folder) / "small"
        shutil.copytree(root / "src", small / "src")
        rows = interleave(
            {
                "read every file": lambda: seconds_of(lambda: read(root)),
                "list every file": lambda: seconds_of(lambda: listed(root)),
                "job-harness check": lambda: checked(root),
                "job-harness check, 5 000 more in node_modules": lambda: checked(installed),
                "job-harness check, two files": lambda: checked(small),
            },
            rounds=5,
            seconds=seconds,
        )
    show(
        f"What does it take to check a repository of {FILES} files?",
        rows,
        base="read every file",
        unit="s",
        aims=(
            Aim("job-harness check", 2.0, "Most of it is opening files; names alone cannot tell what a source says."),
        ),
        note="The command as it is typed, the start of Python included; the files are in the page cache.",
    )


if __name__ == "__main__":
    main()
