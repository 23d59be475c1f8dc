"""What the platform grants: how long a function may run, and how long a stopping service may take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from harness.lint.effective import spoken, standing, standings
from harness.lint.facts import Facts, Limit
from harness.lint.finding import Related, Severity
from harness.lint.place import UNKNOWN
from harness.lint.rule import Hit, Rule
from harness.lint.rules.services import FLAG

LONGEST_SHUTDOWN: Final = 300.0
"""The longest that Render grants."""


def _shutdown(facts: Facts) -> Iterator[Hit]:
    for limit in facts.limits:
        service = next((one for one in facts.services if one.name == limit.service), None)
        if limit.kind != "shutdown" or service is None or FLAG not in service.values:
            continue
        if service.values[FLAG].value not in ("true", UNKNOWN):
            continue
        here = standing(facts, service, "")
        timeout, grace = here.get("job_timeout"), here.get("shutdown_grace")
        if timeout is not None and limit.seconds < min(timeout.value, LONGEST_SHUTDOWN):
            yield Hit(
                limit.place,
                f"a deploy kills {limit.service} {spoken(limit.seconds)} after it is told to stop, and a job may run "
                f"for {timeout.length}: each deploy costs running jobs an attempt",
                f"Set maxShutdownDelaySeconds to {min(timeout.value, LONGEST_SHUTDOWN):g}, and give jobs back that "
                "cannot end in time.",
                here.related(timeout),
            )
        stops = [other for other in facts.limits if other.kind == "stop" and other.seconds > limit.seconds]
        for stop in stops:
            yield Hit(
                stop.place,
                f"the worker waits {spoken(stop.seconds)} for running jobs, and the platform kills {limit.service} "
                f"after {spoken(limit.seconds)}",
                "Wait less long than the platform does.",
                (Related(limit.place, f"{limit.seconds:g} s until it is killed"),),
            )
        if grace is not None and grace.place is not None and grace.value > limit.seconds:
            yield Hit(
                grace.place,
                f"{grace} is longer than the {spoken(limit.seconds)} after which the platform kills {limit.service}",
                "Wait less long than the platform does.",
                (Related(limit.place, f"{limit.seconds:g} s until it is killed"),),
            )


def _matches(limit: Limit, path: str) -> bool:
    pattern = re.escape(limit.pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return re.fullmatch(pattern, path) is not None


def _function(facts: Facts) -> Iterator[Hit]:
    workers = [call for call in facts.calls if call.method in ("work", "fetch")]
    for limit in facts.limits:
        if limit.kind != "function":
            continue
        inside = [call for call in workers if _matches(limit, call.place.file)]
        for here in standings(facts) if inside else ():
            timeout = here.get("job_timeout")
            if timeout is not None and limit.seconds < timeout.value:
                yield Hit(
                    limit.place,
                    f"the platform stops this function after {spoken(limit.seconds)}, and it runs jobs of up to "
                    f"{timeout.length}",
                    "Run jobs in a service that may run as long as they do, or shorten the job timeout.",
                    (*here.related(timeout), *(Related(call.place, f"{call.method}()") for call in inside[:3])),
                )


RULES: Final = (
    Rule(
        "shutdown_shorter_than_job",
        Severity.WARNING,
        "A service that runs workers may take as long to stop as a job may run, or as the platform grants at most.",
        "Every deploy kills running jobs: each loses an attempt, and with three deploys in a row it fails.",
        "Raise maxShutdownDelaySeconds, and release jobs on SIGTERM.",
        "shutdown/running_job_is_finished.yaml",
        _shutdown,
    ),
    Rule(
        "function_shorter_than_job",
        Severity.ERROR,
        "A function that runs jobs may run as long as a job.",
        "The platform kills the job in the middle, each time, until its attempts are used up.",
        "Run jobs in a worker service.",
        "crashes/every_attempt_crashes.yaml",
        _function,
    ),
)
"""Rules about the platform."""
