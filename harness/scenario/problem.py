"""What is wrong with a scenario file, and where. Knows neither YAML nor the schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import UsageError, bounded

MOST_SHOWN = 20


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong: the line (from 1), what it is, and what would have been accepted."""

    line: int
    message: str


class ScenarioError(UsageError):
    """A file is no scenario. The message has one `file:line: ...` for each problem, in the order of the file."""

    def __init__(self, path: str, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted({Problem(each.line, bounded(each.message)) for each in problems}))
        where = path or "scenario"
        shown = [f"{where}:{problem.line}: {problem.message}" for problem in self.problems[:MOST_SHOWN]]
        if len(self.problems) > MOST_SHOWN:
            shown.append(f"{where}: and {len(self.problems) - MOST_SHOWN} more problems")
        super().__init__("\n".join(shown))


def shown(value: object) -> str:
    """Show an offending value on one line, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
