"""`job-harness schema`: what editors need to complete and check scenario files."""

from __future__ import annotations

import argparse

from harness.scenario.schema import schema_text


def configure(parser: argparse.ArgumentParser) -> None:
    """Take no options."""


def execute(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    print(schema_text(), end="")
    return 0
