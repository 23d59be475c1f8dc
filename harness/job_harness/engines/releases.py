"""Which releases of another project's package an engine can run, and how it refuses the others: by name.

Every engine that takes a version has one `Runnable`. Knows numbers and words; must not know any
index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from job_harness.errors import UsageError, did_you_mean

_NUMBERS: Final = re.compile(r"[0-9]+")


def numbers_of(version: str) -> tuple[int, ...]:
    """Return the parts of a version as numbers."""
    return tuple(int(part) for part in _NUMBERS.findall(version)[:3])


@dataclass(frozen=True, slots=True)
class Runnable:
    """The releases that an engine runs: from the oldest on."""

    engine: str
    """As a user writes it before the `@`."""
    package: str
    oldest: str
    lacks: str
    """What an older release has not, or does otherwise: `procrastinate 1.1.0 ...`."""

    def checked(self, version: str) -> str:
        """Return a version that can be run. Raises UsageError for an older one, with the nearest that can."""
        if numbers_of(version) < numbers_of(self.oldest):
            raise UsageError(
                f"{self.package} {version} {self.lacks}",
                hint=f"The nearest release that this engine runs is {self.engine}@{self.oldest}.",
            )
        return version


def split_suffix(package: str, version: str, *, known: str) -> tuple[str, str]:
    """Return the release that is asked for, and the slash with the one known word where that follows.

    Raises UsageError for any other word.
    """
    asked, slash, word = version.partition("/")
    if slash and word != known:
        raise UsageError(
            f"{package}@{version}: only {known!r} may follow the release{did_you_mean(word, [known])}",
            hint=f"Name {package}@{asked} or {package}@{asked}/{known}.",
        )
    return asked, f"{slash}{word}"
