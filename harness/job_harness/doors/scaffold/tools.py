"""`new`: a tool in Python or TypeScript, with its registration, its place in the list of tools, a test, a scenario."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path
from typing import Final

from job_harness.doors.scaffold.first_files import ON_PATH, node_command
from job_harness.doors.scaffold.plan import ChangePlan, Project, ToolName
from job_harness.errors import UsageError

# its scenario ---------------------------------------------------------------------------------------------------------


SCENARIO: Final = """format: 1
title: The worker dies while {slug} runs, and the job is done all the same
why: A crash must neither lose the job nor count as a success.
processors: {{{slug}: "{target}"}}
workers: [w1, w2]
jobs:
  a: {{tool: {slug}, input: {{text: hello}}}}
steps:
  - crash w1 before starting a
  - advance 15m
  - run until idle
expect:
  a: {{status: COMPLETED, attempts: 2}}
controls:
  - {{queue: expire-never, finds: job_stuck}}
"""


def scenario_of(name: ToolName, target: str) -> str:
    """Write it; `target` is how a scenario names the processor."""
    return SCENARIO.format(slug=name.slug, target=target)


# in Python ------------------------------------------------------------------------------------------------------------


PYTHON_PROCESSOR: Final = '''"""The tool `{slug}`."""

from __future__ import annotations

from {jobs} import Job, JobResult, Registry

SLUG = "{slug}"


async def process_{module}(job: Job) -> JobResult:
    """Return the text of the input; put the tool's work here."""
    text = job.input.get("text") if isinstance(job.input, dict) else None
    if not isinstance(text, str):
        return JobResult(success=False, error='{slug} needs {{"text": "..."}}', retryable=False)
    return JobResult(success=True, output={{"text": text}})


def register_{module}(registry: Registry) -> None:
    """Let the registry know the tool."""
    registry.register_processor(SLUG, process_{module})
'''
JOBS: Final = '''"""What a processor is given and what it returns, in this application's own words.

Whatever runs the jobs, a worker or a test, hands in something that looks like a `Job` and reads the `JobResult`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Job(Protocol):
    """A job, as its processor sees it."""

    id: str
    input: Any
    attempts: int
    """How often it has been started, this time included."""


@dataclass(frozen=True)
class JobResult:
    """How it went; with `retryable=False` no other attempt is made."""

    success: bool
    output: Any = None
    error: str | None = None
    retryable: bool = True


class Registry(Protocol):
    """Where a worker looks processors up."""

    def register_processor(self, slug: str, processor: Callable[[Any], Awaitable[JobResult]]) -> None:
        """Let this processor serve the tool."""
'''
TOOLS: Final = '''"""The tools that the worker serves. Each slug must be registered, or the worker does not start."""

from __future__ import annotations

TOOL_SLUGS = ()

REGISTRATIONS = ()
"""Each tool's register function."""
'''
PYTHON_TEST: Final = '''"""The tool `{slug}`: what every processor must keep, and what this one does."""

from {package}.{module} import process_{module}

from job_harness import ProcessorContract


class Test{pascal}Contract(ProcessorContract):
    processor = process_{module}
    examples = ({{"text": "hello"}},)


def test_{module}_completes(job_harness):
    job_harness.register("{slug}", process_{module})
    job = job_harness.enqueue("{slug}", {{"text": "hello"}})
    job_harness.run_until_idle()
    assert (job.status, job.output) == ("COMPLETED", {{"text": "hello"}})
'''


JOB_TYPES: Final = "job_types"
"""The module beside the processors that holds the types of their jobs."""


def plan_python_tool(project: Project, name: ToolName) -> ChangePlan:
    """Plan the files of a tool, and the edits that the worker's list needs.

    Raises UsageError for a name that no module beside the others can have.
    """
    if keyword.iskeyword(name.module) or name.module == JOB_TYPES:
        why = "holds the types of all jobs" if name.module == JOB_TYPES else "is a word of Python"
        raise UsageError(f"{name.slug!r} cannot be a tool's name: {name.module} {why}", hint=f"Try {name.slug}-job.")
    plan = ChangePlan(project.root)
    listed = _list_of(project)
    folder = project.package / "processors" if listed is None else listed.parent
    init = folder / "__init__.py" if listed is None else listed
    if listed is None:
        plan.add(init, TOOLS)
    package = _import_name(folder, project.package)
    jobs = f"{package}.{JOB_TYPES}"
    words = {"slug": name.slug, "module": name.module, "pascal": name.pascal, "package": package, "jobs": jobs}
    if not (folder / f"{JOB_TYPES}.py").exists():
        plan.add(folder / f"{JOB_TYPES}.py", JOBS)
    processor = folder / f"{name.module}.py"
    plan.add(processor, PYTHON_PROCESSOR.format(**words))
    _add_to_list(plan, init, name, package)
    test = project.package / "tests" / f"test_{name.module}.py"
    plan.add(test, PYTHON_TEST.format(**words))
    scenario = project.package / "scenarios" / f"{name.module}.yaml"
    plan.tests = [test, scenario]
    plan.add(scenario, scenario_of(name, f"{package}.{name.module}:process_{name.module}"))
    plan.add(project.package / "conftest.py", ON_PATH)
    return plan


def _list_of(project: Project) -> Path | None:
    for path in project.files(".py"):
        if path.name.startswith("test_") or "tests" in path.parts:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if re.search(r"^TOOL_SLUGS\b.*=", text, re.M) and re.search(r"^REGISTRATIONS\b.*=", text, re.M):
            return path
    return None


def _import_name(folder: Path, package: Path) -> str:
    base = package / "src" if (package / "src") in folder.parents else package
    return ".".join(folder.relative_to(base).parts)


def _add_to_list(plan: ChangePlan, path: Path, name: ToolName, package: str) -> None:
    text = plan.text_of(path)
    if re.search(rf"[\"']{re.escape(name.slug)}[\"']", text):
        return
    after = _appended(text, "TOOL_SLUGS", f'"{name.slug}"')
    after = None if after is None else _appended(after, "REGISTRATIONS", f"register_{name.module}")
    if after is None:
        plan.advice.append(f"add {name.slug!r} to TOOL_SLUGS and register_{name.module} to REGISTRATIONS in {path}")
        return
    line = f"from {package}.{name.module} import register_{name.module}\n"
    imports = list(re.finditer(r"^(?:from|import) .*\n", after, re.M))
    at = imports[-1].end() if imports else 0
    gap = "\n" if imports and imports[-1].group().startswith("from __future__") else ""
    after = f"{after[:at]}{gap}{line}{after[at:]}"
    if path in plan.new:
        plan.new[path] = after
    else:
        plan.edit(path, after)


def _appended(text: str, name: str, item: str) -> str | None:
    match = re.search(rf"^{name}\b[^=\n]*=\s*([(\[])(.*?)([)\]])", text, re.M | re.S)
    if match is None:
        return None
    inside = match[2].rstrip()
    if "\n" in match[2]:
        added = f"{inside.rstrip(',')},\n    {item},\n" if inside.strip() else f"\n    {item},\n"
    else:
        added = f"{inside.rstrip(',')}, {item}" if inside.strip() else f"{item},"
    return f"{text[: match.start(2)]}{added}{text[match.end(2) :]}"


# in TypeScript --------------------------------------------------------------------------------------------------------


REGISTRY: Final = """export interface ToolJob {
  id: string;
  toolSlug: string;
  input: unknown;
  attempts: number;
}

export interface JobResult {
  success: boolean;
  output?: unknown;
  error?: string;
}

export type JobProcessor = (job: ToolJob) => Promise<JobResult>;

const processors = new Map<string, JobProcessor>();

export function registerProcessor(slug: string, processor: JobProcessor): void {
  processors.set(slug, processor);
}

export function getProcessor(slug: string): JobProcessor | undefined {
  return processors.get(slug);
}
"""
TYPESCRIPT_PROCESSOR: Final = """import type {{ JobProcessor, JobResult }} from "{registry}";

interface {pascal}Input {{
  text: string;
}}

export const process{pascal}: JobProcessor = async (job): Promise<JobResult> => {{
  const input = job.input as Partial<{pascal}Input> | null;

  try {{
    if (typeof input?.text !== "string") {{
      return {{ success: false, error: '{slug} needs {{"text": "..."}}' }};
    }}
    // Put the tool's work here.
    return {{ success: true, output: {{ text: input.text }} }};
  }} catch (error) {{
    return {{ success: false, error: error instanceof Error ? error.message : String(error) }};
  }}
}};
"""
REGISTER: Final = """import {{ registerProcessor }} from "{registry}";
import {{ process{pascal} }} from "./processor{end}";

export function register{pascal}Processor(): void {{
  registerProcessor("{slug}", process{pascal});
}}
"""
WORKERS: Final = """const TOOL_SLUGS = [
] as const;

function initializeProcessors(): void {
}

export { TOOL_SLUGS, initializeProcessors };
"""
NODE_TEST: Final = '''"""The tool `{slug}`, in TypeScript: what every processor must keep, and what this one does."""

from pathlib import Path

from job_harness import ProcessorContract

LIB = Path(__file__).parents[1] / "{lib}"


class Test{pascal}Contract(ProcessorContract):
    processor = f"{{LIB}}/processor.ts#process{pascal}"
    examples = ({{"text": "hello"}},)
'''
NODE_COMPLETES: Final = """

def test_{module}_completes(job_harness):
    job_harness.register("{slug}", f"{{LIB}}/register.ts#register{pascal}Processor")
    job = job_harness.enqueue("{slug}", {{"text": "hello"}})
    job_harness.run_until_idle()
    assert (job.status, job.output) == ("COMPLETED", {{"text": "hello"}})
"""
RUNNER_TEST: Final = """import {{ expect, jobHarness, test }} from "job-harness/{runner}";
import {{ process{pascal} }} from "{processor}";

const harness = jobHarness();

test("{slug} completes", async () => {{
  harness.register("{slug}", process{pascal});
  const job = await harness.enqueue("{slug}", {{ text: "hello" }});
  await harness.runUntilIdle();
  expect(job).toHaveStatus("COMPLETED");
  expect(job).toHaveOutput({{ text: "hello" }});
}});
"""
_LIST: Final = re.compile(r"\bTOOL_SLUGS\b[^=\n]*=\s*\[(?P<items>.*?)\]", re.S)
_REGISTRATION: Final = re.compile(
    r"""from\s+["'](?P<modules>[^"'\n]*)/[^"'/\n]+/lib/register[\w-]*(?P<end>\.[jt]s)?["']"""
)


def plan_typescript_tool(project: Project, name: ToolName) -> ChangePlan:
    """Plan the files of a tool, and the edits that the worker's list needs."""
    plan = ChangePlan(project.root)
    modules = _modules(project)
    lib = modules / name.slug / "lib"
    registry = _registry(project) or modules / "jobs" / "lib" / "processor-registry.ts"
    if not registry.exists():
        plan.add(registry, REGISTRY)
    end = ".js" if project.is_esm else ""
    words = {
        "slug": name.slug,
        "module": name.module,
        "pascal": name.pascal,
        "end": end,
        "registry": _import(lib, registry, end),
    }
    plan.add(lib / "processor.ts", TYPESCRIPT_PROCESSOR.format(**words))
    plan.add(lib / "register.ts", REGISTER.format(**words))
    _add_to_workers(plan, project, name, lib / "register.ts")
    where = lib.relative_to(project.root).as_posix()
    test = project.root / "tests" / f"test_{name.module}.py"
    runner = project.node_runner
    plan.add(test, (NODE_TEST if runner else NODE_TEST + NODE_COMPLETES).format(**words, lib=where))
    if runner:
        beside = test.with_name(f"{name.slug}.test.ts")
        processor = _import(beside.parent, lib / "processor.ts", end)
        plan.add(beside, RUNNER_TEST.format(**words, runner=runner, processor=processor))
        plan.node_tests = node_command(runner, f"tests/{beside.name}")
    scenario = project.root / "scenarios" / f"{name.module}.yaml"
    plan.tests = [test, scenario]
    target = f"{_relative(scenario.parent, lib / 'processor.ts')}#process{name.pascal}"
    plan.add(scenario, scenario_of(name, target))
    return plan


def _modules(project: Project) -> Path:
    for path in project.files("processor-registry.ts"):
        if path.parts[-3:-1] == ("jobs", "lib"):
            return path.parents[2]
    for place in (project.root / "packages" / "api" / "modules", project.package / "src" / "modules"):
        if place.is_dir():
            return place
    return _base(project) / "modules"


def _base(project: Project) -> Path:
    source = project.package / "src"
    return source if source.is_dir() else project.package


def _registry(project: Project) -> Path | None:
    return next(project.files("processor-registry.ts"), None)


def _add_to_workers(plan: ChangePlan, project: Project, name: ToolName, register: Path) -> None:
    path = _workers(project)
    if path is None:
        server = project.root / "apps" / "api-server" / "src"
        path = (server if server.is_dir() else _base(project)) / "workers" / "index.ts"
        plan.add(path, WORKERS)
    text = plan.text_of(path)
    call = f"register{name.pascal}Processor"
    found = _LIST.search(text)
    if found is None or re.search(rf"[\"']{re.escape(name.slug)}[\"']", text):
        return
    after = f"{text[: found.start('items')]}{_with_item(found['items'], name.slug)}{text[found.end('items') :]}"
    called = _with_call(after, f"  {call}();\n")
    if called is None:
        plan.advice.append(f"call {call}() where processors are initialized in {path}")
    source = _as_others_import(text, register) or _import(path.parent, register, ".js" if project.is_esm else "")
    after = _with_import(called or after, f'import {{ {call} }} from "{source}";\n')
    if path in plan.new:
        plan.new[path] = after
    else:
        plan.edit(path, after)


def _workers(project: Project) -> Path | None:
    for path in project.files(".ts"):
        if path.name.endswith((".test.ts", ".spec.ts", ".d.ts")):
            continue
        try:
            if _LIST.search(path.read_text(encoding="utf-8")):
                return path
        except (OSError, UnicodeDecodeError):
            continue
    return None


def _with_item(items: str, slug: str) -> str:
    """Add a slug as the last item, on a line of its own unless the others share one."""
    kept = items.rstrip()
    comma = "" if not kept.strip() or kept.endswith(",") or _ends_in_comment(kept) else ","
    if kept.strip() and "\n" not in items:
        return f'{kept}{comma} "{slug}"'
    return f'{kept}{comma}\n  "{slug}",\n'


def _as_others_import(text: str, register: Path) -> str | None:
    """Return where the registration is, in the words in which the file imports those of other tools' modules."""
    others = _REGISTRATION.search(text)
    module = register.parents[1]
    if others is None or others["modules"].rpartition("/")[2] != module.parent.name:
        return None
    return f"{others['modules']}/{module.name}/lib/register{others['end'] or ''}"


def _ends_in_comment(items: str) -> bool:
    return items.splitlines()[-1].lstrip().startswith("//")


def _with_call(text: str, line: str) -> str | None:
    """Add a call at the end of the function that initializes processors."""
    match = re.search(r"function initializeProcessors\([^)]*\)[^{]*\{(?P<body>.*?)^\}", text, re.S | re.M)
    if match is None:
        match = re.search(r"^(?P<body>[ \t]*registerAllProcessors\(\);[^\n]*\n)", text, re.M)
    if match is None:
        return None
    at = match.end("body")
    return f"{text[:at]}{line}{text[at:]}"


def _with_import(text: str, line: str) -> str:
    imports = list(re.finditer(r"^import\b.*?;[ \t]*\n", text, re.M | re.S))
    if not imports:
        return f"{line}\n{text}"
    at = imports[-1].end()
    return f"{text[:at]}{line}{text[at:]}"


def _import(folder: Path, file: Path, end: str) -> str:
    return _relative(folder, file).removesuffix(".ts") + end


def _relative(folder: Path, file: Path) -> str:
    path = Path(os.path.relpath(file, folder)).as_posix()
    return path if path.startswith(".") else f"./{path}"
