"""Where the settings of a search come from: the defaults, or what a repository sets, with what `check` says of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.model.settings import Settings
from harness.report.screen import setting_text, wrap


def configure_source(parser: argparse.ArgumentParser) -> None:
    """Declare the option."""
    parser.add_argument(
        "--settings-from",
        metavar="DIR",
        help="search under what the repository in DIR sets, as `job-harness check` reads it",
    )


def settings_of(folder: str | None) -> Settings:
    """Answer the settings to begin with; those of a repository are printed with their places and their contradictions.

    Raises UsageError where there is no such folder.
    """
    if folder is None:
        return Settings()
    from harness.lint.examination import examine
    from harness.lint.finding import Severity
    from harness.lint.repository import read_repository
    from harness.lint.settings import simulation_of

    facts = read_repository(Path(folder))
    simulation = simulation_of(facts)
    print(f"Settings from {folder}:")
    for name, origin in simulation.origins.items():
        print(f"  {name} {setting_text(name, getattr(simulation.settings, name))}  ({origin})")
    if not simulation.origins:
        print("  nothing that a simulation knows is set there: the defaults hold")
    for finding in examine(facts).at_least(Severity.ERROR):
        for line in wrap(f"{finding.place} ", f"{finding.rule}: {finding.repair}", width=100, lines=3):
            print(line)
    print()
    return simulation.settings
