"""The tool `json-format`: JSON text, checked and laid out. An example of a synchronous processor."""

from __future__ import annotations

import json

from job_harness_reference.models import JobResult, ToolJob
from job_harness_reference.registry import Registry

SLUG = "json-format"

_WIDEST_INDENT = 8


def process_json_format(job: ToolJob) -> JobResult:
    """Lay out `input.text` with `input.indent` spaces (0 to 8, default 2) and sorted keys.

    Bad input is final: the same text will be as wrong the next time.
    """
    given = job.input if isinstance(job.input, dict) else {}
    text, indent = given.get("text"), given.get("indent", 2)
    if not isinstance(text, str):
        return _refused('json-format needs {"text": "..."}')
    if isinstance(indent, bool) or not isinstance(indent, int) or not 0 <= indent <= _WIDEST_INDENT:
        return _refused(f"indent is {indent!r:.40}, which is not a whole number from 0 to {_WIDEST_INDENT}")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        return _refused(f"the text is not JSON: {error}")
    except RecursionError:
        return _refused("the text is nested too deeply")
    return JobResult(success=True, output={"text": json.dumps(value, indent=indent or None, sort_keys=True)})


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _refused(error: str) -> JobResult:
    return JobResult(success=False, error=error, retryable=False)


def register_json_format(registry: Registry) -> None:
    """Let the registry know the tool."""
    registry.register_processor(SLUG, process_json_format)
