"""Where new files go and what they say: the project, the names that a tool goes by, and the changes to be written.

Hides how a repository's language, root and workspace are recognised, and how several edits of one
file become one diff. Nothing that exists is ever overwritten: `write` makes all changes, or raises
before the first.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from job_harness.errors import EnvironmentUnavailable, UsageError

# the project ----------------------------------------------------------------------------------------------------------


_PYTHON: Final = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")
_TYPESCRIPT: Final = ("package.json", "tsconfig.json", "pnpm-workspace.yaml")
LEFT_OUT: Final = frozenset({"node_modules", ".git", ".venv", "venv", "dist", "build", "__pycache__", ".next"})
MOST_FILES: Final = 20_000
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Language(StrEnum):
    """What processors are written in."""

    PYTHON = "python"
    TYPESCRIPT = "typescript"


class Platform(StrEnum):
    """Where a workflow runs."""

    GITHUB = "github"
    GITLAB = "gitlab"

    @classmethod
    def of(cls, root: Path) -> Platform:
        """Return where a repository's workflows run by now: on GitHub, unless it has those of GitLab alone."""
        return cls.GITLAB if (root / ".gitlab-ci.yml").is_file() and not (root / ".github").is_dir() else cls.GITHUB


@dataclass(frozen=True, slots=True)
class Project:
    """`package` is the nearest folder with a manifest; `root` is the workspace's, or the same."""

    root: Path
    package: Path
    language: Language | None

    @property
    def node_runner(self) -> str:
        """Return which of Vitest and Jest the project tests with, where it has our npm package, too; else ""."""
        named = {**needed(self.root), **needed(self.package)}
        return next((runner for runner in ("vitest", "jest") if runner in named and "job-harness" in named), "")

    @property
    def is_esm(self) -> bool:
        """Whether its TypeScript is loaded as ES modules, whose imports name the file with its ending."""
        return read_manifest(self.package / "package.json", json.loads).get("type") == "module"

    def files(self, *suffixes: str) -> Iterator[Path]:
        """Return the files below the root with these suffixes, dependencies and build output left out."""
        seen = 0
        for folder, names, files in os.walk(self.root):
            names[:] = sorted(name for name in names if name not in LEFT_OUT)
            for name in sorted(files):
                seen += 1
                if seen > MOST_FILES:
                    return
                if name.endswith(suffixes):
                    yield Path(folder) / name


def find_project(start: Path, *, language: Language | None = None) -> Project:
    """Look from a folder upwards for a manifest, and on for the workspace that it belongs to.

    Without any manifest the folder itself is the project. Raises UsageError where there is no such
    folder.
    """
    start = start.resolve()
    if not start.is_dir():
        raise UsageError(f"{start}: no such folder", hint="Name the folder of a repository.")
    package = next((folder for folder in _upwards(start) if _manifests(folder)), start)
    root = next((folder for folder in _upwards(package) if _is_workspace(folder)), package)
    return Project(root, package, language or _language(package) or _language(root))


def needed(folder: Path) -> dict[str, Any]:
    """Return the packages that a package.json names, with their versions."""
    manifest = read_manifest(folder / "package.json", json.loads)
    parts = (manifest.get(part) for part in ("dependencies", "devDependencies"))
    return {name: version for part in parts if isinstance(part, dict) for name, version in part.items()}


def _upwards(folder: Path) -> Iterator[Path]:
    for place in (folder, *folder.parents):
        yield place
        if (place / ".git").exists():
            return


def _manifests(folder: Path) -> list[str]:
    return [name for name in (*_PYTHON, *_TYPESCRIPT) if (folder / name).is_file()]


def _language(folder: Path) -> Language | None:
    python = any((folder / name).is_file() for name in _PYTHON)
    typescript = any((folder / name).is_file() for name in _TYPESCRIPT)
    if python and typescript:
        return None
    if not python and not typescript:
        python = (folder / "conftest.py").is_file()  # Pytest's own; `init` writes it where there is no manifest.
    return Language.PYTHON if python else Language.TYPESCRIPT if typescript else None


def _is_workspace(folder: Path) -> bool:
    if (folder / "pnpm-workspace.yaml").is_file():
        return True
    if "workspaces" in read_manifest(folder / "package.json", json.loads):
        return True
    tool = read_manifest(folder / "pyproject.toml", tomllib.loads).get("tool")
    return isinstance(tool, dict) and isinstance(tool.get("uv"), dict) and "workspace" in tool["uv"]


def read_manifest(path: Path, parse: Any) -> dict[str, Any]:
    """Return what a manifest says; nothing where it is not there or cannot be read."""
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# the names of a tool --------------------------------------------------------------------------------------------------


_SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class ToolName:
    """Built from the slug, such as `my-tool`."""

    slug: str

    def __post_init__(self) -> None:
        """Raise UsageError if it is not a slug."""
        if not _SLUG.fullmatch(self.slug):
            near = "-".join(re.findall(r"[a-z0-9]+", self.slug.lower()))
            raise UsageError(
                f"{self.slug!r} is not a valid tool name: use lowercase letters, digits and hyphens, such as "
                f"{near if _SLUG.fullmatch(near) else 'my-tool'}"
            )

    @property
    def module(self) -> str:
        """As a module: `my_tool`."""
        return self.slug.replace("-", "_")

    @property
    def pascal(self) -> str:
        """As a type: `MyTool`."""
        return "".join(part.capitalize() for part in self.slug.split("-"))


# the changes ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ChangePlan:
    """Collects changes below a root; `write` makes them all, or raises before the first."""

    root: Path
    new: dict[Path, str] = field(default_factory=dict)
    edits: dict[Path, tuple[str, str]] = field(default_factory=dict)
    """By file, its text before and after."""
    kept: list[Path] = field(default_factory=list)
    """What exists already and stays as it is."""
    advice: list[str] = field(default_factory=list)
    """What is left to be done by hand."""
    tests: list[Path] = field(default_factory=list)
    """What pytest is to be run on afterwards."""
    node_tests: str = ""
    """The command that runs what was written for Vitest or Jest, from the root."""

    def add(self, path: Path, text: str) -> None:
        """Plan a new file; one that is there is kept."""
        refuse_outside(path, self.root)
        if path.exists() or path.is_symlink():
            self.kept.append(path)
        else:
            self.new[path] = text

    def edit(self, path: Path, after: str) -> None:
        """Plan an edit of a file that is there."""
        refuse_outside(path, self.root)
        before = self.edits[path][0] if path in self.edits else path.read_text(encoding="utf-8")
        if after != before:
            self.edits[path] = (before, after)

    def text_of(self, path: Path) -> str:
        """Return a file as it will be."""
        if path in self.new:
            return self.new[path]
        return self.edits[path][1] if path in self.edits else path.read_text(encoding="utf-8")

    def diff(self) -> Iterator[str]:
        """Show everything as a unified diff, new files too."""
        for path, text in self.new.items():
            yield from _diff("", text, "/dev/null", self._name(path))
        for path, (before, after) in self.edits.items():
            yield from _diff(before, after, self._name(path), self._name(path))

    def lines(self) -> Iterator[str]:
        """Name what is done with each file, one a line."""
        yield from (f"  new      {self._name(path)}" for path in self.new)
        yield from (f"  edited   {self._name(path)}" for path in self.edits)
        yield from (f"  kept     {self._name(path)} (it is there already)" for path in self.kept)
        yield from (f"  to do    {line}" for line in self.advice)

    def pytest_command(self, folder: Path) -> str:
        """Say how to run whatever is not a Node test from a folder: by pytest, or scenarios alone by our command."""
        runs = "job-harness run" if all(path.name == "scenarios" for path in self.tests) else "python -m pytest"
        return " ".join([runs, *(Path(os.path.relpath(path, folder)).as_posix() for path in self.tests)])

    def command(self, folder: Path) -> str:
        """Say how to run all tests from a folder."""
        pytest = self.pytest_command(folder)
        if not self.node_tests:
            return pytest
        at = Path(os.path.relpath(self.root, folder)).as_posix()
        return f"{pytest} && {'' if at == '.' else f'cd {at} && '}{self.node_tests}"

    def write(self) -> None:
        """Write everything. Raises UsageError where a file appeared or changed meanwhile, or cannot be written."""
        for path in self.new:
            if path.exists():
                raise UsageError(f"{path}: was created in the meantime", hint="Run the command again.")
        for path, (before, _) in self.edits.items():
            if path.read_text(encoding="utf-8") != before:
                raise UsageError(f"{path}: was changed in the meantime", hint="Run the command again.")
        for path, text in (*self.new.items(), *((path, after) for path, (_, after) in self.edits.items())):
            write_whole(path, text, below=self.root)

    def _name(self, path: Path) -> str:
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()


def _diff(before: str, after: str, old: str, new: str) -> Iterator[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), old, new, lineterm="")
    yield from lines


def refuse_outside(path: Path, root: Path) -> None:
    """Raise UsageError where a link on the way leads out of the root: who names a folder gives no other one away."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            f"{path}: a link leads from here to {path.resolve()}, and nothing is written outside {root}",
            hint="Replace the link by a folder or a file, or write it by hand.",
        )


def write_whole(path: Path, text: str, *, below: Path) -> None:
    """Write a file whole or not at all: a disk that is full leaves what was there, and no part of what is new.

    Raises EnvironmentUnavailable where the disk is full, and UsageError where it cannot be written
    otherwise, also where it is not below that folder.
    """
    refuse_outside(path, below)
    whole = path.resolve()
    part = whole.with_name(f"{whole.name}.part")
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        if whole.exists():
            shutil.copymode(whole, part)
        part.replace(whole)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        told = f"{path}: cannot be written: {error.strerror}"
        if error.errno in _FULL:
            raise EnvironmentUnavailable(told, hint="Make room, and run the command again.") from None
        raise UsageError(told, hint="Is the folder writable?") from None
