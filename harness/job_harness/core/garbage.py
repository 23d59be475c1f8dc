"""When the garbage collector looks: seldom, while something keeps nearly all that it makes.

A history, the rows that it was read from and the states of a search stay until they are judged, and
hardly any of them is part of a cycle. As many objects as usual (700 new ones) set the collector off
every few steps then, and each time that a quarter has been added it goes through all of them: that
was a fifth of the time in which 10 000 jobs are sent and drained, and a quarter of an exhaustive
search. What is garbage all the same waits until `young` objects have come, or until the caller is
done. Thresholds belong to the process, which may be a user's, so they are put back.

Runs of a campaign are not worth it: each takes itself apart (`Session.run_for_good`), and what is
left for the collector to look at is a fortieth of the time of 2000 runs, of which seldom looks save
a third.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 10_000
"""How many new objects there are before the collector looks: about what two hundred jobs of a drain leave."""


@contextmanager
def collecting_seldom(*, young: int = YOUNG) -> Iterator[None]:
    """Let the collector look after `young` new objects, and go through all of them only after a hundred such looks.

    Who has chosen to be collected more seldom, or never, is left alone.
    """
    before = gc.get_threshold()
    if not 0 < before[0] < young:
        yield
        return
    gc.set_threshold(young, 100, before[2])
    try:
        yield
    finally:
        gc.set_threshold(*before)
