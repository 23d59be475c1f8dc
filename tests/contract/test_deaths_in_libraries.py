"""A worker dies with what a library lends, as `make libraries` tries it: here with the libraries that are installed."""

from __future__ import annotations

from benchmarks.libraries.rows.deaths import *  # noqa: F403 - its tests and their fixtures
from benchmarks.libraries.rows.deaths import pytestmark as pytestmark
