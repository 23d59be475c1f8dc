"""Where the settings of a search come from: the defaults, or what a repository sets, with what `check` says of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.errors import UsageError, did_you_mean
from harness.model.settings import Settings
from harness.report.screen import setting_text, wrap


def configure_source(parser: argparse.ArgumentParser) -> None:
    """Declare the option."""
    parser.add_argument(
        "--settings-from",
        metavar="DIR[#QUEUE]",
        help="search under what the repository in DIR sets (for QUEUE, else its first), as `check` reads it",
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
    from harness.lint.settings import queues_of, simulation_of

    name, sign, queue = (folder, "", "") if Path(folder).is_dir() else folder.rpartition("#")
    facts = read_repository(Path(name if sign or Path(folder).is_dir() else folder))
    queues = queues_of(facts)
    if queue and queue not in queues:
        raise UsageError(
            f"--settings-from {folder}: {name} sets nothing for a queue {queue!r}{did_you_mean(queue, queues)}",
            hint=f"It has settings for {', '.join(queues) or 'no queue by name'}.",
        )
    simulation = simulation_of(facts, queue=queue)
    print(f"Settings from {name}{_of_queue(queue, queues)}:")
    for name, origin in simulation.origins.items():
        print(f"  {name} {setting_text(name, getattr(simulation.settings, name))}  ({origin})")
    if not simulation.origins:
        print("  nothing that a simulation knows is set there: the defaults hold")
    for finding in examine(facts).at_least(Severity.ERROR):
        for line in wrap(f"{finding.place} ", f"{finding.rule}: {finding.repair}", width=100, lines=3):
            print(line)
    print()
    return simulation.settings


def _of_queue(queue: str, queues: list[str]) -> str:
    """Say which queue it is, and which others there are."""
    if not queues:
        return ""
    others = [one for one in queues if one != (queue or queues[0])]
    more = f"; others: {', '.join(others[:4])}{', ...' if len(others) > 4 else ''}, as DIR#QUEUE" if others else ""
    return f", queue {queue or queues[0]!r}{more}"
