"""The Node that TypeScript processors need."""

from __future__ import annotations

from harness.foreign import Node, find_node

OLDEST = (22, 15)
"""The first with both `module.registerHooks` and `module.stripTypeScriptTypes`."""


def find_typescript_node() -> Node:
    """Answer a Node that reads TypeScript. Raises EnvironmentUnavailable with the command that brings one."""
    return find_node(OLDEST, wanted_by="TypeScript")
