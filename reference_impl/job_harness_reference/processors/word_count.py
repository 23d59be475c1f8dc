"""The tool `word-count`: how much text there is. An example of an asynchronous processor."""

from __future__ import annotations

import asyncio

from job_harness_reference.models import JobResult, NonRetryableError, ToolJob
from job_harness_reference.registry import Registry

SLUG = "word-count"

_LINES_PER_TURN = 2000
"""After this many lines other jobs get their turn."""


async def process_word_count(job: ToolJob) -> JobResult:
    """Count lines, words, distinct words and characters of `input.text`."""
    text = job.input.get("text") if isinstance(job.input, dict) else None
    if not isinstance(text, str):
        raise NonRetryableError(f'word-count needs {{"text": "..."}}, not {job.input!r:.80}')
    words = 0
    distinct: set[str] = set()
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        found = line.casefold().split()
        words += len(found)
        distinct.update(found)
        if number % _LINES_PER_TURN == 0:
            await asyncio.sleep(0)
    output = {"lines": len(lines), "words": words, "distinctWords": len(distinct), "characters": len(text)}
    return JobResult(success=True, output=output)


def register_word_count(registry: Registry) -> None:
    """Let the registry know the tool."""
    registry.register_processor(SLUG, process_word_count)
