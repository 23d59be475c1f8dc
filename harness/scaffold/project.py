"""Where a repository keeps its code: its language, its root, and the package of a workspace that a folder is in."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from harness.errors import UsageError

_PYTHON: Final = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")
_TYPESCRIPT: Final = ("package.json", "tsconfig.json", "pnpm-workspace.yaml")
LEFT_OUT: Final = frozenset({"node_modules", ".git", ".venv", "venv", "dist", "build", "__pycache__", ".next"})
MOST_FILES: Final = 20_000


class Language(StrEnum):
    """What processors are written in."""

    PYTHON = "python"
    TYPESCRIPT = "typescript"


@dataclass(frozen=True, slots=True)
class Project:
    """`package` is the nearest folder with a manifest; `root` is the workspace's, or the same."""

    root: Path
    package: Path
    language: Language | None

    def files(self, *suffixes: str) -> Iterator[Path]:
        """Answer the files below the root with these suffixes, dependencies and build output left out."""
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

    Without any manifest the folder itself is the project. Raises UsageError where there is no such folder.
    """
    start = start.resolve()
    if not start.is_dir():
        raise UsageError(f"{start}: no such folder", hint="Name the folder of a repository.")
    package = next((folder for folder in _upwards(start) if _manifests(folder)), start)
    root = next((folder for folder in _upwards(package) if _is_workspace(folder)), package)
    return Project(root, package, language or _language(package) or _language(root))


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
    return Language.PYTHON if python else Language.TYPESCRIPT if typescript else None


def _is_workspace(folder: Path) -> bool:
    if (folder / "pnpm-workspace.yaml").is_file():
        return True
    if "workspaces" in _read(folder / "package.json", json.loads):
        return True
    tool = _read(folder / "pyproject.toml", tomllib.loads).get("tool")
    return isinstance(tool, dict) and isinstance(tool.get("uv"), dict) and "workspace" in tool["uv"]


def _read(path: Path, parse: Any) -> dict[str, Any]:
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
