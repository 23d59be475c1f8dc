"""What is looked for in a running database, the first cause first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from harness.lint.facts import Facts
from harness.lint.finding import Severity
from harness.lint.rule import Hit, Rule


def _by_database(facts: Facts) -> Iterable[Hit]:
    """Say nothing: only a database can tell."""
    return ()


RULES: Final = (
    Rule(
        "workers_not_running",
        Severity.ERROR,
        "With `--database`: where jobs are due, one is started.",
        "Jobs are queued and never processed, the first cause of stuck jobs.",
        "Set USE_PGBOSS_WORKERS=true in the environment of the worker, and start it.",
        "configuration/workers_disabled.yaml",
        _by_database,
    ),
    Rule(
        "overdue_now",
        Severity.WARNING,
        "With `--database`: a due job is taken within a minute, or five polls.",
        "Workers are too few, too slow, or blocked by jobs that hang.",
        "Add workers, or look at what the running jobs do.",
        "expiry/hung_job_is_timed_out.yaml",
        _by_database,
    ),
    Rule(
        "lease_overdue_now",
        Severity.ERROR,
        "With `--database`: no job is active past its expiry for longer than the queue's maintenance interval.",
        "A worker died and nobody takes its jobs back.",
        "Look whether an instance of the queue runs with maintenance (supervision) on.",
        "expiry/hung_job_is_timed_out.yaml",
        _by_database,
    ),
    Rule(
        "stuck_now",
        Severity.ERROR,
        "With `--database`: no row is PROCESSING for longer than the stuck timeout and two periods of the cron.",
        "The cron gets no answer or a refusal, and nobody looks at it.",
        "Request the maintenance route by hand with the secret, and look at the answer.",
        "maintenance/rescues_stuck_job.yaml",
        _by_database,
    ),
    Rule(
        "attempts_over_limit_now",
        Severity.ERROR,
        "With `--database`: no row has more attempts than maxAttempts.",
        "A job that fails, or kills its worker, runs again and again.",
        "Set retry_limit to maxAttempts - 1, and let rescue respect it.",
        "maintenance/rescue_respects_max_attempts.yaml",
        _by_database,
    ),
    Rule(
        "orphaned_now",
        Severity.ERROR,
        "With `--database`: every unfinished row has a partner in the other table.",
        "A row without a job is never run; a job without a row runs for nobody.",
        "Let maintenance reconcile the two tables, and send a job in the transaction that inserts its row.",
        "tables/purge_deletes_both_rows.yaml",
        _by_database,
    ),
    Rule(
        "diverged_now",
        Severity.ERROR,
        "With `--database`: the two rows of a job agree once two periods of the cron have passed.",
        "The user sees one thing, and the queue does another.",
        "Let maintenance reconcile the two tables.",
        "tables/agree_on_every_ending.yaml",
        _by_database,
    ),
    Rule(
        "queue_options_differ_now",
        Severity.ERROR,
        "With `--database`: a queue that exists has the options that the code gives it.",
        "createQueue changes nothing where a queue exists: the edited expiry or retry limit never arrived.",
        "Call updateQueue with the options of the code.",
        "scheduling/options_are_kept.yaml",
        _by_database,
    ),
    Rule(
        "never_started_now",
        Severity.ERROR,
        "With `--database`: of every tool that has waiting jobs, one was started at some time.",
        "The tool is missing from TOOL_SLUGS, or its queue has no worker.",
        "Register its processor, and list it in TOOL_SLUGS.",
        "configuration/workers_disabled.yaml",
        _by_database,
    ),
    Rule(
        "kept_too_long_now",
        Severity.WARNING,
        "With `--database`: rows that ended are deleted within a day after expiresAt.",
        "The table grows without end, and every query becomes slower.",
        "Look whether maintenance runs, and deletes.",
        "maintenance/retention.yaml",
        _by_database,
    ),
)

LIVE: Final = {rule.id: rule for rule in RULES}
