"""The reference's table of states and arrows, every pair of it, and the memory store's obedience to it."""

from __future__ import annotations

import itertools

import pytest

from job_harness_reference.lifecycle import PARTNERS, TRANSITIONS, Event, status_beside, step
from job_harness_reference.models import QueueState, ToolJobStatus

ARROWS = """
    PENDING    claim    PROCESSING
    PENDING    cancel   CANCELLED
    PROCESSING complete COMPLETED
    PROCESSING fail     PENDING
    PROCESSING exhaust  FAILED
    PROCESSING release  PENDING
    PROCESSING cancel   CANCELLED
    FAILED     retry    PENDING
    CANCELLED  retry    PENDING
"""
EXPECTED = {(line.split()[0], line.split()[1]): line.split()[2] for line in ARROWS.strip().splitlines()}


@pytest.mark.parametrize(("status", "event"), list(itertools.product(ToolJobStatus, Event)))
def test_every_pair_of_status_and_event_has_its_one_answer(status: ToolJobStatus, event: Event) -> None:
    assert step(status, event) == EXPECTED.get((status.value, event.value))


def test_only_a_retry_leads_out_of_a_terminal_status() -> None:
    assert {event for status, event in TRANSITIONS if status.terminal} == {Event.RETRY}


def test_every_queue_state_stands_beside_exactly_one_status() -> None:
    beside = [state for states in PARTNERS.values() for state in states]
    assert sorted(beside) == sorted(QueueState)
    assert all(state in PARTNERS[status_beside(state)] for state in QueueState)
    assert set(PARTNERS) == set(ToolJobStatus)
