"""A period as cron text, and which slot's job is which."""

from __future__ import annotations

import pytest

from job_harness.core.model.duration import DAY, HOUR, MINUTE, SECOND, Duration
from job_harness.core.port import JobRequest, Schedule
from job_harness.engines.pgboss.node.queue import SchedulePlans, cron_text
from job_harness.engines.pgboss.node.release import PERIODS, period_of


@pytest.mark.parametrize(
    ("period", "text"),
    [
        (MINUTE, "*/1 * * * *"),
        (12 * MINUTE, "*/12 * * * *"),
        (HOUR, "0 */1 * * *"),
        (8 * HOUR, "0 */8 * * *"),
        (DAY, "0 0 * * *"),
    ],
)
def test_cron_text_says_a_period_from_the_start_of_an_hour_or_a_day(period: Duration, text: str) -> None:
    assert cron_text(period) == text


@pytest.mark.parametrize("period", [30 * SECOND, 11 * MINUTE, 5 * HOUR, 2 * DAY])
def test_what_cron_text_cannot_say_is_refused_with_what_it_can(period: Duration) -> None:
    with pytest.raises(ValueError, match=r"cron text cannot say every .*; it can say 1m, 2m"):
        cron_text(period)


@pytest.mark.parametrize(
    ("asked", "kept"),
    [(SECOND, MINUTE), (MINUTE, MINUTE), (11 * MINUTE, 12 * MINUTE), (5 * HOUR, 6 * HOUR), (9 * DAY, DAY)],
)
def test_a_period_is_kept_as_the_next_one_that_cron_text_can_say(asked: Duration, kept: Duration) -> None:
    assert period_of(asked) == kept
    assert kept in PERIODS


def test_a_second_job_of_a_slot_has_a_name_of_its_own_and_keeps_it() -> None:
    plans = SchedulePlans()
    plans.set(Schedule("n", MINUTE, JobRequest("n")), 30 * SECOND)
    first = plans.identify("u1", "n", 2 * MINUTE + SECOND)
    assert first == ("n2", 2 * MINUTE)
    assert plans.identify("u2", "n", 2 * MINUTE + 31 * SECOND) == ("n2-", 2 * MINUTE)
    assert plans.identify("u1", "n", 9 * MINUTE) == first
    assert (plans.uuid("n2-"), plans.job("u2")) == ("u2", "n2-")


def test_a_schedule_set_again_goes_on_with_its_slots_and_another_period_begins_anew() -> None:
    plans = SchedulePlans()
    plans.set(Schedule("n", MINUTE, JobRequest("n")), 0)
    plans.set(Schedule("n", MINUTE, JobRequest("n", priority=5)), 5 * MINUTE)
    assert plans.identify("u1", "n", 6 * MINUTE) == ("n6", 6 * MINUTE)
    plans.set(Schedule("n", 2 * MINUTE, JobRequest("n")), 7 * MINUTE)
    assert plans.identify("u2", "n", 8 * MINUTE) == ("n1", 8 * MINUTE)
