"""How often a fault may still happen in a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Note: TypeAlias = Callable[[str, str, Any], None]
"""Writes a fault into the history: actor, name, data."""


class Budget:
    """Counts down; a fault without budget offers nothing."""

    __slots__ = ("left",)

    def __init__(self, count: int) -> None:
        self.left = count

    def spend(self) -> None:
        """Use one."""
        self.left -= 1
