"""What pg-boss 10 says of itself, and so is no anomaly when it does it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

DOCUMENTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "final_error_retried": "every failure is retried up to retryLimit; there is no final failure (README, fail)",
    }
)
