"""What can be made to go wrong: a catalogue of values, in families. Every fault offers its options at gates."""

from harness.faults.catalogue import (
    CATALOGUE,
    CONSEQUENCES,
    FaultPlan,
    brought_faults,
    excuses,
    families,
    family_of,
    interferences,
    kind_of,
    kinds,
    phrase_of,
    read_option,
    strike_of,
    told,
)
from harness.faults.kind import ArmedFault, Circumstances, FaultKind, Note, Phrase

__all__ = [
    "CATALOGUE",
    "CONSEQUENCES",
    "ArmedFault",
    "Circumstances",
    "FaultKind",
    "FaultPlan",
    "Note",
    "Phrase",
    "brought_faults",
    "excuses",
    "families",
    "family_of",
    "interferences",
    "kind_of",
    "kinds",
    "phrase_of",
    "read_option",
    "strike_of",
    "told",
]
