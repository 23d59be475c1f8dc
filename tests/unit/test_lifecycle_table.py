"""The model's table of arrows, every pair of it, beside the reference's own."""

from __future__ import annotations

import itertools

import pytest

from job_harness.core.model.lifecycle import (
    ARROWS_OF_VERB,
    PARTNERS,
    TERMINAL,
    TRANSITIONS,
    Event,
    QueueState,
    Status,
    step,
)
from job_harness_reference import lifecycle as reference
from job_harness_reference.models import ToolJobStatus

THEIR_NAMES = {
    Event.CLAIM: reference.Event.CLAIM,
    Event.COMPLETE: reference.Event.COMPLETE,
    Event.FAIL_RETRYABLY: reference.Event.FAIL,
    Event.FAIL_FINALLY: reference.Event.EXHAUST,
    Event.RELEASE: reference.Event.RELEASE,
    Event.CANCEL: reference.Event.CANCEL,
    Event.RETRY: reference.Event.RETRY,
}


@pytest.mark.parametrize(("status", "event"), list(itertools.product(Status, Event)))
def test_every_pair_has_the_reference_s_answer(status: Status, event: Event) -> None:
    theirs = reference.step(ToolJobStatus(status.value), THEIR_NAMES[event])
    ours = step(status, event)
    assert (ours.value if ours else None) == (theirs.value if theirs else None)


def test_only_a_retry_leads_out_of_a_terminal_status() -> None:
    assert {event for status, event in TRANSITIONS if status in TERMINAL} == {Event.RETRY}


def test_both_tables_pair_the_same_states() -> None:
    ours = {status.value: {state.value for state in states} for status, states in PARTNERS.items()}
    theirs = {status.value: {state.value for state in states} for status, states in reference.PARTNERS.items()}
    assert ours == theirs
    assert {state for states in PARTNERS.values() for state in states} == set(QueueState)


def test_a_rescue_takes_the_arrows_of_a_failure() -> None:
    assert ARROWS_OF_VERB["rescue"] == ARROWS_OF_VERB["expire"] == ARROWS_OF_VERB["fail"]
