"""TOOL_SLUGS and the registry: what is listed is registered and the other way round, and somebody calls it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.errors import did_you_mean
from harness.lint.facts import Facts
from harness.lint.finding import Related, Severity
from harness.lint.rule import Hit, Rule


def _registered(facts: Facts) -> Iterator[Hit]:
    if not facts.registered or facts.open_lists:
        return
    names = {slug.name for slug in facts.registered}
    for slug in facts.listed:
        if slug.name not in names:
            near = did_you_mean(slug.name, names)
            yield Hit(
                slug.place,
                f"TOOL_SLUGS lists {slug.name!r}, and no processor is registered for it{near}: its jobs fail or wait",
                f"Register a processor for {slug.name!r}, or take it off the list.",
            )


def _listed(facts: Facts) -> Iterator[Hit]:
    if not facts.listed or facts.open_lists:
        return
    names = {slug.name for slug in facts.listed}
    lists = tuple(Related(place, "TOOL_SLUGS") for place in sorted({slug.place for slug in facts.listed})[:1])
    for slug in facts.registered:
        if slug.name not in names:
            near = did_you_mean(slug.name, names)
            yield Hit(
                slug.place,
                f"a processor is registered for {slug.name!r}, and TOOL_SLUGS does not list it{near}: no worker takes "
                "its jobs",
                f"Add {slug.name!r} to TOOL_SLUGS.",
                lists,
            )


def _called(facts: Facts) -> Iterator[Hit]:
    for slug in facts.registered:
        if slug.function and slug.function not in facts.called and slug.function != "registerAllProcessors":
            yield Hit(
                slug.place,
                f"{slug.function}() registers {slug.name!r}, and nothing calls it",
                f"Call {slug.function}() where the worker initializes its processors.",
            )


RULES: Final = (
    Rule(
        "slug_not_registered",
        Severity.ERROR,
        "Every slug in TOOL_SLUGS has a registered processor.",
        "The worker takes jobs that it cannot run: they fail until their attempts are used up.",
        "Register the processor.",
        "retries/fails_until_attempts_are_used_up.yaml",
        _registered,
    ),
    Rule(
        "processor_not_listed",
        Severity.ERROR,
        "Every registered processor is listed in TOOL_SLUGS.",
        "No worker takes its jobs: they stay PENDING.",
        "Add the slug to TOOL_SLUGS.",
        "configuration/workers_disabled.yaml",
        _listed,
    ),
    Rule(
        "registration_never_called",
        Severity.ERROR,
        "A function that registers a processor is called (step 3 of the guide).",
        "The processor exists and is never found: its jobs fail or stay PENDING.",
        "Call it from the worker's initialization.",
        "configuration/workers_disabled.yaml",
        _called,
    ),
)
"""Rules about the registry."""
