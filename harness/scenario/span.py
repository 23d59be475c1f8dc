"""How long something takes: absolute, or relative to a setting, so that it moves with the setting."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.model.duration import Duration, format_duration, parse_duration
from harness.model.settings import Settings

_RELATIVE = re.compile(r"^([0-9]+(?:\.[0-9]+)?)\s*x?\s*([a-z_]+)$")


@dataclass(frozen=True, slots=True)
class Span:
    """`factor` times a setting, or a fixed duration."""

    fixed: Duration = 0
    factor: float = 0.0
    setting: str | None = None

    def resolve(self, settings: Settings) -> Duration:
        """Answer the duration in microseconds under these settings."""
        if self.setting is None:
            return self.fixed
        return round(self.factor * int(getattr(settings, self.setting)))

    def __str__(self) -> str:
        return format_duration(self.fixed) if self.setting is None else f"{self.factor:g} {self.setting}"


def parse_span(text: str) -> Span:
    """Read `30s` or `0.95 lease`.

    Raises ValueError naming what would have been accepted.
    """
    try:
        return Span(fixed=parse_duration(text))
    except ValueError:
        relative = _RELATIVE.match(text.strip())
        if relative is None or relative[2] not in Settings.duration_names():
            names = ", ".join(sorted(Settings.duration_names()))
            raise ValueError(f"{text!r} is neither a duration (30s) nor a multiple of a setting ({names})") from None
        return Span(factor=float(relative[1]), setting=relative[2])
