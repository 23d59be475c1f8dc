"""Statement gating of other people's queues: their drivers speak to PostgreSQL through us, one statement at a time.

Each actor has a session of its own in the child (`Line`): its driver connects to a socket of ours, and every statement
waits there until the kernel lets it go. Whatever the driver and its language are, what is spoken is PostgreSQL's own
protocol, so that nothing of the library is replaced.
"""

from harness.foreign.gating.queue import GatedForeignQueue
from harness.foreign.gating.switchboard import Exchange, Switchboard

__all__ = ["Exchange", "GatedForeignQueue", "Switchboard"]
