"""Two users, and ten runs at once, on one machine: each run passes, and no cache is touched by another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psycopg

from reliability.size import Proof, Size

ROOT: Final = Path(__file__).resolve().parents[2]
NOBODY: Final = 65534
BOUND_SECONDS: Final = 300
ONE: Final = "format: 1\ntitle: one job\njobs:\n  a: {}\n"
CALL: Final = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from job_harness.doors.cli import main; sys.exit(main())"
)


def prove(size: Size, *, seed: int) -> Proof:
    """Start them all at once, on a machine whose caches are empty."""
    rows = [_at_once(size.neighbours)]
    two = _two_users()
    rows.append(two)
    held = all(row[-1] == "0" for row in rows if row[-1] != "-")
    result = f"{rows[0][1]} runs at once on one empty cache, and two users on one temporary folder: no conflict."
    if two[-1] == "-":
        result = f"{rows[0][1]} runs at once on one empty cache: no conflict. Two users: {two[2]}."
    about = (
        "Every run starts PostgreSQL from an image in the cache, which the first run creates. Neither of the two "
        "users has a home, so both caches are in one temporary folder. Afterwards the owner and the mode of every "
        "file are checked."
    )
    columns = ("what", "runs", "what was seen", "wrong")
    return Proof("Neighbours", about, columns, tuple(rows), result if held else "There was a conflict.", held=held)


def _at_once(count: int) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "one.yaml").write_text(ONE)
        cache = folder / "cache"
        environment = {**_plain(), "JOB_HARNESS_CACHE": str(cache)}
        children = [_start([sys.executable], folder, environment) for _ in range(count)]
        wrong = _wrong(children)
        wrong += [f"half made: {path}" for path in cache.glob(".pg-*")]
        wrong += [f"open to others: {path}" for path in cache.rglob("*") if _is_open(path)]
        images = len(list(cache.glob("pg-*.tar")))
        wrong += [] if images == 1 else [f"{images} images"]
    _tell(wrong)
    seen = f"{images} image in the cache, all of it closed to others"
    return (
        "runs at once, one cache",
        str(count),
        seen,
        str(len(wrong)),
    )


def _two_users() -> tuple[str, ...]:
    name = "two users, one temporary folder"
    python = _python_of_everybody()
    if os.geteuid() != 0 or shutil.which("setpriv") is None or python is None:
        return (name, "-", "only root can be two users, with setpriv and a Python that both may run", "-")
    with tempfile.TemporaryDirectory() as scratch:
        shared = Path(scratch)
        shared.chmod(0o1777)
        (shared / "one.yaml").write_text(ONE)
        environment = {key: value for key, value in _plain().items() if key not in ("HOME", "XDG_CACHE_HOME")}
        environment["TMPDIR"] = str(shared)
        as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python]
        commands = [[python], as_nobody] * 2
        wrong = _wrong([_start(command, shared, environment) for command in commands])
        caches = {path: path.stat().st_uid for path in shared.glob("job-harness-cache-*")}
        if sorted(caches.values()) != [0, NOBODY]:
            wrong.append(f"caches: {caches}")
        for cache, owner in caches.items():
            files = [cache, *cache.rglob("*")]
            wrong += [f"{path} is of {path.lstat().st_uid}" for path in files if path.lstat().st_uid != owner]
            wrong += [f"open to others: {path}" for path in files if _is_open(path)]
    _tell(wrong)
    return (
        name,
        str(len(commands)),
        "a cache for each user, all of it their own and closed to others",
        str(len(wrong)),
    )


def _start(python: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    packages = str(Path(psycopg.__file__).parents[1])
    command = [*python, "-c", CALL, f"{ROOT}:{packages}", "run", "one.yaml", "--engine", "memory,postgres"]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _wrong(children: Sequence[subprocess.Popen[str]]) -> list[str]:
    wrong = []
    for child in children:
        out, _ = child.communicate(timeout=BOUND_SECONDS)
        if child.returncode or "2 pass" not in out:
            wrong.append(f"exit code {child.returncode}: {out[-1000:]}")
    return wrong


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("JOB_HARNESS_", "PYTHON"))}


def _is_open(path: Path) -> bool:
    """Whether others may write to it; a link has no mode of its own."""
    return not path.is_symlink() and bool(path.stat().st_mode & 0o022)


def _python_of_everybody() -> str | None:
    """Return a Python of our version that everybody may run: one below root's home is none."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return next((path for path in (f"/usr/bin/{version}", f"/usr/local/bin/{version}") if Path(path).exists()), None)


def _tell(wrong: Sequence[str]) -> None:
    for what in wrong:
        print(what, file=sys.stderr)
