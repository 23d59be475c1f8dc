"""Every rule says what it prevents, how to repair it, and which scenario shows what happens otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.lint.catalogue import CATALOGUE, RULES
from harness.lint.finding import Rule

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def test_no_two_rules_share_an_id() -> None:
    assert len(RULES) == len(CATALOGUE)


@pytest.mark.parametrize("rule", CATALOGUE, ids=lambda rule: rule.id)
def test_a_rule_is_whole_and_its_scenario_is_there(rule: Rule) -> None:
    assert rule.sentence.endswith(".")
    assert rule.prevents.endswith(".")
    assert rule.repair.endswith(".")
    assert (SCENARIOS / rule.scenario).is_file()
