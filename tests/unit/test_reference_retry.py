"""The reference's backoff arithmetic at its edges."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_harness_reference.retry import retry_after, spread

HOUR = timedelta(hours=1)
DELAYS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_500))
JITTERS = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)


@pytest.mark.parametrize(("failures", "seconds"), [(0, 60), (1, 120), (2, 240), (5, 1920), (6, 3600), (10**9, 3600)])
def test_the_delay_doubles_up_to_its_cap(failures: int, seconds: int) -> None:
    waited = retry_after(timedelta(seconds=60), backoff=True, delay_max=HOUR, failures=failures, jitter=0.0)
    assert waited == timedelta(seconds=seconds)


def test_jitter_stretches_and_never_shortens() -> None:
    waited = retry_after(timedelta(seconds=60), backoff=True, delay_max=HOUR, failures=0, jitter=0.5)
    assert waited == timedelta(seconds=90)


@given(delay=DELAYS, delay_max=DELAYS, failures=st.integers(0, 2**31), jitter=JITTERS)
def test_no_delay_overflows_or_passes_its_cap(
    delay: timedelta, delay_max: timedelta, failures: int, jitter: float
) -> None:
    waited = retry_after(delay, backoff=True, delay_max=delay_max, failures=failures, jitter=jitter)
    assert timedelta(0) <= waited <= delay_max
    later = retry_after(delay, backoff=True, delay_max=delay_max, failures=failures + 1, jitter=jitter)
    assert later >= waited


@given(delay=DELAYS, failures=st.integers(0, 2**31), jitter=JITTERS)
def test_without_backoff_the_delay_is_exact(delay: timedelta, failures: int, jitter: float) -> None:
    assert retry_after(delay, backoff=False, delay_max=HOUR, failures=failures, jitter=jitter) == delay


@given(jitter=JITTERS, k=st.integers(0, 10_000))
def test_a_share_of_the_jitter_is_again_a_jitter(jitter: float, k: int) -> None:
    assert 0.0 <= spread(jitter, k) < 1.0
    assert spread(jitter, 0) == jitter
