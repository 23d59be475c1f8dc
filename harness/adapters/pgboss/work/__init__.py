"""pg-boss's own `work()` loop: a process of it on a clock of ours. What a job does is decided by whoever drives it."""

from harness.adapters.pgboss.work.process import WorkProcess
from harness.adapters.pgboss.work.turn import SUPERVISION, HandlerCall, Timer, Turn, next_due, poll_of

__all__ = ["SUPERVISION", "HandlerCall", "Timer", "Turn", "WorkProcess", "next_due", "poll_of"]
