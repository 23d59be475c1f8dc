"""Every rule says what it prevents, how to repair it, and which scenario shows what happens otherwise."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from job_harness.review.check.catalogue import CATALOGUE, RULES
from job_harness.review.check.finding import RELEASES, Rule, Tried
from job_harness.review.check.rules import bullmq, celery, crons, graphile, handlers, pgboss, pgqueuer, procrastinate

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def test_no_two_rules_share_an_id() -> None:
    assert len(RULES) == len(CATALOGUE)


@pytest.mark.parametrize("rule", CATALOGUE, ids=lambda rule: rule.id)
def test_a_rule_is_whole_and_its_scenario_is_there(rule: Rule) -> None:
    assert rule.sentence.endswith(".")
    assert rule.prevents.endswith(".")
    assert rule.repair.endswith(".")
    assert (SCENARIOS / rule.scenario).is_file()


KNOWN_BUGS = {"pgboss_version", "package_versions_disagree", "archived_before_its_row"}
"""Rules about a release itself, or about two files."""


@pytest.mark.parametrize("module", [bullmq, celery, crons, graphile, handlers, pgboss, pgqueuer, procrastinate])
def test_a_rule_about_a_queue_says_on_which_releases_it_was_run(module: ModuleType) -> None:
    unrun = {rule.id for rule in module.RULES if not rule.ran}
    known = {(one.library, version) for one in map(Tried._make, RELEASES.items()) for version in one.versions}

    assert unrun == (KNOWN_BUGS if module is pgboss else set())
    assert {(one.library, version) for rule in module.RULES for one in rule.ran for version in one.versions} <= known


@pytest.mark.parametrize("module", [bullmq, celery, graphile, pgboss, pgqueuer, procrastinate])
def test_each_queue_has_ten_rules(module: ModuleType) -> None:
    assert len(module.RULES) >= 10
