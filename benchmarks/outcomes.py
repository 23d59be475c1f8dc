"""Writes `benchmarks/results/outcomes.md`: what each queue makes of an outcome that its store cannot hold.

Usage: python benchmarks/outcomes.py. `tests/docs/test_docs_outcomes.py` replays every cell by its command.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from job_harness.core.target import Target
from job_harness.engines.conformance.outcomes import CASES, OutcomeCell, ask_engine
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.targets import Engines

PAGE: Final = Path(__file__).parent / "results" / "outcomes.md"
ENGINES: Final = (
    "postgres",
    "pgboss@10.4.2",
    "pgboss-node@10.4.2",
    "pgboss-node@11.1.2",
    "pgboss-node@12.38.0",
    "graphile-worker@0.18.0",
    "procrastinate@3.10.0",
    "pgqueuer@1.6.0",
    "bullmq@6.7.0",
    "bullmq-redis@6.7.0",
    "django-tasks-db@0.13.0",
    "celery-redis@5.7.0",
    "dramatiq-redis@2.2.1",
    "chancy@0.26.0",
)
HEAD: Final = """# What a queue does with an error that its database cannot hold

Written by `python benchmarks/outcomes.py`. A task fails with a message that contains a NUL character, as parsers and
truncated files produce it, but PostgreSQL cannot store such a text. Does the queue record the failure, run the task
again, or leave it running for good? This page helps you to choose a queue, or to test your own.

In each test, a job is claimed and ends as the row says; then another one, claimed before, completes. The cell says what
is in the rows afterwards:

| word | what it means |
| --- | --- |
| kept | it was recorded unchanged |
| changed, shortened | it was recorded, but escaped, replaced or cut |
| not stored | the queue does not store results, or errors, so there is nothing to lose |
| fails the job | the attempt fails because of the value, and is retried or has failed for good |
| **given up** | the job has failed for good, with attempts left |
| refused | the queue refuses it, and its worker can report something else |
| **outcome lost** | recording it raised an error; the job stays running, and runs again when its lease is over |
| **stuck for good** | recording it raised an error, and nothing takes the job back |

The command below a table tests all of its engines. With a case, it shows step by step how one cell came about:
`job-harness conform ENGINE --outcomes "raise NUL"`.
"""
BAD: Final = frozenset({"given up", "outcome lost", "stuck for good", "lost", "ends the process"})


def row(case: str, cells: Iterable[OutcomeCell]) -> str:
    """Lay out one row."""
    words = (f"**{cell.word}**" if cell.word in BAD else cell.word for cell in cells)
    return f"| `{case}` | {CASES[case].about} | " + " | ".join(words) + " |\n"


def page(columns: Sequence[Sequence[OutcomeCell]]) -> str:
    """Lay out the page, some engines to a table."""
    text = HEAD
    for start in range(0, len(columns), 4):
        some = columns[start : start + 4]
        names = [column[0].engine for column in some]
        text += f"\n| outcome | what it is | {' | '.join(f'`{name}`' for name in names)} |\n"
        text += "| --- " * (len(names) + 2) + "|\n"
        text += "".join(row(case, (column[number] for column in some)) for number, case in enumerate(CASES))
        text += f"\n```sh\njob-harness conform {','.join(names)} --outcomes\n```\n"
    return text


def main() -> None:
    columns = []
    with Engines() as engines:
        for name in ENGINES:
            try:
                columns.append([ask_engine(engines.get(Target.parse(name)), case) for case in CASES.values()])
            except EnvironmentUnavailable as missing:
                sys.exit(f"{name}: {missing}")
            print(f"{name}: {', '.join(cell.word for cell in columns[-1])}", flush=True)
    PAGE.write_text(page(columns), encoding="utf-8")


if __name__ == "__main__":
    main()
