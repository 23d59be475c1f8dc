"""Schemas, migrations and seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from harness.lint.facts import Facts
from harness.lint.finding import Severity
from harness.lint.rule import Hit, Rule

_FIXED_CLOCKS: Final = re.compile(
    r"\b(CURRENT_TIMESTAMP|LOCALTIMESTAMP|CURRENT_DATE|CURRENT_TIME|LOCALTIME)\b|'now'", re.I
)
TERMINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


def _seeds(facts: Facts) -> Iterator[Hit]:
    for seed in facts.seeds:
        if seed.status.upper() not in TERMINAL and not seed.with_partner:
            yield Hit(
                seed.place,
                f"this row is inserted as {seed.status}, and nothing puts a job into the queue for it: it is never run",
                "Insert rows that ended (COMPLETED, FAILED) only, or send the job through the API.",
            )


def _clocks(facts: Facts) -> Iterator[Hit]:
    for column in facts.columns:
        found = _FIXED_CLOCKS.search(column.default)
        if found is not None:
            yield Hit(
                column.place,
                f"{column.table}.{column.name} defaults to {found[0]}, which does not follow virtual time in tests",
                "Write now(): it is the same moment in production, and tests can move it.",
            )


def _unreadable(facts: Facts) -> Iterator[Hit]:
    for item in facts.unreadable:
        script = re.search(r"\.([cm]?[jt]sx?|py)$", item.place.file) is not None
        yield Hit(
            item.place,
            f"{item.place.file} {item.why}" if not item.why.startswith("this") else item.why,
            "Repair the file, or its permissions; what it sets was not checked from there on.",
            severity=Severity.WARNING if script else None,
        )


RULES: Final = (
    Rule(
        "seed_not_terminal",
        Severity.ERROR,
        "Rows that migrations and seeds insert into tool_job have ended.",
        "A PENDING row without a job in the queue waits for ever, and reconciling may run it in production.",
        "Insert COMPLETED or FAILED rows only.",
        "tables/agree_on_every_ending.yaml",
        _seeds,
    ),
    Rule(
        "column_ignores_virtual_time",
        Severity.NOTE,
        "Columns of job tables default to now(), not to CURRENT_TIMESTAMP.",
        "In tests under virtual time the column shows real time: retention and ordering cannot be tested.",
        "Write now().",
        "clocks/store_clock_is_ahead.yaml",
        _clocks,
    ),
    Rule(
        "unreadable_file",
        Severity.ERROR,
        "Every file that sets something can be read to its end.",
        "What a broken file sets is not what its author believes; nothing of it was checked.",
        "Repair the file.",
        "configuration/workers_disabled.yaml",
        _unreadable,
    ),
)
"""Rules about files."""
