"""Bugs of graphile-worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from public_bugs.entry import Entry

ENTRIES: Final[tuple[Entry, ...]] = ()

UNTRIED: Final[Mapping[str, str]] = {
    "graphile-localqueue-named-queue": "the engine claims without its local queue",
    "graphile-named-queue-locked-at-max": "its releases (0.13) are older than any that the engine runs",
    "graphile-batch-complete-never-retried": "it is in its worker's own loop, which is not part of the engine",
}
