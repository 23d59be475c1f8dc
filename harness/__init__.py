"""Testing harness and simulation framework for job processors and the queues that feed them."""

__version__ = "0.1.0"
