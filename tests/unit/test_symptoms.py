"""What people type about a job that misbehaves leads to what it usually is."""

from __future__ import annotations

import re

import pytest

from job_harness.doors.cli import COMMANDS, main
from job_harness.review.check.catalogue import RULES
from job_harness.review.symptoms import QUEUE_NAMES, ranked, symptoms

TYPED = {
    "My job ran twice": (
        "What's the scenario when the same job will be executed more than once?",
        "Same task runs multiple times at once?",
        "duplicate task in each work",
        "Tasks running multiple times with CELERY_ACKS_LATE and visibility_timeout",
        "Sometimes job runs twice",
        "job runned twice",
        "my BullMQ job ran twice",
        "Jobs get double processed (if removed immediately upon completion)",
    ),
    "My delayed task runs many times": (
        "Long ETA tasks executed multiple times on Redis broker despite setting visibility_timeout",
        "Celery multiplying unwanted tasks",
        "Redis transport causes multiple Celery job runs if eta exceeds visibility timeout",
        "Tasks are duplicated when they remain unstarted for an hour",
    ),
    "My job is stuck in active": (
        "Jobs stuck in active",
        "job stuck in active state after worker process termination",
        'Queue stuck with jobs in "active" state for hours, and rest of jobs not being processed',
        "Is there an advised way to handle jobs that get stuck in an active state?",
        "if faktory work crashes job sits in `busy` until timeout and then never requeues",
    ),
    "My job was lost": (
        "What exactly happens when the machine executing a job dies unexpectedly?",
        "Jobs being lost when killing workers",
        "messages disappear when a worker is killed",
    ),
    "A finished job is marked as failed": (
        "Successful job logs `Job OK`, then later cleanup() moves it to FailedJobRegistry with AbandonedJobError",
        "Succeeded jobs mysteriously moved to FailedJobRegistry",
        "Jobs wrongly moved to failed registry (stuck in intermediate queue)",
        'Worker creates "abandoned jobs"',
    ),
    "My cron job runs twice": (
        "Cron job got executed twice on Azure Web App",
        "Cron runs twice at the set time",
        "Repeat jobs duplicate if you restart the handler service in the middle of processing.",
    ),
    "My deploy kills running jobs": (
        "SIGTERM should allow running job to finish work",
        "Worker graceful shutdown (SIGTERM drain + SQL close)",
        "Make job cancellation optional during shutdown",
        "every deploy kills BullMQ jobs: no shutdown hooks",
    ),
    "My job is never enqueued again": (
        "Adding a job with a previously used id will silently drop the job",
        "How can i know if i job is ignored when add into the queue",
    ),
    "My unique job is enqueued twice": (
        "How could I disallow duplicated task creating?",
        "Job ID is not preventing duplicates?",
        '"Singleton queue" does not prevent multiple jobs from becoming active',
        "Unique Jobs & Debouncing seems broken to me.",
    ),
    "deadlock detected in my worker": ("Deadlock when archiving jobs", "Postgres DeadlockDetected error"),
    "Jobs run in the wrong order": (
        "Priorities do not work",
        "Priority doesn't seem to be taking effect",
        "Prioritized jobs doesn't process before non-prioritized ones",
    ),
    "Two jobs overwrite each other's changes": (
        "Possible race condition",
        "celery tasks accidentally overwrite one another",
    ),
    "My job runs before its row exists": (
        "Organization.DoesNotExist in notifications.tasks",
        "Avoid task running before transaction commit",
    ),
    "How do I test without Redis or Docker": (
        "run BullMQ solely in memory",
        "CI has no external connections, mock Redis",
    ),
    "How do I test that a worker crash is safe": (
        "how to test maxStalledCount?",
        "hard to write a test that stalls a job",
    ),
    "How do I test a job that retries for days": ("best way to test scheduled jobs", "fast forward 7 days in a test"),
    "could not renew lock": ("could not renew lock for job", "Missing lock for job 12 failed"),
    "My test of a job hangs": (
        "failing task with retries hangs the test",
        "document how to test with Jest (open handles)",
    ),
    "Two tables disagree about a job": ("two tables disagree", "status completed but queue row still active"),
    "A batch failed because one job in it failed": ("a batch failed because one job in it failed",),
    "My job retries forever": ("workers crash and continually re-enqueue the job, which just makes them crash again",),
    "Redis or PostgreSQL went away and jobs are broken": ("workflows stranded PENDING after a PostgreSQL restart",),
}
"""Titles of public issues, and sentences of them, by the symptom that they are about."""


def test_fifty_phrases_lead_to_the_right_symptom_among_the_first_three() -> None:
    phrases = [(phrase, says) for says, told in TYPED.items() for phrase in told]
    assert len(phrases) >= 50
    missed = {phrase: [each.says for each in ranked(phrase)] for phrase, says in phrases}
    assert {phrase: missed[phrase] for phrase, says in phrases if says not in missed[phrase]} == {}


def test_each_symptom_is_whole_and_what_it_names_is_there() -> None:
    assert len(symptoms()) >= 30
    for each in symptoms():
        assert ranked(each.says)[0] == each
        assert all(re.fullmatch(r"[\w-]+/[\w.-]+#\d+", issue) for issue in each.seen)
        for cause in each.causes:
            named = [name for words in cause.queues.values() for name in re.findall(r"`(\w+)`", words)]
            assert [name for name in named if name not in RULES] == []
            if run := re.match(r"job-harness (\w+)", cause.look):
                assert run[1] in COMMANDS
    assert set(QUEUE_NAMES) == {queue for each in symptoms() for cause in each.causes for queue in cause.queues}


def test_why_says_what_it_may_be_and_docs_find_names_it_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "my", "BullMQ", "job", "ran", "twice"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("My job ran twice\nIt may be any of these, the most common first.")
    assert "\n1. It ran longer than its lease" in told
    assert "   See: job-harness check .\n   BullMQ: lock_renewed_too_late" in told
    assert max(map(len, told.splitlines())) <= 80
    assert "Celery" not in told  # It names the queue.
    assert main(["why", "job ran twice"]) == 0
    assert "\n   Celery: " in capsys.readouterr().out
    assert main(["docs", "--find", "my BullMQ job ran twice"]) == 0
    assert capsys.readouterr().out.startswith("symptoms: My job ran twice\n")
    assert main(["why", "zzz"]) == 2
