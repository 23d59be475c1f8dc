"""Where time, chance and identifiers come from: the only module here that asks the machine for them."""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime

Now = Callable[[], datetime | None]
"""A store's clock. `None` means: the database's own clock decides."""

Jitter = Callable[[], float]
"""Draws a number in [0, 1) that stretches a retry delay."""

NewId = Callable[[], str]
"""Draws a fresh identifier."""


def database_now() -> None:
    """Leave the time to the database."""
    return


def system_jitter() -> float:
    """Draw from a generator that no other code can seed."""
    return random.SystemRandom().random()


def new_uuid() -> str:
    """Draw a random UUID (version 4)."""
    return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
