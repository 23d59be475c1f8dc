"""TypeScript processors, unmodified, in Node peers that live on virtual time."""

from __future__ import annotations

from harness.foreign.packages import find_typescript_node
from harness.processors.peer_runs import InvalidResult, JavaScriptError, ProcessDied, ProcessorBlocked
from harness.processors.typescript.node_processor import NodeProcessor, NodeProcessors, ProcessorNotLoaded
from harness.processors.typescript.target import JavaScript, TypeScriptProcessor, names_typescript

__all__ = [
    "InvalidResult",
    "JavaScript",
    "JavaScriptError",
    "NodeProcessor",
    "NodeProcessors",
    "ProcessDied",
    "ProcessorBlocked",
    "ProcessorNotLoaded",
    "TypeScriptProcessor",
    "find_typescript_node",
    "names_typescript",
]
