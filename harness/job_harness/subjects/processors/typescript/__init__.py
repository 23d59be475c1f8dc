"""TypeScript processors, unmodified, in Node peers that live on virtual time."""

from __future__ import annotations

from job_harness.subjects.processors.peer_runs import InvalidResult, JavaScriptError, ProcessDied, ProcessorBlocked
from job_harness.subjects.processors.typescript.node_processor import NodeProcessor, NodeProcessors, ProcessorNotLoaded
from job_harness.subjects.processors.typescript.target import JavaScript, TypeScriptProcessor, names_typescript
from job_harness.worlds.packages import find_typescript_node

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
