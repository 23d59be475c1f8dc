"""What is to be written: new files, and edits of existing ones as a diff. Nothing that exists is ever overwritten."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UsageError


@dataclass(slots=True)
class Plan:
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

    def add(self, path: Path, text: str) -> None:
        """Plan a new file; one that is there is kept."""
        if path.exists() or path.is_symlink():
            self.kept.append(path)
        else:
            self.new[path] = text

    def edit(self, path: Path, after: str) -> None:
        """Plan an edit of a file that is there."""
        before = self.edits[path][0] if path in self.edits else path.read_text(encoding="utf-8")
        if after != before:
            self.edits[path] = (before, after)

    def text_of(self, path: Path) -> str:
        """Answer a file as it will be."""
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

    def command(self, folder: Path) -> str:
        """Say how to run the tests from a folder."""
        return " ".join(["python -m pytest", *(Path(os.path.relpath(path, folder)).as_posix() for path in self.tests)])

    def write(self) -> None:
        """Write everything. Raises UsageError where a file appeared or changed meanwhile, or cannot be written."""
        for path in self.new:
            if path.exists():
                raise UsageError(f"{path}: appeared meanwhile", hint="Run the command again.")
        for path, (before, _) in self.edits.items():
            if path.read_text(encoding="utf-8") != before:
                raise UsageError(f"{path}: changed meanwhile", hint="Run the command again.")
        for path, text in (*self.new.items(), *((path, after) for path, (_, after) in self.edits.items())):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise UsageError(f"{path}: cannot be written: {error}", hint="Is the folder writable?") from None

    def _name(self, path: Path) -> str:
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()


def _diff(before: str, after: str, old: str, new: str) -> Iterator[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), old, new, lineterm="")
    yield from lines
