"""The scenario of a new tool: its real processor on a worker that dies."""

from __future__ import annotations

from typing import Final

from harness.scaffold.tool_name import ToolName

TEXT: Final = """format: 1
title: The worker dies while {slug} runs, and the job is done all the same
why: A crash must neither lose the job nor count as a success.
processors: {{{slug}: "{target}"}}
workers: [w1, w2]
jobs:
  a: {{tool: {slug}, input: {{text: hello}}}}
steps:
  - crash w1 before starting a
  - advance 15m
  - run until idle
expect:
  a: {{status: COMPLETED, attempts: 2}}
controls:
  - {{queue: expire-never, finds: job_stuck}}
"""


def scenario_of(name: ToolName, target: str) -> str:
    """Write it; `target` is how a scenario names the processor."""
    return TEXT.format(slug=name.slug, target=target)
