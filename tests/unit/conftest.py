"""What tests of searches share that look at everything but what would have fixed a finding."""

from __future__ import annotations

import pytest


@pytest.fixture
def few_fresh_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Confirm a fix by a few runs: hundreds are nearly all that a search costs which finds something at once."""
    monkeypatch.setattr("job_harness.search.counterfactual.RUNS", 6)
