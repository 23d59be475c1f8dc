"""What every queue must pass: the suite that adapters are held to, ours and other people's."""

from harness.conformance.judge import Conformance, conform
from harness.conformance.level import Level
from harness.conformance.pytest_suite import QueueConformance

__all__ = ["Conformance", "Level", "QueueConformance", "conform"]
