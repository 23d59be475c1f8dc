"""The third front door: `job-harness serve --stdio`, for tests in other languages.

The client's process runs the test and hosts the processors; this one has the clock, queue, faults
and judge. What is said between them is the serve protocol (docs/contracts/serve_protocol.md).
"""

from __future__ import annotations

from job_harness.doors.serve.conversation import SCHEMA, VERSION, ClientGone, Conversation
from job_harness.doors.serve.service import ASKS, HarnessService

__all__ = ["ASKS", "SCHEMA", "VERSION", "ClientGone", "Conversation", "HarnessService"]
