"""Durations read back as they were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_harness.core.model.duration import DAY, HOUR, LONGEST, MINUTE, SECOND, format_duration, parse_duration


@given(st.integers(0, LONGEST))
def test_what_is_written_reads_back(duration: int) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [("90s", 90 * SECOND), ("1h30m", HOUR + 30 * MINUTE), ("250ms", 250_000), ("7d", 7 * DAY), ("1.5s", 1_500_000)],
)
def test_usual_notations_are_read(text: str, duration: int) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "10", "ten minutes", "10m ", "m", "-5s", "1h x"])
def test_anything_else_is_refused_with_what_would_be_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="write a number with a unit"):
        parse_duration(text)


def test_more_than_ten_years_is_refused() -> None:
    with pytest.raises(ValueError, match="ten years"):
        parse_duration("4000d")
