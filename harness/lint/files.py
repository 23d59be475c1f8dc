"""Which files of a repository are read: names decide, nothing is opened; dependencies and builds are passed by."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

PASSED_BY: Final = frozenset({
    "node_modules", "bower_components", "vendor", "site-packages", "dist", "build", "out", "coverage", "target",
    "venv", "__pycache__", "tests", "test", "__tests__", "__mocks__", "__fixtures__", "fixtures", "e2e",
})  # fmt: skip
"""Folders that hold what others wrote, what a build made, or what tests set wrong on purpose."""

LARGEST_BYTES: Final = 2_000_000
MOST_FILES: Final = 400_000
DEEPEST: Final = 60

_TEST: Final = re.compile(r"(\.(test|spec|stories|d)\.[cm]?[jt]sx?|(^|_)test_?\w*\.py|_test\.py|conftest\.py)$")
_ENV: Final = re.compile(r"^\.env(\.[\w-]+)*$")
_NAMES: Final = {
    "vercel.json": "vercel",
    "render.yaml": "render",
    "render.yml": "render",
    "package.json": "package",
    "package-lock.json": "lock",
    "pnpm-lock.yaml": "lock",
    "yarn.lock": "lock",
}
_SUFFIXES: Final = {
    **dict.fromkeys(("ts", "tsx", "mts", "cts", "js", "jsx", "mjs", "cjs"), "script"),
    "sql": "sql",
    "prisma": "prisma",
    "py": "python",
}


class Entry(NamedTuple):
    """A file that may say something: its path relative to the root with `/`, its kind, its absolute path."""

    path: str
    kind: str
    absolute: str


class Unopened(NamedTuple):
    """A path that could not be looked into."""

    path: str
    why: str


def walk(root: Path) -> Iterator[Entry | Unopened]:
    """List the files that are read, in the order of their paths.

    Links to folders are not followed, so that no loop is one; what may not be looked into is said.
    """
    waiting: list[tuple[str, str, int]] = [(str(root), "", 0)]
    seen = 0
    while waiting:
        folder, prefix, depth = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield Unopened(prefix.rstrip("/") or ".", error.strerror or str(error))
            continue
        below: list[tuple[str, str, int]] = []
        for entry in entries:
            name = entry.name
            seen += 1
            if entry.is_dir(follow_symlinks=False):
                if depth < DEEPEST and name not in PASSED_BY and not name.startswith("."):
                    below.append((entry.path, f"{prefix}{name}/", depth + 1))
                continue
            kind = kind_of(name)
            if kind is not None:
                yield Entry(prefix + name, kind, entry.path)
        if seen > MOST_FILES:
            yield Unopened(prefix.rstrip("/") or ".", f"more than {MOST_FILES} files: the rest was not looked at")
            return
        waiting.extend(reversed(below))


def kind_of(name: str) -> str | None:
    """Answer what a file of this name may say; None where it is not read."""
    kind = _NAMES.get(name) or _SUFFIXES.get(name.rpartition(".")[2])
    if kind is None:
        return "env" if name.startswith(".env") and _ENV.match(name) else None
    return None if kind in ("script", "python") and _TEST.search(name) else kind


FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def read_bytes(absolute: str, *, largest: int = LARGEST_BYTES) -> bytes:
    """Read a whole regular file.

    Raises ValueError saying why it is not read, OSError where the system refuses.
    """
    descriptor = os.open(absolute, FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no regular file")
        if status.st_size > largest:
            raise ValueError(f"is larger than {largest // 1000} kB")
        return os.read(descriptor, status.st_size) if status.st_size else b""
    finally:
        os.close(descriptor)
