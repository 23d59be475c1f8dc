"""How this project's keys are said to pg-boss, by policy and release, and read back from a row.

A job without a key is sent with its own id as `singletonKey`, so that a policy concerns named keys alone: pg-boss takes
jobs that have none to share one. A serial key holds whatever the tool, and pg-boss counts within a queue: where there
are serial keys all tools share one queue, and the tool is told beside the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.adapters.pgboss.policy import STANDARD, Policy
from harness.model.job import Json
from harness.port import JobRequest

ONE_QUEUE: Final = "jobs"


@dataclass(frozen=True, slots=True)
class Keys:
    """What the keys of a job are to the queues of one release under one policy."""

    policy: Policy = STANDARD
    groups: bool = False
    """The release can limit how many jobs of a group run at once: a serial key is a group of one."""

    @property
    def serial(self) -> bool:
        """Whether serial keys are kept."""
        return self.policy.serial or self.groups

    def queue(self, tool: str) -> str:
        """Return the queue of a tool's jobs."""
        return ONE_QUEUE if self.serial else tool

    def data(self, request: JobRequest) -> dict[str, Json]:
        """Return the payload that carries a request's input."""
        told = {"job": request.id, "input": request.input}
        return {**told, "tool": request.tool} if self.serial else told

    def singleton(self, request: JobRequest, *, own: str) -> str | None:
        """Return the `singletonKey` of a request; `own` is the id of its row."""
        if self.policy is STANDARD:
            return None
        key = request.unique_key if self.policy.unique else request.serial_key
        return own if key is None else key

    def group(self, request: JobRequest) -> str | None:
        """Return the group of a request."""
        return request.serial_key if self.groups else None

    def unique_key(self, row: Mapping[str, Any]) -> str | None:
        """Return the unique key of a row."""
        return _named(row) if self.policy.unique else None

    def serial_key(self, row: Mapping[str, Any]) -> str | None:
        """Return the serial key of a row."""
        return _named(row) if self.policy.serial else row.get("group_id")


def tool_of(row: Mapping[str, Any]) -> str:
    """Return the tool of a row: what its payload says, else its queue."""
    tool: str = row["data"].get("tool", row["name"])
    return tool


def _named(row: Mapping[str, Any]) -> str | None:
    key: str | None = row["singleton_key"]
    return None if key == str(row["id"]) else key
