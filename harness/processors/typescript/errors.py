"""What a TypeScript processor can come to besides an answer. Each is recorded as the attempt's error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.adapters.reference.application import NonRetryableError
from harness.errors import UsageError, did_you_mean


class ProcessorNotLoaded(UsageError):
    """The file cannot be loaded: a syntax error, an import or an export that is not there."""


class InvalidResult(Exception):
    """What it answered is no JobResult, or no JSON."""


class ProcessorBlocked(Exception):
    """It gave no sign of life for two real seconds and was killed; the attempt lasted until the job timeout."""


class ProcessDied(Exception):
    """Its Node process ended: an exit, a kill, an unhandled rejection."""


class JavaScriptError(Exception):
    """What the processor threw. The class has the name that the error has in JavaScript."""

    stack = ""


def thrown(error: Mapping[str, Any]) -> Exception:
    """Answer a JavaScript error as one that reads the same when a worker records it."""
    name = str(error.get("name") or "Error")
    message = str(error.get("message") or "")
    if error.get("final"):
        return NonRetryableError(message)
    if not re.fullmatch(r"[A-Za-z_$][\w$]{0,99}", name):
        name, message = "Error", f"{name}: {message}"
    raised: JavaScriptError = type(name, (JavaScriptError,), {})(message)
    raised.stack = str(error.get("stack") or "")
    for line in _own_lines(raised.stack):
        raised.add_note(f"    {line}")
    return raised


def not_loaded(target: str, error: Mapping[str, Any]) -> ProcessorNotLoaded:
    """Say why a file could not be loaded."""
    name, message = str(error.get("name")), str(error.get("message"))
    hint = str(error.get("hint") or "")
    exports = error.get("exports")
    if exports is not None:
        wanted = target.rpartition("#")[2]
        message += did_you_mean(wanted, exports)
        hint = f"It exports {', '.join(sorted(exports)) or 'nothing'}."
    elif not hint:
        hint = _place(str(error.get("stack") or ""))
    return ProcessorNotLoaded(f"the processor {target!r}: {name}: {message}", hint=hint)


def _place(stack: str) -> str:
    """Answer the first line of a stack that lies in the user's own files."""
    own = [line for line in _own_lines(stack) if "file://" in line]
    return own[0] if own else ""


def _own_lines(stack: str) -> list[str]:
    """Answer the lines of a stack that say where, without those of Node and of the runner."""
    lines = [line.strip() for line in stack.splitlines()]
    places = [line for line in lines if line.startswith("at ") or "file://" in line]
    return [line for line in places if "node:internal" not in line and "/typescript/runner/" not in line]
