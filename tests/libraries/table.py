"""The table of libraries: what was tried on virtual time, by which test, and what came of it.

One YAML file a language, all of the same shape; another language is another file here. Knows no library.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROWS = HERE / "rows"
VERDICTS = re.compile(r"works|works with .+|refused")


@dataclass(frozen=True, slots=True)
class LibraryRow:
    """One library."""

    language: str
    library: str
    version: str
    """The one that was tried; empty for what comes with the language."""
    tried: str
    tests: tuple[str, ...]
    """Below `rows`, as pytest names them."""
    verdict: str
    note: str


def languages() -> list[str]:
    """List the languages that have a file."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def rows_of(language: str) -> list[LibraryRow]:
    """Read the rows of a language. Raises ValueError for one that says too little or something unknown."""
    path = HERE / f"{language}.yaml"
    read: dict[str, Any] = YAML(typ="safe").load(path)
    pins = _pins(ROOT / read["constraints"]) if "constraints" in read else {}
    rows = []
    for row in read["rows"]:
        unknown = set(row) - {"library", "package", "version", "tried", "test", "verdict", "note"}
        if unknown or not VERDICTS.fullmatch(row["verdict"]):
            raise ValueError(f"{path.name}: {row['library']}: {unknown or row['verdict']}")
        name = str(row.get("package", row["library"])).lower()
        version = str(row.get("version", pins.get(name, "")))
        tests = tuple(row["test"].split())
        rows.append(
            LibraryRow(
                read["language"], row["library"], version, row["tried"], tests, row["verdict"], row.get("note", "")
            )
        )
    return rows


def _pins(constraints: Path) -> dict[str, str]:
    found = (line.partition("==") for line in constraints.read_text(encoding="utf-8").splitlines())
    return {name.lower().replace("_", "-"): version for name, _, version in found}


def table(rows: Sequence[LibraryRow]) -> list[tuple[str, ...]]:
    """Return the cells of the table in the docs."""
    return [
        (f"{row.library} {row.version}".strip(), row.verdict, row.tried + (f". {row.note}" if row.note else ""))
        for row in rows
    ]
