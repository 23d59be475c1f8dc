"""Who judges: properties over histories, the anomalies that breach them, and the guarantees those cost."""

from job_harness.core.invariants.catalogue import ANOMALIES, CATALOGUE, anomalies_named, everything, gravity, kind_of
from job_harness.core.invariants.property import (
    Anomaly,
    AnomalyKind,
    EvidenceNeeded,
    Guarantee,
    Invariant,
    JobFacts,
    Judge,
    Kind,
    Monitor,
    Rules,
    judge_of,
    stepwise,
    unasked,
)

__all__ = [
    "ANOMALIES",
    "CATALOGUE",
    "Anomaly",
    "AnomalyKind",
    "EvidenceNeeded",
    "Guarantee",
    "Invariant",
    "JobFacts",
    "Judge",
    "Kind",
    "Monitor",
    "Rules",
    "anomalies_named",
    "everything",
    "gravity",
    "judge_of",
    "kind_of",
    "stepwise",
    "unasked",
]
