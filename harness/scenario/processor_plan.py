"""Which real processor serves a tool in a scenario, and what stands in for the world around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProcessorPlan:
    """`run` is `module:name` or `path.ts#name`; the rest is for TypeScript only."""

    run: str
    globals: Mapping[str, str] = field(default_factory=dict)
    """JavaScript expressions by the name of the global that each is the value of."""
    stubs: Mapping[str, str] = field(default_factory=dict)
    """Files by the specifier of the module in whose place each is read."""
    folder: str = field(default="", compare=False)
    """Where relative paths and modules are looked for: the folder of the scenario file."""
    place: str = field(default="", compare=False)
    """Where it is written, as `file:line`."""
