"""`init` and `new`: what they write works at once, and nothing that exists is ever overwritten."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tests.contract.node_at_hand import missing_node
from tests.docs import pages

from job_harness import extras
from job_harness.doors.cli import main
from job_harness.doors.scaffold import first_files
from job_harness.doors.scaffold.examples import INDEX, SETS, example_files, index
from job_harness.doors.scaffold.plan import Language, ToolName, find_project, write_whole
from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.search.watchdog import LATEST

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
GUIDE_WORKERS = """\
import { registerAllProcessors } from "@repo/api/modules/jobs/lib/register-all";

const TOOL_SLUGS = [
  // ... existing tools
  "other-tool"
] as const;

function initializeProcessors(): void {
  registerAllProcessors();
}
"""


def run_tests(folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests", "scenarios"],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_code_for_production_imports_nothing_of_this_project(repository: Path) -> None:
    assert main(["new", "my-tool", "--lang", "python"]) == 0
    written = {path.name: path.read_text() for path in (repository / "processors").iterdir()}
    assert sorted(written) == ["__init__.py", "job_types.py", "my_tool.py"]
    assert not [name for name, text in written.items() if re.search(r"\b(harness|reference_impl)\b", text)]
    source = "from processors import REGISTRATIONS, TOOL_SLUGS; print(TOOL_SLUGS, REGISTRATIONS[0].__name__)"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'); {source}"]
    told = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout
    assert told == "('my-tool',) register_my_tool\n"


@pytest.mark.slow
@pytest.mark.parametrize("language", ["python", "typescript"])
def test_an_empty_repository_is_left_with_a_green_test_run(repository: Path, language: str) -> None:
    if language == "typescript" and (why := missing_node()):
        pytest.skip(why)
    assert main(["init", "--lang", language]) == 0
    assert main(["new", "my-tool", *([] if language == "python" else ["--lang", language])]) == 0
    ended = run_tests(repository)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "failed" not in ended.stdout


@pytest.mark.parametrize(("runner", "command"), [("vitest", "npx vitest run"), ("jest", "npx jest")])
def test_a_project_that_tests_with_a_runner_of_node_gets_tests_for_it(
    repository: Path, capsys: pytest.CaptureFixture[str], runner: str, command: str
) -> None:
    manifest = {"type": "module", "devDependencies": {runner: "*", "job-harness": "*"}}
    (repository / "package.json").write_text(json.dumps(manifest))
    assert main(["init", "--lang", "ts"]) == 0
    assert main(["new", "my-tool", "--lang", "ts"]) == 0
    shown = capsys.readouterr().out
    for name in ("jobs", "my-tool"):
        assert f"&& {command} tests/{name}.test.ts" in shown
        assert f'from "job-harness/{runner}"' in (repository / "tests" / f"{name}.test.ts").read_text()
    assert not (repository / "tests" / "test_jobs.py").exists()
    assert f"- run: {command} tests/jobs.test.ts" in (repository / ".github" / "workflows" / "jobs.yml").read_text()
    imports = [found for path in repository.rglob("*.ts") for found in re.findall(r'from "(\..*)"', path.read_text())]
    assert len(imports) == 5
    assert [each for each in imports if not each.endswith(".js")] == []


def test_nothing_that_exists_is_overwritten(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = repository / "tests" / "test_jobs.py"
    mine.parent.mkdir()
    mine.write_text("# mine\n")
    assert main(["init", "--lang", "python"]) == 0
    assert main(["init", "--lang", "python"]) == 0
    assert mine.read_text() == "# mine\n"
    assert "kept     tests/test_jobs.py (it is there already)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("linked", "command"),
    [
        (".github", ["init", "--lang", "python"]),
        (".github", ["init", "--lang", "python", "--dry-run"]),
        (".github", ["init", "--nightly", "memory"]),
        ("tests", ["init", "--lang", "python"]),
        ("processors", ["new", "my-tool", "--lang", "python"]),
        (".agents", ["init", "--agent"]),
        ("queue.yaml", ["init", "--queue", "schema.sql"]),
    ],
)
def test_a_link_that_leads_out_of_the_repository_is_not_followed(
    linked: str, command: list[str], repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (repository / "schema.sql").write_text("CREATE TABLE jobs (id serial PRIMARY KEY, status text, payload jsonb)")
    outside = tmp_path_factory.mktemp("outside")
    (repository / linked).symlink_to(outside / "new" if linked == "queue.yaml" else outside)
    assert main(command) == 2
    assert list(outside.iterdir()) == []
    assert {path.name for path in repository.iterdir()} == {".git", "schema.sql", linked}


def test_a_full_disk_leaves_what_was_there_and_nothing_in_part(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = repository / "index.ts"
    workers.write_text(GUIDE_WORKERS)
    write = Path.write_text

    def full(self: Path, text: str, **how: str) -> int:
        write(self, text[:5], **how)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    assert main(["init", "--lang", "python"]) == 4
    assert "test_jobs.py: cannot be written: No space left on device\n  Make room" in capsys.readouterr().err
    with pytest.raises(EnvironmentUnavailable, match="No space left"):
        write_whole(workers, "what is new", below=repository)
    assert workers.read_text() == GUIDE_WORKERS
    assert [path for path in repository.rglob("*") if path.is_file()] == [workers]


def test_a_dry_run_shows_the_edits_and_writes_nothing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workers = repository / "apps" / "api-server" / "src" / "workers" / "index.ts"
    workers.parent.mkdir(parents=True)
    workers.write_text(GUIDE_WORKERS)
    before = sorted(path for path in repository.rglob("*"))
    assert main(["new", "my-tool", "--lang", "typescript", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert '+  "my-tool",' in told
    assert "+  registerMyToolProcessor();" in told
    assert "+export const processMyTool: JobProcessor" in told
    assert sorted(path for path in repository.rglob("*")) == before
    assert workers.read_text() == GUIDE_WORKERS


def test_the_worker_list_of_the_guide_gets_its_three_lines(repository: Path) -> None:
    workers = repository / "apps" / "api-server" / "src" / "workers" / "index.ts"
    workers.parent.mkdir(parents=True)
    (repository / "packages" / "api" / "modules").mkdir(parents=True)
    workers.write_text(GUIDE_WORKERS)
    assert main(["new", "my-tool", "--lang", "typescript"]) == 0
    assert workers.read_text() == (
        'import { registerAllProcessors } from "@repo/api/modules/jobs/lib/register-all";\n'
        'import { registerMyToolProcessor } from "@repo/api/modules/my-tool/lib/register";\n'
        "\n"
        "const TOOL_SLUGS = [\n"
        "  // ... existing tools\n"
        '  "other-tool",\n'
        '  "my-tool",\n'
        "] as const;\n"
        "\n"
        "function initializeProcessors(): void {\n"
        "  registerAllProcessors();\n"
        "  registerMyToolProcessor();\n"
        "}\n"
    )
    assert (repository / "packages" / "api" / "modules" / "my-tool" / "lib" / "processor.ts").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('const TOOL_SLUGS = ["foo"];\n', 'const TOOL_SLUGS = ["foo", "my-tool"];\n'),
        ("const TOOL_SLUGS: string[] = [];\n", 'const TOOL_SLUGS: string[] = [\n  "my-tool",\n];\n'),
        ('const TOOL_SLUGS = [\n  "foo"\n];\n', 'const TOOL_SLUGS = [\n  "foo",\n  "my-tool",\n];\n'),
    ],
)
def test_a_slug_is_listed_as_the_others_are(repository: Path, before: str, after: str) -> None:
    workers = repository / "worker.ts"
    workers.write_text(before)
    assert main(["new", "my-tool", "--lang", "typescript"]) == 0
    assert workers.read_text().endswith(after)
    assert 'from "./modules/my-tool/lib/register";' in workers.read_text()


@pytest.mark.parametrize(
    ("noted", "steps"),
    [
        (None, ["- run: pip install 'job-harness[node]'"]),
        (
            '{"url": "file:///home/ada/job-harness", "dir_info": {"editable": true}}',
            [
                "# Until job-harness is on your index: pip install PATH_OR_URL",
                "- run: pip install 'job-harness[node]'",
            ],
        ),
        (
            '{"url": "https://ada:secret@git.example/jobs.git", "vcs_info": {"vcs": "git", "commit_id": "5f1c"}}',
            ["- run: pip install 'job-harness[node] @ git+https://git.example/jobs.git@5f1c'"],
        ),
    ],
    ids=["index", "folder", "git"],
)
def test_the_workflow_installs_what_runs_here(
    repository: Path, monkeypatch: pytest.MonkeyPatch, noted: str | None, steps: list[str]
) -> None:
    source = json.loads(noted) if noted else {}
    monkeypatch.setattr(extras, "installed_from", lambda: source)
    monkeypatch.setattr(first_files, "installed_from", lambda: source)
    assert main(["init", "--lang", "typescript"]) == 0
    workflow = (repository / ".github" / "workflows" / "jobs.yml").read_text()
    lines = [line.strip() for line in workflow.splitlines()]
    at = next(number for number, line in enumerate(lines) if line.startswith("- run: pip install"))
    assert lines[at + 1 - len(steps) : at + 1] == steps
    assert ("# Until" in workflow) == (len(steps) == 2)
    assert YAML(typ="safe").load(workflow)["jobs"]["test"]["steps"][2]["run"] == steps[-1].removeprefix("- run: ")


@pytest.mark.parametrize(
    ("files", "steps"),
    [
        ({"pyproject.toml": "[project]\nname = 'shop'\n", "requirements.txt": ""}, ["-r requirements.txt", "."]),
        ({"pyproject.toml": "[tool.ruff]\n"}, []),
        ({"setup.py": ""}, ["."]),
    ],
    ids=["both", "a pyproject.toml for tools alone", "setup.py"],
)
def test_the_workflow_of_a_python_project_installs_and_explores_it(
    repository: Path, files: dict[str, str], steps: list[str]
) -> None:
    for name, text in files.items():
        (repository / name).write_text(text)
    assert main(["init", "--lang", "python"]) == 0
    text = (repository / ".github" / "workflows" / "jobs.yml").read_text()
    workflow = YAML(typ="safe").load(text)
    told = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    assert ("# What the tests import besides is named by no file here" in text) is not bool(steps)
    assert told[: len(steps)] == [f"pip install {what}" for what in steps]
    assert told[len(steps)].startswith("pip install job-harness")
    assert told[len(steps) + 1] == "python -m pytest tests scenarios --job-explore 50"


def test_the_workflow_searches_the_queue_files_and_system_files_of_the_repository(repository: Path) -> None:
    queue, system = (ROOT / "examples" / name for name in ("queues/mail.yaml", "python-app/system.yaml"))
    (repository / "queue.yaml").write_text(queue.read_text())
    (repository / "system.yaml").write_text(system.read_text())
    (repository / "docker-compose.yml").write_text("services: {db: {image: postgres}}")
    assert main(["init", "--lang", "python"]) == 0
    workflow = YAML(typ="safe").load((repository / ".github" / "workflows" / "jobs.yml").read_text())
    told = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    assert any("job-harness[embedded]" in run for run in told)
    assert [run for run in told if ".yaml" in run] == [
        "job-harness check queue.yaml --annotations",
        "job-harness explore queue.yaml --time 60s --quiet --annotations",
        "job-harness explore system.yaml --time 60s --quiet --annotations",
    ]
    kept = workflow["jobs"]["test"]["steps"][-1]
    assert (kept["if"], kept["with"]["path"]) == ("failure()", ".job-harness/found"), (
        "what was found leaves the machine"
    )
    assert kept["with"]["include-hidden-files"] is True


def test_a_repository_on_gitlab_gets_a_job_of_gitlab(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / ".gitlab-ci.yml").write_text("test: {script: [make]}\n")
    (repository / "queue.yaml").write_text((ROOT / "examples" / "queues" / "mail.yaml").read_text())
    assert main(["init", "--lang", "python"]) == 0
    assert "to do    include it in .gitlab-ci.yml: include: [{local: .gitlab/jobs.yml}]" in capsys.readouterr().out
    job = YAML(typ="safe").load((repository / ".gitlab" / "jobs.yml").read_text())["job-harness"]
    assert job["script"][1:4] == [
        "python -m pytest tests scenarios --job-explore 50",
        "job-harness check queue.yaml --annotations",
        "job-harness explore queue.yaml --time 60s --quiet --annotations",
    ]
    assert job["artifacts"] == {
        "when": "always",
        "paths": [".job-harness/found"],
        "reports": {"codequality": "gl-code-quality-report.json"},
    }
    assert not (repository / ".github").exists()
    assert main(["init", "--lang", "python", "--on", "github"]) == 0
    assert (repository / ".github" / "workflows" / "jobs.yml").is_file()


@pytest.mark.parametrize(
    ("manifest", "advised"),
    [("", True), ("[tool.setuptools]\npackages = ['shop']\n", False), ("[build-system]\nbuild-backend = 'x'\n", False)],
    ids=["found by setuptools", "named", "another tool"],
)
def test_a_package_that_setuptools_would_no_longer_build_is_named(
    repository: Path, capsys: pytest.CaptureFixture[str], manifest: str, *, advised: bool
) -> None:
    (repository / "pyproject.toml").write_text(f"[project]\nname = 'shop'\nversion = '1'\n{manifest}")
    (repository / "shop").mkdir()
    (repository / "shop" / "__init__.py").write_text("")
    assert main(["init"]) == 0
    assert ('packages = ["shop"]' in capsys.readouterr().out) is advised


SETUP_NODE = ("actions/setup-node@v4", {"node-version": "24"})
PNPM = "pnpm/action-setup@v4"


@pytest.mark.parametrize(
    ("files", "declared", "steps"),
    [
        (("package-lock.json",), None, [SETUP_NODE, "npm ci"]),
        ((), None, [SETUP_NODE, "npm install"]),
        (("yarn.lock",), None, [SETUP_NODE, "corepack enable && yarn install --frozen-lockfile"]),
        (("yarn.lock", ".yarnrc.yml"), "yarn@4.5.0", [SETUP_NODE, "corepack enable && yarn install --immutable"]),
        (("pnpm-lock.yaml",), None, [(PNPM, {"version": 10}), SETUP_NODE, "pnpm install --frozen-lockfile"]),
        (("pnpm-workspace.yaml",), "pnpm@10.1.0", [(PNPM, None), SETUP_NODE, "pnpm install --no-frozen-lockfile"]),
        (("bun.lock",), None, [SETUP_NODE, ("oven-sh/setup-bun@v2", None), "bun install --frozen-lockfile"]),
    ],
    ids=["npm", "no lock file", "yarn 1", "yarn 4", "pnpm", "pnpm that is declared", "bun"],
)
def test_the_workflow_of_a_typescript_repository_installs_its_packages_first(
    repository: Path, files: tuple[str, ...], declared: str | None, steps: list[object]
) -> None:
    manifest = {"workspaces": ["packages/*"], **({} if declared is None else {"packageManager": declared})}
    (repository / "package.json").write_text(json.dumps(manifest))
    for name in files:
        (repository / name).write_text("")
    assert main(["init", "--lang", "typescript"]) == 0
    workflow = YAML(typ="safe").load((repository / ".github" / "workflows" / "jobs.yml").read_text())
    told = [step.get("run") or (step["uses"], step.get("with")) for step in workflow["jobs"]["test"]["steps"]]
    at = next(number for number, step in enumerate(told) if "pip install" in step)
    assert told[2:at] == steps
    assert "[node]" not in told[at]


def test_examples_are_written_once_and_are_what_the_pages_show(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["examples", "jobs"]) == 0
    written = {path.relative_to(repository / "jobs").as_posix() for path in (repository / "jobs").rglob("*.*")}
    assert written == set(example_files())
    told = capsys.readouterr().out
    assert {each.command.split()[0] for each in SETS} == {"python", "job-harness", "cd"}
    assert all(each.command in told and (repository / "jobs" / each.folder).is_dir() for each in SETS)
    assert (repository / "jobs" / INDEX).read_text().splitlines() == list(index())
    (repository / "jobs" / "first_test" / "test_my_tool.py").write_text("# mine")
    assert main(["examples", "jobs"]) == 2
    assert (repository / "jobs" / "first_test" / "test_my_tool.py").read_text() == "# mine"
    shown = {block.file: block.text for page in SHOWING for block in pages.blocks(page) if block.file is not None}
    same = [(name, example_files()[name] == shown[file]) for name, file in SAME.items()]
    assert [name for name, is_same in same if not is_same] == []


SHOWING = [pages.ROOT / name for name in ("docs/tasks.md", "docs/typescript.md", "docs/overview.md")]
SAME = {
    "first_test/test_my_tool.py": "test_my_tool.py",
    "scenario/worker_dies.yaml": "scenarios/worker_dies.yaml",
    "typescript/lib/pay.ts": "lib/pay.ts",
    "typescript/test_pay.py": "test_pay.py",
    "tasks/test_celery_task.py": "test_celery_task.py",
    "tasks/test_rq_task.py": "test_rq_task.py",
    "tasks/test_dramatiq_task.py": "test_dramatiq_task.py",
    "tasks/test_django_task.py": "test_django_task.py",
    "tasks/test_temporal_activity.py": "test_temporal_activity.py",
}
"""By an example's path, as what a page tells to save the same text."""


@pytest.mark.parametrize("language", ["python", "typescript"])
def test_the_check_of_the_workflow_passes_in_a_repository_that_sets_no_queue_yet(
    repository: Path, language: str
) -> None:
    assert main(["init", "--lang", language]) == 0
    workflow = (repository / ".github" / "workflows" / "jobs.yml").read_text()
    [command] = re.findall(r"- run: job-harness (check .*)", workflow)
    ended = subprocess.run(
        ["bash", "-ec", f"{shlex.quote(sys.executable)} -m job_harness.doors.cli {command}"],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == 0
    assert (repository / "jobs.sarif").exists()


@pytest.mark.parametrize("language", ["python", "typescript"])
def test_the_command_that_is_told_runs_from_the_folder_of_a_package(
    repository: Path, language: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = ("pyproject.toml", "[tool.uv.workspace]\n") if language == "python" else ("package.json", "{}")
    (repository / manifest[0]).write_text(manifest[1] if language == "python" else '{"workspaces": []}')
    package = repository / "packages" / "api"
    package.mkdir(parents=True)
    (package / manifest[0]).write_text("")
    monkeypatch.chdir(package)
    for arguments in (["init"], ["new", "my-tool"]):
        assert main([*arguments, "--lang", language]) == 0
        told = capsys.readouterr().out.rpartition("Then: python -m pytest ")[2].split()
        assert len(told) == 2
        assert all((package / path).exists() for path in told), told
    workflow = (repository / ".github" / "workflows" / "jobs.yml").read_text()
    assert all((repository / path).is_dir() for path in workflow.partition("python -m pytest ")[2].split()[:2])


def test_a_tool_that_is_listed_is_not_listed_twice(repository: Path) -> None:
    assert main(["new", "my-tool", "--lang", "python"]) == 0
    first = (repository / "processors" / "__init__.py").read_text()
    assert main(["new", "my-tool", "--lang", "python"]) == 0
    assert (repository / "processors" / "__init__.py").read_text() == first
    assert main(["new", "other", "--lang", "python"]) == 0
    assert 'TOOL_SLUGS = ("my-tool", "other")' in (repository / "processors" / "__init__.py").read_text()


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        ("pnpm-workspace.yaml", "packages: [packages/*]\n"),
        ("package.json", '{"workspaces": ["packages/*"]}'),
        ("pyproject.toml", "[tool.uv.workspace]\nmembers = ['packages/*']\n"),
    ],
)
def test_a_package_is_found_in_its_workspace(repository: Path, manifest: str, text: str) -> None:
    (repository / manifest).write_text(text)
    package = repository / "packages" / "api"
    (package / "src").mkdir(parents=True)
    (package / ("pyproject.toml" if manifest == "pyproject.toml" else "package.json")).write_text("")
    project = find_project(package / "src")
    assert (project.root, project.package) == (repository, package)
    wanted = Language.PYTHON if manifest == "pyproject.toml" else Language.TYPESCRIPT
    assert project.language is wanted


@pytest.mark.parametrize("files", [(), ("package.json", "pyproject.toml")])
def test_a_language_that_is_open_is_asked_for(
    repository: Path, files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in files:
        (repository / name).write_text("{}" if name.endswith("json") else "")
    assert main(["init"]) == 2
    assert "Say which with --lang python or --lang typescript." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("slug", "hint"),
    [("My Tool", "such as my-tool"), ("../../etc", "such as etc"), ("1st", "lowercase"), ("", "lowercase")],
)
def test_what_is_no_slug_is_refused(slug: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        ToolName(slug)
    assert hint in str(refused.value)


@pytest.mark.parametrize(("slug", "why"), [("class", "is a word of Python"), ("job-types", "holds the types")])
def test_a_tool_whose_module_could_not_be_imported_is_refused(
    repository: Path, slug: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", slug, "--lang", "python"]) == 2
    assert f"{why}\n  Try {slug}-job." in capsys.readouterr().err.replace(" of all jobs", "")
    assert not [*repository.rglob("processors")]


def test_broken_manifests_stop_nothing(repository: Path) -> None:
    (repository / "package.json").write_text("[" * 99_999)
    (repository / "loop").symlink_to(repository, target_is_directory=True)
    assert find_project(repository).language is Language.TYPESCRIPT
    assert main(["new", "my-tool"]) == 0


def test_a_nightly_search_installs_what_its_processes_import_and_ends_before_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project, elsewhere = tmp_path / "shop", tmp_path / "elsewhere"
    for folder in (project / "jobs", elsewhere):
        folder.mkdir(parents=True)
    for name, text in {"package.json": "{}", "package-lock.json": "{}", "jobs/system.yaml": "system: shop"}.items():
        (project / name).write_text(text)
    monkeypatch.chdir(elsewhere)
    target = "../shop/jobs/system.yaml"
    assert main(["init", "../shop", "--nightly", f"{target} --sessions", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "job-harness explore 'jobs/system.yaml --sessions' --runs" in told
    assert "job-harness[embedded,node]" in told
    assert main(["init", "../shop", "--nightly", target]) == 0
    (written,) = project.rglob("*.yml")
    search = YAML(typ="safe").load(written.read_text())["jobs"]["search"]
    runs = [step["run"] for step in search["steps"] if "run" in step]
    assert runs[0] == "npm ci"
    assert "job-harness[embedded,node]" in runs[1]
    assert runs[-1].startswith("job-harness explore jobs/system.yaml --runs 40000 --time 35m ")
    assert search["timeout-minutes"] > 35 * (1 + LATEST)
    capsys.readouterr()
    refused = {
        target: f"it is not in {elsewhere}",
        "../shop/test_mail.py::test_a": "a test cannot be searched in parts",
        "memory+nope": "no such wrong queue: 'nope'",
        "queue.yaml": "there is no file queue.yaml",
        "mail.py:make": "there is no file mail.py",
        "": "no target is named",
    }
    for named, told in refused.items():
        assert main(["init", ".", "--nightly", named]) == 2
        assert told in capsys.readouterr().err
    (elsewhere / "queue.yaml").write_text("queue: mail")
    assert main(["init", ".", "--nightly", "queue.yaml", "--dry-run"]) == 0, "its language is of no importance"
    told = capsys.readouterr().out
    assert "pip install 'job-harness[embedded]'" in told
    assert "PACKAGES" not in told
