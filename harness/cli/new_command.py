"""`job-harness new`: a tool with its processor, registration, place in the worker's list, test and scenario."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.init_command import carry_out
from harness.errors import UsageError
from harness.scaffold.plan import Language, ToolName, find_project
from harness.scaffold.tools import plan_python_tool, plan_typescript_tool


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("tool", metavar="TOOL", help="the slug of the tool, such as my-tool")
    add("--lang", choices=[str(item) for item in Language], help="what it is written in (default: detected)")
    add("--folder", default=".", metavar="FOLDER", help="the repository, or a package of its workspace")
    add("--dry-run", action="store_true", help="show the files and the edits as a diff, and write nothing")


def execute(arguments: argparse.Namespace) -> int:
    """Plan, show, write."""
    name = ToolName(arguments.tool)
    project = find_project(Path(arguments.folder), language=Language(arguments.lang) if arguments.lang else None)
    if project.language is None:
        raise UsageError(
            f"{project.root}: neither a Python nor a TypeScript project, or both",
            hint="Say which with --lang python or --lang typescript.",
        )
    plan = (plan_python_tool if project.language is Language.PYTHON else plan_typescript_tool)(project, name)
    return carry_out(plan, dry_run=arguments.dry_run)
