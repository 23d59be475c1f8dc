""" "Did you mean": the nearest known name to one that is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Say in one clause what was probably meant, or else what is known."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    if names:
        return f"known: {', '.join(repr(each) for each in names)}"
    return "none is known"
