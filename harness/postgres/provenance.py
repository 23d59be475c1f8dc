"""Where a PostgreSQL came from, and why the earlier choices were passed over. Values and their words only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A provider that was tried or looked at, and did not answer."""

    provider: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The provider that answered, in words that a run prints.

    `details` are short facts in display order (version, folder, privilege); `passed_over` are the providers
    before it, in the order in which they were tried.
    """

    provider: str
    reason: str
    details: tuple[tuple[str, str], ...] = ()
    passed_over: tuple[PassedOver, ...] = ()

    def __str__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.details)
        line = f"PostgreSQL from {self.provider}: {self.reason}" + (f" ({facts})" if facts else "")
        skipped = "; ".join(f"{item.provider}: {item.reason}" for item in self.passed_over)
        return f"{line}; passed over {skipped}" if skipped else line
