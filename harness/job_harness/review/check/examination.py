"""All rules over all facts: what was found, what could not be told, and what a baseline accepts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from job_harness.errors import ExitCode, UsageError
from job_harness.review.check.catalogue import CATALOGUE
from job_harness.review.check.facts import (
    BULLMQ,
    CELERY,
    GRAPHILE,
    PGBOSS,
    PGQUEUER,
    PROCRASTINATE,
    Facts,
    Place,
    Value,
)
from job_harness.review.check.finding import CheckFinding, Severity
from job_harness.review.check.inventory import Inventory, inventory_of
from job_harness.review.check.releases import release_of
from job_harness.review.check.rules.services import SECRET
from job_harness.review.check.settings import FLAG, meaning_of

Key: TypeAlias = tuple[str, str, str]
"""Rule, file and subject of a finding."""


@dataclass(frozen=True, slots=True)
class Examination:
    """The findings in the order of their weight and place; `accepted` are those that a baseline holds."""

    findings: tuple[CheckFinding, ...]
    unknown: tuple[Value, ...] = ()
    files: int = 0
    accepted: tuple[CheckFinding, ...] = ()
    gone: tuple[Key, ...] = ()
    """What a baseline accepts and the rules no longer find; each fails."""
    covered: bool = True
    """Whether there was anything to judge."""
    uncovered: tuple[str, ...] = ()
    """What was asked for and could not be judged."""
    skipped: tuple[str, ...] = ()
    """What was not looked at: of a database, because it is not there; of the files, because it could not be read."""
    inventory: Inventory = field(default_factory=Inventory)
    """What was read to be judged."""
    durable: Mapping[str, Place] = field(default_factory=dict)
    """Libraries of agents and durable workflows that are used, of which only runs show anything."""

    def at_least(self, severity: Severity | None) -> tuple[CheckFinding, ...]:
        """Return the findings of this weight or more; none where no weight is one that fails."""
        return tuple(one for one in self.findings if severity is not None and one.severity >= severity)

    def exit_code(self, fail_on: Severity | None) -> ExitCode:
        """Say what it came to, where findings of this weight or more fail; None: none does."""
        if self.gone or self.at_least(fail_on):
            return ExitCode.FAIL
        return ExitCode.PASS if self.covered and not self.uncovered else ExitCode.INCONCLUSIVE


def examine(
    facts: Facts,
    *,
    without: Collection[str] = (),
    now: Sequence[CheckFinding] = (),
    uncovered: Sequence[str] = (),
    skipped: Sequence[str] = (),
) -> Examination:
    """Judge by every rule but those named; `now` is what a database shows, in the order of its causes."""
    found = [finding for rule in CATALOGUE if rule.id not in without for finding in rule.findings(facts)]
    found.sort(key=lambda finding: (-finding.severity, finding.place, finding.rule, finding.message))
    unknown = tuple(dict.fromkeys(facts.unknown_values()))
    shown = [finding for finding in now if finding.rule not in without]
    covered = _anything(facts) or bool(now) or any(finding.rule == MACHINE_CRON for finding in found)
    open_ = (*uncovered, *(_unread(facts) if covered else ()))
    return Examination(
        (*shown, *found),
        unknown,
        facts.files,
        covered=covered,
        uncovered=open_,
        skipped=(*skipped, *_passed_by(facts)),
        inventory=inventory_of(facts),
        durable=facts.durable,
    )


def _anything(facts: Facts) -> bool:
    services = any(one.named or any(map(_is_read, one.values)) for one in facts.services)
    settings = facts.values or services or facts.crons or facts.listed or facts.calls
    return bool(
        facts.imported
        or settings
        or facts.columns
        or facts.seeds
        or facts.packages
        or facts.open_doors
        or facts.table_queues
        or facts.commands
    )


def _is_read(variable: str) -> bool:
    """Tell a variable that rules read; the others of a `.env` file are those of any application."""
    return variable in (FLAG, SECRET) or meaning_of(variable) is not None


MOST_PASSED_BY: Final = 6


def _passed_by(facts: Facts) -> Iterator[str]:
    """Name the places that have to do with a queue and were not read."""
    told = [f"{place} ({why})" for place, why in facts.passed_by]
    if told:
        yield f"what starts Celery at {_first(told)}"
    if facts.unfollowed:
        yield f"what Celery's settings are taken from at {_first(list(map(str, facts.unfollowed)))}"
    for queue in facts.table_queues:
        unread = [name for name in COMPARED if name in queue.verbs and not queue.verbs[name].understood]
        if 0 < len(unread) < len(queue.verbs):
            yield f"{', '.join(unread)} of {queue.place.file}: only a run shows what functions and other SQL do"


def _first(told: list[str]) -> str:
    more = [f"{len(told) - MOST_PASSED_BY} more"] if len(told) > MOST_PASSED_BY else []
    return "; ".join([*told[:MOST_PASSED_BY], *more])


COMPARED: Final = ("claim", "complete", "fail", "heartbeat", "release", "expire")
"""Verbs of a queue file whose SQL rules compare."""

MACHINE_CRON: Final = "machine_cron_invalid"
"""A schedule of a machine is no setting of a queue: one that is right makes no pass."""


READ: Final = frozenset({PGBOSS, GRAPHILE, BULLMQ, CELERY, PROCRASTINATE, PGQUEUER})
"""Libraries whose calls and settings are understood."""
_SAME: Final = {"@nestjs/bullmq": BULLMQ, "@nestjs/bull": "bull"}


def _unread(facts: Facts) -> Iterator[str]:
    """Say which queues are used, and nothing of them was understood."""
    understood = {call.library for call in facts.calls}
    used = {one.library: one.place for one in facts.commands[:1]} | facts.imported
    asked = {one.library: one.place for one in facts.packages if one.library in READ}
    for library, place in sorted({**asked, **used}.items(), key=lambda one: one[0]):
        known = _SAME.get(library, library)
        if known not in READ:
            yield f"{known} is used ({place}), and check does not read it"
        elif known not in understood and library in used:
            yield f"{known} is used ({place}), and none of its calls or settings was understood"
        elif known not in understood:
            yield f"{known} is a dependency ({place}), and nothing that was read uses it"
    yield from _too_old(facts)
    for queue in facts.table_queues:
        if not any(verb.understood for verb in queue.verbs.values()):
            yield f"{queue.place.file} is a queue in a file, and none of its SQL was understood: only a run shows it"


OLDEST_PGBOSS: Final = 9


def _too_old(facts: Facts) -> Iterator[str]:
    """Say which releases are older than what the rules speak of."""
    for package in facts.packages:
        release = release_of(facts, package.place.file) if package.library == PGBOSS else None
        if release is not None and release.place == package.place and release.major < OLDEST_PGBOSS:
            yield f"pg-boss {release.written} is used ({package.place}), and check reads {OLDEST_PGBOSS} and later"


FORMAT: Final = "job-harness-check-baseline"
VERSION: Final = 2


def dump_baseline(findings: Iterable[CheckFinding]) -> str:
    """Write the findings to be accepted. Lines and sentences are left out: both may change while a finding stays."""
    accepted = [
        {"rule": rule, "file": file, "subject": subject}
        for rule, file, subject in sorted(finding.key for finding in findings)
    ]
    return json.dumps({"format": FORMAT, "version": VERSION, "accepted": accepted}, indent=2) + "\n"


def load_baseline(text: str, *, path: str) -> Counter[Key]:
    """Read a baseline. Raises UsageError where it is none."""
    try:
        document = json.loads(text)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError(f"its format is not {FORMAT} of version {VERSION}")
        return Counter((str(one["rule"]), str(one["file"]), str(one["subject"])) for one in document["accepted"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        told = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
        raise UsageError(
            f"{path}: is not a baseline: {told}",
            hint=f"Write one with --write-baseline {path}, and let it only shrink.",
        ) from None


def set_aside(examination: Examination, baseline: Counter[Key]) -> Examination:
    """Move accepted findings aside, and note what the baseline holds and the rules no longer find."""
    left = Counter(baseline)
    findings: list[CheckFinding] = []
    accepted: list[CheckFinding] = []
    for finding in examination.findings:
        if left[finding.key] > 0:
            left[finding.key] -= 1
            accepted.append(finding)
        else:
            findings.append(finding)
    return replace(examination, findings=tuple(findings), accepted=tuple(accepted), gone=tuple(left.elements()))
