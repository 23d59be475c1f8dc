"""How a probe in Python says what it saw: one function for each rule, and one line of JSON at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

RELEASE = tuple(int(part) for part in os.environ["RELEASE"].split("."))
Claim = Callable[[], tuple[bool, str]]
CLAIMS: dict[str, Claim] = {}


def claim(function: Claim) -> Claim:
    """Note what a rule of this name claims; the function returns whether it holds, and what was seen."""
    CLAIMS[function.__name__] = function
    return function


def raised(act: Callable[[], object]) -> str:
    """Return the name of what a call raises; empty where it raises nothing."""
    try:
        act()
    except BaseException as error:  # noqa: BLE001 - what a library raises is what is asked
        return type(error).__name__
    return ""


def tell() -> None:
    """Ask every claim, in order, and print the answers."""
    told = {}
    for rule, ask in CLAIMS.items():
        try:
            told[rule] = ask()
        except Exception as error:  # noqa: BLE001 - a claim that breaks does not hold
            told[rule] = (False, f"the probe broke: {type(error).__name__}: {error}")
    print(json.dumps(told), flush=True)
