"""What a runner tells on its last line: how many runs, how long, what it found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable


def report(tool: str, campaign: Callable[[], tuple[int, str | None]]) -> None:
    """Run a campaign and print one line of JSON: runs, seconds of CPU, the anomaly found or null."""
    began = time.process_time()
    runs, found = campaign()
    seconds = time.process_time() - began
    print(json.dumps({"tool": tool, "runs": runs, "seconds": round(seconds, 4), "found": found}))
