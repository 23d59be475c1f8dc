"""`init`: a first test, a first scenario and a CI workflow for a repository."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Final

from job_harness.doors.scaffold.plan import ChangePlan, Language, Platform, Project, read_manifest
from job_harness.doors.scaffold.system_draft import draft_system
from job_harness.extras import installed_from, requirement

TEST: Final = '''"""A first test of jobs: days of retries pass in milliseconds. Put your own processors in its place."""

from job_harness import JobResult


async def shout(job):
    if job.attempts == 1:
        return JobResult(success=False, error="upstream is away")
    return JobResult(success=True, output={"text": job.input["text"].upper()})


def test_a_job_is_retried_until_it_succeeds(job_harness):
    job_harness.register("shout", shout)
    job = job_harness.enqueue("shout", {"text": "hello"})
    job_harness.run_until_idle()
    assert (job.status, job.attempts, job.output) == ("COMPLETED", 2, {"text": "HELLO"})


def test_a_worker_that_dies_loses_nothing(job_harness):
    job_harness.register("shout", shout)
    job = job_harness.enqueue("shout", {"text": "hello"})
    job_harness.crash_worker(at="before complete", job=job)
    job_harness.run_until_idle()
    assert job.status == "COMPLETED"
'''

NODE_TEST: Final = """// A first test of jobs: days of retries pass in milliseconds.
// Put your own processors in its place.
import { expect, jobHarness, test } from "job-harness/RUNNER";

const harness = jobHarness();

async function shout(job: { attempts: number; input: { text: string } }) {
  if (job.attempts === 1) return { success: false, error: "upstream is away" };
  return { success: true, output: { text: job.input.text.toUpperCase() } };
}

test("a job is retried until it succeeds", async () => {
  harness.register("shout", shout);
  const job = await harness.enqueue("shout", { text: "hello" });
  await harness.runUntilIdle();
  expect(job).toHaveRun(2);
  expect(job).toHaveOutput({ text: "HELLO" });
});

test("a worker that dies loses nothing", async () => {
  harness.register("shout", shout);
  const job = await harness.enqueue("shout", { text: "hello" });
  await harness.crashWorker({ at: "before complete", job });
  await harness.runUntilIdle();
  expect(job).toHaveStatus("COMPLETED");
});
"""

SCENARIO: Final = """format: 1
title: A worker dies in the middle of a job, and another one finishes it
why: A deploy or a crash must not lose a job.
workers: [w1, w2]
jobs:
  a: {takes: 30s}
steps:
  - crash w1 while running a
  - advance 15m
  - run until idle
expect:
  a: {status: COMPLETED, attempts: 2, runs: 2}
controls:
  - {queue: expire-never, finds: job_stuck}
"""

STEPS: Final = """PROJECT
INSTALL
      - run: TESTS
NODE_TESTS
SEARCHES
      - run: test ! -d .job-harness/found || job-harness run .job-harness/found
      - run: job-harness check --annotations --sarif jobs.sarif || test $? = 3  # 3: nothing sets a queue yet
"""
"""What a workflow does on either platform, as GitHub writes it."""
WORKFLOW: Final = """name: jobs
on: [push, pull_request]
permissions: {contents: read}
jobs:
  test:
    runs-on: ubuntu-latest
    timeout-minutes: 15
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
NODE
STEPS
      - uses: actions/upload-artifact@v4  # what was found, as scenarios that replay on your machine
        if: failure()
        with: {name: found, path: .job-harness/found, include-hidden-files: true, if-no-files-found: ignore}
"""
GITLAB_WORKFLOW: Final = """# This job is in the stage `test`; if your pipeline has no such stage, name one of yours.
job-harness:
  image: python:3.12
  timeout: 15m
  script:
STEPS
  artifacts:
    when: always
    paths: [.job-harness/found]  # what was found, as scenarios that replay on your machine
    reports: {codequality: gl-code-quality-report.json}
"""
SETUP_NODE: Final = """      - uses: actions/setup-node@v4
        with: {node-version: "24"}  # TypeScript needs 22.15 or newer
"""
EXPLORED: Final = " --job-explore 50  # each test again, with a crash or a duplicate somewhere else"
SEARCHED: Final = "60s"
"""How long a push waits for the search of a queue file or a system file."""
_EXTRA: Final = {Language.PYTHON: "", Language.TYPESCRIPT: "node"}
_NEEDS_UNKNOWN: Final = "      # What the tests import besides is named by no file here: pip install PACKAGES\n"
_NOT_ON_AN_INDEX: Final = "      # Until job-harness is on your index: pip install PATH_OR_URL\n"
ON_PATH: Final = '"""The folder of this file is on the path of the tests: they import what stands beside it."""\n'


def plan_first_files(project: Project, *, language: Language, platform: Platform = Platform.GITHUB) -> ChangePlan:
    """Plan them where `new` puts a tool's tests: in a Python project's package, at the root of a TypeScript one.

    The workflow is at the root of the workspace, and runs them there.
    """
    plan = ChangePlan(project.root)
    folder = project.package if language is Language.PYTHON else project.root
    plan.tests = [folder / "tests", folder / "scenarios"]
    if runner := project.node_runner if language is Language.TYPESCRIPT else "":
        plan.tests = [folder / "scenarios"]
        plan.add(folder / "tests" / "jobs.test.ts", NODE_TEST.replace("RUNNER", runner))
        plan.node_tests = node_command(runner, "tests/jobs.test.ts")
    else:
        plan.add(folder / "tests" / "test_jobs.py", TEST)
        if language is Language.TYPESCRIPT:
            plan.advice.append(
                "the first test is for pytest, since package.json does not name job-harness and Vitest or Jest; "
                "for one in TypeScript install both (job-harness docs typescript), delete tests/test_jobs.py and run "
                "init again"
            )
    plan.add(folder / "scenarios" / "a_worker_dies.yaml", SCENARIO)
    if language is Language.PYTHON:
        plan.add(folder / "conftest.py", ON_PATH)
    node = node_steps(project.root) if language is Language.TYPESCRIPT else ""
    steps = project_steps(project) if language is Language.PYTHON else ""
    if "pip install ." in steps and (named := _packages_beside(folder)):
        plan.advice.append(
            f"name your packages in pyproject.toml, such as [tool.setuptools] packages = {json.dumps(named)}: "
            "setuptools takes scenarios for one more, and builds nothing"
        )
    _plan_workflow(plan, language, platform, node=node, own=steps)
    if draft := draft_system(project):
        plan.add(project.root / "system.yaml", draft)
        plan.advice.append("answer the questions in system.yaml, then: job-harness explore system.yaml")
    return plan


def _plan_workflow(plan: ChangePlan, language: Language, platform: Platform, *, node: str, own: str) -> None:
    """Add the workflow; `node` and `own` are the steps that install the repository's packages of Node and Python."""
    on_gitlab, searches = platform is Platform.GITLAB, search_steps(plan.root)
    extra, tests = "embedded" if searches else "", plan.pytest_command(plan.root)
    workflow = (
        (GITLAB_WORKFLOW if on_gitlab else WORKFLOW)
        .replace("STEPS\n", STEPS)
        .replace("NODE\n", node)
        .replace("PROJECT\n", own)
        .replace("INSTALL", install_step(language, node=bool(node) and not on_gitlab, extra=extra))
        .replace("SEARCHES\n", searches)
        .replace("NODE_TESTS\n", f"      - run: {plan.node_tests}\n" if plan.node_tests else "")
        .replace("TESTS", tests if tests.startswith("job-harness run") else f"{tests}{EXPLORED}")
    )
    if not on_gitlab:
        plan.add(plan.root / ".github" / "workflows" / "jobs.yml", workflow)
        return
    plan.add(plan.root / ".gitlab" / "jobs.yml", _as_gitlab_script(workflow))
    plan.advice.append("include it in .gitlab-ci.yml: include: [{local: .gitlab/jobs.yml}]")
    if node:
        plan.advice.append("add steps to that job that install Node and your packages: its image has only Python")


def _as_gitlab_script(workflow: str) -> str:
    """Write steps as GitLab has them: lines of one script, without SARIF, which is GitHub's."""
    script = workflow.replace("      - run: ", "    - ").replace("      # ", "    # ")
    return script.replace(" --sarif jobs.sarif", "")


def search_steps(root: Path) -> str:
    """Return the steps that search the queue files and system files at the root; a queue file is checked first."""
    steps = []
    for path in sorted(root.glob("*.y*ml")):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError):
            continue
        name = shlex.quote(path.name)
        keys = set(re.findall(r"^(\w+):", text, re.MULTILINE))
        if {"queue", "claim", "jobs"} <= keys:
            steps.append(f"job-harness check {name} --annotations")
        if {"queue", "claim", "jobs"} <= keys or {"system", "processes", "send", "jobs"} <= keys:
            steps.append(f"job-harness explore {name} --time {SEARCHED} --quiet --annotations")
    return "".join(f"      - run: {step}\n" for step in steps)


def node_command(runner: str, file: str) -> str:
    """Return what runs one test file by Vitest or Jest."""
    return f"npx {'vitest run' if runner == 'vitest' else 'jest'} {file}"


def project_steps(project: Project) -> str:
    """Return the steps that install a Python project and what it needs; a comment where it says neither."""
    place = Path(os.path.relpath(project.package, project.root)).as_posix()
    at = "" if place == "." else f"{place}/"
    steps = []
    if (project.package / "requirements.txt").is_file():
        steps.append(f"-r {shlex.quote(f'{at}requirements.txt')}")
    manifest = read_manifest(project.package / "pyproject.toml", tomllib.loads)
    if "project" in manifest or "build-system" in manifest or (project.package / "setup.py").is_file():
        steps.append(shlex.quote(f"./{place}") if at else ".")
    return "".join(f"      - run: pip install {what}\n" for what in steps) or _NEEDS_UNKNOWN


def _packages_beside(folder: Path) -> list[str]:
    """Return the packages that setuptools would find by itself; [] where it is told, or another tool builds."""
    manifest = read_manifest(folder / "pyproject.toml", tomllib.loads)
    backend = str(manifest.get("build-system", {}).get("build-backend", "setuptools"))
    told = {"packages", "py-modules"} & set(manifest.get("tool", {}).get("setuptools", {}))
    if told or not backend.startswith("setuptools") or (folder / "src").is_dir() or (folder / "setup.py").is_file():
        return []
    found = sorted(path.parent.name for path in folder.glob("*/__init__.py"))
    return [name for name in found if name not in ("tests", "scenarios")]


def node_steps(root: Path) -> str:
    """Return the steps that install a repository's own packages; "" where it has no package.json.

    Processors import what is in `node_modules`, so that a run without it stops at the first import.
    """
    if not (root / "package.json").is_file():
        return ""
    manager = _package_manager(root)
    there = {name for name in _LOCKS if (root / name).is_file()}
    if manager == "pnpm":
        version = "" if _declared(root) else "\n        with: {version: 10}"
        frozen = " --frozen-lockfile" if "pnpm-lock.yaml" in there else " --no-frozen-lockfile"
        return f"      - uses: pnpm/action-setup@v4{version}\n{SETUP_NODE}      - run: pnpm install{frozen}\n"
    if manager == "bun":
        return f"{SETUP_NODE}      - uses: oven-sh/setup-bun@v2\n      - run: bun install --frozen-lockfile\n"
    if manager == "yarn":
        modern = (root / ".yarnrc.yml").is_file()
        frozen = "" if "yarn.lock" not in there else " --immutable" if modern else " --frozen-lockfile"
        return f"{SETUP_NODE}      - run: corepack enable && yarn install{frozen}\n"
    return f"{SETUP_NODE}      - run: npm {'ci' if 'package-lock.json' in there else 'install'}\n"


_LOCKS: Final = {
    "pnpm-lock.yaml": "pnpm",
    "pnpm-workspace.yaml": "pnpm",
    "yarn.lock": "yarn",
    "bun.lock": "bun",
    "bun.lockb": "bun",
    "package-lock.json": "npm",
}
"""Files that say which package manager a repository uses."""


def _package_manager(root: Path) -> str:
    found = (manager for name, manager in _LOCKS.items() if (root / name).is_file())
    return _declared(root) or next(found, "npm")


def _declared(root: Path) -> str:
    """Return what `packageManager` names, such as `pnpm@10.1.0`, without its version."""
    named = read_manifest(root / "package.json", json.loads).get("packageManager")
    return named.partition("@")[0] if isinstance(named, str) else ""


def install_step(language: Language, *, node: bool = False, extra: str = "") -> str:
    """Return the step of a workflow that installs what runs here, wherever else that can be fetched from.

    With `node` a step before it has brought one; `extra` is needed besides. From a repository, the
    commit; from an index, the name. No other machine has a folder of this one: then the name, below
    a comment that says so.
    """
    extras = (extra, _EXTRA[Language.PYTHON if node else language])
    named = requirement(",".join(filter(None, extras)))
    elsewhere = not installed_from() or "@" in named
    return f"{'' if elsewhere else _NOT_ON_AN_INDEX}      - run: pip install {shlex.quote(named)}"
