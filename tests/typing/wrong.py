"""What a type checker must refuse: were the public names `Any`, it would not."""

from __future__ import annotations

from job_harness import JobResult, Settings, no_such_name

JobResult(success="yes")
Settings(max_attempts="many")
print(no_such_name)
