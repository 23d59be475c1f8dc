"""The names that a tool goes by: its slug, and what modules, functions and classes are called after it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import UsageError

_SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class ToolName:
    """Built from the slug, such as `my-tool`."""

    slug: str

    def __post_init__(self) -> None:
        """Raise UsageError for what is no slug."""
        if not _SLUG.fullmatch(self.slug):
            near = "-".join(re.findall(r"[a-z0-9]+", self.slug.lower()))
            hint = f"Write {near}." if _SLUG.fullmatch(near) else "Write words in lower case with dashes between them."
            raise UsageError(f"{self.slug!r} is no slug of a tool", hint=hint)

    @property
    def module(self) -> str:
        """As a module: `my_tool`."""
        return self.slug.replace("-", "_")

    @property
    def pascal(self) -> str:
        """As a type: `MyTool`."""
        return "".join(part.capitalize() for part in self.slug.split("-"))
