"""A Prisma schema: defaults of the models that are mapped to the users' table or the queue's."""

from __future__ import annotations

import re
from typing import Final

from harness.lint.facts import Column, Facts
from harness.lint.place import Place, Source, Value
from harness.lint.readers.sql import QUEUE_TABLES, USERS_TABLES, interval_seconds
from harness.lint.settings_names import meaning_of

_MODEL: Final = re.compile(r"^\s*model\s+(\w+)\s*\{")
_FIELD: Final = re.compile(r"^\s*(\w+)\s+[\w?\[\]]+")
_MAP: Final = re.compile(r'@@map\(\s*(?:name:\s*)?"([^"]+)"')
_DEFAULT: Final = re.compile(r"@default\(((?:[^()]|\([^()]*(?:\([^()]*\))?[^()]*\))*)\)")


LONGEST_LINE: Final = 2000


def read_prisma(path: str, text: str, facts: Facts) -> None:
    """Read the models of jobs."""
    block: list[tuple[int, str]] = []
    model = ""
    for line, written in enumerate(text.splitlines(), start=1):
        opened = _MODEL.match(written)
        if opened is not None:
            model, block = opened[1], []
        elif model and written.strip().startswith("}"):
            _model(path, model, block, facts)
            model = ""
        elif model:
            block.append((line, written.partition("//")[0] if '"' not in written else written))


def _model(path: str, model: str, block: list[tuple[int, str]], facts: Facts) -> None:
    mapped = next((found[1] for _, text in block if (found := _MAP.search(text)) is not None), model)
    table = mapped.lower()
    if table not in USERS_TABLES and table not in QUEUE_TABLES:
        return
    for line, text in block:
        if len(text) > LONGEST_LINE:
            continue
        name, default = _FIELD.match(text), _DEFAULT.search(text)
        if name is None or default is None:
            continue
        place = Place(path, line)
        facts.columns.append(Column(mapped, name[1], default[1], place))
        value, meaning = _scalar(default[1].strip()), meaning_of(name[1], option=True)
        if value is not None and meaning is not None:
            facts.values.append(Value(name[1], value, place, Source.COLUMN))


def _scalar(text: str) -> str | float | bool | None:
    if text in ("true", "false"):
        return text == "true"
    within = re.search(r"'([^']*)'", text) if text.startswith("dbgenerated") else None
    quoted = within[1] if within is not None else text.strip('"')
    seconds = interval_seconds(quoted)
    if seconds is not None:
        return seconds
    try:
        return float(quoted)
    except ValueError:
        return None
