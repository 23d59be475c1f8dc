"""The tools that ship with the queue. To add one: write its module, then name it in both tuples below."""

from __future__ import annotations

from collections.abc import Callable

from job_harness_reference.processors.json_format import register_json_format
from job_harness_reference.processors.word_count import register_word_count
from job_harness_reference.registry import Registry

TOOL_SLUGS = ("word-count", "json-format")
"""What the worker serves. Each must be registered, or the worker does not start."""

REGISTRATIONS: tuple[Callable[[Registry], None], ...] = (register_word_count, register_json_format)
"""Each tool's register function."""
