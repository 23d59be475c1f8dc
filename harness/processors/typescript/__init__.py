"""TypeScript processors, unmodified, in a Node child that lives on virtual time."""

from __future__ import annotations

from harness.processors.typescript.attached import NodeProcessor
from harness.processors.typescript.errors import (
    InvalidResult,
    JavaScriptError,
    ProcessDied,
    ProcessorBlocked,
    ProcessorNotLoaded,
)
from harness.processors.typescript.node import find_typescript_node
from harness.processors.typescript.target import JavaScript, TypeScriptProcessor, names_typescript

__all__ = [
    "InvalidResult",
    "JavaScript",
    "JavaScriptError",
    "NodeProcessor",
    "ProcessDied",
    "ProcessorBlocked",
    "ProcessorNotLoaded",
    "TypeScriptProcessor",
    "find_typescript_node",
    "names_typescript",
]
