"""How long a large dump takes to be read, and how much memory: rows of a table of jobs as `pg_dump` writes them.

python benchmarks/incidents/large_dump.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DESCRIPTION = """
format: 1
jobs: mail
table: mail
columns: {id: job.id, status: job.state, attempts: job.attempts, created_at: job.created_at, started_at: job.started_at,
  completed_at: job.done_at}
status: {queued: PENDING, sending: PROCESSING, sent: COMPLETED}
"""
HEAD = """\
CREATE TABLE public.mail (
    id bigint NOT NULL,
    state text NOT NULL,
    attempts integer,
    created_at timestamp with time zone,
    started_at timestamp with time zone,
    done_at timestamp with time zone,
    recipient text
);
COPY public.mail (id, state, attempts, created_at, started_at, done_at, recipient) FROM stdin;
"""


def write(path: Path, rows: int) -> None:
    """Write a dump whose last job was completed before it was started."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(HEAD)
        for number in range(rows):
            at = f"2026-01-{1 + number % 28:02} {number % 24:02}:{number % 60:02}"
            done = "2025-12-31 00:00:00+00" if number == rows - 1 else f"{at}:02+00"
            file.write(f"{number}\tsent\t1\t{at}:00+00\t{at}:01+00\t{done}\tperson-{number}@example.com\n")
        file.write("\\.\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder, "dump.sql")
        write(dump, arguments.rows)
        Path(folder, "mail.yaml").write_text(DESCRIPTION)
        command = [
            str(Path(sys.executable).parent / "job-harness"),
            "audit",
            "mail.yaml",
            "--database",
            "dump.sql",
            "-q",
        ]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        spent = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "completed_before_started" in done.stdout, done.stdout + done.stderr
        size = dump.stat().st_size / 1e6
    print(f"{arguments.rows} rows, {size:.0f} MB, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores:")
    cpu = used.ru_utime + used.ru_stime
    print(f"read and judged in {spent:.0f} s, {cpu:.0f} s of CPU, peak {used.ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
