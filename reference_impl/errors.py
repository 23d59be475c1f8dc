"""What can go wrong in the queue, each with what to do about it."""

from __future__ import annotations


class QueueError(Exception):
    """Anything that the queue refuses."""


class UnknownToolError(QueueError):
    """A tool slug that nobody registered."""


class InvalidJsonError(QueueError, ValueError):
    """A value that PostgreSQL's JSONB cannot hold."""


class ConfigurationError(QueueError):
    """Settings that contradict each other, or that are missing."""


class WorkersDisabledError(ConfigurationError):
    """`USE_PGBOSS_WORKERS` is not exactly `true`."""
