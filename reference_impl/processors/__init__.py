"""The tools that ship with the queue. To add one: write its module, then name it in both tuples below."""

from __future__ import annotations

from collections.abc import Callable

from reference_impl.processors.json_format import register_json_format
from reference_impl.processors.word_count import register_word_count
from reference_impl.registry import Registry

TOOL_SLUGS = ("word-count", "json-format")
"""What the worker serves. Each must be registered, or the worker does not start."""

REGISTRATIONS: tuple[Callable[[Registry], None], ...] = (register_word_count, register_json_format)
"""Each tool's register function."""
