"""Whether there is a Node for TypeScript processors, and files to run in it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.packages import find_typescript_node

GUIDE = Path(__file__).with_name("guide")
"""The guide's files, byte for byte."""


def missing_node() -> str:
    """Say why there is no Node; empty where there is one."""
    try:
        find_typescript_node()
    except EnvironmentUnavailable as unavailable:
        return " ".join(str(unavailable).split())
    return ""


_WHY = missing_node()
needs_node = pytest.mark.skipif(bool(_WHY), reason=_WHY or "there is a Node")


def written(folder: Path, source: str, *, name: str = "processor.ts") -> str:
    """Write a file; answer its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return str(path)


def processor(folder: Path, body: str, *, name: str = "processor.ts") -> str:
    """Write an async processor with this body; answer `path#run`."""
    indented = textwrap.indent(textwrap.dedent(body), "  ")
    return written(folder, f"export const run = async (job: any) => {{\n{indented}\n}};\n", name=name) + "#run"
