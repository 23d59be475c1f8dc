"""The rules as pages of the docs, one a library. They are made where they are read, and kept nowhere.

`job-harness docs` prints them, and the site is built with them. Must not know where a page ends up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from job_harness.review.check.catalogue import CATALOGUE
from job_harness.review.check.finding import RELEASES, Rule

GENERAL: Final = "every-queue"
"""The page of the rules that are about no library, or about several."""


def rule_pages(seen: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the pages by name, such as `rules/celery`; `seen` says by rule where it was found broken."""
    pages = {}
    for name in (GENERAL, *RELEASES):
        rules = [rule for rule in CATALOGUE if _library(rule) == name]
        subject = "every queue" if name == GENERAL else name
        head = f"# Rules of `job-harness check`: {subject}\n\nWhat `job-harness check` requires of {subject}, by rule. "
        head += "[Configuration checks](../checks.md) says what is read, and how far to trust it.\n"
        pages[f"rules/{name}"] = head + "".join(_section(rule, (seen or {}).get(rule.id, "")) for rule in rules)
    return pages


def _library(rule: Rule) -> str:
    return rule.ran[0].library if len(rule.ran) == 1 else GENERAL


def _section(rule: Rule, seen: str) -> str:
    scenario = f"[{rule.scenario}](../../scenarios/{rule.scenario})"
    lines: Iterable[str] = (
        f"- Severity: {rule.severity}",
        f"- What it prevents: {rule.prevents}",
        f"- How to repair it: {rule.repair}",
        f"- A scenario with the same failure: {scenario}",
        *([f"- Tried by running {'; '.join(map(str, rule.ran))}."] if rule.ran else []),
        *([f"- {seen}"] if seen else []),
    )
    return f"\n## {rule.id}\n\n{rule.sentence}\n\n" + "\n".join(lines) + "\n"
