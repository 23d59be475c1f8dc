"""Which processor serves which tool. A value that is passed along: there is no global registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from job_harness_reference.errors import ConfigurationError, UnknownToolError
from job_harness_reference.models import JobProcessor
from job_harness_reference.suggestion import did_you_mean

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")
_LONGEST_SLUG = 100


class Registry:
    """Tool slug -> processor."""

    def __init__(self) -> None:
        self._processors: dict[str, JobProcessor] = {}

    def register_processor(self, slug: str, processor: JobProcessor) -> None:
        """Let `processor` serve the tool.

        Raises `ConfigurationError` if the slug is malformed or taken, or the processor cannot be
        called.
        """
        if not _SLUG.fullmatch(slug) or len(slug) > _LONGEST_SLUG:
            raise ConfigurationError(
                f"{slug!r} is not a valid tool name: use letters, digits and _ . : / -, a letter or digit first, "
                f"at most {_LONGEST_SLUG} characters, such as 'my-tool' or 'user.created'."
            )
        if not callable(processor):
            raise ConfigurationError(
                f"The processor of {slug!r} is {processor!r}, which cannot be called: "
                "pass a function that takes a ToolJob and returns a JobResult."
            )
        if self._processors.get(slug, processor) is not processor:
            raise ConfigurationError(
                f"{slug!r} already has the processor {_name(self._processors[slug])}; "
                f"{_name(processor)} needs a slug of its own."
            )
        self._processors[slug] = processor

    def register_all_processors(self, registrations: Iterable[Callable[[Registry], None]]) -> None:
        """Run each tool's register function."""
        for register in registrations:
            register(self)

    def get_processor(self, slug: str) -> JobProcessor:
        """Find the tool's processor. Raises `UnknownToolError` with the nearest known slug."""
        try:
            return self._processors[slug]
        except KeyError:
            raise UnknownToolError(
                f"No processor is registered for the tool {slug!r} ({did_you_mean(slug, self._processors)}). "
                "Register it with register_processor and add it to TOOL_SLUGS."
            ) from None

    def has_processor(self, slug: str) -> bool:
        """Tell whether a processor serves the tool."""
        return slug in self._processors

    def get_registered_tools(self) -> tuple[str, ...]:
        """List the tools, in the order of their registration."""
        return tuple(self._processors)

    def require_tools(self, slugs: Iterable[str]) -> None:
        """Check TOOL_SLUGS. Raises `ConfigurationError` that names every slug without a processor."""
        missing = [slug for slug in slugs if slug not in self._processors]
        if missing:
            named = "; ".join(f"{slug!r} ({did_you_mean(slug, self._processors)})" for slug in missing)
            raise ConfigurationError(
                f"TOOL_SLUGS names tools without a processor: {named}. "
                "Call each tool's register function at start, or take its slug out of TOOL_SLUGS."
            )


def _name(processor: JobProcessor) -> str:
    return str(getattr(processor, "__qualname__", processor))
