"""Calendar schedules: which instants a cron text means, and what is said of one that means nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from job_harness.core.calendars import ORIGIN, calendar_problem, following_slot
from job_harness.core.model.duration import DAY
from job_harness.core.port import JobRequest, Missed, Schedule
from job_harness.core.run.session import Session
from job_harness.core.scenario.document import ScenarioError
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.engines.memory import MemoryEngine


def slots(text: str, zone: str, *, since: str, count: int) -> list[str]:
    at = (datetime.fromisoformat(since).replace(tzinfo=UTC) - ORIGIN) // timedelta(microseconds=1)
    found = []
    for _ in range(count):
        at = following_slot(text, zone, at)
        found.append((ORIGIN + timedelta(microseconds=at)).strftime("%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("text", "zone", "since", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2030-03-30", ["03-30 01:30:00", "03-31 01:00:00", "04-01 00:30:00"]),
        ("30 2 * * *", "Europe/Berlin", "2030-10-26", ["10-26 00:30:00", "10-27 00:30:00", "10-28 01:30:00"]),
        ("*/30 2 27 10 *", "Europe/Berlin", "2030-10-01", ["10-27 00:00:00", "10-27 00:30:00", "10-27 01:00:00"]),
        ("30 1 * * *", "America/New_York", "2030-11-03", ["11-03 05:30:00", "11-04 06:30:00"]),
        ("0 12 29 2 *", "UTC", "2030-01-01", ["02-29 12:00:00"]),
        ("@daily", "Asia/Kolkata", "2030-01-01", ["01-01 18:30:00"]),
        ("30 15 12 * * *", "UTC", "2030-01-01", ["01-01 12:15:30"]),
    ],
)
def test_a_cron_text_means_what_its_zone_says(text: str, zone: str, since: str, expected: list[str]) -> None:
    assert slots(text, zone, since=since, count=len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "zone", "told"),
    [
        ("* * * *", "UTC", "has 4 fields, not five"),
        ("61 * * * *", "UTC", "bad minute"),
        ("0 0 30 2 *", "UTC", "bad day-of-month"),
        ("@fortnightly", "UTC", "there is no '@fortnightly'"),
        ("@daily", "Europe/Atlantis", "knows no time zone 'Europe/Atlantis'"),
        ("@daily", "../etc/passwd", "knows no time zone"),
    ],
)
def test_what_means_nothing_is_said_by_name(text: str, zone: str, told: str) -> None:
    assert told in str(calendar_problem(text, zone))


def test_a_schedule_in_a_zone_that_the_machine_does_not_know_is_refused_with_its_line() -> None:
    text = (
        "format: 1\njobs:\n  a: {cron: '@daily', zone: Mars/Olympus, count: 2, scheduled: true}\npresets: {tocken: 5}\n"
    )
    with pytest.raises(ScenarioError, match=r"Mars/Olympus") as refused:
        read_scenario_text(text, path="s.yaml")
    assert "s.yaml:3" in str(refused.value)


def test_a_preset_beyond_what_a_counter_can_hold_is_refused() -> None:
    with pytest.raises(ScenarioError, match="presets"):
        read_scenario_text(f"format: 1\njobs: {{a: {{}}}}\npresets: {{token: {2**63}}}\n")
    with pytest.raises(ScenarioError, match="no such counter: 'tocken' \\(did you mean 'token'"):
        read_scenario_text("format: 1\njobs: {a: {}}\npresets: {tocken: 5}\n")


@pytest.mark.parametrize(("missed", "made"), [("each", 3), ("latest", 2)])
def test_slots_that_no_scheduler_looked_at_get_a_job_each_or_the_latest_alone(missed: str, made: int) -> None:
    job = f"jobs: {{a: {{cron: '*/5 * * * *', count: 3, scheduled: true, missed: {missed}}}}}"
    steps = "steps: [advance 1m, jump 13m, run until idle]"
    run = Session(read_scenario_text(f"format: 1\n{job}\n{steps}\n"), engine=MemoryEngine()).run()
    assert run.found == frozenset()
    assert sum(view.schedule == "a" for view in run.history.views().values()) == made


def test_a_schedule_lists_its_slots_and_a_period_goes_on_as_before() -> None:
    daily = Schedule("a", 0, JobRequest("a"), cron="@daily", missed=Missed.LATEST)
    assert daily.slots(0, 3 * DAY) == [DAY, 2 * DAY, 3 * DAY]
    assert Schedule("a", DAY, JobRequest("a")).slots(0, 2 * DAY) == [DAY, 2 * DAY]
    assert repr(Schedule("a", DAY, JobRequest("a"))).endswith("transaction=None))")
