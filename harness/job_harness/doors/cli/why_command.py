"""`job-harness why "my job ran twice"`: what it may be, the likely first, and the command that shows which."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Collection, Iterator
from typing import Final

from job_harness.errors import ExitCode, UsageError
from job_harness.review.symptoms import QUEUE_NAMES, Symptom, named_queues, ranked

WIDTH: Final = 80
DECIDES: Final = (
    "Words alone do not tell which: the command after `See` does, and `job-harness reproduce` finds it in what "
    "production recorded."
)


def configure_why(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("words", nargs="+", metavar="WORDS", help="what you see, in your own words")


def execute_why(arguments: argparse.Namespace) -> int:
    """Print the symptom that these words are about, and name those that come next."""
    words = " ".join(arguments.words)
    found = ranked(words)
    if not found:
        raise UsageError(
            f"no symptom is like {words!r}",
            hint="Say what you see: job-harness why 'my job ran twice'. `job-harness docs symptoms` has all of them.",
        )
    queues = named_queues(words) or frozenset(QUEUE_NAMES)
    print("\n".join([*_describe(found[0], queues | {"any"}), *(f"Or: {other.says}" for other in found[1:])]))
    return int(ExitCode.PASS)


def _describe(symptom: Symptom, queues: Collection[str]) -> Iterator[str]:
    yield symptom.says
    yield from _wrapped("", f"It may be any of these, the most common first. {DECIDES}")
    yield ""
    for number, cause in enumerate(symptom.causes, start=1):
        yield from _wrapped(f"{number}. ", cause.why)
        yield from _wrapped("   See: ", cause.look)
        for queue in (each for each in cause.queues if each in queues):
            words = cause.queues[queue]
            yield from _wrapped(f"   {QUEUE_NAMES[queue]}: ", words.replace("`", ""))
        yield ""


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=label, subsequent_indent="      ", break_on_hyphens=False)
