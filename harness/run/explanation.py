"""Why a scenario fails on an engine, where the engine's contract says so. Knows no engine and no report."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from harness.port import Contract
from harness.run.verdict import Run, Verdict


class Kind(StrEnum):
    """Two explanations of a failure."""

    DIFFERENT = "different"
    """The engine documents that it does this otherwise, and no promise is broken."""
    KNOWN = "known"
    """A promise is broken, and that is recorded."""


class Explanation(NamedTuple):
    """One of them, with its place."""

    kind: Kind
    place: str


def explanation(name: str, run: Run, contract: Contract) -> Explanation | None:
    """Answer what a contract says of a scenario (`theme/name`) that failed; None where it did not, or nothing is said.

    A documented difference excuses what a scenario expects; an anomaly has to be among those that are known of it.
    """
    if run.verdict is not Verdict.FAIL:
        return None
    known = contract.known.get(name)
    if run.anomalies:
        told = known is not None and run.found <= known.anomalies
        return Explanation(Kind.KNOWN, known.place) if told and known is not None else None
    place = contract.differences.get(name)
    return None if place is None else Explanation(Kind.DIFFERENT, place)
