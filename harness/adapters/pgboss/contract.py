"""What pg-boss 10 does otherwise than a scenario expects, and says so: a documented difference is no failure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

DIFFERENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "crashes/before_completing": (
            "a lease ends strictly after its length, a microsecond later, so that another worker polls first"
        ),
        "crashes/every_attempt_crashes": "an expired job's error is 'job failed by timeout in active state'",
        "lifecycle/operator_retries_failed_job": (
            "retry() raises the limit by one and keeps the count (docs: retry); it opens no new budget"
        ),
    }
)
"""By the folder and name of the scenario, with the place in the documentation."""
