"""Writes what was found on other people's queues: `python docs/findings.py`, with `--check` to compare only.

One page for each engine below `docs/findings/`, from the scenarios in `scenarios/findings/`, which are run for their
first screens; and the table of all of them on `docs/findings.md`. A scenario without a word on whether its project
knows it stops this script, by name. `--text` runs nothing and keeps the screens that there are.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from job_harness.core.invariants import kind_of
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.scenario import Control, Scenario
from job_harness.core.target import Target
from job_harness.errors import EnvironmentUnavailable, ExitCode
from job_harness.report.screen import screen_text
from job_harness.report.summary import case_screen
from job_harness.search.cases import CaseRunner, Task
from job_harness.search.targets import Engines

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = ROOT / "docs" / "findings"
INDEX: Final = ROOT / "docs" / "findings.md"
SCENARIOS: Final = Path("scenarios/findings")
APPLICATIONS: Final = "scenarios/"
ISSUE: Final = re.compile(
    r"\b(pg-boss|procrastinate|pgqueuer|graphile/worker|bullmq|django-tasks-db|celery/kombu|dramatiq|chancy)#(\d+)"
)
TRACKERS: Final[Mapping[str, str]] = {
    "pg-boss": "timgit/pg-boss",
    "procrastinate": "procrastinate-org/procrastinate",
    "pgqueuer": "janbjorge/pgqueuer",
    "graphile/worker": "graphile/worker",
    "bullmq": "taskforcesh/bullmq",
    "django-tasks-db": "RealOrangeOne/django-tasks-db",
    "celery/kombu": "celery/kombu",
    "dramatiq": "Bogdanp/dramatiq",
    "chancy": "TkTech/chancy",
}
TITLES: Final[Mapping[str, str]] = {
    "pgboss": "pg-boss",
    "procrastinate": "procrastinate",
    "pgqueuer": "PgQueuer",
    "graphile-worker": "graphile-worker",
    "bullmq": "BullMQ",
    "django-tasks-db": "django-tasks-db",
    "celery": "Celery",
    "dramatiq": "Dramatiq",
    "chancy": "Chancy",
    "guide": "the reference application",
}
UNKNOWN: Final = "we found no issue"
LATE: Final = "pg-boss#925 (from its source), fenced from 12.35.0 on; pg-boss#555 is about the cause"
NO_TOKENS: Final = (
    "by its manual it has no fencing tokens (adr/ADR-0004, Positive consequences); pgqueuer#430 is about the cause"
)
LEFT_TO_USERS: Final = f"{UNKNOWN}; its manual leaves such rules to users (howto/production/retry_stalled_jobs)"
KNOWN: Final[Mapping[str, str]] = {
    "pgboss/a_group_takes_the_lowest_id": UNKNOWN,
    "pgboss/a_group_takes_two_places_of_a_batch": f"{UNKNOWN}; pg-boss#756 fixed full groups that blocked other jobs",
    "pgboss/a_late_failure_ends_a_job_that_waits": "pg-boss#925 (from its source), fenced from 12.35.0 on",
    "pgboss/a_late_failure_is_taken": LATE,
    "pgboss/a_late_result_is_taken": LATE,
    "pgboss/a_backoff_that_adds": "pg-boss#672, fixed in 12.8.0",
    "pgboss/a_nul_loses_the_outcome": f"{UNKNOWN}; users have hit it (akash-network/console#3898)",
    "pgqueuer/a_late_failure_runs_a_job_twice_at_once": NO_TOKENS,
    "pgqueuer/a_lone_surrogate_in_the_last_error_is_not_recorded": UNKNOWN,
    "pgqueuer/a_lone_surrogate_loses_the_outcome": f"{UNKNOWN}; 1.6.0 does this on purpose (core/qm.py, log_failure)",
    "pgqueuer/a_stale_job_waits_for_itself": "pgqueuer#475, fixed in 1.0.2",
    "procrastinate/a_job_asked_to_abort_that_fails_goes_on_for_good": "procrastinate#1131, fixed in 2.9.2",
    "procrastinate/a_job_that_kills_its_worker_is_run_for_ever": LEFT_TO_USERS,
    "procrastinate/a_late_failure_is_taken": UNKNOWN,
    "procrastinate/a_late_failure_revives_a_job_that_failed_for_good": UNKNOWN,
    "procrastinate/a_long_backoff_ends_a_job_early": "procrastinate#1462, procrastinate#1375, fixed in 3.5.3",
    "procrastinate/a_late_result_is_taken": UNKNOWN,
    "procrastinate/a_retry_that_finds_its_lock_taken": "procrastinate#1446, procrastinate#1543",
    "graphile-worker/a_batch_takes_two_jobs_of_one_named_queue": "graphile/worker#621, fixed in 0.18.0",
    "graphile-worker/a_batch_leaves_a_due_job": "graphile/worker#622 says that it discards them",
    "graphile-worker/a_late_result_is_taken": f"{UNKNOWN}; graphile/worker#169 is about the cause",
    "graphile-worker/a_nul_loses_the_outcome": UNKNOWN,
    "bullmq/a_late_release_is_told_that_it_is_done": UNKNOWN,
    "bullmq/a_nul_loses_the_outcome": UNKNOWN,
    "bullmq/a_retry_keeps_the_count_of_stalls": "bullmq#3555, closed, but still present in 6.7.0",
    "bullmq/a_retry_does_not_ask_for_its_key": UNKNOWN,
    "bullmq/a_stalled_job_goes_before_higher_priorities": UNKNOWN,
    "django-tasks-db/a_killed_worker_leaves_its_task_running": "django-tasks-db#5, open since June 2024",
    "django-tasks-db/a_nul_ends_the_worker": UNKNOWN,
    "celery/a_late_result_is_taken": UNKNOWN,
    "celery/an_eta_beyond_the_visibility_timeout": "celery/kombu#337, open since 2014",
    "dramatiq/a_killed_worker_counts_no_retry": "dramatiq#213, closed: retries count only exceptions",
    "dramatiq/a_late_failure_is_taken": UNKNOWN,
    "dramatiq/a_timeout_error_hangs_the_worker": "dramatiq#791, fixed in 2.0.1",
    "chancy/a_late_result_is_taken": "fixed in 0.26.0",
    "chancy/a_nul_in_an_error_ends_every_worker": UNKNOWN,
    "chancy/a_second_push_restarts_what_runs": "chancy#51, fixed in 0.25.0",
    "guide/a_batch_outlives_its_lease": "it is the reference application's own bug",
    "guide/a_late_worker_completes_another_s_run": LATE,
    "guide/a_retry_limit_is_no_attempt_limit": "it is the reference application's own bug",
    "guide/an_api_that_dies_leaves_an_orphan": "it is the reference application's own bug",
}
"""Scenario -> whether its project knows it: an issue, a place in its manual, or neither after a search for one."""

HEAD: Final = """# Findings: {title}

Written by `python docs/findings.py`, which runs each scenario for its first screen. Each scenario passes on {right}
and shows its anomaly on the release named with it. One command replays [all of them](../findings.md).
"""

Screens = Callable[["Finding"], str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One anomaly of one release, with the scenario that shows it."""

    scenario: Scenario
    control: Control

    @property
    def name(self) -> str:
        """The folder and file of the scenario."""
        return "/".join(Path(self.scenario.path).with_suffix("").parts[-2:])

    @property
    def group(self) -> str:
        """Its page."""
        return self.name.split("/")[0]

    @property
    def release(self) -> str:
        """What the scenario is run on, as it is typed."""
        return self.control.engine or f"{APPLICATIONS}{self.control.application}"

    @property
    def command(self) -> str:
        """What a reader types."""
        return f"job-harness run {self.scenario.path} --engine {self.release} --no-controls"

    @property
    def known(self) -> str:
        """Whether its project knows it. Raises SystemExit where that is not said."""
        if self.name not in KNOWN:
            raise SystemExit(f"{self.scenario.path}: say in docs/findings.py (KNOWN) whether its project knows it")
        return KNOWN[self.name]


def findings() -> list[Finding]:
    """Read all scenarios, in the order of the pages."""
    paths = sorted(path for group in TITLES for path in (ROOT / SCENARIOS / group).glob("*.yaml"))
    scenarios = [replace(read_scenario(path), path=str(path.relative_to(ROOT))) for path in paths]
    order = list(TITLES)
    found = [Finding(scenario, control) for scenario in scenarios for control in scenario.controls]
    return sorted(found, key=lambda item: order.index(item.group))


def run_for_screens(engines: Engines) -> Screens:
    """Return a function that runs a finding's command and returns what it prints first.

    It raises what the engine raises where that is impossible.
    """

    def screen(finding: Finding) -> str:
        campaign = CaseRunner(engines, fix_seconds=UNHURRIED)  # A page must not depend on how busy this machine is.
        campaign.run([Task(replace(finding.scenario, controls=()), Target.parse(finding.release))])
        (case,) = campaign.cases
        if case.error is not None:
            raise case.error
        return screen_text(case_screen(case)).rstrip()

    return screen


def screens_of(page: str) -> dict[str, str]:
    """Read the screens of a page, by the command above each."""
    found = re.finditer(r"```text\n\$ (?P<command>[^\n]*)\n(?P<screen>.*?)\n```", page, re.DOTALL)
    return {match["command"]: match["screen"] for match in found}


def page_of(group: str, found: Iterable[Finding], screen: Screens) -> str:
    """Write the page of one engine."""
    right = "the repaired application" if group == "guide" else "the model queue"
    by_name: dict[str, list[Finding]] = {}
    for finding in found:
        by_name.setdefault(finding.name, []).append(finding)
    return HEAD.format(title=TITLES[group], right=right) + "".join(
        _section(items, screen) for items in by_name.values()
    )


def _section(items: list[Finding], screen: Screens) -> str:
    scenario = items[0].scenario
    what, _, around = scenario.why.strip().partition("Workaround: ")
    rows = "".join(f"| {item.release} | `{item.control.finds}` | {_lost(item)} |\n" for item in items)
    last = {item.control.finds: item for item in items}.values()
    screens = "".join(f"\n```text\n$ {item.command}\n{screen(item)}\n```\n" for item in last)
    return (
        f"\n## {scenario.title}\n\n{_linked(what.strip())}\n\n"
        f"| on | anomaly | guarantee lost |\n| --- | --- | --- |\n{rows}\n"
        f"**Workaround:** {around.strip()}\n\n**Known to its project:** {_linked(items[0].known)}.\n{screens}"
    )


def _lost(finding: Finding, *, short: bool = False) -> str:
    kind = kind_of(finding.control.finds)
    return kind.cost.replace(kind.guarantee, kind.guarantee.partition(":")[0]) if short else kind.cost


def _linked(text: str) -> str:
    return ISSUE.sub(lambda issue: f"[{issue[0]}](https://github.com/{TRACKERS[issue[1]]}/issues/{issue[2]})", text)


def table(found: Iterable[Finding]) -> str:
    """Write the table of all findings."""
    rows = "".join(
        f"| {item.release.removeprefix(APPLICATIONS)} | `{item.control.finds}` | {_lost(item, short=True)} | "
        f"[{item.scenario.title}](findings/{item.group}.md#{_anchor(item.scenario.title)}) | {_linked(item.known)} |\n"
        for item in found
    )
    return (
        f"| on | anomaly | guarantee lost | finding | known to its project |\n| --- | --- | --- | --- | --- |\n{rows}"
    )


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def texts(screen: Callable[[Path], Screens], *, only: str | None = None) -> dict[Path, str]:
    """Return all pages, or that of one engine and the table; `screen` says where the screens of a page come from."""
    found = findings()
    pages = {}
    for group in dict.fromkeys(item.group for item in found):
        path = PAGES / f"{group}.md"
        if only in (None, group):
            pages[path] = page_of(group, [item for item in found if item.group == group], screen(path))
    before = INDEX.read_text(encoding="utf-8")
    start, end = "<!-- findings -->\n", "<!-- end -->"
    head, tail = before.split(start)[0], before.split(start)[1].split(end, 1)[1]
    pages[INDEX] = f"{head}{start}\n{table(found)}\n{end}{tail}"
    return pages


def kept(path: Path) -> Screens:
    """Return the screens that a page has."""
    screens = screens_of(path.read_text(encoding="utf-8")) if path.exists() else {}
    return lambda finding: screens.get(finding.command, "")


UNHURRIED = 900.0
"""Real seconds in which the fixes of one finding are tried here."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Write what was found on other people's queues.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a page is not current")
    parser.add_argument("--text", action="store_true", help="run nothing, and keep the screens")
    parser.add_argument("--only", choices=TITLES, help="only the page of this engine")
    given = parser.parse_args()
    os.chdir(ROOT)
    with Engines() as engines:
        running = run_for_screens(engines)
        try:
            written = texts(kept if given.text else lambda path: running, only=given.only)
        except EnvironmentUnavailable as error:
            print(error.message)
            sys.exit(ExitCode.ENVIRONMENT)
    stale = [path for path, text in written.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{'not current' if given.check else 'wrote'}: {path.relative_to(ROOT)}")
        if not given.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(written[path], encoding="utf-8")
    sys.exit(1 if given.check and stale else 0)


if __name__ == "__main__":
    main()
