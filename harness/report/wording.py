"""Text that fits: printable, on one line, clipped or wrapped to a number of columns."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

from harness.model.duration import format_duration
from harness.model.settings import Settings
from harness.printable import printable

ELLIPSIS = "…"


def one_line(text: str) -> str:
    """Escape whatever a terminal would not show as one visible character; fold white space."""
    return printable(" ".join(text.split()))


def clip(text: str, width: int) -> str:
    """Shorten to at most this many columns."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + ELLIPSIS


def pad(text: str, width: int) -> str:
    """Bring to exactly this many columns."""
    return set_cell_size(clip(text, width), width)


def wrap(label: str, text: str, *, width: int, lines: int) -> list[str]:
    """Set `label` before a text and break it into at most so many lines."""
    indent = " " * min(cell_len(label), 12)
    broken = textwrap.wrap(one_line(text), width - cell_len(label), break_on_hyphens=False) or [""]
    rest = textwrap.wrap(" ".join(broken[1:]), width - len(indent), break_on_hyphens=False)
    shown = [label + broken[0], *(indent + line for line in rest)]
    if len(shown) > lines:
        shown = [*shown[: lines - 1], clip(shown[lines - 1] + " " + ELLIPSIS, width)]
    return [clip(line, width) for line in shown]


def setting_text(name: str, value: object) -> str:
    """Write the value of a setting as a scenario does."""
    if name in Settings.duration_names() and isinstance(value, int):
        return format_duration(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def changed_settings(settings: Settings) -> dict[str, tuple[str, str]]:
    """Answer the settings that differ from the defaults, each with its value and the default, in words."""
    default = Settings()
    return {
        name: (setting_text(name, getattr(settings, name)), setting_text(name, getattr(default, name)))
        for name in Settings.names()
        if getattr(settings, name) != getattr(default, name)
    }


def replay_command(path: str, *, engine: str, seed: int | None = None, changes: Iterable[str] = ()) -> str:
    """Write the command that plays a scenario file again; without an engine, on the one that the file names."""
    parts = ["job-harness", "run", path, *(("--engine", engine) if engine else ())]
    if seed is not None:
        parts += ["--seed", str(seed)]
    for change in changes:
        parts += ["--set", change]
    return shlex.join(parts)
