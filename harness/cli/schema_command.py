"""`job-harness schema`: what editors need to complete and check scenario files."""

from __future__ import annotations

import argparse
import json

from harness.scenario.schema import json_schema


def configure(parser: argparse.ArgumentParser) -> None:
    """Take no options."""


def execute(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    print(schema_text(), end="")
    return 0


def schema_text() -> str:
    """Write the schema as the shipped file has it."""
    return json.dumps(json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
