"""What every test of this repository is shielded from."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a CI a test that judges nothing fails, and most tests here are about what else is said of it."""
    monkeypatch.delenv("CI", raising=False)
