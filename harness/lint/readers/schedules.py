"""What a machine starts by the clock: lines of a crontab, CronJobs of Kubernetes, workflows of GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from ruamel.yaml.comments import CommentedMap

from harness.lint.facts import Cron, Facts, Place
from harness.lint.readers.deployment import line_of_key, yaml_documents

WORKFLOWS: Final = ".github/workflows/"
_PLAIN: Final = re.compile(r"[0-9*/,\-]+(\s+[0-9*/,\-]+){3,4}")
"""Expressions that every cron reads alike: names, `H`, `L` and `?` are not judged."""
_LINE: Final = re.compile(r"^\s*(?P<schedule>[0-9*/,\-]+(?:\s+[0-9*/,\-]+){4})\s+(?P<command>\S.*)$")
_ASSIGNED: Final = re.compile(r"^\s*[A-Za-z_]\w*\s*=")
LONGEST_NAME: Final = 60


def is_of_a_machine(text: str) -> bool:
    """Tell a crontab of cron from one of graphile-worker: it sets variables, or starts a program by a path."""
    for line in text.splitlines():
        parts = line.split(None, 5)
        starts = len(parts) == 6 and "/" in parts[5].partition("{")[0]
        if not line.lstrip().startswith("#") and (starts or _ASSIGNED.match(line)):
            return True
    return False


def read_crontab_lines(path: str, text: str, facts: Facts) -> None:
    """Read the lines of a crontab."""
    for number, line in enumerate(text.splitlines(), start=1):
        found = _LINE.match(line)
        if found is not None:
            command = found["command"].strip()[:LONGEST_NAME]
            facts.schedules.append(Cron(repr(command), found["schedule"], Place(path, number)))


def read_schedules(path: str, text: str, facts: Facts) -> None:
    """Read the CronJobs of a manifest, or what starts a workflow."""
    for document in (one for one in yaml_documents(text) or () if isinstance(one, CommentedMap)):
        for name, key, owner in _workflow(document) if path.startswith(WORKFLOWS) else _cron_job(document):
            schedule = owner.get(key)
            if isinstance(schedule, str) and _PLAIN.fullmatch(schedule.strip()):
                facts.schedules.append(Cron(name, schedule.strip(), Place(path, line_of_key(owner, key))))


def _cron_job(document: CommentedMap) -> Iterator[tuple[str, str, CommentedMap]]:
    told = document.get("spec")
    if document.get("kind") == "CronJob" and isinstance(told, CommentedMap):
        named: Any = document.get("metadata")
        name = named.get("name") if isinstance(named, CommentedMap) else None
        yield f"the CronJob {name!r}" if isinstance(name, str) else "a CronJob", "schedule", told


def _workflow(document: CommentedMap) -> Iterator[tuple[str, str, CommentedMap]]:
    started = document.get("on")
    listed = started.get("schedule") if isinstance(started, CommentedMap) else None
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, CommentedMap):
            yield "the workflow", "cron", entry
