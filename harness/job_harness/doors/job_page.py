"""The page of a CI job on GitHub: a summary in Markdown, with links to the pictures among the artifacts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from job_harness.core.scenario.document import ScenarioError
    from job_harness.report.ci import CiResult

PAGE_OF_JOB: Final = "GITHUB_STEP_SUMMARY"
"""The variable that names the file whose Markdown GitHub shows on a job's page."""
RUN: Final = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")


def write_job_page(results: Sequence[CiResult], errors: Sequence[ScenarioError] = ()) -> None:
    """Add a summary to the page of this job, where there is one."""
    from job_harness.report.ci import summary

    if page := os.environ.get(PAGE_OF_JOB):
        server, repository, run = (os.environ.get(name, "") for name in RUN)
        artifacts = f"{server}/{repository}/actions/runs/{run}#artifacts" if run else ""
        with open(page, "a", encoding="utf-8") as file:
            file.write(summary(results, errors, artifacts=artifacts))
