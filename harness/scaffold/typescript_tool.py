"""`new --lang typescript`: the three steps of a new processor, a test and a scenario."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from harness.scaffold.plan import Plan
from harness.scaffold.project import Project
from harness.scaffold.scenario_file import scenario_of
from harness.scaffold.tool_name import ToolName

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
PROCESSOR: Final = """import type {{ JobProcessor, JobResult }} from "{registry}";

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
import {{ process{pascal} }} from "./processor";

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
TEST: Final = '''"""The tool `{slug}`, in TypeScript: what every processor must keep, and what this one does."""

from pathlib import Path

from harness.processors import ProcessorContract

LIB = Path(__file__).parents[1] / "{lib}"


class Test{pascal}Contract(ProcessorContract):
    processor = f"{{LIB}}/processor.ts#process{pascal}"
    examples = ({{"text": "hello"}},)


def test_{module}_completes(job_harness):
    job_harness.register("{slug}", f"{{LIB}}/register.ts#register{pascal}Processor")
    job = job_harness.enqueue("{slug}", {{"text": "hello"}})
    job_harness.run_until_idle()
    assert (job.status, job.output) == ("COMPLETED", {{"text": "hello"}})
'''
_LIST: Final = re.compile(r"\bTOOL_SLUGS\b[^=\n]*=\s*\[(?P<items>.*?)\]", re.S)
_REGISTRATION: Final = re.compile(
    r"""from\s+["'](?P<modules>[^"'\n]*)/[^"'/\n]+/lib/register[\w-]*(?P<end>\.[jt]s)?["']"""
)


def plan_typescript_tool(project: Project, name: ToolName) -> Plan:
    """Plan the files of a tool, and the edits that the worker's list needs."""
    plan = Plan(project.root)
    modules = _modules(project)
    lib = modules / name.slug / "lib"
    registry = _registry(project) or modules / "jobs" / "lib" / "processor-registry.ts"
    if not registry.exists():
        plan.add(registry, REGISTRY)
    words = {"slug": name.slug, "module": name.module, "pascal": name.pascal, "registry": _import(lib, registry)}
    plan.add(lib / "processor.ts", PROCESSOR.format(**words))
    plan.add(lib / "register.ts", REGISTER.format(**words))
    _add_to_workers(plan, project, name, lib / "register.ts")
    where = lib.relative_to(project.root).as_posix()
    test = project.root / "tests" / f"test_{name.module}.py"
    plan.add(test, TEST.format(**words, lib=where))
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


def _add_to_workers(plan: Plan, project: Project, name: ToolName, register: Path) -> None:
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
    source = _as_others_import(text, register) or _import(path.parent, register)
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
    """Answer where the registration is, in the words in which the file imports those of other tools' modules."""
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


def _import(folder: Path, file: Path) -> str:
    return _relative(folder, file).removesuffix(".ts")


def _relative(folder: Path, file: Path) -> str:
    path = Path(os.path.relpath(file, folder)).as_posix()
    return path if path.startswith(".") else f"./{path}"
