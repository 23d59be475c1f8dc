"""What a repository is given: `job-harness init`, `new`, `examples`, and the `schema` that editors need."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Final

from job_harness.core.scenario.schema import schema_text
from job_harness.doors.cli.explored_test import is_test
from job_harness.doors.scaffold.examples import SETS, write_examples
from job_harness.doors.scaffold.first_files import plan_first_files
from job_harness.doors.scaffold.nightly import plan_nightly
from job_harness.doors.scaffold.plan import ChangePlan, Language, Platform, ToolName, find_project, write_whole
from job_harness.doors.scaffold.tools import plan_python_tool, plan_typescript_tool
from job_harness.errors import ExitCode, UsageError, clipped
from job_harness.extras import install
from job_harness.search.targets import checked

_SHORT: Final = {"ts": "typescript", "py": "python"}


def _unabbreviated(language: str) -> str:
    return _SHORT.get(language, language)


# init -----------------------------------------------------------------------------------------------------------------


def configure_init(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("folder", nargs="?", default=".", metavar="FOLDER", help="the repository (default: this folder)")
    add(
        "--lang",
        choices=[str(item) for item in Language],
        type=_unabbreviated,
        help="the language of the processors (default: detected)",
    )
    add("--dry-run", action="store_true", help="show what would be written without writing it")
    instead = parser.add_mutually_exclusive_group().add_argument
    instead(
        "--queue",
        metavar="SCHEMA",
        help="instead, write a draft of queue.yaml from an SQL file or the URL of a database, which is only read",
    )
    instead(
        "--agent", action="store_true", help="instead, write a skill for coding assistants: how to find and fix a bug"
    )
    instead("--nightly", metavar="TARGET", help="instead, write a workflow that searches TARGET every night, in parts")
    add(
        "--on",
        choices=[str(item) for item in Platform],
        help="where the workflow runs (default: github, unless .gitlab-ci.yml is there and no .github)",
    )
    add("--table", metavar="NAME", help="with --queue: the table that holds the jobs (default: the likeliest)")


def execute_init(arguments: argparse.Namespace) -> int:
    """Plan, show, write."""
    if arguments.table is not None and arguments.queue is None:
        raise UsageError("--table needs --queue SCHEMA", hint="Name the schema, such as --queue db/schema.sql.")
    if arguments.on is not None and (arguments.agent or arguments.queue is not None):
        mode = "--agent" if arguments.agent else "--queue"
        raise UsageError(f"{mode} and --on cannot both be given", hint=f"Leave --on out: {mode} writes no workflow.")
    if arguments.lang is not None and (arguments.agent or arguments.queue is not None):
        mode = "--agent" if arguments.agent else "--queue"
        raise UsageError(
            f"{mode} and --lang cannot both be given",
            hint=f"Leave --lang out: {mode} writes the same file for any language.",
        )
    if arguments.agent:
        return _teach(arguments)
    if arguments.queue is not None:
        return _draft_queue(arguments)
    if arguments.nightly is not None:
        _refuse_target(arguments.nightly)
    project = find_project(Path(arguments.folder), language=Language(arguments.lang) if arguments.lang else None)
    platform = Platform(arguments.on or Platform.of(project.root))
    if arguments.nightly is not None:
        plan = plan_nightly(project, target=arguments.nightly, platform=platform)
        then = {
            Platform.GITHUB: "commit it, and start it once by hand",
            Platform.GITLAB: "include it in .gitlab-ci.yml, commit both, and make a pipeline schedule for every night",
        }
        return carry_out(plan, dry_run=arguments.dry_run, then=then[platform])
    if project.language is None:
        raise UsageError(
            f"{project.root}: its files do not show whether it is a Python or a TypeScript project",
            hint="Say which with --lang python or --lang typescript.",
        )
    plan = plan_first_files(project, language=project.language, platform=platform)
    return carry_out(plan, dry_run=arguments.dry_run)


def _refuse_target(target: str) -> None:
    """Raise UsageError for what no nightly search can take: a test, and what there is not."""
    option = f"--nightly {clipped(target)}"
    if not target.strip():
        raise UsageError(f"{option}: no target is named", hint="Name an engine, a queue file or a system file.")
    if is_test(target):
        raise UsageError(
            f"{option}: a test cannot be searched in parts", hint="Call pytest --job-explore=45m from a workflow."
        )
    file = checked(target).file
    if file and not Path(file).is_file():
        raise UsageError(f"{option}: there is no file {file}", hint="The path is relative to the current folder.")


SKILL: Final = Path(__file__).parents[1] / "scaffold" / "agent_skill.md"
"""What a coding assistant is given: front matter with `name` and `description`, then the steps."""


def _teach(arguments: argparse.Namespace) -> int:
    """Write the skill where assistants look for it: below `.claude` where that is there, else below `.agents`."""
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", hint="Name the folder of a repository.")
    text = SKILL.read_text(encoding="utf-8")
    if arguments.dry_run:
        print(text, end="")
        return int(ExitCode.PASS)
    path = folder / (".claude" if (folder / ".claude").is_dir() else ".agents") / "skills" / "job-harness" / "SKILL.md"
    if path.exists():
        raise UsageError(
            f"{path} already exists, and nothing is overwritten",
            hint="Move it away first, or print the new text with --dry-run.",
        )
    write_whole(path, text, below=folder)
    print(f"wrote {path}: steps from finding the queue to the scenario that stays")
    return int(ExitCode.PASS)


QUEUE_FILE: Final = "queue.yaml"


def _draft_queue(arguments: argparse.Namespace) -> int:
    """Write a draft of a queue file if there is none yet."""
    from job_harness.engines.queue_file.draft import MORE_DRAWN, draft, tables_of

    folder, source = Path(arguments.folder), arguments.queue
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", hint="Name the folder that the file goes into.")
    live = "://" in source or "=" in source
    path = folder / QUEUE_FILE
    if path.exists() and not arguments.dry_run:
        raise UsageError(
            f"{path} already exists, and nothing is overwritten",
            hint="Move it away first, or print the draft with --dry-run.",
        )
    schema = f"connection: {CONNECTION}" if live else f"schema: {os.path.relpath(source, folder)}"
    text = draft(tables_of(source), schema=schema, table=arguments.table)
    if arguments.dry_run:
        print(text, end="")
        return int(ExitCode.PASS)
    write_whole(path, text, below=folder)
    print(f"wrote {path}. {MORE_DRAWN}")
    if live:
        print(f"It reads {CONNECTION}, so that no password stands in the file.")
    if "# TODO: " in text:
        print("First answer each TODO in it: they ask what your statuses mean.")
    print(f"Then: job-harness explore {path}")
    return int(ExitCode.PASS)


CONNECTION: Final = "env:DATABASE_URL"
"""What a draft says of a database, whose URL may hold a password."""


def carry_out(plan: ChangePlan, *, dry_run: bool, then: str = "") -> int:
    """Show a plan and, unless it is only to be seen, write it; `then` is what to do next, by default to test."""
    if dry_run:
        print("\n".join(plan.diff()))
        print("\n".join(plan.lines()))
        return int(ExitCode.PASS)
    plan.write()
    print("\n".join(plan.lines()))
    print(f"Then: {then or plan.command(Path.cwd())}")
    return int(ExitCode.PASS)


# new ------------------------------------------------------------------------------------------------------------------


def configure_new(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("tool", metavar="TOOL", help="the name of the tool, such as my-tool")
    add(
        "--lang", choices=[str(item) for item in Language], type=_unabbreviated, help="its language (default: detected)"
    )
    add("--folder", default=".", metavar="FOLDER", help="the repository, or a package of its workspace")
    add("--dry-run", action="store_true", help="show the new files and edits as a diff without writing them")


def execute_new(arguments: argparse.Namespace) -> int:
    """Plan, show, write."""
    name = ToolName(arguments.tool)
    project = find_project(Path(arguments.folder), language=Language(arguments.lang) if arguments.lang else None)
    if project.language is None:
        raise UsageError(
            f"{project.root}: its files do not show whether it is a Python or a TypeScript project",
            hint="Say which with --lang python or --lang typescript.",
        )
    plan = (plan_python_tool if project.language is Language.PYTHON else plan_typescript_tool)(project, name)
    return carry_out(plan, dry_run=arguments.dry_run)


# examples -------------------------------------------------------------------------------------------------------------


def configure_examples(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", metavar="FOLDER", help="where to write them; existing files are not touched")


def execute_examples(arguments: argparse.Namespace) -> int:
    """Write them, and say how each is run."""
    folder = Path(arguments.folder)
    count = len(write_examples(folder))
    print(f"wrote {count} files. In {folder}:")
    for each in SETS:
        needs = ", ".join(filter(None, (install(each.extra) if each.extra else "", each.besides.replace("`", ""))))
        print(f"  {each.command}\n    {each.shows}" + (f"\n    needs: {needs}" if needs else ""))
    return int(ExitCode.PASS)


# schema ---------------------------------------------------------------------------------------------------------------


def configure_schema(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "what",
        nargs="?",
        default="scenario",
        choices=("scenario", "report", "queue", "system"),
        help="scenario files, the JSON that run, explore, exhaust, check, audit and conform write, queue files or "
        "system files (default: scenario)",
    )


def execute_schema(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    if arguments.what == "report":
        from job_harness.report.json_report import schema

        print(json.dumps(schema(), indent=2))
        return 0
    if arguments.what == "queue":
        from job_harness.engines.queue_file.document import json_schema
    elif arguments.what == "system":
        from job_harness.subjects.systems.document import json_schema
    else:
        from job_harness.core.scenario.schema import json_schema
    print(schema_text(json_schema()), end="")
    return 0
