"""What a system file declares that a search has to come to: what no run comes to, no run has judged.

Knows no process and no connection, only the file and the events of a history.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from job_harness.core.faults.outages import HOST
from job_harness.core.faults.processes import SHUTDOWN
from job_harness.core.history import OF_DEPLOY, Event, Fault, Observed, Return
from job_harness.core.history.answers import LONGER, DeclaredPart, declared_settings
from job_harness.subjects.systems.document import SystemFile


def declared_parts(file: SystemFile) -> Iterator[DeclaredPart]:
    """Return them, as the file writes them; the stop of a process, attempts and timeouts are only said."""
    for action in file.actions:
        yield DeclaredPart(f"actions: {action}", partial(_asks, action), f"{LONGER}, or leave it out")
    for cron in file.crons:
        how = f"{LONGER}, or let `every` be shorter than {cron.every // 1_000_000} s"
        yield DeclaredPart(f"cron: {cron.name}", partial(_does, cron.name), how)
    for schedule in file.schedules:
        how = "let `jobs` show `schedule` and `slot`, or search longer"
        yield DeclaredPart(f"promises: schedules: {schedule.name}", partial(_is_of, schedule.name), how)
    if file.deploys_are_free:
        yield DeclaredPart("promises: deploys", _deploys, f"no process was replaced by a deploy: {LONGER}")
    for name, host in file.outside.items():
        if host.rides_out:
            how = f"it was never in trouble for that long or less: {LONGER}"
            yield DeclaredPart(f"outside: {name}: rides_out", partial(_troubles, name, host.rides_out), how)
    yield from declared_settings(file.given, file.settings)
    yield DeclaredPart("the stop of a process", _stops, f"none was told to stop: {LONGER}", owed=False)


def _asks(action: str, event: Event) -> bool:
    return type(event) is Return and event.verb == action


def _does(cron: str, event: Event) -> bool:
    return type(event) is Return and event.verb == "cron" and event.actor == cron and event.outcome.done


def _troubles(host: str, longest: int, event: Event) -> bool:
    return (
        type(event) is Fault
        and event.name == HOST.event
        and event.data["host"] == host
        and event.data["for"] <= longest
    )


def _is_of(schedule: str, event: Event) -> bool:
    return type(event) is Observed and event.after is not None and event.after.schedule == schedule


def _stops(event: Event) -> bool:
    return type(event) is Fault and event.name == SHUTDOWN.event


def _deploys(event: Event) -> bool:
    return type(event) is Fault and isinstance(event.data, dict) and OF_DEPLOY in event.data
