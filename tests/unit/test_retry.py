"""The model's retry arithmetic, and that the reference computes the same."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from job_harness.core.model.duration import HOUR, SECOND
from job_harness.core.model.retry import retry_bounds, retry_delay, spread
from job_harness.core.model.settings import Settings
from job_harness_reference.retry import retry_after
from job_harness_reference.retry import spread as reference_spread

JITTERS = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
SETTINGS = st.builds(
    Settings,
    retry_delay=st.integers(0, HOUR),
    retry_backoff=st.booleans(),
    retry_delay_max=st.integers(HOUR, 24 * HOUR),
)


@given(settings=SETTINGS, attempts=st.integers(1, 30), jitter=JITTERS)
def test_the_reference_waits_as_long_to_the_microsecond(settings: Settings, attempts: int, jitter: float) -> None:
    theirs = retry_after(
        timedelta(microseconds=settings.retry_delay),
        backoff=settings.retry_backoff,
        delay_max=timedelta(microseconds=settings.retry_delay_max),
        failures=attempts - 1,
        jitter=jitter,
    )
    ours = retry_delay(settings, attempts=attempts, jitter=jitter)
    assert abs(ours - theirs // timedelta(microseconds=1)) <= 1


@given(settings=SETTINGS, attempts=st.integers(1, 1_000), jitter=JITTERS)
def test_a_delay_keeps_its_bounds_and_never_shrinks(settings: Settings, attempts: int, jitter: float) -> None:
    shortest, longest = retry_bounds(settings, attempts=attempts)
    assert shortest <= retry_delay(settings, attempts=attempts, jitter=jitter) <= longest
    assert retry_bounds(settings, attempts=attempts + 1)[0] >= shortest


def test_the_delay_doubles_up_to_its_cap() -> None:
    waits = [retry_delay(Settings(), attempts=n, jitter=0.0) // SECOND for n in (1, 2, 3, 7, 10**6)]
    assert waits == [60, 120, 240, 3600, 3600]


@given(jitter=JITTERS, row=st.integers(0, 1_000))
def test_rows_of_one_statement_share_a_draw_as_the_reference_does(jitter: float, row: int) -> None:
    ours, theirs = spread(jitter, row), reference_spread(jitter, row)
    assert 0.0 <= ours < 1.0
    assert min(abs(ours - theirs), 1 - abs(ours - theirs)) < 1e-9
