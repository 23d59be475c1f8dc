"""Which table has the jobs of a live database, and what its rows mean: by a known name, or by a file of the user's."""

from __future__ import annotations

from dataclasses import replace

from job_harness.core.yaml_files import is_queue_file, is_system_file
from job_harness.engines.queue_file.document import output_names, read_queue_file
from job_harness.engines.queue_file.statement import SqlSource
from job_harness.errors import UsageError
from job_harness.review.audit.job_table import DescribedTable, job_table, known_tables, shown_table
from job_harness.subjects.systems.document import SQS, TOOL_JOB_AND_PGBOSS, read_system_file


def described(source: str) -> DescribedTable:
    """Return a table by its name or its description, or what the `jobs` of a queue file or a system file shows."""
    if source in known_tables():
        return job_table(source)
    if is_system_file(source):
        system = read_system_file(source)
        if system.jobs_on_redis or system.jobs == SQS:
            where = "SQS" if system.jobs == SQS else "Redis"
            raise UsageError(
                f"{system.place('jobs')}: these jobs are in {where}, and an audit reads tables of PostgreSQL",
                hint="Search the system instead: job-harness explore.",
            )
        if system.jobs == TOOL_JOB_AND_PGBOSS:
            return job_table("tool_job")  # It reads pg-boss's row beside the user's own.
        columns = output_names(SqlSource.whole(system.jobs, source, "jobs", first=system.lines.get("jobs", 1)))
        shown = shown_table(system.system, system.jobs, columns=columns, key="id", status=system.status, path=source)
        return replace(shown, without=system.without)
    if not is_queue_file(source):
        return job_table(source)
    file = read_queue_file(source)
    if file.jobs.names:
        raise UsageError(
            f"{file.place('jobs')}: only a run has a value for :{file.jobs.names[0]}",
            hint="Write the value there, or describe the table: docs/audit.md#your-own-table.",
        )
    key = "key" if "key" in file.columns else "id"
    sql = file.jobs.sql.decode()
    shown = shown_table(file.queue, sql, columns=file.columns, key=key, status=file.status, path=source)
    return replace(shown, without=file.without)
