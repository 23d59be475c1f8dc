"""`job-harness verify`: one job through a running system, watched to its end."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path

from job_harness.doors.cli.job_tables import described
from job_harness.doors.cli.output import output_files
from job_harness.errors import UsageError
from job_harness.review.verify.trial import (
    JobLook,
    Seen,
    Template,
    check_look,
    check_url,
    create_job,
    described_jobs,
    judge_trial,
    read_template,
    watch,
    watched_table,
    workers_off,
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("url", metavar="URL", help="the base URL of the running API that accepts jobs")
    add(
        "--dsn",
        metavar="DSN",
        help="the database with the jobs to watch, which is only read (default: DATABASE_URL; "
        "JOB_HARNESS_DSN is for runs)",
    )
    add(
        "--config",
        metavar="FILE",
        help="a TOML file whose table [tool.job-harness.verify] says how to send a job (default: pyproject.toml)",
    )
    add(
        "--jobs",
        metavar="FILE",
        help="watch the jobs of this file, as `audit` reads them: a queue file, a system file or the description of a "
        "table (default: the table tool_job)",
    )
    add("--poll", type=float, default=2.0, metavar="SECONDS", help="the workers' polling interval (default: 2)")
    add("--margin", type=float, default=3.0, metavar="SECONDS", help="how much later a job may start (default: 3)")
    add("--takes", type=float, default=60.0, metavar="SECONDS", help="how long the job may run (default: 60)")
    add("--json", metavar="FILE", help="write the verdict as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """Create, watch, judge, tell."""
    dsn = arguments.dsn or os.environ.get("DATABASE_URL")
    if not dsn:
        raise UsageError(
            "no database is named",
            hint="Give --dsn DSN, or set DATABASE_URL; JOB_HARNESS_DSN is for runs, and not read here.",
        )
    for option in ("poll", "margin", "takes"):
        seconds = getattr(arguments, option)
        if not math.isfinite(seconds) or seconds < 0 or (option == "takes" and seconds == 0):
            raise UsageError(f"--{option} cannot be {seconds:g}", hint="Give a number of seconds, such as 60.")
    output = output_files(arguments, "json").get("json")
    template = _template(arguments.config)
    check_url(arguments.url, template)
    jobs = watched_table(dsn) if arguments.jobs is None else _described(arguments.jobs)
    check_look(dsn, jobs)  # A job that cannot be watched is not sent.
    job = create_job(arguments.url, template)
    print(f"job {job}")

    def print_seen(seen: Seen) -> None:
        print(f"  {seen.after:6.2f} s  {seen.status}", flush=True)

    start_within = arguments.poll + arguments.margin
    watched = watch(dsn, jobs, job, start_within=start_within, end_within=arguments.takes, told=print_seen)
    off = workers_off(arguments.url, template) if watched.last == "PENDING" else None
    verdict = judge_trial(job, watched, jobs, start_within=start_within, end_within=arguments.takes, workers_off=off)
    if verdict.problem:
        print(f"FAIL: {verdict.problem}\nFirst cause: {verdict.cause}")
    else:
        print("pass: PENDING, PROCESSING, COMPLETED in time")
    if output is not None:
        output.write(json.dumps(verdict.as_data(), indent=2) + "\n")
    return int(verdict.exit_code)


def _described(source: str) -> JobLook:
    """Return how the jobs of a file, or of a table known by name, are looked at."""
    table = described(source)
    if table.changes:
        raise UsageError(
            f"{source}: it has a row for each change of a job, and verify looks at the job's own row",
            hint="Describe the table that has one row for each job.",
        )
    status = {name: str(meaning or name) for name, meaning in table.status.items()}
    return described_jobs(source, table.rows, columns=table.columns, status=status)


def _template(config: str | None) -> Template:
    if config is not None:
        return read_template(Path(config))
    project = Path("pyproject.toml")
    return read_template(project) if project.exists() else Template()
