"""The public edge: `from job_harness import ...`, as cheap as it says, typed from outside, and what the pages use."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from tests.docs import pages

import job_harness

ROOT = Path(__file__).parents[2]
THIS = Path(__file__).relative_to(ROOT).as_posix()
TREE = ast.parse(Path(job_harness.__file__).read_text(encoding="utf-8"))
API = (ROOT / "docs/api.md").read_text(encoding="utf-8")
OUTSIDE, WRONG = ROOT / "tests/typing/outside.py", ROOT / "tests/typing/wrong.py"


def declared() -> dict[str, str]:
    """Read where type checkers find each name."""
    block = next(node for node in TREE.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_a_type_checker_and_a_program_find_each_name_in_the_same_place() -> None:
    assert sorted(declared()) == sorted(job_harness.__all__)
    assert {name: module for module, names in vars(job_harness)["_HOMES"].items() for name in names} == declared()
    for name, module in declared().items():  # Not `is`: pytest in this process may have had modules imported anew.
        assert type(getattr(job_harness, name)) is type(getattr(import_module(module), name))
    assert set(job_harness.__all__) <= set(dir(job_harness))


def test_a_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'job_harness' has no attribute 'JobHarnes'"):
        job_harness.JobHarnes  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.slow
def test_import_harness_imports_nothing_else() -> None:
    heavy = ("job_harness.", "pydantic", "pytest")
    ask = f"import sys, job_harness; print([m for m in sys.modules if m.startswith({heavy})])"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout == "[]\n"


def test_pages_and_examples_import_what_is_public_alone() -> None:
    beside = set(re.findall(r"`(job_harness[\w.]*)`", API.partition("## Public modules")[2].partition("\n## ")[0]))
    texts = {f"{block.page.name} {block.number}": block.text for page in pages.PAGES for block in pages.blocks(page)}
    texts |= {path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("scenarios/**/*.py")}
    used = {
        (where, module)
        for where, text in texts.items()
        for module in re.findall(r"^\s*(?:\$ python -c ')?(?:from|import) (job_harness[\w.]*)", text, re.MULTILINE)
    }
    assert used
    assert [(where, module) for where, module in sorted(used) if module not in {"job_harness", *beside}] == []


OLD_NAME = re.compile(r"^\s*(?:import|from) harness\b(?!/)|[\"']harness\.[a-z_]+[.:\"']", re.MULTILINE)
"""From the root of a clone `harness` is a namespace package, and `harness.job_harness` would be a second copy of us."""


def test_no_tracked_file_imports_the_source_root() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, cwd=ROOT, check=True).stdout.decode()
    texts = {name: path.read_bytes() for name in tracked.split("\0") if (path := ROOT / name).is_file()}
    read = {name: text.decode("utf-8", "replace") for name, text in texts.items() if b"\0" not in text}
    assert "tests/unit/test_public_edge.py" in read
    assert OLD_NAME.search("import harness\n")
    assert OLD_NAME.search('monkeypatch.setattr("harness.run.play", 1)')
    assert {name: found[0] for name, text in read.items() if (found := OLD_NAME.search(text)) and name != THIS} == {}


# type checkers --------------------------------------------------------------------------------------------------------


def refused(said: str) -> list[int]:
    """List the lines of `wrong.py` that a checker complains about."""
    return sorted({int(line) for line in re.findall(r"wrong\.py:(\d+)", said)})


WRONG_LINES = [5, 7, 8]


@pytest.mark.campaign
def test_mypy_strict_knows_the_types_from_outside_and_refuses_what_is_wrong() -> None:
    def mypy(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(path)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    right = mypy(OUTSIDE)
    assert right.returncode == 0, right.stdout + right.stderr
    assert refused(mypy(WRONG).stdout) == WRONG_LINES


@pytest.mark.campaign
def test_pyright_knows_the_types_from_outside_and_refuses_what_is_wrong() -> None:
    command = pyright()
    right = subprocess.run([*command, str(OUTSIDE)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = subprocess.run([*command, str(WRONG)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert refused(wrong.stdout) == WRONG_LINES


def pyright() -> list[str]:
    """Return how to start pyright, from the machine or by npx; skip with the reason where neither is there."""
    reasons = []
    for command in (["pyright"], ["npx", "--yes", "pyright"]):
        try:
            tried = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            reasons.append(f"{command[0]}: {error}")
            continue
        if tried.returncode == 0:
            return [*command, "--pythonpath", sys.executable]
        reasons.append(f"{command[0]}: {tried.stderr.strip()[:200]}")
    pytest.skip("; ".join(reasons))


def test_each_class_of_the_harness_has_a_name_of_its_own() -> None:
    places: dict[str, set[str]] = {}
    for path in (ROOT / "harness").rglob("*.py"):
        for name in re.findall(r"^ *class (\w+)[(\[:]", path.read_text(encoding="utf-8"), re.MULTILINE):
            places.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    assert {name: sorted(found) for name, found in places.items() if len(found) > 1} == {}
