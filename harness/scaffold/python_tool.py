"""`new --lang python`: a processor, its registration, its place in the worker's list, a test and a scenario."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from harness.scaffold.first_files import ON_PATH
from harness.scaffold.plan import Plan
from harness.scaffold.project import Project
from harness.scaffold.scenario_file import scenario_of
from harness.scaffold.tool_name import ToolName

PROCESSOR: Final = '''"""The tool `{slug}`."""

from __future__ import annotations

from reference_impl.models import JobResult, ToolJob
from reference_impl.registry import Registry

SLUG = "{slug}"


async def process_{module}(job: ToolJob) -> JobResult:
    """Answer with the text of the input; put the tool's work here."""
    text = job.input.get("text") if isinstance(job.input, dict) else None
    if not isinstance(text, str):
        return JobResult(success=False, error='{slug} needs {{"text": "..."}}', retryable=False)
    return JobResult(success=True, output={{"text": text}})


def register_{module}(registry: Registry) -> None:
    """Let the registry know the tool."""
    registry.register_processor(SLUG, process_{module})
'''
LIST: Final = '''"""The tools that the worker serves. Each slug must be registered, or the worker does not start."""

from __future__ import annotations

TOOL_SLUGS = ()

REGISTRATIONS = ()
"""Each tool's register function."""
'''
TEST: Final = '''"""The tool `{slug}`: what every processor must keep, and what this one does."""

from {package}.{module} import process_{module}

from harness.processors import ProcessorContract


class Test{pascal}Contract(ProcessorContract):
    processor = process_{module}
    examples = ({{"text": "hello"}},)


def test_{module}_completes(job_harness):
    job_harness.register("{slug}", process_{module})
    job = job_harness.enqueue("{slug}", {{"text": "hello"}})
    job_harness.run_until_idle()
    assert (job.status, job.output) == ("COMPLETED", {{"text": "hello"}})
'''


def plan_python_tool(project: Project, name: ToolName) -> Plan:
    """Plan the files of a tool, and the edits that the worker's list needs."""
    plan = Plan(project.root)
    listed = _list_of(project)
    folder = project.package / "processors" if listed is None else listed.parent
    init = folder / "__init__.py" if listed is None else listed
    if listed is None:
        plan.add(init, LIST)
    package = _import_name(folder, project.package)
    words = {"slug": name.slug, "module": name.module, "pascal": name.pascal, "package": package}
    processor = folder / f"{name.module}.py"
    plan.add(processor, PROCESSOR.format(**words))
    _add_to_list(plan, init, name, package)
    test = project.package / "tests" / f"test_{name.module}.py"
    plan.add(test, TEST.format(**words))
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


def _add_to_list(plan: Plan, path: Path, name: ToolName, package: str) -> None:
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
