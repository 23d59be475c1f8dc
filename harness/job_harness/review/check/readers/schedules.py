"""What is started by the clock: lines of a crontab, also of graphile-worker's, CronJobs of Kubernetes, workflows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ruamel.yaml.comments import CommentedMap

from job_harness.review.check.facts import GRAPHILE, Cron, Facts, Place, QueueCall, Scalar, SettingSource, Value
from job_harness.review.check.readers.deployment import line_of_key, yaml_documents

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


_TASK_LINE: Final = re.compile(r"^\s*(?P<schedule>(?:[\d*/,\-]+\s+){5})(?P<task>[\w.:\-]+)(?P<rest>[^\n]*)$", re.ASCII)
_TASK_OPTION: Final = re.compile(r"[?&](\w+)=([^&\s]*)")


def read_graphile_crontab(start: Place, text: str, facts: Facts) -> None:
    """Read the lines of a crontab of graphile-worker: five fields, a task, options after a question mark."""
    for number, line in enumerate(text.splitlines()):
        found = _TASK_LINE.match(line)
        if found is None:
            if line.strip() and not line.strip().startswith("#"):
                facts.calls.append(_task_call(start, number, None, {"line": line.strip()[:120]}))
            continue
        options = {"schedule": found["schedule"].strip(), **dict(_TASK_OPTION.findall(found["rest"].partition("{")[0]))}
        facts.calls.append(_task_call(start, number, found["task"], options))


def _task_call(start: Place, number: int, task: str | None, options: Mapping[str, Scalar]) -> QueueCall:
    place = Place(start.file, start.line + number)
    values = {name: Value(name, value, place, SettingSource.SEND) for name, value in options.items()}
    return QueueCall(GRAPHILE, "cron", task, values, place, frozenset({task} if task is not None else ()))


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
