"""Wrong queues, one mistake each: what the detector is tested by. Never part of a right queue."""

from harness.mistakes.catalogue import CATALOGUE, named
from harness.mistakes.mistake import BlindSpot, Edit, Mistake

__all__ = ["CATALOGUE", "BlindSpot", "Edit", "Mistake", "named"]
